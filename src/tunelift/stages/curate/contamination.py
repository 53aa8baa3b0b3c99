"""Evaluation items in the training rows: found by word n-grams, so that the evaluation stays held out.

The rule is Tulu 3's (arXiv 2411.15124): a row is contaminated by an item when n-grams common to both cover more than a
given share of the item's words. Items shorter than one n-gram are looked for whole. All that training shows the model
of a row is searched: what is said, thought and called, what tools answer, and how they are described.

Most rows hold no item, so that a row's words are compared by four of each n-gram first, and looked at whole only where
those are an item's.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import orjson

from tunelift.stages.curate.rows import Fault

# A run of letters and digits; in scripts written without spaces each character counts as a word.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
SPLITTING = bytes(ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256))
"""Of ASCII text: capitals to small letters, and what is neither letter nor digit to spaces."""
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")
"""Soft hyphens and characters without width, which may stand inside a word."""

LABEL = re.compile(r"\W*(?:\w+(?:[ -]\w+){0,7}\W{0,3}:|\w{1,3}[.)])(?=\W)")
"""Before a request: `Question:`, `**Q 3:**`, `Please answer the following question:`, `1.`, `(b)`."""
MOST_LABELS = 3
SENTENCE_END = re.compile(r"[.!?。！？](?:(?<=[。！？])|(?!\w))")
WHOLE_INSIDE_WORDS = 5
"""A short item this long or longer may stand anywhere in a text; a shorter one must be the request itself, since a
handful of words is met inside other texts by chance."""
PHRASE_WORDS = 1
"""A stretch of an item with at most so many words more than an n-gram may be a usual phrase, such as "Which of the
following statements is true about the": alone in another message, it is not added to what the fullest one holds."""
LONG_STRETCH = 100
"""So many words of an item in a row are no chance, whatever the item's length: a text whose perplexity is measured may
have thousands."""
ESCAPE = re.compile(r'\\(?:u([0-9a-fA-F]{4})|["\\/bfnrt])')
"""Of a text inside JSON."""
LEVELS = 2
"""JSON may stand as text inside JSON."""
TAG = re.compile(r"""</?[A-Za-z][\w:.-]{0,40}(?:\s+[\w:.-]{1,40}\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>]+))*\s*/?>""")
"""Of HTML and XML; what stands between `a <b` and `c> d` is none."""
DEFINITIONS = 1024
"""Tools' definitions that are remembered; many rows have the same."""
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
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    found = list(_WORD.finditer(text))
    return Words(text, tuple(match.group().casefold() for match in found), tuple(match.span() for match in found))


def _keys(text: str) -> list[str]:
    """The keys of `words`, without the places."""
    if text.isascii():
        return text.encode().translate(SPLITTING).decode().split()
    found = _WORD.findall(_INVISIBLE.sub("", unicodedata.normalize("NFKC", text)))
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


@dataclass(frozen=True)
class _Piece:
    """What one message holds of an item."""

    words: frozenset[int]
    """Places in the item."""
    span: str
    """What was found, or the longest stretch of it."""


class Questions:
    """The tasks' questions, ready to be looked for; looking changes nothing.

    Args:
        questions: By task, what each item asks: the request alone, without the prompt around it.
        ngram: Words in an n-gram.
        overlap: A row matches when it covers more than this share of an item's words; 1 stands for all of them.
    """

    def __init__(self, questions: Mapping[str, Sequence[str]], ngram: int, overlap: float) -> None:
        self.ngram, self.overlap = ngram, overlap
        self._items = [
            (task, index, words(_plain(text)).keys)
            for task, texts in questions.items()
            for index, text in enumerate(texts)
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
        self._in_definitions = lru_cache(DEFINITIONS)(lambda tools: self._pieces(tools.decode(), asked=False))

    def matches(self, requests: Sequence[str], replies: Sequence[str] = (), tools: bytes = b"") -> list[Match]:
        """All items found in a row's texts, the fullest match first.

        What several texts hold of an item counts together.

        Args:
            requests: What the system and the user say.
            replies: What else the row shows. An item of a few words that stands there as a line of its own is chance.
            tools: The tools' definitions as JSON.
        """
        found: dict[int, list[_Piece]] = {}
        several = [self._pieces(text, asked=True) for text in requests if text]
        several += [self._pieces(text, asked=False) for text in replies if text]
        for pieces in (*several, *((self._in_definitions(tools),) if tools else ())):
            for number, piece in pieces.items():
                found.setdefault(number, []).append(piece)
        matches = [match for number, pieces in found.items() if (match := self._match(number, pieces))]
        return sorted(matches, key=lambda match: -match.overlap)

    def _match(self, number: int, pieces: Sequence[_Piece]) -> Match | None:
        task, index, keys = self._items[number]
        fullest = max(pieces, key=lambda piece: len(piece.words))
        held = fullest.words
        for stretch in _stretches(frozenset().union(*(piece.words for piece in pieces))):
            if len(stretch) > self.ngram + PHRASE_WORDS or not fullest.words.isdisjoint(stretch):
                held |= stretch
        share = len(held) / len(keys)
        enough = share > self.overlap or share == 1
        if not enough and self.overlap < 1 and len(held) >= LONG_STRETCH:
            enough = max(len(stretch) for stretch in _stretches(held)) >= LONG_STRETCH
        return Match(task, index, round(share, 4), fullest.span) if enough else None

    def _pieces(self, text: str, asked: bool) -> dict[int, _Piece]:
        """By item's number, what one text holds of it."""
        found: dict[int, _Piece] = {}
        for number, piece in self._found(text, asked):
            found.setdefault(number, piece)
        return found

    def _found(self, text: str, asked: bool) -> Iterator[tuple[int, _Piece]]:
        plain = _plain(text)
        keys = _keys(plain)
        if any(probe.touches(keys) for probe in self._probes):
            whole = words(plain)
            yield from self._by_ngrams(whole)
            for length in self._lengths:
                for start in range(len(whole.keys) - length + 1):
                    for number in self._whole.get(whole.keys[start : start + length], ()):
                        yield number, _Piece(frozenset(range(length)), whole.span(start, start + length - 1))
        if asked and self._alone and self._alone.touches(keys):
            for part, part_keys in _parts(plain, text):
                for number in self._whole.get(part_keys, ()):
                    yield number, _Piece(frozenset(range(len(part_keys))), words(part).span(0, -1))

    def _by_ngrams(self, row: Words) -> Iterator[tuple[int, _Piece]]:
        covered: dict[int, set[int]] = {}
        places: dict[int, list[int]] = {}
        for start in range(len(row.keys) - self.ngram + 1):
            for number, position in self._grams.get(row.keys[start : start + self.ngram], ()):
                covered.setdefault(number, set()).update(range(position, position + self.ngram))
                places.setdefault(number, []).append(start)
        for number, positions in covered.items():
            yield number, _Piece(frozenset(positions), row.span(*_longest_run(places[number], self.ngram)))


def _stretches(places: frozenset[int]) -> list[frozenset[int]]:
    """Places in runs without a gap."""
    runs: list[list[int]] = []
    for place in sorted(places):
        if runs and place == runs[-1][-1] + 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return [frozenset(run) for run in runs]


def _plain(text: str) -> str:
    """The text without JSON's escapes, HTML's entities and tags: rows and items are compared in this form."""
    for _ in range(LEVELS):
        if not ("\\" in text or "&" in text or "<" in text):
            break
        plain = TAG.sub(" ", html.unescape(ESCAPE.sub(_unescaped, text)))
        if plain == text:
            break
        text = plain
    return text


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1]:
        letter = chr(int(escape[1], 16))
        return letter if letter.isprintable() else " "
    letter = escape[0][1]
    return "\n" if letter == "n" else letter if letter in '\\/"' else " "


def _parts(text: str, written: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What may be the request itself, with its words: the text, each line, also less its labels, and their sentences.

    So neither today's date before the request nor "Answer briefly." after it hides it. A word is no such sentence.
    Where the text or a line is JSON, each text in it may be the request.

    Args:
        text: Without escapes and tags.
        written: As it stands in the row.
    """
    lines = text.splitlines()
    for whole in (text, *lines):
        yield whole, tuple(_keys(whole))
    for whole in (written, *written.splitlines()):
        for value in _texts_in(_json(whole)):
            yield value, tuple(_keys(value))
    for line in lines:
        rests = [line]
        while len(rests) <= MOST_LABELS and (label := LABEL.match(rests[-1])):
            rests.append(rests[-1][label.end() :])
        for sentence in [sentence for rest in rests for sentence in (rest, *SENTENCE_END.split(rest))]:
            keys = tuple(_keys(sentence))
            if len(keys) > 1:
                yield sentence, keys


def _json(text: str) -> Any:
    """The object or list that a text is; None for any other text."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return None


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _texts_in(entry)


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


def contamination(
    questions: Questions, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None = None
) -> tuple[Fault | None, list[Match]]:
    """The fault `contaminated`, if a conversation gives an item away, and everything found in it.

    The evidence is the fullest match (task, item, share of its words, the text matched), and the others under `also`
    (at most 20 in all). Counts are taken from the matches, which are all there.
    """
    requests: list[str] = []
    replies: list[str] = []
    for message in messages:
        (requests if message["role"] in ("system", "user") else replies).append(message["content"])
        replies += [message[name] for name in ("reasoning_content", "name") if message.get(name)]
        if message.get("tool_calls"):
            calls = [call.get("function", call) for call in message["tool_calls"]]
            replies.append(_as_json(calls).decode())
    matches = questions.matches(requests, replies, _as_json(tools) if tools else b"")
    if not matches:
        return None, []
    first, *others = [match.as_json() for match in matches[:MATCHES_SHOWN]]
    return Fault("contaminated", {**first, **({"also": others} if others else {})}), matches


def _as_json(value: Any) -> bytes:
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)
