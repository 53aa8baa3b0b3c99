"""Some of many rows or items, drawn by a hash: files hold one source after the other, so the first would be one's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256
from typing import TypeVar

Drawn = TypeVar("Drawn")


def place_in_draw(seed: int, name: str) -> str:
    """What to sort rows or items by, to draw some from the beginning. It depends on the seed and the id alone."""
    return sha256(f"{seed}:{name}".encode()).hexdigest()


def draw(rows: Sequence[Drawn], count: int | None, seed: int, name: Callable[[Drawn], str]) -> Sequence[Drawn]:
    """`count` of the rows in the order in which they stand; all of them for None.

    Those of a smaller count are among those of a greater one.

    Args:
        name: A row's id.
    """
    if count is None or count >= len(rows):
        return rows
    places = sorted(range(len(rows)), key=lambda place: (place_in_draw(seed, name(rows[place])), place))
    return [rows[place] for place in sorted(places[:count])]
