"""Near duplicates: candidates by MinHash, verified by exact Jaccard similarity; rows that differ in values stay.

Candidates share one of 32 bands of 4 signature values (locality-sensitive hashing; Leskovec, Rajaraman and Ullman,
Mining of Massive Datasets, 3.4): a pair with a similarity of 0.6 does so with a probability of 0.988, of 0.7 with
0.9998. A short text has few 3-grams, and one more word breaks most of them: there a pair is also found by the hash of
its words, each left out in turn (as in Garbe's SymSpell), and near if that word is no value and stands at an edge.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from tunelift.config.curation import DuplicatesConfig
from tunelift.stages.curate.contamination import words
from tunelift.stages.curate.passages import about_one_passage
from tunelift.stages.curate.similarity import (
    BASE,
    PERMUTATIONS,
    Hashes,
    On,
    Rows,
    Texts,
    Tokens,
    compared,
    jaccard,
    mixed,
    reaches,
    signatures,
    text_sets,
    token_sets,
    tokens,
)
from tunelift.stages.curate.values import Said, difference, has_digit, same_words

BANDS = 32
SHORT_WORDS = range(4, 25)
"""Texts of so many words are also compared with one of them left out."""
NEIGHBOURS = 4
"""In a band's bucket each row is compared with the first and so many before it: linear, however large the bucket."""
ESTIMATE_MARGIN = 0.13
"""Candidates whose signatures agree by this much less than the threshold are not verified: 3 standard deviations."""
PART_SHARES = (0.5, 1)
"""With `on: both`, the shares of the threshold that prompts and replies of duplicates must reach by themselves."""
BLOCK_PAIRS = 2_000
"""Candidates whose texts are in memory at a time."""

_INVERSE = np.uint64(pow(BASE, -1, 2**64))
_BEFORE = re.compile(r"(?:^|[\n.!?:;…][^\w\n]*)[^\w\n]*$")
_AFTER = re.compile(r"[^\w\n.!?:;…]*(?:$|[\n.!?:;…])")

Kind = Literal["duplicate", "values_differ", "related"]
KINDS: tuple[Kind, ...] = get_args(Kind)
DUPLICATE, VALUES_DIFFER, RELATED = range(3)


class Pair(NamedTuple):
    """Two rows that are alike; `a` comes first."""

    a: int
    b: int
    jaccard: float
    kind: Kind
    """`related` rows are alike on the whole, but their prompts, replies, system messages or tools are not: they
    only share a split."""


@dataclass(frozen=True, eq=False)
class Pairs:
    """Many of them, as columns of 25 bytes a pair: rows of a few templates that differ in values are all alike."""

    a: Rows
    b: Rows
    jaccard: NDArray[np.float64]
    kind: NDArray[np.uint8]
    """Places in `KINDS`."""

    def __len__(self) -> int:
        return len(self.a)

    def __iter__(self) -> Iterator[Pair]:
        for start in range(0, len(self), BLOCK_PAIRS):
            part = self.where(slice(start, start + BLOCK_PAIRS))
            columns = (column.tolist() for column in (part.a, part.b, part.jaccard, part.kind))
            for a, b, similarity, kind in zip(*columns, strict=True):
                yield Pair(a, b, similarity, KINDS[kind])

    def where(self, chosen: slice | NDArray[np.bool_] | Rows) -> Pairs:
        """Those of these places, in their order."""
        return Pairs(self.a[chosen], self.b[chosen], self.jaccard[chosen], self.kind[chosen])

    @staticmethod
    def of(pairs: Iterable[Pair]) -> Pairs:
        """Pairs as columns."""
        a, b, similarity, kind = zip(*pairs, strict=True) if (pairs := list(pairs)) else ((), (), (), ())
        kinds = np.array([KINDS.index(one) for one in kind], np.uint8)
        return Pairs(np.array(a, np.int64), np.array(b, np.int64), np.array(similarity, np.float64), kinds)

    @staticmethod
    def joined(parts: Iterable[Pairs]) -> Pairs:
        """Part after part."""
        parts = [Pairs.of(()), *parts]
        return Pairs(
            np.concatenate([part.a for part in parts]),
            np.concatenate([part.b for part in parts]),
            np.concatenate([part.jaccard for part in parts]),
            np.concatenate([part.kind for part in parts]),
        )


class Sketch(NamedTuple):
    """What is remembered of rows to find those that are alike."""

    signatures: NDArray[np.uint32]
    """Rows × 128."""
    keys: Hashes
    """Of each row the hash of all its words; of a short one then those with one word left out."""
    offsets: Rows
    """Where each row begins in `keys`, and where the last one ends."""


def sketch(rows: Sequence[tuple[str, str]], on: On, common: Hashes) -> Sketch:
    """What to remember of (prompt, reply) rows; each row's part depends on nothing but itself.

    Args:
        common: As `common_shingles` finds them.
    """
    spoken = tokens(compared(rows, on))
    return Sketch(signatures(token_sets(spoken, on, common)), *_word_keys(spoken, on))


def joined(sketches: Sequence[Sketch]) -> Sketch:
    """Sketches of row after row as one."""
    if not sketches:
        return Sketch(np.empty((0, PERMUTATIONS), np.uint32), np.empty(0, np.uint64), np.zeros(1, np.int64))
    sizes = np.concatenate([np.diff(part.offsets) for part in sketches])
    return Sketch(
        np.concatenate([part.signatures for part in sketches]),
        np.concatenate([part.keys for part in sketches]),
        np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes))),
    )


def near_duplicates(
    texts: Texts,
    known: Sketch,
    config: DuplicatesConfig,
    common: Hashes,
    apply: Callable[[Callable[[Rows], Pairs], Iterable[Rows]], Iterable[Pairs]] = map,
) -> Pairs:
    """All pairs found, rising by their rows.

    With `on: both` rows are duplicates when the shingles of prompt and reply together reach the threshold, those of the
    replies do (or the replies are equal), and those of the prompts half of it. Rows that ask different things about one
    passage, and answer in a few words, are none.

    Args:
        apply: As `map`; that of a pool of processes verifies in several, and `texts` is then copied to them.
    """
    found = candidates(known, config.threshold)
    blocks = (found[start : start + BLOCK_PAIRS] for start in range(0, len(found), BLOCK_PAIRS))
    check = partial(verified, texts=texts, config=config, common=common)
    return Pairs.joined(apply(check, blocks))


def choose(pairs: Pairs, rows: int) -> dict[int, Pair]:
    """The rows to drop, each with the pair that says why: its kept row stands in `a`.

    In the order of the rows, one stays unless it duplicates an earlier one that stays: similarity is not handed on
    through a row that is dropped.
    """
    stays = np.ones(rows, bool)
    dropped: dict[int, Pair] = {}
    alike = pairs.where(pairs.kind == DUPLICATE)
    for pair in alike.where(np.lexsort((alike.a, alike.b))):
        if stays[pair.a] and stays[pair.b]:
            stays[pair.b] = False
            dropped[pair.b] = pair
    return dropped


def conflicts(prompts: Hashes, replies: Hashes) -> list[list[int]]:
    """Rows with one prompt and more than one reply, by hashes of the two; in the order of each one's first row."""
    order = np.argsort(prompts, kind="stable")
    starts = np.flatnonzero(np.diff(prompts[order], prepend=prompts[order][:1] + np.uint64(1)))
    runs = [run for run in np.split(order, starts[1:]) if len(run) > 1]
    return sorted(run.tolist() for run in runs if (replies[run] != replies[run[0]]).any())


def candidates(known: Sketch, threshold: float) -> Rows:
    """Pairs worth a look, m × 2: the lower row first, rising."""
    rows = len(known.signatures)
    banded = known.signatures.reshape(rows, BANDS, PERMUTATIONS // BANDS)
    empty = (known.signatures == np.iinfo(np.uint32).max).all(axis=1)
    found = [_agreeing(known.signatures, part, threshold) for part in _bucketed(banded, np.flatnonzero(~empty))]
    found.append(_one_word_apart(known))
    codes = np.unique(np.concatenate(found))
    return np.stack((codes // max(rows, 1), codes % max(rows, 1)), axis=1)


def verified(pairs: Rows, *, texts: Texts, config: DuplicatesConfig, common: Hashes) -> Pairs:
    """Those of the candidates that are alike, and how."""
    rows, places = np.unique(pairs, return_inverse=True)
    read = texts(rows)
    spoken = tokens(compared(read, config.on))
    sets = token_sets(spoken, config.on, common)
    judge = _Judge(read, spoken, config, common)
    answer = []
    for (a, b), (one, other) in zip(pairs.tolist(), places.reshape(-1, 2).tolist(), strict=True):
        similarity = jaccard(sets.of(one), sets.of(other))
        kind = judge.kind(one, other, similarity)
        if kind is not None:
            answer.append(Pair(a, b, round(similarity, 4), kind))
    return Pairs.of(answer)


class _Judge:
    """Looks at the texts of pairs; rows are places in `read`."""

    def __init__(
        self, read: Sequence[tuple[str, str]], spoken: Tokens, config: DuplicatesConfig, common: Hashes
    ) -> None:
        self.config = config
        parts = {"prompt": (0,), "reply": (1,), "both": (0, 1)}[config.on]
        self._said = [[Said(row[part]) for part in parts] for row in read]
        self._sets = text_sets(spoken, config.on, common)

    def kind(self, one: int, other: int, similarity: float) -> Kind | None:
        """What the pair is; none if it is not alike."""
        texts = list(zip(self._said[one], self._said[other], strict=True))
        if not reaches(similarity, self.config.threshold):
            if not _only_an_edge_word_apart(texts):
                return None
            alike = True
        else:
            alike = len(texts) == 1 or all(self._part_alike(part, one, other) for part in (0, 1))
        if self.config.keep_values:
            differences = {difference(*pair) for pair in texts}
            if "values" in differences and (alike or "words" not in differences):
                return "values_differ"
        return "duplicate" if alike and (self.config.on == "reply" or not about_one_passage(*texts)) else "related"

    def _part_alike(self, part: int, one: int, other: int) -> bool:
        similarity = jaccard(self._sets.of(2 * one + part), self._sets.of(2 * other + part))
        return reaches(similarity, self.config.threshold * PART_SHARES[part]) or (
            same_words(self._said[one][part], self._said[other][part])
        )


def _only_an_edge_word_apart(texts: Sequence[tuple[Said, Said]]) -> bool:
    """Whether the first texts differ by one word more at the edge of a sentence or line, and the others in none."""
    (shorter, longer), *rest = texts
    if len(shorter.words) > len(longer.words):
        shorter, longer = longer, shorter
    fewer, more = shorter.words, longer.words
    if len(more) != len(fewer) + 1 or len(more) not in SHORT_WORDS:
        return False
    if not all(same_words(*pair) for pair in rest):
        return False
    spot = next((place for place, word in enumerate(fewer) if word != more[place]), len(fewer))
    if fewer[spot:] != more[spot + 1 :] or has_digit(more[spot]):
        return False
    spoken = words(longer.text)
    start, end = spoken.spans[spot]
    return bool(_BEFORE.search(spoken.text[:start]) or _AFTER.match(spoken.text[end:]))


def _word_keys(spoken: Tokens, on: On) -> tuple[Hashes, Rows]:
    """The keys of a sketch: polynomials in the words' hashes; with `both`, of the prompt, and the reply's beside it."""
    starts, ends = spoken.offsets[:-1], spoken.offsets[1:]
    counts = ends - starts
    powers = np.full(int(counts.max(initial=0)) + 1, BASE, np.uint64)
    powers[0] = 1
    powers = np.multiply.accumulate(powers)
    place = np.arange(len(spoken.hashes)) - np.repeat(starts, counts)
    sums = np.concatenate((np.zeros(1, np.uint64), np.cumsum(mixed(spoken.hashes) * powers[place], dtype=np.uint64)))
    whole = sums[ends] - sums[starts]
    parts = 2 if on == "both" else 1
    beside = mixed(whole[1::2]) if on == "both" else np.zeros(len(whole), np.uint64)
    said = counts.reshape(-1, parts).sum(axis=1) > 0
    varied = whole[::parts], starts[::parts], ends[::parts]
    short = np.isin(counts[::parts], SHORT_WORDS)
    sizes = np.where(short, counts[::parts], 0) + said
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    keys = np.empty(offsets[-1], np.uint64)
    keys[offsets[:-1][said]] = (mixed(varied[0]) + beside)[said]
    for row in np.flatnonzero(short):
        start, end = varied[1][row], varied[2][row]
        left = sums[start:end] - sums[start] + (sums[end] - sums[start + 1 : end + 1]) * _INVERSE
        keys[offsets[row] + 1 : offsets[row + 1]] = mixed(left) + beside[row]
    return keys, offsets


def _one_word_apart(known: Sketch) -> Rows:
    """Codes of the pairs whose words are equal, or would be with one left out."""
    rows = len(known.signatures)
    row_of = np.repeat(np.arange(rows), np.diff(known.offsets))
    is_whole = np.zeros(len(known.keys), bool)
    is_whole[known.offsets[:-1][np.diff(known.offsets) > 0]] = True
    whole, whole_rows = known.keys[is_whole], row_of[is_whole]
    distinct, first = np.unique(whole, return_index=True)
    if not len(distinct):
        return np.empty(0, np.int64)
    # The first row with these words stands for all: they have each other as well.
    places = np.minimum(np.searchsorted(distinct, known.keys), len(distinct) - 1)
    met = distinct[places] == known.keys
    return _codes(whole_rows[first[places[met]]], row_of[met], rows)


def _bucketed(banded: NDArray[np.uint32], rows: Rows) -> Iterator[Rows]:
    """Codes of the pairs that share a bucket, band by band; `banded` is rows × 32 × 4."""
    for band in range(banded.shape[1]):
        values = banded[rows, band].astype(np.uint64)
        keys = np.zeros(len(rows), np.uint64)
        for place in range(values.shape[1]):
            keys = mixed(keys ^ values[:, place])
        order = np.argsort(keys, kind="stable")
        keys, members = keys[order], rows[order]
        starts = np.maximum.accumulate(np.where(np.diff(keys, prepend=keys[:1]) != 0, np.arange(len(keys)), 0))
        found = [_codes(members[starts], members, len(banded))]
        for lag in range(1, NEIGHBOURS + 1):
            near = np.flatnonzero(starts[lag:] == starts[:-lag])
            if not len(near):
                break
            found.append(_codes(members[near], members[near + lag], len(banded)))
        yield np.unique(np.concatenate(found))


def _codes(one: Rows, other: Rows, rows: int) -> Rows:
    """Pairs of two different rows as numbers: the lower row × rows + the higher."""
    distinct = one != other
    one, other = one[distinct], other[distinct]
    codes: Rows = np.minimum(one, other) * rows + np.maximum(one, other)
    return codes


def _agreeing(known: NDArray[np.uint32], codes: Rows, threshold: float) -> Rows:
    """Without the pairs whose signatures say that they are far below the threshold."""
    least = (threshold - ESTIMATE_MARGIN) * PERMUTATIONS
    agree = [
        (known[part // len(known)] == known[part % len(known)]).sum(axis=1) >= least
        for part in np.array_split(codes, len(codes) // 50_000 + 1)
    ]
    close: Rows = codes[np.concatenate(agree)]
    return close
