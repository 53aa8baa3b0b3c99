"""Evaluation items in the training rows: found by word n-grams, so that the evaluation stays held out.

The rule is Tulu 3's (arXiv 2411.15124): a row is contaminated by an item when n-grams common to both cover more than a
given share of the item's words. Items shorter than one n-gram are looked for whole.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tunelift.stages.curate.rows import Example, Fault

# A run of letters and digits; in scripts written without spaces each character counts as a word.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

WHOLE_INSIDE_WORDS = 5
"""A short item this long or longer may stand anywhere in a user message; a shorter one must be the request itself,
since a handful of words is met inside other requests by chance."""
SPAN_CHARACTERS = 300


@dataclass(frozen=True)
class Words:
    """A text's words without case, and where each stands in `text` (Unicode NFKC)."""

    text: str
    keys: tuple[str, ...]
    spans: tuple[tuple[int, int], ...]

    def span(self, first: int, last: int) -> str:
        """The text from one word through another, cut after 300 characters."""
        return self.text[self.spans[first][0] : self.spans[last][1]][:SPAN_CHARACTERS]


def words(text: str) -> Words:
    """Split into words: case, punctuation and Unicode form do not count."""
    text = unicodedata.normalize("NFKC", text)
    found = list(_WORD.finditer(text))
    return Words(text, tuple(match.group().casefold() for match in found), tuple(match.span() for match in found))


@dataclass(frozen=True)
class Match:
    """An item found in a row."""

    task: str
    item: int
    """Index among the task's questions, from 0."""
    overlap: float
    """Share of the item's words that were found."""
    span: str
    """What was found, as it stands in the row."""


class Questions:
    """The tasks' questions, ready to be looked for.

    Args:
        questions: By task, what each item asks: the request alone, without the prompt around it.
        ngram: Words in an n-gram.
        overlap: A row matches when it covers more than this share of an item's words.
    """

    def __init__(self, questions: Mapping[str, Sequence[str]], ngram: int, overlap: float) -> None:
        self.ngram, self.overlap = ngram, overlap
        self.counts = {task: len(texts) for task, texts in questions.items()}
        self._items = [
            (task, index, words(text).keys) for task, texts in questions.items() for index, text in enumerate(texts)
        ]
        self._grams: dict[tuple[str, ...], list[tuple[int, int]]] = {}
        self._whole: dict[tuple[str, ...], list[int]] = {}
        for number, (_, _, keys) in enumerate(self._items):
            for start in range(len(keys) - ngram + 1):
                self._grams.setdefault(keys[start : start + ngram], []).append((number, start))
            if keys and len(keys) < ngram:
                self._whole.setdefault(keys, []).append(number)
        self._lengths = sorted({len(keys) for keys in self._whole if len(keys) >= WHOLE_INSIDE_WORDS})

    def matches(self, example: Example) -> list[Match]:
        """All items found in the row's user messages, the fullest match first."""
        best: dict[int, Match] = {}
        for text in example.user_texts:
            for number, share, span in self._found(text):
                task, index, _ = self._items[number]
                if number not in best or share > best[number].overlap:
                    best[number] = Match(task, index, round(share, 4), span)
        return sorted(best.values(), key=lambda match: -match.overlap)

    def _found(self, text: str) -> Iterator[tuple[int, float, str]]:
        whole = words(text)
        yield from self._by_ngrams(whole)
        for length in self._lengths:
            for start in range(len(whole.keys) - length + 1):
                for number in self._whole.get(whole.keys[start : start + length], ()):
                    yield number, 1.0, whole.span(start, start + length - 1)
        # A fixed line before the request, such as today's date, must not hide it.
        for request in (whole, *map(words, text.splitlines())):
            for number in self._whole.get(request.keys, ()):
                yield number, 1.0, request.span(0, -1)

    def _by_ngrams(self, row: Words) -> Iterator[tuple[int, float, str]]:
        covered: dict[int, set[int]] = {}
        places: dict[int, list[int]] = {}
        for start in range(len(row.keys) - self.ngram + 1):
            for number, position in self._grams.get(row.keys[start : start + self.ngram], ()):
                covered.setdefault(number, set()).update(range(position, position + self.ngram))
                places.setdefault(number, []).append(start)
        for number, positions in covered.items():
            share = len(positions) / len(self._items[number][2])
            if share > self.overlap:
                yield number, share, row.span(*_longest_run(places[number], self.ngram))


def _longest_run(starts: list[int], ngram: int) -> tuple[int, int]:
    """First and last word of the longest stretch of overlapping n-grams; `starts` rises."""
    runs = [[starts[0], starts[0]]]
    for before, start in pairwise(starts):
        if start - before <= ngram:
            runs[-1][1] = start
        else:
            runs.append([start, start])
    first, last = max(runs, key=lambda run: run[1] - run[0])
    return first, last + ngram - 1


class Contamination:
    """Finds contaminated rows, and counts the items they give away."""

    def __init__(self, questions: Questions) -> None:
        self._questions = questions
        self.items: dict[str, set[int]] = {task: set() for task in questions.counts}
        """By task, the items found in any row."""

    def fault(self, example: Example) -> Fault | None:
        """`contaminated`, with the fullest match: task, item, share of its words, and the text matched."""
        matches = self._questions.matches(example)
        for match in matches:
            self.items[match.task].add(match.item)
        if not matches:
            return None
        first = matches[0]
        return Fault(
            "contaminated", {"task": first.task, "item": first.item, "overlap": first.overlap, "span": first.span}
        )

    def rates(self) -> dict[str, float]:
        """By task, the share of its items found in the raw rows; every row that holds one was dropped."""
        return {task: len(self.items[task]) / count if count else 0.0 for task, count in self._questions.counts.items()}
