"""Which step is the best so far, and whether to go on: pure functions of the evaluations, so a resume decides alike."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tunelift.config.schema import BestConfig


@dataclass(frozen=True)
class Measure:
    """What steps are chosen by."""

    key: str
    """Its name in metrics.jsonl."""
    lower_is_better: bool

    @property
    def words(self) -> str:
        """Its name for a person."""
        return "validation loss" if self.key == "eval_loss" else f"validation {self.key.removeprefix('eval_')}"


@dataclass(frozen=True)
class Standing:
    """How things stand after some evaluations."""

    step: int | None = None
    """The best step; of equal ones the first. None if nothing was measured."""
    value: float | None = None
    waited: int = 0
    """Evaluations since one was better than those before it by more than `min_delta`."""

    def patience_is_over(self, config: BestConfig) -> bool:
        """Whether training should end here."""
        return config.patience is not None and self.waited >= config.patience


def standing(lines: Sequence[Mapping[str, Any]], measure: Measure, min_delta: float) -> Standing:
    """The best of the evaluations among the lines of metrics.jsonl. A value that is not finite is never better."""
    best: Standing = Standing()
    reference: float | None = None
    waited = 0
    for line in lines:
        if measure.key not in line:
            continue
        value = float(line[measure.key])
        sign = -1 if measure.lower_is_better else 1
        if math.isfinite(value) and (best.value is None or sign * (value - best.value) > 0):
            best = Standing(int(line["step"]), value)
        if math.isfinite(value) and (reference is None or sign * (value - reference) > min_delta):
            reference, waited = value, 0
        else:
            waited += 1
    return Standing(best.step, best.value, waited)
