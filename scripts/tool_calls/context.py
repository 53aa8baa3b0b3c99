"""What filling one request needs: the value lists, the date, and what stands in the request already."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from tool_calls.grammar import FOLDER, Segment, Template


class Lists:
    """The value lists of `train` or `heldout`; a list is gone through in random order before anything comes twice."""

    def __init__(self, subset: str, rng: random.Random) -> None:
        self.rng = rng
        self.rows = {path.stem: _read(path) for path in sorted((FOLDER / "values" / subset).glob("*.txt"))}
        self._decks: dict[str, list[tuple[str, ...]]] = {}

    def draw(self, name: str, fits: Callable[[tuple[str, ...]], bool] = lambda row: True) -> tuple[str, ...]:
        """The next row that fits."""
        for _ in range(2):
            deck = self._decks.setdefault(name, [])
            for index, row in enumerate(deck):
                if fits(row):
                    return deck.pop(index)
            self._decks[name] = deck + self.rng.sample(self.rows[name], len(self.rows[name]))
        raise LookupError(f"no row of {name} fits")


def _read(path: Path) -> list[tuple[str, ...]]:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return [tuple(part.strip() for part in re.split(r"\||=>", line)) for line in lines]


@dataclass
class Context:
    """What the slots of one request share."""

    rng: random.Random
    lists: Lists
    today: date
    template: Template
    arguments: dict[str, Any] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Cities, restaurants and the like that stand in the request already."""
    person: tuple[str, ...] | None = None


Slot = Callable[[Context], list[Segment]]
"""Fills a slot: the words for the request; what they mean goes into the context's arguments."""
