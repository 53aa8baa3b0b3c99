"""Rows for the tests of what is alike."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from tunelift.stages.curate.similarity import Rows, Sets, Texts

Row = tuple[str, str]


def answering(rows: Sequence[Row]) -> Texts:
    return lambda numbers: [rows[number] for number in numbers]


def words(count: int, seed: int) -> list[str]:
    """Words of a made-up language, the first far more often than the last."""
    rng = random.Random(seed)
    return [
        f"w{'aeiou'[rank % 5]}{_letters(rank)}" for rank in (int(rng.paretovariate(0.4)) % 5000 for _ in range(count))
    ]


def _letters(number: int) -> str:
    return "".join(chr(97 + int(digit)) for digit in str(number))


def edited(text: Sequence[str], share: float, seed: int) -> list[str]:
    """Some words replaced, dropped or doubled."""
    rng = random.Random(seed)
    out = list(text)
    for place in sorted(rng.sample(range(len(text)), max(1, round(share * len(text)))), reverse=True):
        out[place : place + 1] = rng.choice(([f"new{_letters(rng.randrange(10**6))}"], [], [out[place], "more"]))
    return out


def sets_of(rows: Sequence[set[int]]) -> Sets:
    flat = np.array([value for row in rows for value in sorted(row)], np.uint64)
    return Sets(flat, np.cumsum([0, *map(len, rows)], dtype=np.int64))


def reading(sets: Sequence[set[int]]) -> object:
    return lambda blocks: (sets_of([sets[number] for number in block]) for block in blocks)


def pairs_above(sets: Sequence[set[int]], threshold: float) -> set[tuple[int, int]]:
    """By comparing all."""
    return {
        (a, b)
        for b in range(len(sets))
        for a in range(b)
        if sets[a] and len(sets[a] & sets[b]) >= threshold * len(sets[a] | sets[b]) - 1e-9
    }


def rows_of(numbers: Sequence[int]) -> Rows:
    return np.array(numbers, np.int64)
