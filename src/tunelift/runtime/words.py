"""How many tokens a text has, from how many each of its words has: a tenth of the work, since words come again.

It holds where the tokenizer first cuts a text into words, by a pattern that never looks back, and never takes a space
after something else than white space into the same word: there, what stands before such a space and what begins with
it are tokenized as if each stood alone. So it is with the byte-level tokenizers of GPT-2, SmolLM, Llama 3 and Qwen.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from operator import sub
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

CUT = re.compile(" (?<=[!-~] )")
"""A space after something that is no white space, whatever a library takes for white space beside ASCII's."""
PATTERNS = frozenset(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}", r"\p{N}{1,3}")
)
"""Of Qwen 2 and Llama 3; GPT-2's is part of the step `ByteLevel`."""
MOST_WORDS = 100_000
"""Remembered at a time: some 15 MB."""


def word_at(text: str, at: int) -> tuple[int, int]:
    """Where the word begins and ends that the character at this place is part of: at a cut, or an end of the text."""
    start = at + 1
    while (start := text.rfind(" ", 0, start)) >= 0 and not CUT.match(text, start):
        pass
    following = CUT.search(text, at + 1)
    return max(start, 0), following.start() if following else len(text)


class WordCounts:
    """Remembers how many tokens a word has, with the space before it.

    Args:
        tokenizer: One that `word_counts` answers for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._counts: dict[str, int] = {}

    def total(self, text: str) -> int:
        """Tokens of a part of a text from one cut up to another; it may be empty."""
        if not text:
            return 0
        words = CUT.split(text[1:])
        if len(self._counts) > MOST_WORDS:
            self._counts.clear()
        if unknown := set(words).difference(self._counts):
            self._learn(list(unknown))
        return sum(map(self._counts.__getitem__, words))

    def _learn(self, words: Sequence[str]) -> None:
        found = self._backend.encode(" " + " ".join(words), add_special_tokens=False)
        starts = accumulate((len(word) + 1 for word in words[:-1]), initial=0)
        firsts = [found.char_to_token(start) for start in starts]
        self._counts.update(zip(words, map(sub, [*firsts[1:], len(found)], firsts), strict=True))


def word_counts(tokenizer: PreTrainedTokenizerFast) -> WordCounts | None:
    """For a tokenizer whose words can be counted one by one; None for any other."""
    return _word_counts(tokenizer, len(tokenizer))


@lru_cache(maxsize=8)
def _word_counts(tokenizer: PreTrainedTokenizerFast, size: int) -> WordCounts | None:
    return WordCounts(tokenizer) if _cuts_at_spaces(tokenizer) else None


def _cuts_at_spaces(tokenizer: PreTrainedTokenizerFast) -> bool:
    from tokenizers.models import BPE

    backend = tokenizer.backend_tokenizer
    normalizer, splitter, after = map(_state, (backend.normalizer, backend.pre_tokenizer, backend.post_processor))
    steps = splitter.get("pretokenizers", [splitter])
    return (
        isinstance(backend.model, BPE)
        and not backend.model.dropout
        and normalizer.get("type") in (None, "NFC")
        and all(map(_keeps_cuts, steps))
        and any(map(_cuts, steps))
        and '"trim_offsets": true' not in json.dumps(after)  # Tokens of white space would stand nowhere.
        and not any(
            token.lstrip or token.rstrip or token.single_word or CUT.search(token.content)
            for token in tokenizer.added_tokens_decoder.values()
        )
    )


def _state(part: Any) -> dict[str, Any]:
    """A part of a tokenizer as tokenizer.json has it; empty for none."""
    return dict(json.loads(part.__getstate__())) if part is not None else {}


def _keeps_cuts(step: dict[str, Any]) -> bool:
    return (
        _cuts(step)
        or step.get("type") == "Digits"
        or (step.get("type") == "ByteLevel" and not step["add_prefix_space"])
    )


def _cuts(step: dict[str, Any]) -> bool:
    match step:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return True
        case {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}:
            return pattern in PATTERNS
        case _:
            return False
