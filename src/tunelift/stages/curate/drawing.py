"""Histograms as SVG that stretches with the page; labels are text beside it, and colours the style sheet's."""

from __future__ import annotations

from typing import Any

from markupsafe import Markup

LABELS = 6
"""About as many edges get a label as a phone has room for."""


def bars(counted: dict[str, Any], label: str) -> Markup:
    """A histogram's bins as bars of equal width, the fullest as high as the drawing.

    Args:
        counted: `edges` and `counts` as of `histogram`.
        label: Says what is counted.
    """
    edges, counts = counted["edges"], counted["counts"]
    if not counts:
        return Markup('<p class="soft">no rows</p>')
    width, most = 1000 / len(counts), max(counts)
    drawn = Markup("").join(
        Markup('<rect x="{x:.2f}" y="{y:.2f}" width="{w:.2f}" height="{h:.2f}"><title>{title}</title></rect>').format(
            x=width * at + 0.06 * width,
            y=100 - max(100 * count / most, 1),
            w=0.88 * width,
            h=max(100 * count / most, 1),
            title=f"{edges[at]:,} to {edges[at + 1] - 1:,} tokens: {count:,} rows",
        )
        for at, count in enumerate(counts)
        if count
    )
    ticks = Markup("").join(
        Markup('<span{end} style="left:{at:.2f}%">{text}</span>').format(
            end=Markup(' class="end"') if at == len(counts) else "",
            at=100 * at / len(counts),
            text=_compact(edges[at]),
        )
        for at in _labelled(len(counts))
    )
    return Markup(
        '<div class="histogram" role="img" aria-label="{label}">'
        '<svg viewBox="0 0 1000 100" preserveAspectRatio="none">{drawn}</svg>'
        '<span class="ticks" aria-hidden="true">{ticks}</span>'
        '<span class="most" aria-hidden="true">{most:,}</span></div>'
    ).format(label=label, drawn=drawn, ticks=ticks, most=most)


def _labelled(bins: int) -> list[int]:
    step = max(1, -(-bins // LABELS))
    return list(range(0, bins + 1, step))


def _compact(edge: int) -> str:
    """`12,000` as `12k`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if edge >= 10 * size or (edge >= size and edge % size == 0):
            return f"{edge / size:.3g}{unit}"
    return f"{edge:,}"
