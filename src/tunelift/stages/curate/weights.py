"""The keys of a message by which data of several tools say whether it is supervised, turned into one: `"weight": 0`.

OpenAI, Mistral and Together write weight, Axolotl train or training, ms-swift and XTuner loss, LLaMA-Factory
loss_weight, Tinker trainable, torchtune masked.
"""

from __future__ import annotations

from typing import Any

from tunelift.runtime.supervision import WEIGHT
from tunelift.stages.curate.rows import ShapeError

Message = dict[str, Any]

SWITCHES = {
    **dict.fromkeys((WEIGHT, "loss_weight", "loss_scale", "loss", "loss_mask", "train", "training", "trainable"), True),
    "masked": False,
}
"""By key, whether its true or 1 says that the message is supervised."""
PARTS = ("train_detail", "training_detail")
"""Axolotl's keys that supervise parts of a message, which is not done here."""
KEYS = frozenset((*SWITCHES, *PARTS))
REASON = "loss_not_followed"


def truth(value: Any) -> bool | None:
    """What true, 1, 1.0, "1" and "true" mean, and their opposites; None for anything else."""
    if isinstance(value, str):
        return {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}.get(
            value.strip().lower()
        )
    return bool(value) if isinstance(value, bool | int | float) and value in (0, 1) else None


def weighted(message: Message, item: Message, path: str, *, context: bool) -> Message:
    """The message, with `"weight": 0` if it is an assistant's and is not supervised.

    Args:
        message: As chat templates take it.
        item: The same as the row has it.
        path: Of the item in the row.
        context: It lies in a part of the row that is never supervised.

    Raises:
        ShapeError: a key asks for what is not done: a share of the loss, loss on another role's message, on a part of a
            message, or two things at once.
    """
    said = {key: item[key] for key in item.keys() & KEYS if item[key] is not None}  # Parquet fills in null.
    wanted = {key: _wanted(key, value, f"{path}.{key}") for key, value in said.items() if key in SWITCHES}
    for key in PARTS:
        if said.get(key):
            raise ShapeError(f"{path}.{key}", REASON, "a loss on parts of a message is not followed")
    if len(set(wanted.values())) > 1:
        told = " and ".join(f"{key}={said[key]!r}" for key in sorted(wanted))
        raise ShapeError(path, REASON, f"{told} contradict each other")
    key = next(iter(sorted(wanted)), "")
    if message["role"] != "assistant":
        if wanted.get(key):
            detail = f"is {said[key]!r}, but a {message['role']} message is never supervised"
            raise ShapeError(f"{path}.{key}", REASON, detail)
        return message
    if context and wanted.get(key):
        detail = f"is {said[key]!r}, but assistant turns inside the prompt are context, and only the completion's count"
        raise ShapeError(f"{path}.{key}", REASON, detail)
    return {**message, WEIGHT: 0} if context or not wanted.get(key, True) else message


def _wanted(key: str, value: Any, path: str) -> bool:
    found = truth(value)
    if found is None:
        why = (
            "a weight between 0 and 1 is not followed: 0 or 1" if _is_share(value) else "must be 0 or 1, true or false"
        )
        raise ShapeError(path, REASON, f"is {value!r}; {why}")
    return found is SWITCHES[key]


def _is_share(value: Any) -> bool:
    return isinstance(value, float) and 0 < value < 1
