"""Rows of the printed table: shares of the repetitions, and the bounds that they keep."""

from __future__ import annotations

import math
from dataclasses import dataclass

REPETITIONS = 2000


@dataclass(frozen=True)
class Rate:
    """A share of the repetitions, and its bounds."""

    value: float
    least: float = 0.0
    most: float = 1.0

    def holds(self, repetitions: int) -> bool:
        """Whether it keeps its bounds; few repetitions are given three standard errors."""
        noise = max(math.sqrt(bound * (1 - bound) / repetitions) for bound in (self.least, self.most))
        slack = 3 * noise if repetitions < REPETITIONS else 0.0
        return self.least - slack <= self.value <= self.most + slack


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    rates: tuple[Rate, ...]
    repetitions: int

    @property
    def holds(self) -> bool:
        return all(rate.holds(self.repetitions) for rate in self.rates)

    def __str__(self) -> str:
        bounded = any((rate.least, rate.most) != (0.0, 1.0) for rate in self.rates)
        tick = " " if not bounded else "✓" if self.holds else "✗"
        return f"{tick} {self.what:56}" + "".join(f"{rate.value:15.1%}" for rate in self.rates)
