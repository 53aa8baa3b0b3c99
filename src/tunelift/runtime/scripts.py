"""Words of a text in any script: what white space divides, or single characters where a script has no blanks."""

from __future__ import annotations

import re

UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\uff66-\uff9f\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer, kana and Chinese characters: their scripts put no blanks between words."""


def count_words(text: str) -> int:
    """Words between white space; in scripts written without blanks each character counts as one."""
    return len(text.split() if text.isascii() else UNSPACED.sub(" x ", text).split())


def mostly_unspaced(text: str) -> bool:
    """Whether at least half of the characters, white space left out, are of scripts without blanks."""
    if text.isascii():
        return False
    return 2 * len(UNSPACED.findall(text)) >= sum(map(len, text.split()))
