"""How alike rows are: sets of hashed word 3-grams, their Jaccard similarity, and MinHash signatures that estimate it.

All is by 64-bit hashes that depend on the words alone, so that it is the same in any process, chunk and order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy as np
import rensa
from numpy.typing import NDArray

from tunelift.stages.curate.contamination import SPLITTING, words

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]
"""Row numbers, from 0."""
Texts = Callable[[Rows], Sequence[tuple[str, str]]]
"""Answers row numbers with what users wrote in each row, and what is learnt: replies, and tool calls as JSON."""
On = Literal["prompt", "reply", "both"]

PERMUTATIONS = 128
SIGNATURE_SEED = 42
COMMON_SHARE = 0.1
"""A shingle of more rows than this share is boilerplate, such as an instruction before every text."""
COMMON_SAMPLE_ROWS = 4_000
COMMON_LEAST_ROWS = 10
"""What no more rows than this have is never common: they are a handful that may well be duplicates."""
BLOCK_BYTES = 1 << 16
BASE = 0xD1342543DE82EF95
"""An odd number without structure: what texts are polynomials in."""
ROUNDING = 1e-9
"""Similarities are compared as numbers of shingles; this is more than rounding adds to those."""

_REPLY = np.uint64(0x9E3779B97F4A7C15)
"""Keeps the shingles of replies apart from equal ones of prompts."""
_NO_WORD = np.uint64(0xA0761D6478BD642F)
_FACTORS = tuple(np.uint64(factor) for factor in (0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93))


class Sets(NamedTuple):
    """A set of shingles for each row: rising hashes, row after row."""

    flat: Hashes
    offsets: Rows
    """Where each row begins in `flat`, and where the last one ends: one more than there are rows."""

    def of(self, row: int) -> Hashes:
        """One row's set."""
        return self.flat[self.offsets[row] : self.offsets[row + 1]]

    @property
    def sizes(self) -> Rows:
        """Shingles of each row."""
        return np.diff(self.offsets)


def words_of(text: str) -> list[bytes]:
    """The text's words in UTF-8: those of contamination.py, faster where the text is ASCII."""
    return _spaced(text).split()


def _spaced(text: str) -> bytes:
    """The text's words with spaces, and no other bytes up to 32, between them."""
    if text.isascii():
        return text.encode().translate(SPLITTING)
    return " ".join(words(text).keys).encode("utf-8", "surrogatepass")


class Tokens(NamedTuple):
    """The hashed words of texts, one after another."""

    hashes: Hashes
    offsets: Rows
    """Where each text begins, and where the last one ends."""


def word_hashes(texts: Iterable[str]) -> Tokens:
    """Each text's words as hashes, however few."""
    parts = [_hashed(block) for block in _blocks(map(_spaced, texts))]
    counts = np.concatenate([np.zeros(1, np.int64), *(counts for _, counts in parts)])
    hashes = np.concatenate([np.empty(0, np.uint64), *(hashes for hashes, _ in parts)])
    return Tokens(hashes, np.cumsum(counts, dtype=np.int64))


def tokens(texts: Iterable[str]) -> Tokens:
    """Each text's words as hashes; one or two words are filled up to three."""
    spoken = word_hashes(texts)
    counts = np.diff(spoken.offsets, prepend=0)
    missing = np.where((counts == 1) | (counts == 2), 3 - counts, 0)
    hashes = np.insert(spoken.hashes, np.repeat(np.cumsum(counts), missing), _NO_WORD)
    return Tokens(hashes, np.cumsum(counts + missing, dtype=np.int64))


def _blocks(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Texts in blocks that fit a core's cache, or of one text."""
    block: list[bytes] = []
    size = 0
    for text in texts:
        if block and size + len(text) > BLOCK_BYTES:
            yield block
            block, size = [], 0
        block.append(text)
        size += len(text) + 1
    if block:
        yield block


def _hashed(texts: Sequence[bytes]) -> tuple[Hashes, Rows]:
    """Each word's hash, and the number of words of each text.

    A word is a polynomial in its bytes modulo 2**64, for all words at once: the difference of two running sums of byte
    times power of its place, moved to the place 0 by an inverse power.
    """
    buffer = np.frombuffer(b"\n".join([*texts, b""]), np.uint8)
    power, inverse = powers(max(BLOCK_BYTES, len(buffer)).bit_length())
    inside = np.concatenate(([False], buffer > 32))
    turns = np.flatnonzero(inside[1:] != inside[:-1])
    starts, ends = turns[::2], turns[1::2]
    sums = np.zeros(len(buffer) + 1, np.uint64)
    np.cumsum(buffer * power[: len(buffer)], out=sums[1:])
    hashes = mixed((sums[ends] - sums[starts]) * inverse[starts])
    return hashes, np.diff(np.searchsorted(starts, np.flatnonzero(buffer == 10)), prepend=0)


@lru_cache(maxsize=2)
def powers(bits: int) -> tuple[Hashes, Hashes]:
    """The powers of `BASE` from 0, 2**bits of them, and their inverses, modulo 2**64."""
    both = []
    for base in (BASE, pow(BASE, -1, 2**64)):
        powers = np.full(2**bits, base, np.uint64)
        powers[0] = 1
        both.append(np.multiply.accumulate(powers))
    return both[0], both[1]


def shingles(texts: Sequence[str]) -> Sets:
    """Each text's word 3-grams; a text of one or two words has one shingle, a text without words none."""
    return _unique(*_grams(tokens(texts)))


def compared(rows: Sequence[tuple[str, str]], on: On) -> list[str]:
    """The texts that count, row after row: with `both` a prompt and a reply each, else one a row."""
    return [text for row in rows for text in row] if on == "both" else [row[on == "reply"] for row in rows]


def token_sets(spoken: Tokens, on: On, common: Hashes | None = None) -> Sets:
    """Each row's shingles, from the words of what is compared.

    Args:
        common: Rising hashes that do not count, as `common_shingles` finds them; a row of nothing else keeps them.
    """
    flat, offsets = _parted(spoken, on)
    return without(_unique(flat, offsets[::2] if on == "both" else offsets), common)


def text_sets(spoken: Tokens, on: On, common: Hashes | None = None) -> Sets:
    """As `token_sets`, with a set for each text instead of each row."""
    return without(_unique(*_parted(spoken, on)), common)


def without(sets: Sets, common: Hashes | None) -> Sets:
    """Sets less the common shingles; a row of nothing else keeps them."""
    if common is None or not len(common):
        return sets
    rare = common[np.minimum(np.searchsorted(common, sets.flat), len(common) - 1)] != sets.flat
    row = np.repeat(np.arange(len(sets.sizes)), sets.sizes)
    left = np.bincount(row[rare], minlength=len(sets.sizes))
    return _chosen(sets, rare | (left == 0)[row])


def row_sets(rows: Sequence[tuple[str, str]], on: On, common: Hashes | None = None) -> Sets:
    """Each row's shingles in what is compared; as `token_sets`, from (prompt, reply)."""
    return token_sets(tokens(compared(rows, on)), on, common)


def common_shingles(texts: Texts, rows: int, on: On) -> Hashes:
    """The boilerplate: rising hashes of the shingles that more than a tenth of the rows, and more than ten, have.

    Estimated on at most 4,000 rows, evenly spaced. Without this, a long instruction that stands before every short text
    would make near duplicates of them all.
    """
    count = min(rows, COMMON_SAMPLE_ROWS)
    sets = row_sets(texts(np.arange(count, dtype=np.int64) * rows // count), on)
    hashes, found = np.unique(sets.flat, return_counts=True)
    return hashes[found > max(COMMON_SHARE * count, COMMON_LEAST_ROWS)]


def signatures(sets: Sets) -> NDArray[np.uint32]:
    """MinHash signatures: rows × 128. A row without shingles has the greatest value in all places."""
    if not len(sets.sizes):
        return np.empty((0, PERMUTATIONS), np.uint32)
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(
        sets.flat, sets.offsets.astype(np.uint64), PERMUTATIONS, SIGNATURE_SEED
    )
    return np.array(matrix.to_rows(), dtype=np.uint32)


def in_common(one: Hashes, other: Hashes) -> int:
    """Shingles that two sets share."""
    both = np.concatenate((one, other))
    both.sort()
    return int(np.count_nonzero(both[1:] == both[:-1]))


def jaccard(one: Hashes, other: Hashes) -> float:
    """Shared shingles by all shingles of two sets; 0 where both are empty."""
    common = in_common(one, other)
    return common / max(len(one) + len(other) - common, 1)


def reaches(similarity: float, threshold: float) -> bool:
    """Whether a Jaccard similarity is the threshold or more."""
    return similarity >= threshold - ROUNDING


def mixed(values: Hashes) -> Hashes:
    """Well-scattered 64-bit values (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * _FACTORS[0]
    values = (values ^ (values >> np.uint64(27))) * _FACTORS[1]
    return values ^ (values >> np.uint64(31))


def three_grams(hashes: Hashes) -> Hashes:
    """The hash of each word with the two after it, whichever text they are in; two fewer than words."""
    return mixed(hashes[:-2] * _FACTORS[0] + hashes[1:-1] * _FACTORS[1] + hashes[2:] * _FACTORS[2])


def _grams(spoken: Tokens) -> tuple[Hashes, Rows]:
    """Hashes of all 3-grams in the order of the text, and where each text begins."""
    hashes, counts = spoken.hashes, np.diff(spoken.offsets)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.maximum(counts - 2, 0))))
    if not len(hashes):
        return hashes, offsets
    grams = three_grams(hashes)
    ends = spoken.offsets[1:][counts > 0]
    inside = np.ones(len(hashes), bool)
    inside[ends - 1] = inside[ends - 2] = False  # No 3-gram begins with the last two words of a text.
    return grams[inside[:-2]], offsets


def _parted(spoken: Tokens, on: On) -> tuple[Hashes, Rows]:
    """As `_grams`, with those of replies apart."""
    flat, offsets = _grams(spoken)
    if on == "both":
        sizes = np.diff(offsets)
        flat ^= np.repeat(np.where(np.arange(len(sizes)) % 2, _REPLY, np.uint64(0)), sizes)
    return flat, offsets


def _unique(flat: Hashes, offsets: Rows) -> Sets:
    bounds = offsets.tolist()
    for start, end in pairwise(bounds):
        flat[start:end].sort()
    first = np.ones(len(flat), bool)
    first[1:] = flat[1:] != flat[:-1]
    starts = offsets[:-1]
    first[starts[starts < len(flat)]] = True
    return _chosen(Sets(flat, offsets), first)


def _chosen(sets: Sets, chosen: NDArray[np.bool_]) -> Sets:
    """Only the chosen places of `flat`."""
    kept = np.concatenate((np.zeros(1, np.int64), np.cumsum(chosen, dtype=np.int64)))
    return Sets(sets.flat[chosen], kept[sets.offsets])
