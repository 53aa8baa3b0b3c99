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

MOST_POINTS = 1000
"""Of a line: about as many as a screen has columns for it."""


@dataclass(frozen=True)
class Axis:
    """A linear axis with round tick values; reversed, it runs from the greatest value to the least."""

    low: float
    high: float
    ticks: tuple[float, ...]
    reverse: bool = False

    def share(self, value: float) -> float:
        """Where `value` lies, in percent of the axis; what lies beyond an end is put there."""
        along = 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return 100 - along if self.reverse else along


def axis(values: Iterable[float], *, most: int = 5, reverse: bool = False) -> Axis:
    """From the least to the greatest value, zero included, in steps of 1, 2, 2.5 or 5 times a power of ten."""
    found = [0.0, *(value for value in values if math.isfinite(value))]
    low, high = min(found), max(found)
    if high - low < 1e-9:
        high = low + 1.0
    rough = (high - low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * nice for nice in (1, 2, 2.5, 5, 10) if power * nice >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(tick * step for tick in range(first, last + 1)), reverse)


def tick_text(value: float) -> str:
    """A tick's value in as few characters as tell it apart."""
    text = f"{value:,.6g}" if abs(value) < 1e4 else compact(value)
    return text.replace("-", "−")


def compact(value: float) -> str:
    """`12,000` as `12k`, `3,400,000` as `3.4M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(value) >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def meter(mean: float, low: float, high: float, most: float, label: str) -> Markup:
    """A mean as a bar from 0 to `most`, with its interval."""
    at, start, end = (100 * min(max(value / most, 0.0), 1.0) for value in (mean, low, high))
    return Markup(
        '<svg class="meter" role="img" aria-label="{label}" width="100%" height="18">'
        '<rect class="track" x="0" y="3" width="100%" height="12" rx="3"/>'
        '<rect class="bar" x="0" y="3" width="{at:.2f}%" height="12" rx="3"/>'
        '<line class="whisker" x1="{start:.2f}%" x2="{end:.2f}%" y1="9" y2="9"/>'
        '<line class="whisker" x1="{start:.2f}%" x2="{start:.2f}%" y1="5" y2="13"/>'
        '<line class="whisker" x1="{end:.2f}%" x2="{end:.2f}%" y1="5" y2="13"/></svg>'
    ).format(label=label, at=at, start=start, end=end)


def strip(difference: float, low: float, high: float, scale: Axis, label: str, margin: float | None = None) -> Markup:
    """One row of a forest plot: a difference and its interval; the zone beyond a non-inferiority margin is shaded."""
    ticks = Markup("").join(
        Markup('<line class="{kind}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="100%"/>').format(
            kind="grid" if tick else "zero", x=scale.share(tick)
        )
        for tick in scale.ticks
    )
    return Markup(
        '<svg class="strip" role="img" aria-label="{label}" width="100%" height="28">{zone}{ticks}{edge}'
        '<line class="range" x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>'
        '<circle class="dot" cx="{at:.2f}%" cy="50%" r="5"/></svg>'
    ).format(
        label=label,
        # The zone that a guard must stay out of: left of the margin, since right is better.
        zone=""
        if margin is None
        else _at('<rect class="beyond" x="0" y="0" width="{at:.2f}%" height="100%"/>', margin, scale),
        edge=""
        if margin is None
        else _at('<line class="margin" x1="{at:.2f}%" x2="{at:.2f}%" y1="0" y2="100%"/>', margin, scale),
        ticks=ticks,
        low=scale.share(low),
        high=scale.share(high),
        at=scale.share(difference),
    )


def _at(drawn: str, value: float, scale: Axis) -> Markup:
    return Markup(drawn).format(at=scale.share(value))


def loss_curve(training: Sequence[Point], smoothed: Sequence[Point], evaluation: Sequence[Point]) -> Markup:
    """Loss over optimizer steps, each step's and smoothed; the validation loss with a dot at each measurement."""
    points = [*training, *smoothed, *evaluation]
    across, up = axis((step for step, _ in points), most=6), axis((loss for _, loss in points), most=4)
    dots = Markup("").join(
        _dot(across.share(step), up.share(loss), f"step {step:g}: {number(loss, 3)}") for step, loss in evaluation
    )
    lines = _line(thinned(training), across, up, "faint" if smoothed else "train")
    lines += _line(thinned(smoothed), across, up, "train") + _line(evaluation, across, up, "eval")
    return _plot("Loss over optimizer steps", lines + dots, across, up)


def step_curve(points: Sequence[Point], label: str) -> Markup:
    """Any one number over optimizer steps."""
    across, up = axis((step for step, _ in points), most=6), axis((value for _, value in points), most=3)
    return _plot(label, _line(thinned(points), across, up, "train"), across, up)


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most about `MOST_POINTS` of them: of each stretch the least and the greatest, so that no spike is lost."""
    stretch = math.ceil(2 * len(points) / MOST_POINTS)
    if stretch <= 2:
        return list(points)
    kept: list[Point] = []
    for start in range(0, len(points), stretch):
        part = points[start : start + stretch]
        kept += sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
    return kept


def cost_curve(ours: Point, theirs: Point, crossing: float | None, label: str) -> Markup:
    """Cumulative cost over requests, of the focus arm and its rival.

    Args:
        ours: Cost before the first request (training), and of one request.
        theirs: The rival's, likewise.
        crossing: Requests after which ours is the cheaper; none if never.
        label: Says the same in words.
    """
    last = 2 * crossing if crossing else 2 * ours[0] / max(theirs[1], ours[1], 1e-12)
    across = axis((last or 1.0,), most=4)
    ends = [(start, start + each * across.high) for start, each in (ours, theirs)]
    up = axis((end for _, end in ends), most=4)
    lines = Markup("").join(
        _line([(0, start), (across.high, end)], across, up, name)
        for name, (start, end) in zip(("eval", "train"), ends, strict=True)
    )
    if crossing:
        cost = ours[0] + ours[1] * crossing
        lines += _dot(across.share(crossing), up.share(cost), f"{crossing:,.0f} requests")
    return _plot(label, lines, across, up)


def _line(points: Sequence[Point], across: Axis, up: Axis, name: str) -> Markup:
    path = " ".join(f"{10 * across.share(x):.1f},{1000 - 10 * up.share(y):.1f}" for x, y in points)
    return Markup('<polyline class="{name} line" points="{path}"/>').format(name=name, path=path)


def _dot(x: float, y: float, title: str) -> Markup:
    # A line of no length with round ends stays a circle however the drawing is stretched.
    return Markup(
        '<line class="eval dot" x1="{x:.1f}" x2="{x:.1f}" y1="{y:.1f}" y2="{y:.1f}"><title>{title}</title></line>'
    ).format(x=10 * x, y=1000 - 10 * y, title=title)


def _plot(label: str, lines: Markup, across: Axis, up: Axis) -> Markup:
    """Lines in a stretching drawing, 1000 units wide and high; the ticks' labels are text on top of it."""
    grid = Markup("").join(
        Markup('<line class="grid" x1="0" x2="1000" y1="{y:.1f}" y2="{y:.1f}"/>').format(y=1000 - 10 * up.share(tick))
        for tick in up.ticks
    )
    labels = Markup("").join(
        Markup('<span class="{side}-tick" style="{edge}:{at:.2f}%">{text}</span>').format(
            side=side, edge=edge, at=scale.share(tick), text=tick_text(tick)
        )
        for side, edge, scale in (("y", "bottom", up), ("x", "left", across))
        for tick in scale.ticks
    )
    return Markup(
        '<div class="plot" role="img" aria-label="{label}">'
        '<svg viewBox="0 0 1000 1000" preserveAspectRatio="none">{grid}{lines}</svg>{labels}</div>'
    ).format(label=label, grid=grid, lines=lines, labels=labels)


def distribution(values: Sequence[float], p50: float, p95: float, scale: Axis, label: str, bins: int = 40) -> Markup:
    """How often each latency occurred, the highest bin as high as the drawing; marks at the median and p95."""
    counts = [0] * bins
    for value in values:
        counts[min(int(scale.share(value) / 100 * bins), bins - 1)] += 1
    most, width = max(counts, default=0) or 1, 100 / bins
    bars = Markup("").join(
        Markup('<rect x="{x:.2f}%" y="{y:.1f}" width="{w:.2f}%" height="{h:.1f}"/>').format(
            x=width * at, w=0.86 * width, y=29 - 27 * count / most, h=27 * count / most
        )
        for at, count in enumerate(counts)
        if count
    )
    marks = Markup("").join(
        Markup('<line class="{name}" x1="{x:.2f}%" x2="{x:.2f}%" y1="0" y2="33"/>').format(
            name=name, x=scale.share(value)
        )
        for name, value in (("p50", p50), ("p95", p95))
    )
    return Markup(
        '<svg class="spread" role="img" aria-label="{label}" width="100%" height="34">'
        '<line class="grid" x1="0" x2="100%" y1="29.5" y2="29.5"/>{bars}{marks}</svg>'
    ).format(label=label, bars=bars, marks=marks)


def points(metrics: Sequence[dict[str, Any]], key: str) -> list[Point]:
    """(step, value) of the rows that hold a finite value; a step logged twice counts as logged last."""
    found = {
        float(row["step"]): float(row[key])
        for row in metrics
        if isinstance(row.get(key), int | float)
        and isinstance(row.get("step"), int | float)
        and math.isfinite(row[key])
    }
    return sorted(found.items())
