"""Fields beside the conversation by which data of other tools say what is supervised, or that a text model cannot take.

None is passed over: where a field is unmistakable the row is left out, and where only the user can know it is flagged.
A field that the config reads, or lists in the source's `ignore_fields`, is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tunelift.config.curation import SourceConfig, SplitConfig
from tunelift.errors import UserError
from tunelift.runtime.supervision import WEIGHT
from tunelift.stages.curate.rows import Fault, ShapeError
from tunelift.stages.curate.weights import REASON, truth

Message = dict[str, Any]

UNDESIRABLE, NEEDS_MEDIA, PLACEHOLDER = "undesirable", "needs_media", "media_placeholder"
NOT_FOLLOWED = "not_followed_"
"""What the flag of a field begins with."""
EMPTY = ("", "[]", "{}", "null", "none", "nan")
"""How CSV and JSON text write that there is nothing."""
MEDIA = frozenset(("image", "images", "image_url", "image_urls", "image_path", "image_paths", "pixel_values",
                   "video", "videos", "video_path", "audio", "audios", "audio_path"))  # fmt: skip
"""Fields of a row or a message with pictures, videos and sounds, or where they lie."""
MARK = re.compile(r"(?<!`)<(image|video|audio)>(?!`)")
"""Where a picture, video or sound belongs, in the formats of LLaVA, LLaMA-Factory and ms-swift."""


def _media(field: str, value: Any, messages: list[Message]) -> None:
    refuse_media({field: value}, "$")


def refuse_media(item: Message, path: str) -> None:
    """A row, or a message of it, may come with pictures.

    Raises:
        ShapeError: it does.
    """
    if MEDIA.isdisjoint(item):
        return
    for field in sorted(MEDIA & item.keys()):
        if not empty(item[field]):
            raise ShapeError(f"{path}.{field}", NEEDS_MEDIA, "is not empty, and a text model sees none of it")


def _verdict(field: str, value: Any, messages: list[Message]) -> Fault | str | None:
    wanted = truth(value)
    if wanted is None:
        return None if empty(value) else NOT_FOLLOWED + field
    return None if wanted else Fault(UNDESIRABLE, {"field": field, "value": value})


def _label(field: str, value: Any, messages: list[Message]) -> Fault | str | None:
    """A truth value is KTO's verdict on the reply; a number may be that or a class, and a text is a class."""
    if isinstance(value, bool) or (isinstance(value, str) and value.strip().lower() in ("true", "false")):
        return _verdict(field, value, messages)
    return NOT_FOLLOWED + field if isinstance(value, int | float) else None


def _loss(field: str, value: Any, messages: list[Message]) -> None:
    if truth(value) is not False and not empty(value):
        raise ShapeError(
            f"$.{field}", REASON, f"is {value!r}, which is not followed: put a weight of 0 or 1 on the messages"
        )


def _history(field: str, value: Any, messages: list[Message]) -> None:
    """LLaMA-Factory's switch for supervising the last turn only."""
    masked = None if empty(value) else truth(value)
    if masked is None and not empty(value):
        raise ShapeError(f"$.{field}", REASON, f"is {value!r}, must be true or false")
    replies = [index for index, message in enumerate(messages) if message["role"] == "assistant"]
    for index in replies[:-1] if masked else ():
        messages[index] = {**messages[index], WEIGHT: 0}


def _report(field: str, value: Any, messages: list[Message]) -> str | None:
    return None if empty(value) else NOT_FOLLOWED + field


Rule = Callable[[str, Any, list[Message]], Fault | str | None]
RULES: dict[str, Rule] = {
    **dict.fromkeys(MEDIA, _media),
    **dict.fromkeys(("kto_tag", "is_correct", "is_preferred", "is_desirable", "desirable", "is_good"), _verdict),
    **dict.fromkeys((WEIGHT, "loss_weight", "sample_weight"), _verdict),
    **dict.fromkeys(("label", "correct", "preferred", "accepted"), _label),
    **dict.fromkeys(("train_on_turns", "train_on_inputs", "train_on_input", "train_on_prompt"), _loss),
    **dict.fromkeys(("loss_mask", "completion_mask", "assistant_masks", "assistant_mask", "labels_mask"), _loss),
    "mask_history": _history,
    **dict.fromkeys(("chosen", "rejected", "chosen_response", "rejected_response", "rejected_messages"), _report),
    **dict.fromkeys(("chosen_score", "rejected_score", "score_chosen", "score_rejected", "preference"), _report),
    **dict.fromkeys(("rating", "ratings", "score", "scores", "reward", "quality", "quality_score"), _report),
}
"""By field: leave the row out (a fault), quarantine it (ShapeError), flag it, or nothing."""


def watched(source: SourceConfig, split: SplitConfig) -> frozenset[str]:
    """The fields of a source's rows that have a rule here and no other reader.

    Raises:
        UserError: `ignore_fields` names a field without a rule.
    """
    unknown = next((name for name in source.ignore_fields if name not in RULES), None)
    if unknown is not None:
        raise UserError(
            f"ignore_fields names {unknown!r}, which is not looked at anyway.",
            where=source.path,
            remedy=f"Take it out. The fields that are looked at are {', '.join(sorted(RULES))}.",
        )
    read = {*source.ignore_fields, *source.fields.values(), split.group_by, split.stratify_by}
    return frozenset(name for name in RULES if name not in read)


def judge(
    row: Mapping[str, Any], fields: frozenset[str], messages: list[Message]
) -> tuple[Fault | None, tuple[str, ...]]:
    """Why a row is left out, and what is reported of it: `not_followed_FIELD`, `media_placeholder`.

    `mask_history` gives all turns of `messages` but the last `"weight": 0`.

    Raises:
        ShapeError: the row needs more than its text, or asks for a loss that is not computed.
    """
    # `isdisjoint` is all that nearly every row costs.
    names = () if fields.isdisjoint(row) else sorted(fields & row.keys())
    found = [RULES[name](name, row[name], messages) for name in names]
    fault = next((one for one in found if isinstance(one, Fault)), None)
    flags = [one for one in found if isinstance(one, str)]
    return fault, (*flags, *([PLACEHOLDER] if _placeholder(messages) else []))


def _placeholder(messages: Sequence[Message]) -> bool:
    """A mark that is no HTML element: unclosed, and not in code."""
    for message in messages:
        if message["role"] == "user" and "<" in message["content"]:
            for mark in MARK.finditer(message["content"]):
                if f"</{mark[1]}>" not in message["content"]:
                    return True
    return False


def empty(value: Any) -> bool:
    """Whether a value is nothing, as JSON, CSV and Parquet have it: an object of nulls is nothing, and so is NaN."""
    if isinstance(value, str):
        return value.strip().lower() in EMPTY
    if isinstance(value, list | dict):
        return all(one is None for one in (value.values() if isinstance(value, dict) else value))
    return value is None or value != value
