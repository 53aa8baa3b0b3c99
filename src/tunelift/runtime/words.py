"""How many tokens a text has, from how many each of its words has: a tenth of the work, since words come again.

It holds where the tokenizer first cuts a text into words, by a pattern that never looks back, and never takes a space
after something else than white space into the same word: there, what stands before such a space and what begins with
it are tokenized as if each stood alone. So it is with the byte-level tokenizers of GPT-2, SmolLM, Llama 3 and Qwen.
They take control tokens out of the text before all else, and what stands between two is tokenized alone too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import accumulate, pairwise
from operator import sub
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

MOST_CHARACTERS = 100
"""A longer word is not remembered: it may be a whole text of a language that is written without spaces."""
CUT = re.compile("(?<=[!-~])(?= )")
"""Before a space after something that is no white space, whatever a library takes for white space beside ASCII's."""
_CLOSED = re.compile(rf" [^ ]{{0,{MOST_CHARACTERS}}}[!-~]\Z")
"""A word that is cut off from what follows, whatever that is, and short enough to be remembered."""
PATTERNS = frozenset(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
    + digits
    + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    for digits in (r"\p{N}", r"\p{N}{1,3}")
)
"""Of Qwen 2 and Llama 3; GPT-2's is part of the step `ByteLevel`."""
MOST_WORDS = 100_000
"""Remembered at a time: some 20 MB."""


def word_at(text: str, at: int, begin: int, end: int) -> tuple[int, int]:
    """Where the word begins and ends that the character at this place is part of, within `text[begin:end]`."""
    start = at + 1
    while (start := text.rfind(" ", begin, start)) >= 0 and not CUT.match(text, start):
        pass
    following = CUT.search(text, at + 1, end)
    return max(start, begin), following.start() if following else end


class WordCounts:
    """Remembers how many tokens a word has, with the space before it.

    Args:
        tokenizer: One that `word_counts` answers for.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._backend = tokenizer.backend_tokenizer
        self._words: dict[str, int] = {}
        """Of words that are cut off from what follows, whatever it is, with the space before them left out here."""
        self._others: dict[str, int] = {}
        """Of what stands at the beginning or end of a part, or has white space in it."""
        # What is found in the text as it stands, the longest first, as the backend does.
        found = [token.content for token in tokenizer.added_tokens_decoder.values() if not token.normalized]
        self._control = re.compile("|".join(map(re.escape, sorted(found, key=len, reverse=True))) or "(?!)")

    def parts(self, text: str, edges: Iterable[int]) -> list[tuple[int, int]]:
        """The text cut at each edge, or where that would cut a word, before and behind the word; no part is empty."""
        controls = [control.span() for control in self._control.finditer(text)]
        cuts = {0, len(text)}
        for edge in edges:
            begin = max((end for _, end in controls if end <= edge), default=0)
            end = min((start for start, _ in controls if start >= edge), default=len(text))
            across = next((control for control in controls if control[0] < edge < control[1]), None)
            cuts |= {edge} if edge in (begin, end) else set(across or word_at(text, edge, begin, end))
        return list(pairwise(sorted(cuts)))

    def total(self, text: str) -> int:
        """Tokens of such a part."""
        first, *words = text.split(" ")
        if not words:
            return self._other(first)
        if not first or "!" <= first[-1] <= "~":
            with suppress(KeyError):
                return self._others[first] + sum(map(self._words.__getitem__, words))
        return self._looked_at(text)

    def _looked_at(self, text: str) -> int:
        """As `total`, whatever the white space, and with words not met before."""
        if len(self._words) + len(self._others) > MOST_WORDS:
            self._words.clear()
            self._others.clear()
        first, *words = CUT.split(text)
        if _CLOSED.match(first):
            first, words = "", [first, *words]
        closed, others = [], [first]
        for word in words:
            if _CLOSED.match(word):
                closed.append(word[1:])
            else:
                others.append(word)
        if unknown := set(closed).difference(self._words):
            self._learn(list(unknown))
        return sum(map(self._words.__getitem__, closed)) + sum(map(self._other, others))

    def _learn(self, words: Sequence[str]) -> None:
        found = self._backend.encode(" " + " ".join(words), add_special_tokens=False)
        starts = accumulate((len(word) + 1 for word in words[:-1]), initial=0)
        firsts = [found.char_to_token(start) for start in starts]
        self._words.update(zip(words, map(sub, [*firsts[1:], len(found)], firsts), strict=True))

    def _other(self, word: str) -> int:
        if word in self._others:
            return self._others[word]
        tokens = len(self._backend.encode(word, add_special_tokens=False))
        if len(word) <= MOST_CHARACTERS:
            self._others[word] = tokens
        return tokens


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
