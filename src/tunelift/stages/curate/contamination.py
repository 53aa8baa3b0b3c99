"""Evaluation items in the training rows: found by word n-grams, so that the evaluation stays held out.

The rule is Tulu 3's (arXiv 2411.15124): a row is contaminated by an item when n-grams common to both cover more than a
given share of the item's words. Items shorter than one n-gram are looked for whole.

Most rows hold no item, so that a row's words are compared by four of each n-gram first, and looked at whole only where
those are an item's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tunelift.stages.curate.rows import Fault

# A run of letters and digits; in scripts written without spaces each character counts as a word.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
SPLITTING = bytes(ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256))
"""Of ASCII text: capitals to small letters, and what is neither letter nor digit to spaces."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

LABEL = re.compile(r"\W*(?:\w+(?:[ -]\w+){0,2}\W{0,3}:|\w{1,3}[.)])(?=\W)")
"""Before a request: `Question:`, `**Q 3:**`, `1.`, `(b)`."""
MOST_LABELS = 3
SENTENCE_END = re.compile(r"[.!?。！？](?:(?<=[。！？])|(?!\w))")
WHOLE_INSIDE_WORDS = 5
"""A short item this long or longer may stand anywhere in a text; a shorter one must be the request itself, since a
handful of words is met inside other texts by chance."""
SPAN_CHARACTERS = 300
MATCHES_SHOWN = 20


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


def _keys(text: str) -> list[str]:
    """The keys of `words`, without the places."""
    if text.isascii():
        return text.encode().translate(SPLITTING).decode().split()
    found = _WORD.findall(unicodedata.normalize("NFKC", text))
    return " ".join(found).casefold().split(" ") if found else []


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

    def as_json(self) -> dict[str, Any]:
        """As evidence."""
        return {"task": self.task, "item": self.item, "overlap": self.overlap, "span": self.span}


class Questions:
    """The tasks' questions, ready to be looked for; looking changes nothing.

    Args:
        questions: By task, what each item asks: the request alone, without the prompt around it.
        ngram: Words in an n-gram.
        overlap: A row matches when it covers more than this share of an item's words.
    """

    def __init__(self, questions: Mapping[str, Sequence[str]], ngram: int, overlap: float) -> None:
        self.ngram, self.overlap = ngram, overlap
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
        inside = [keys for keys in self._whole if len(keys) >= WHOLE_INSIDE_WORDS]
        alone = [keys for keys in self._whole if len(keys) < WHOLE_INSIDE_WORDS]
        self._probes = [_Probe(sequences) for sequences in (inside, self._grams) if sequences]
        self._alone = _Probe(alone) if alone else None

    def matches(self, requests: Sequence[str], replies: Sequence[str] = ()) -> list[Match]:
        """All items found in a row's texts, the fullest match first.

        Args:
            requests: What the system and the user say.
            replies: What the assistant says. An item of a few words that stands there as a line of its own is chance.
        """
        best: dict[int, Match] = {}
        for text, asked in [*((text, True) for text in requests), *((text, False) for text in replies)]:
            for number, share, span in self._found(text, asked):
                task, index, _ = self._items[number]
                if number not in best or share > best[number].overlap:
                    best[number] = Match(task, index, round(share, 4), span)
        return sorted(best.values(), key=lambda match: -match.overlap)

    def _found(self, text: str, asked: bool) -> Iterator[tuple[int, float, str]]:
        keys = _keys(text)
        if any(probe.touches(keys) for probe in self._probes):
            whole = words(text)
            yield from self._by_ngrams(whole)
            for length in self._lengths:
                for start in range(len(whole.keys) - length + 1):
                    for number in self._whole.get(whole.keys[start : start + length], ()):
                        yield number, 1.0, whole.span(start, start + length - 1)
        if asked and self._alone and self._alone.touches(keys):
            for part, part_keys in _parts(text):
                for number in self._whole.get(part_keys, ()):
                    yield number, 1.0, words(part).span(0, -1)

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


def _parts(text: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What may be the request itself, with its words: the text, each line, also less its labels, and their sentences.

    So neither today's date before the request nor "Answer briefly." after it hides it. A word is no such sentence.
    """
    lines = text.splitlines()
    for whole in (text, *lines):
        yield whole, tuple(_keys(whole))
    for line in lines:
        rests = [line]
        while len(rests) <= MOST_LABELS and (label := LABEL.match(rests[-1])):
            rests.append(rests[-1][label.end() :])
        for sentence in [sentence for rest in rests for sentence in (rest, *SENTENCE_END.split(rest))]:
            keys = tuple(_keys(sentence))
            if len(keys) > 1:
                yield sentence, keys


class _Probe:
    """Whether words hold one of many sequences; four of their first words are looked at first."""

    def __init__(self, sequences: Iterable[tuple[str, ...]]) -> None:
        self._sequences = frozenset(sequences)
        self._lengths = {len(keys) for keys in self._sequences}
        last = min(self._lengths) - 1
        self._places = [last * third // 3 for third in range(4)]
        self._known = {tuple([keys[place] for place in self._places]) for keys in self._sequences}

    def touches(self, keys: list[str]) -> bool:
        """Whether one of the sequences stands among the keys."""
        spread = [keys[place:] for place in self._places]
        if self._known.isdisjoint(zip(*spread, strict=False)):
            return False
        starts = [start for start, four in enumerate(zip(*spread, strict=False)) if four in self._known]
        return any(
            tuple(keys[start : start + length]) in self._sequences for start in starts for length in self._lengths
        )


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


def contamination(questions: Questions, messages: Sequence[Mapping[str, Any]]) -> tuple[Fault | None, list[Match]]:
    """The fault `contaminated`, if a conversation gives an item away, and everything found in it.

    The evidence is the fullest match (task, item, share of its words, the text matched), and the others under `also`
    (at most 20 in all). Counts are taken from the matches, which are all there.
    """
    requests = [message["content"] for message in messages if message["role"] in ("system", "user")]
    said = [message for message in messages if message["role"] == "assistant"]
    replies = [text for message in said for text in (message["content"], message.get("reasoning_content")) if text]
    matches = questions.matches(requests, replies)
    if not matches:
        return None, []
    first, *others = [match.as_json() for match in matches[:MATCHES_SHOWN]]
    return Fault("contaminated", {**first, **({"also": others} if others else {})}), matches
