"""How often tuned models were asked a task's items: each look is a chance to tune on them.

`looks.jsonl` in the store has a line for each evaluation and task, and `looks/` the digests of what was asked, a file
for each set of items. Both hold digests only, and both are only ever added to.
"""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import digest
from tunelift.artifacts.store import write_durably

FILE, FOLDER = "looks.jsonl", "looks"


@dataclass(frozen=True)
class AskedItems:
    """The items of a task that an arm is asked."""

    digest: str
    """Of the items with all that belongs to them, their accepted answers too: what lines of older runs hold."""
    questions: frozenset[str]
    """A digest of each item's question."""


def note_look(root: Path, *, run: str, arm: str, tuned: bool, evaluation: str, task: str, items: AskedItems) -> None:
    """Remember that an arm was asked a task's items; an evaluation that goes on after a kill is remembered once.

    Args:
        root: The store.
        run: The run's folder.
        arm: The arm's name.
        tuned: Whether it is the tuned model that answered.
        evaluation: The evaluation's fingerprint.
        task: The task's name, for people to read.
        items: What is asked.
    """
    asked = digest(sorted(items.questions))[:32]
    if any(look.get("evaluation") == evaluation and look.get("asked") == asked for look in _lines(root)):
        return
    questions = root / FOLDER / f"{asked}.txt"
    if not questions.exists():
        questions.parent.mkdir(parents=True, exist_ok=True)
        write_durably(questions, "".join(f"{one}\n" for one in sorted(items.questions)))
    line = {"run": run, "arm": arm, "tuned": tuned, "task": task, "items": items.digest}
    _append(root / FILE, json.dumps(line | {"evaluation": evaluation, "asked": asked}))


def _append(path: Path, line: str) -> None:
    with path.open("ab+") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - 1))
        torn = size and file.read(1) != b"\n"  # By a kill or a full disk; the new line must not run into it.
        file.write((b"\n" if torn else b"") + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def count_looks(root: Path, tasks: Mapping[str, AskedItems]) -> dict[str, int]:
    """By task, how often a tuned model was asked its items, by any run of this store; tasks without a look are not in.

    An evaluation counts for a task by the share of the task's items that it was asked, under whatever name they stood
    there. So the sum is how often an item was asked on average; it is rounded.

    Args:
        root: The store.
        tasks: By task, the items that it has now.
    """
    seen: defaultdict[str, set[str]] = defaultdict(set)
    old: defaultdict[str, int] = defaultdict(int)
    sets: dict[str, frozenset[str]] = {}
    for look in _lines(root):
        if not look.get("tuned", look.get("arm") == "tuned"):
            continue
        questions = _questions(root, str(look["asked"]), sets) if look.get("asked") else None
        if questions:
            seen[str(look.get("evaluation"))] |= questions
        else:  # Of an older run, which tells no more than this.
            old[str(look.get("items"))] += 1
    counts = {}
    for name, items in tasks.items():
        shares = (len(items.questions & asked) / max(1, len(items.questions)) for asked in seen.values())
        counts[name] = math.floor(math.fsum(shares) + old[items.digest] + 0.5)
    return {name: count for name, count in counts.items() if count}


def _questions(root: Path, asked: str, sets: dict[str, frozenset[str]]) -> frozenset[str]:
    """The set of that name; read once. Empty where its file is gone."""
    if asked not in sets:
        try:
            sets[asked] = frozenset((root / FOLDER / f"{asked}.txt").read_text(encoding="utf-8").split())
        except OSError:
            sets[asked] = frozenset()
    return sets[asked]


def _lines(root: Path) -> Iterator[dict[str, Any]]:
    try:
        lines: Iterable[bytes] = (root / FILE).read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        with suppress(ValueError):  # A kill or a full disk may have torn a line.
            look = json.loads(line)
            if isinstance(look, dict):
                yield look
