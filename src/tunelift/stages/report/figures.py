"""The report's drawings: SVG whose horizontal positions are percentages, so that they fit any width with crisp text.

Colours come from the page's style sheet, by class; nothing here depends on the theme.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tunelift.stages.report.wording import number

Point = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """A linear axis with round tick values."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where `value` lies, in percent of the axis."""
        return 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def axis(values: Iterable[float], *, most: int = 5) -> Axis:
    """From the least to the greatest value, zero included, in steps of 1, 2, 2.5 or 5 times a power of ten."""
    found = [0.0, *values]
    low, high = min(found), max(found)
    if high - low < 1e-9:
        high = low + 1.0
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(tick * step for tick in range(first, last + 1)))


def meter(mean: float, low: float, high: float, label: str) -> Markup:
    """A share as a bar from 0 to 1 with its interval."""
    return Markup(
        '<svg class="meter" role="img" aria-label="{label}" width="100%" height="18">'
        '<rect class="track" x="0" y="3" width="100%" height="12" rx="3"/>'
        '<rect class="bar" x="0" y="3" width="{mean:.2f}%" height="12" rx="3"/>'
        '<line class="whisker" x1="{low:.2f}%" x2="{high:.2f}%" y1="9" y2="9"/>'
        '<line class="whisker" x1="{low:.2f}%" x2="{low:.2f}%" y1="5" y2="13"/>'
        '<line class="whisker" x1="{high:.2f}%" x2="{high:.2f}%" y1="5" y2="13"/></svg>'
    ).format(label=label, mean=100 * mean, low=100 * low, high=100 * high)


def strip(difference: float, low: float, high: float, scale: Axis, label: str) -> Markup:
    """One row of the forest plot: a difference in points and its interval."""
    ticks = Markup("").join(
        Markup('<line class="{kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>').format(
            kind="grid" if tick else "zero", x=scale.share(tick)
        )
        for tick in scale.ticks
    )
    return Markup(
        '<svg class="strip" role="img" aria-label="{label}" width="100%" height="26">{ticks}'
        '<line class="range" x1="{low:.2f}%" x2="{high:.2f}%" y1="13" y2="13"/>'
        '<circle class="dot" cx="{at:.2f}%" cy="13" r="5"/></svg>'
    ).format(label=label, ticks=ticks, low=scale.share(low), high=scale.share(high), at=scale.share(difference))


def loss_curve(training: Sequence[Point], evaluation: Sequence[Point]) -> Markup:
    """Loss over optimizer steps; the drawing stretches, its labels are text on top of it."""
    points = [*training, *evaluation]
    across = axis((step for step, _ in points), most=6)
    up = axis((loss for _, loss in points), most=4)

    def path(series: Sequence[Point]) -> str:
        return " ".join(f"{10 * across.share(x):.1f},{1000 - 10 * up.share(y):.1f}" for x, y in series)

    grid = Markup("").join(
        Markup('<line class="grid" x1="0" x2="1000" y1="{y:.1f}" y2="{y:.1f}"/>').format(y=1000 - 10 * up.share(tick))
        for tick in up.ticks
    )
    # A line of no length with round ends stays a circle however the drawing is stretched.
    dots = Markup("").join(
        Markup(
            '<line class="eval dot" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}">'
            "<title>step {step:g}: {loss}</title></line>"
        ).format(x=10 * across.share(step), y=1000 - 10 * up.share(loss), step=step, loss=number(loss, 3))
        for step, loss in evaluation
    )
    labels = Markup("").join(
        Markup('<span class="{side}-tick" style="{edge}:{at:.2f}%">{text}</span>').format(
            side=side, edge=edge, at=scale.share(tick), text=f"{tick:,g}"
        )
        for side, edge, scale in (("y", "bottom", up), ("x", "left", across))
        for tick in scale.ticks
    )
    return Markup(
        '<div class="plot" role="img" aria-label="Loss over optimizer steps">'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none">{grid}'
        '<polyline class="train line" points="{training}"/><polyline class="eval line" points="{evaluation}"/>'
        "{dots}</svg>{labels}</div>"
    ).format(grid=grid, training=path(training), evaluation=path(evaluation), dots=dots, labels=labels)


def loss_points(metrics: Sequence[dict[str, Any]], key: str) -> list[Point]:
    """(step, loss) of the rows that hold a finite loss; a step logged twice counts as logged last."""
    found = {
        float(row["step"]): float(row[key])
        for row in metrics
        if isinstance(row.get(key), int | float)
        and isinstance(row.get("step"), int | float)
        and math.isfinite(row[key])
    }
    return sorted(found.items())
