"""How often tuned models were asked a task's items: each look is a chance to tune on them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

FILE = "looks.jsonl"


def note_look(root: Path, *, run: str, arm: str, tuned: bool, items: Mapping[str, str]) -> None:
    """Remember that an arm was asked tasks' items.

    Args:
        root: The store.
        run: The run's folder.
        arm: The arm's name.
        tuned: Whether it is the tuned model that answered.
        items: By task, the digest of its items.
    """
    with (root / FILE).open("a", encoding="utf-8") as file:
        for task, digest in items.items():
            file.write(json.dumps({"run": run, "arm": arm, "tuned": tuned, "task": task, "items": digest}) + "\n")


def count_looks(root: Path, items: Mapping[str, str]) -> dict[str, int]:
    """By task, how often a tuned arm was evaluated on its items, by any run of this store.

    Args:
        root: The store.
        items: By task, the digest of its items: looks at others, asked under the same name, are none at these.
    """
    counts: Counter[str] = Counter()
    path = root / FILE
    for line in path.read_bytes().splitlines() if path.exists() else []:
        with suppress(ValueError):  # A full disk may have torn a line.
            look = json.loads(line)
            if look["items"] == items.get(look["task"]):
                counts[look["task"]] += bool(look.get("tuned", look["arm"] == "tuned"))
    return dict(+counts)
