"""The proof that no two rows in different splits are alike: an exact set-similarity join, which misses nothing.

Prefix filtering (Bayardo, Ma and Srikant, "Scaling Up All Pairs Similarity Search", WWW 2007): with the shingles of all
rows in one order, two sets with a Jaccard similarity of t or more share one of the first |x| - ceil(t |x|) + 1 of each.
Rare shingles come first, so that few pairs remain; they are cut by their sizes and by the places of what they share
(Xiao, Wang, Lin and Yu, "Efficient Similarity Joins for Near Duplicate Detection", WWW 2008), and the rest is counted.
MinHash has no part in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from tunelift.config.curation import SplitConfig
from tunelift.stages.curate.similarity import ROUNDING, Hashes, Rows, Sets, jaccard, reaches
from tunelift.stages.curate.split import assign, groups

SetsOf = Callable[[Iterable[Rows]], Iterable[Sets]]
"""Answers blocks of row numbers with the rows' shingles, block after block."""

BLOCK_ROWS = 4_096
"""Rows whose shingles are in memory at a time, beside those of the held-out rows."""
BLOCK_HITS = 2_000_000
"""Shared shingles of prefixes looked at together."""
COUNTED = 2**16 - 1
"""A shingle of more held-out rows than this counts as one of so many."""
MOST_COUNTER_BITS = 26
"""Counters of shingles: 128 MiB at most. Shingles that share one only come later in the order."""


class Proof(NamedTuple):
    """What the join found."""

    pairs: list[tuple[int, int, float]]
    """Rows in different splits that are alike, with their Jaccard similarity: the lower row first, rising."""
    compared: int
    """Pairs whose shingles were counted."""


def prove(sets_of: SetsOf, splits: NDArray[np.uint8], threshold: float, only: NDArray[np.bool_] | None = None) -> Proof:
    """All pairs of rows in different splits with a Jaccard similarity of the threshold or more.

    Args:
        splits: Each row's split; the largest split is read in blocks, the rows of the others are held in memory.
        only: Looks only at pairs with one of these rows.
    """
    rows = np.arange(len(splits))
    largest = np.bincount(splits, minlength=1).argmax()
    held = np.flatnonzero(splits != largest) if only is None else np.flatnonzero(only)
    if not len(held):
        return Proof([], 0)
    index = _Index(held, sets_of, threshold)
    known = np.zeros(len(splits), bool)
    known[held] = True
    found: list[tuple[int, int, float]] = []
    compared = 0
    for block, sets in zip(_blocks(rows), sets_of(_blocks(rows)), strict=True):
        for one, other in index.candidates(sets):
            a, b = block[one], held[other]
            # Of two rows that are both held, only the lower asks.
            wanted = (splits[a] != splits[b]) & (~known[a] | (a < b))
            codes = np.unique(one[wanted] * len(held) + other[wanted])
            compared += len(codes)
            for place, number in zip((codes // len(held)).tolist(), (codes % len(held)).tolist(), strict=True):
                similarity = jaccard(sets.of(place), index.sets.of(number))
                if reaches(similarity, threshold):
                    low, high = sorted((int(block[place]), int(held[number])))
                    found.append((low, high, round(similarity, 4)))
    return Proof(sorted(set(found)), compared)


class Settled(NamedTuple):
    """A split that was proved."""

    grouped: Rows
    """Each row's group, by the number of its first row."""
    edges: Rows
    """The pairs that join the groups, with those that the proof added."""
    splits: NDArray[np.uint8]
    compared: int
    """Pairs whose shingles were counted, in all rounds."""
    moved: int
    """Rows whose split changed because the proof found a pair that MinHash had missed."""
    asking: Rows
    """The pairs that join groups since one row asks what the other does."""
    moved_for_prompts: int
    """Rows whose split changed because of these."""

    def joined(self, place: Callable[[int], str]) -> dict[str, Any]:
        """What joins most rows: `by` is "prompts", of which one asks what the other does, or "rows", which are alike.

        Args:
            place: Answers a row with `file:line`.

        Returns:
            Also the `rows` of such groups, the number of `groups`, and two such rows as an `example`.
        """
        found = []
        for by, pairs in (("prompts", self.asking), ("rows", self.edges)):
            inside = np.isin(self.grouped, self.grouped[pairs[:, 0]])
            example = [place(row) for row in pairs[:1].ravel().tolist()]
            groups_joined = len(np.unique(self.grouped[inside]))
            found.append({"by": by, "rows": int(inside.sum()), "groups": groups_joined, "example": example})
        return max(found, key=lambda one: one["rows"])


class Asking(Protocol):
    """Finds pairs of rows of two groups, m × 2, of which one asks what the other, which is held out, does."""

    def __call__(self, splits: NDArray[np.uint8], grouped: Rows, only: NDArray[np.bool_], *, exact: bool) -> Rows:
        """Looks at pairs with one of the rows `only`; with `exact` at rows in two splits, and misses none."""
        ...


def settle(
    sets_of: SetsOf,
    edges: Rows,
    keys: Hashes,
    strata: Sequence[str] | None,
    config: SplitConfig,
    *,
    threshold: float,
    seed: int,
    asking: Asking | None = None,
) -> Settled:
    """Divide the rows, prove it, join the groups of what the proof finds, and so on until it finds nothing.

    Args:
        edges, keys, strata: As `groups` and `assign` take them.
        asking: Finds what must share a split for its prompts; without it only whole rows count.
    """
    division = _Division(edges, keys, lambda grouped: assign(grouped, keys, strata, config, seed))
    first = division.splits
    compared = _prove_rows(division, sets_of, threshold, None)
    by_rows = division.splits
    if asking is not None:
        compared += _prove_prompts(division, asking, lambda moved: _prove_rows(division, sets_of, threshold, moved))
    return Settled(
        division.grouped,
        division.edges,
        division.splits,
        compared,
        int(np.count_nonzero(first != by_rows)),
        division.asking,
        int(np.count_nonzero(by_rows != division.splits)),
    )


class _Division:
    """Groups and splits, which follow the pairs that are joined."""

    def __init__(self, edges: Rows, keys: Hashes, divide: Callable[[Rows], NDArray[np.uint8]]) -> None:
        self.edges, self.asking = edges, np.empty((0, 2), np.int64)
        self._keys, self._divide = keys, divide
        self.grouped = groups(len(keys), edges, keys)
        self.splits = divide(self.grouped)

    def join(self, edges: Rows, asking: Rows) -> NDArray[np.bool_]:
        """Join the groups of more pairs, and divide again; answers which rows have moved."""
        self.edges = np.concatenate((self.edges, edges))
        self.asking = np.concatenate((self.asking, asking))
        self.grouped = groups(len(self._keys), np.concatenate((self.edges, self.asking)), self._keys)
        before, self.splits = self.splits, self._divide(self.grouped)
        moved: NDArray[np.bool_] = self.splits != before
        return moved


def _prove_rows(division: _Division, sets_of: SetsOf, threshold: float, only: NDArray[np.bool_] | None) -> int:
    """Join until no pair of alike rows lies in two splits; answers how many pairs were compared."""
    proof = prove(sets_of, division.splits, threshold, only)
    compared = proof.compared
    while proof.pairs:
        # It ends, since each round joins groups: a pair that is found has two.
        moved = division.join(np.array([pair[:2] for pair in proof.pairs]), division.asking[:0])
        # Pairs of rows that stayed where they were are proved already.
        proof = prove(sets_of, division.splits, threshold, only=moved)
        compared += proof.compared
    return compared


def _prove_prompts(division: _Division, asking: Asking, prove_moved: Callable[[NDArray[np.bool_]], int]) -> int:
    """Join until no held-out prompt is asked in another split; answers as `_prove_rows`.

    What is found quickly is joined first: of many rows made of one template nearly all pairs would be looked at.
    """
    compared, exact = 0, False
    moved, unproved = np.ones(len(division.splits), bool), np.ones(len(division.splits), bool)
    while True:
        pairs = asking(division.splits, division.grouped, unproved if exact else moved, exact=exact)
        if exact:
            unproved = np.zeros(len(unproved), bool)
        if not len(pairs) and exact:
            return compared
        exact = not len(pairs)
        if exact:
            continue
        before = division.splits
        compared += prove_moved(division.join(division.edges[:0], pairs))
        moved = division.splits != before
        unproved |= moved


class _Index:
    """The prefixes of the held rows, by shingle."""

    def __init__(self, held: Rows, sets_of: SetsOf, threshold: float) -> None:
        self.threshold = threshold
        self.sets = _read(held, sets_of)
        self.sizes = self.sets.sizes
        bits = min(max(4 * len(self.sets.flat), 2**16).bit_length(), MOST_COUNTER_BITS)
        self._shift = np.uint64(64 - bits)
        counts = np.zeros(2**bits, np.uint32)
        for part in np.array_split(self.sets.flat, len(self.sets.flat) // 10**6 + 1):
            np.add.at(counts, np.sort(part >> self._shift), 1)  # In order they are found twice as fast.
        self._counts = np.minimum(counts, COUNTED).astype(np.uint16)
        del counts
        parts = [self._prefixes(_part(self.sets, start)) for start in range(0, len(held), BLOCK_ROWS)]
        keys = np.concatenate([keys for keys, _, _ in parts])
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        rows = [(row + number * BLOCK_ROWS).astype(np.int32) for number, (_, row, _) in enumerate(parts)]
        self._rows = np.concatenate(rows)[order]
        self._places = np.concatenate([place.astype(np.int32) for _, _, place in parts])[order]

    def candidates(self, sets: Sets) -> Iterator[tuple[Rows, Rows]]:
        """Rows of `sets` with held rows that may be as alike as the threshold; some pairs come several times."""
        keys, rows, places = self._prefixes(sets)
        held = keys >> np.uint64(48) > 0  # What no held row has needs no search.
        keys, rows, places = keys[held], rows[held], places[held]
        left = np.searchsorted(self._keys, keys, "left")
        hits = np.searchsorted(self._keys, keys, "right") - left
        met = hits > 0
        left, hits, rows, places = left[met], hits[met], rows[met], places[met]
        cuts = np.flatnonzero(np.diff(np.cumsum(hits) // BLOCK_HITS)) + 1
        for part in np.split(np.arange(len(hits)), cuts):
            yield self._possible(sets.sizes, left[part], hits[part], rows[part], places[part])

    def _possible(self, sizes: Rows, left: Rows, hits: Rows, rows: Rows, places: Rows) -> tuple[Rows, Rows]:
        begins = np.cumsum(hits) - hits
        met = np.repeat(left - begins, hits) + np.arange(int(hits.sum()))
        one, other = np.repeat(rows, hits), self._rows[met].astype(np.int64)
        mine, theirs = sizes[one], self.sizes[other]
        needed = self.threshold / (1 + self.threshold) * (mine + theirs) - ROUNDING
        # Where this shingle is the first that both have, they share it and at most what comes after it in both.
        possible = np.minimum(mine - np.repeat(places, hits), theirs - self._places[met]) >= needed
        return one[possible], other[possible]

    def _prefixes(self, sets: Sets) -> tuple[Hashes, Rows, Rows]:
        """The keys of each row's prefix, with their rows and their places in the row.

        A key is the number of held rows with the shingle, and 48 bits of its hash: equal shingles have equal keys, so
        that sets which share n shingles share n keys.
        """
        count = self._counts[sets.flat >> self._shift].astype(np.uint64)
        keys = count << np.uint64(48) | sets.flat & np.uint64(2**48 - 1)
        for start, end in pairwise(sets.offsets.tolist()):
            keys[start:end].sort()
        sizes = sets.sizes
        lengths = sizes - np.ceil(self.threshold * sizes - ROUNDING).astype(np.int64) + 1
        rows = np.repeat(np.arange(len(sizes)), sizes)
        places = np.arange(len(keys)) - sets.offsets[rows]
        prefix = places < lengths[rows]
        return keys[prefix], rows[prefix], places[prefix]


def _blocks(rows: Rows) -> Iterator[Rows]:
    return (rows[start : start + BLOCK_ROWS] for start in range(0, len(rows), BLOCK_ROWS))


def _read(rows: Rows, sets_of: SetsOf) -> Sets:
    parts = list(sets_of(_blocks(rows)))
    sizes = np.concatenate([part.sizes for part in parts])
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
    return Sets(np.concatenate([part.flat for part in parts]), offsets)


def _part(sets: Sets, start: int) -> Sets:
    offsets = sets.offsets[start : start + BLOCK_ROWS + 1]
    return Sets(sets.flat[offsets[0] : offsets[-1]], offsets - offsets[0])
