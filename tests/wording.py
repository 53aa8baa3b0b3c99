"""Words that no two rows share, so that curation takes rows for what they are: different."""

from __future__ import annotations

import hashlib

SYLLABLES = ("ba", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "vu", "wa", "ze", "da", "fe", "gi", "ho")


def own_words(number: int, count: int = 6) -> str:
    """So many made-up words, other ones for each number."""
    digits = hashlib.sha256(str(number).encode()).hexdigest()
    return " ".join("".join(SYLLABLES[int(digit, 16)] for digit in digits[3 * n : 3 * n + 3]) for n in range(count))
