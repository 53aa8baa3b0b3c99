"""Numbers and names as a reader sees them."""

from __future__ import annotations

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


def probability(p: float) -> str:
    """`p < 0.001`, `p = 0.012`, `p = 0.34`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.3f}" if p < 0.1 else f"p = {p:.2f}"


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
