"""What a source offers, and a sample of it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Candidate:
    """A possible item; of a `group` (a video, an article) only one is taken, so that items are independent."""

    fields: dict[str, Any]
    group: str


def sample(candidates: Iterable[Candidate], count: int, seed: int) -> list[Candidate]:
    """At most `count` candidates, one of each group, in random order: a smaller sample begins a larger one."""
    generator = random.Random(seed)
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.group, []).append(candidate)
    one_of_each = [generator.choice(members) for members in groups.values()]
    generator.shuffle(one_of_each)
    return one_of_each[:count]
