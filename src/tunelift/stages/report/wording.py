"""Numbers and names as a reader sees them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

MINUS = "−"
ACRONYMS = {
    word.lower(): word
    for word in ("JSON", "F1", "KL", "NLL", "BOS", "EOS", "GiB", "CPU", "GPU", "ID", "USD", "p50", "p95")
}


def label(name: str) -> str:
    """A metric's or a key's name as words: `valid_json` is `Valid JSON`."""
    words = " ".join(ACRONYMS.get(word, word) for word in name.replace("_", " ").split())
    return words[:1].upper() + words[1:]


def number(value: float, digits: int = 1) -> str:
    """With a real minus sign and thousands separators."""
    text = f"{value:,.{digits}f}"
    return MINUS + text[1:] if text.startswith("-") and float(text.replace(",", "")) else text.lstrip("-")


def percent(share: float) -> str:
    """0.6133 as `61.3%`; exactly none and all as `0%` and `100%`."""
    return f"{share:.0%}" if share in (0, 1) else f"{number(100 * share)}%"


def points(difference: float) -> str:
    """A difference of two shares in percentage points, with its sign."""
    text = number(100 * difference)
    return text if text.startswith(MINUS) or not float(text) else f"+{text}"


def interval(low: float, high: float) -> str:
    """`50.1 to 66.0`, in percentage points."""
    return f"{number(100 * low)} to {number(100 * high)}"


def plain(value: float) -> str:
    """A score that is no share, to about three digits: `0.962`, `17.35`."""
    return number(value, 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1)


def score(value: float, bounded: bool = True) -> str:
    """A metric's value: percent if it is a share, in its own unit if it has no bounds."""
    return percent(value) if bounded else plain(value)


def change(difference: float, bounded: bool = True) -> str:
    """A difference with its sign: in points of a share, or in the metric's own unit."""
    text = plain(difference)
    return points(difference) if bounded else text if text.startswith(MINUS) or not difference else f"+{text}"


def span(low: float, high: float, bounded: bool = True) -> str:
    """An interval of values or differences, in the unit of `score` and `change`."""
    return interval(low, high) if bounded else f"{plain(low)} to {plain(high)}"


def unit(metric: str, bounded: bool = True) -> str:
    """What differences of a metric are counted in; empty for a metric without bounds that names no unit."""
    return "points" if bounded else metric.replace("_", " ") if "_per_" in metric else ""


def amount(size: float, metric: str, bounded: bool = True) -> str:
    """How much, without a sign: `2 points`, `4.5 points`, `0.020 bits per byte`."""
    text = number(100 * abs(size)).removesuffix(".0") if bounded else plain(abs(size))
    words = unit(metric, bounded)
    return f"{text} {words[:-1] if words == 'points' and text == '1' else words}".rstrip()


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def times(count: int) -> str:
    """`once`, `7 times`."""
    return "once" if count == 1 else f"{count:,} times"


def rounded(value: float, digits: int = 2) -> str:
    """To so many significant digits, for what is only an estimate: 13,427 as `13,000`, 0.0512 as `0.051`."""
    if not value:
        return "0"
    places = digits - 1 - math.floor(math.log10(abs(value)))
    return number(round(value, places), max(0, places))


def probability(p: float) -> str:
    """`p < 0.001`, `p = 0.012`, `p = 0.34`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


def tested(pair: Mapping[str, Any]) -> str:
    """The p that a pair's verdict rests on: corrected for all claims where it is one; empty if no test was made."""
    if pair.get("p_adjusted") is not None:
        return f"{probability(pair['p_adjusted'])} (Holm)"
    return probability(pair["p"]) if pair.get("p") is not None else ""


def fact(value: Any) -> str:
    """A value of unknown kind, short."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "—"
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return number(value, 2) if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(fact(item) for item in value)
    return str(value)
