"""The order in which rows are seen: a pure function of the seed, so that a resumed run goes on with the next row."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from torch.utils.data import Sampler

POOL_BATCHES = 16
"""Rows are matched by length among this many batches: little padding, batches still nearly random."""


class GroupedOrder(Sampler[int]):
    """Batches of rows of like length, in random order; each epoch another permutation.

    The batches are those of the optimizer step, so how a step is cut into micro-batches does not change what it sees.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size, self.seed = lengths, batch_size, seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        return (row for batch in self.batches(self.epoch) for row in batch)

    def batches(self, epoch: int) -> list[list[int]]:
        """Row numbers of each step of an epoch; the last batch may be smaller."""
        chance = random.Random(f"{self.seed}:{epoch}")
        rows = list(range(len(self.lengths)))
        chance.shuffle(rows)
        whole = len(rows) - len(rows) % self.batch_size
        pool = POOL_BATCHES * self.batch_size
        full: list[list[int]] = []
        for start in range(0, whole, pool):
            alike = sorted(rows[start : min(start + pool, whole)], key=self.lengths.__getitem__, reverse=True)
            full += _cut(alike, self.batch_size)
        chance.shuffle(full)
        rest = sorted(rows[whole:], key=self.lengths.__getitem__, reverse=True)
        return full + ([rest] if rest else [])

    def rows_of_step(self, step: int) -> list[int]:
        """Row numbers of optimizer step `step`, counted from 1 over all epochs."""
        per_epoch = -(-len(self.lengths) // self.batch_size)
        epoch, index = divmod(step - 1, per_epoch)
        return self.batches(epoch)[index]


def _cut(rows: list[int], size: int) -> list[list[int]]:
    return [rows[start : start + size] for start in range(0, len(rows), size)]
