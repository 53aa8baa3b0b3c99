"""A small data set of conversations, and settings that train the tiny model on it in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tunelift.config.schema import TrainConfig

TOOLS = ("create_event", "set_reminder", "send_message")


def conversation(number: int) -> dict[str, Any]:
    """One row; the request's length varies with the number."""
    tool = TOOLS[number % len(TOOLS)]
    return {
        "id": f"row-{number}",
        "messages": [
            {"role": "system", "content": "Answer with one JSON object."},
            {"role": "user", "content": f"Request {number}: {tool}" + " please" * (number * 7 % 19)},
            {"role": "assistant", "content": json.dumps({"tool": tool, "number": number})},
        ],
    }


def write_dataset(
    folder: Path, *, train: int = 40, validation: int = 10, extra: tuple[dict[str, Any], ...] = ()
) -> Path:
    """A data set folder with so many rows; `extra` rows go to the training split."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [conversation(number) for number in range(train + validation)]
    for split, part in {"train": [*rows[:train], *extra], "validation": rows[train:], "test": []}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


def train_config(**changes: Any) -> TrainConfig:
    """Resolved settings for the tiny model."""
    settings: dict[str, Any] = {
        "adapter": {"kind": "qlora", "rank": 4, "alpha": 8},
        "learning_rate": 1e-2,
        "max_steps": 8,
        "global_batch_size": 8,
        "micro_batch_size": 4,
        "max_length": 256,
        "gradient_checkpointing": False,
        "attention": "sdpa",
        "precision": "bf16",
        "packing": False,
        "eval_steps": 4,
        "save_steps": 3,
        "eval_rows": 8,
        "memory_probe": False,
    }
    return TrainConfig.model_validate(settings | changes)
