"""Forest plots: paired differences with their intervals, as rows that the pages draw and spell out.

Shares are shown in percentage points on one axis; a metric without bounds has an axis in its own unit. Where less is
better the axis is reversed, so that right of zero is better in every plot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from markupsafe import Markup

from tunelift.stages.report import figures, wording

Json = dict[str, Any]

MARKS = {
    "improved": "▲",
    "not shown": "◆",
    "regressed": "▼",
    "underpowered": "◇",
    "no claim": "○",
    "non-inferior": "✓",
    "inconclusive": "◆",
    "inferior": "▼",
}
"""A sign for each verdict, so that colour is never all that tells them apart."""


@dataclass(frozen=True)
class Measure:
    """How a metric's numbers read: shares in percent, anything else in its own unit."""

    bounded: bool = True
    lower_is_better: bool = False

    @property
    def factor(self) -> float:
        """From the metric's numbers to those that are shown."""
        return 100 if self.bounded else 1

    def mean(self, value: float) -> str:
        return wording.score(value, self.bounded)

    def difference(self, value: float) -> str:
        return wording.change(value, self.bounded)

    def interval(self, low: float, high: float) -> str:
        return wording.span(low, high, self.bounded)


@dataclass(frozen=True)
class Row:
    """One difference to be drawn: `pair` holds difference, low and high, and p, p_adjusted and verdict if known."""

    name: str
    detail: str
    metric: str
    pair: Json
    measure: Measure
    margin: float | None = None
    strong: bool = False


def forests(rows: Sequence[Row]) -> list[Json]:
    """The rows in order, those next to each other on one axis where their numbers are of one kind."""

    def kind(row: Row) -> Any:
        # Not a guard's with a gain's: a margin of two points is invisible beside forty.
        return row.measure, "" if row.measure.bounded else row.metric, row.margin is None

    return [_forest(list(group)) for _, group in groupby(rows, key=kind)]


def _forest(rows: Sequence[Row]) -> Json:
    measure = rows[0].measure
    ends = [measure.factor * row.pair[key] for row in rows for key in ("low", "high", "difference")]
    # A fifth more than the margin, so that the zone beyond it is seen.
    ends += [1.2 * measure.factor * limit for row in rows if (limit := _limit(row)) is not None]
    scale = figures.axis(ends, reverse=measure.lower_is_better)
    return {
        "rows": [_row(row, scale) for row in rows],
        "ticks": [(f"{scale.share(tick):.2f}", figures.tick_text(tick)) for tick in scale.ticks],
        "unit": wording.unit(rows[0].metric, measure.bounded) or "its own unit",
        "less_is_better": measure.lower_is_better,
    }


def _row(row: Row, scale: figures.Axis) -> Json:
    pair, measure, limit = row.pair, row.measure, _limit(row)
    span = measure.interval(pair["low"], pair["high"])
    return {
        "name": row.name,
        "detail": row.detail,
        "strong": row.strong,
        "verdict": pair.get("verdict"),
        "difference": measure.difference(pair["difference"]),
        "interval": span,
        "p": wording.tested(pair),
        "drawing": drawing(
            pair, measure, scale, f"{measure.difference(pair['difference'])}, 95% interval {span}", limit
        ),
    }


def drawing(pair: Json, measure: Measure, scale: figures.Axis, label: str, limit: float | None = None) -> Markup:
    """A difference on a scale of shown numbers."""
    difference, low, high = (measure.factor * pair[key] for key in ("difference", "low", "high"))
    return figures.strip(difference, low, high, scale, label, None if limit is None else measure.factor * limit)


def _limit(row: Row) -> float | None:
    if row.margin is None:
        return None
    return row.margin if row.measure.lower_is_better else -row.margin
