"""Which rows ask what a held-out row asks: the rule of contamination.py between the splits of one data set.

The words of a held-out prompt, less boilerplate, are looked for in what the other rows ask: n-grams common to both
cover more than a given share of them. The held-out prompts are an index, by n-gram, in memory; the other rows pass in
blocks. Of each prompt's n-grams only the rarest are in the index, so many that the others cover too little to match
(prefix filtering, as in leakage.py). Each pair found is counted.

Fewer words than one n-gram, such as "Thanks!" or what is left of a template's row, are met in other rows by chance.
They must be the other row's whole request or first message, boilerplate included. From `WHOLE_INSIDE_WORDS` words on
they may also be the larger part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunelift.stages.curate.contamination import WHOLE_INSIDE_WORDS
from tunelift.stages.curate.prompts import Prompts, Stretches
from tunelift.stages.curate.similarity import ROUNDING, Hashes, Rows, Tokens, mixed

BLOCK_PLACES = 2_000_000
"""N-grams of pairs that are looked at together."""
FEWER = (4, 32, 256, 2048, 16384)
"""N-grams of more prompts than this are left out of a prompt's part of the index where it can do without them."""
TABLE_BITS = 24
"""Of the table that tells which n-grams the index may have: 16 MiB."""
ALL = 1 - 1e-6
"""More than this share of the words is all of them."""

Wanted = Callable[[Rows, Rows], NDArray[np.bool_]]
"""Whether pairs of a held-out row and another are worth a look."""


class Items(NamedTuple):
    """Held-out prompts, one for all equal ones: in the order of their content."""

    row: Rows
    start: Rows
    """The place of the first word in its row, and that after the last."""
    end: Rows
    equal: Rows
    """Other rows with the same prompt, m × 2: the item's number, and the row."""


class Found(NamedTuple):
    """Pairs of a held-out prompt and a row that asks it."""

    item: Rows
    """The prompt's number among the items."""
    row: Rows
    share: NDArray[np.float64]
    """Of the prompt's words, those that are found."""


def items_of(prompts: Prompts, rows: Rows, ngram: int) -> Items:
    """The prompts of held-out rows: what the user says in all turns, and the first turn by itself.

    Where its system message is a row's own, such as the document that is asked about, it belongs to the first turn. A
    first turn with fewer words than an n-gram, such as "Hi!", is no request by itself.
    """
    shared = prompts.shared_setting()[rows]
    size = prompts.offsets[rows + 1] - prompts.offsets[rows]
    system, opening = prompts.system[rows], prompts.opening[rows]
    row = np.concatenate((rows, rows))
    start = np.concatenate((system, np.where(shared, system, 0)))
    end = np.concatenate((size, opening))
    first_turn = np.repeat((False, True), len(rows))
    some = (end > start) & (~first_turn | (end - start >= ngram))
    row, start, end = row[some], start[some], end[some]
    words = prompts.read(row, start, end)
    key = Stretches(*words).of(words.offsets[:-1], words.offsets[1:]) if len(row) else np.empty(0, np.uint64)
    # A few words that boilerplate leaves are not the request: with other words around them it is another one.
    key = np.where(end - start < ngram, prompts.whole[row], key)
    # Of equal ones that stands for all of which nothing was taken out: it may be looked for inside a request.
    order = np.lexsort((row, prompts.taken[row] > 0, key))
    first = np.concatenate(([True], key[order][1:] != key[order][:-1]))[: len(order)]
    chosen = order[first]
    number = np.cumsum(first) - 1
    other = row[order] != row[chosen][number]
    return Items(row[chosen], start[chosen], end[chosen], np.stack((number[other], row[order][other]), axis=1))


class Index:
    """Held-out prompts, ready to be looked for.

    Args:
        ngram: Words in an n-gram.
        share: A row has a prompt when it covers more than this share of its words.
        most: Of the prompts that have an n-gram only so many are looked at, the first by their content; all for None.
    """

    def __init__(self, prompts: Prompts, items: Items, ngram: int, share: float, most: int | None = None) -> None:
        # With 1, all words must be found: no share is more than that.
        self.prompts, self.items, self.ngram, self.share, self.most = prompts, items, ngram, min(share, ALL), most
        self._words = prompts.read(items.row, items.start, items.end)
        self._sizes = np.diff(self._words.offsets)
        stretches = Stretches(*self._words)
        self._begins = _places(self._words, ngram)
        """Where n-grams begin among the words of all items."""
        self._item = np.repeat(np.arange(len(self._sizes)), np.maximum(self._sizes - ngram + 1, 0))
        self._grams = stretches.of(self._begins, self._begins + ngram)
        self._first_gram = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.maximum(self._sizes - ngram + 1, 0))))
        chosen = self._rarest()
        keys, item = self._grams[chosen], self._item[chosen]
        order = np.lexsort((item, keys))
        self._keys, self._posted = keys[order], item[order]
        self._table = np.zeros(2**TABLE_BITS, bool)
        self._table[_slot(self._keys)] = True
        short = np.flatnonzero(self._sizes < ngram)
        whole = prompts.whole[items.row[short]]
        order = np.argsort(whole)
        self._whole, self._short = whole[order], short[order]
        # Of these items nothing was taken out, so that the hash of the whole is that of the words which are looked for.
        inside = (self._sizes[self._short] >= WHOLE_INSIDE_WORDS) & (prompts.taken[items.row[self._short]] == 0)
        self._inside = inside
        self._lengths = [int(length) for length in np.unique(self._sizes[self._short[inside]])]

    def search(self, rows: Rows, wanted: Wanted) -> Iterator[Found]:
        """The rows that have one of the prompts, in blocks; a pair may come twice.

        Args:
            rows: Those that are looked through, rising.
        """
        if not len(self.items.row) or not len(rows):
            return
        for block, words in self.prompts.blocks(rows):
            stretches = Stretches(*words)
            begins = _places(words, self.ngram)
            grams = stretches.of(begins, begins + self.ngram)
            place = np.repeat(np.arange(len(block)), np.maximum(np.diff(words.offsets) - self.ngram + 1, 0))
            yield from self._by_grams(block, place, grams, wanted)
            if len(self._short):
                yield self._by_whole(block, words, stretches, wanted)

    def _by_grams(self, block: Rows, place: Rows, grams: Hashes, wanted: Wanted) -> Iterator[Found]:
        # What no prompt has needs no search.
        known = np.flatnonzero(self._table[_slot(grams)])
        left = np.searchsorted(self._keys, grams[known], "left")
        hits = np.searchsorted(self._keys, grams[known], "right") - left
        if self.most is not None:
            hits = np.minimum(hits, self.most)
        met = hits > 0
        left, hits, known = left[met], hits[met], known[met]
        if not len(known):
            return
        here = np.sort(_of_row(grams, place))
        cuts = np.flatnonzero(np.diff(np.cumsum(hits) // BLOCK_PLACES)) + 1
        for part in np.split(np.arange(len(hits)), cuts):
            begins = np.cumsum(hits[part]) - hits[part]
            posted = self._posted[np.repeat(left[part] - begins, hits[part]) + np.arange(int(hits[part].sum()))]
            codes = np.unique(np.repeat(place[known[part]], hits[part]) * len(self._sizes) + posted)
            at, item = codes // len(self._sizes), codes % len(self._sizes)
            look = wanted(self.items.row[item], block[at])
            at, item = at[look], item[look]
            sizes = self._sizes[item] - self.ngram + 1
            for some in np.split(np.arange(len(item)), np.flatnonzero(np.diff(np.cumsum(sizes) // BLOCK_PLACES)) + 1):
                share = self._covered(at[some], item[some], here)
                enough = share > self.share + ROUNDING
                yield Found(item[some][enough], block[at[some][enough]], share[enough])

    def _covered(self, at: Rows, item: Rows, here: Hashes) -> NDArray[np.float64]:
        """The share of each item's words that n-grams of the row cover; `here` are the rows' n-grams, rising."""
        sizes = np.maximum(self._sizes[item] - self.ngram + 1, 0)
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))
        pair = np.repeat(np.arange(len(item)), sizes)
        gram = self._first_gram[item][pair] + np.arange(offsets[-1]) - offsets[pair]
        asked = _of_row(self._grams[gram], at[pair])
        found = here[np.minimum(np.searchsorted(here, asked), len(here) - 1)] == asked
        return _coverage(found, offsets, self._sizes[item], self.ngram)

    def _rarest(self) -> NDArray[np.bool_]:
        """Of each item's n-grams the rarest, so many that the others cover too few of its words."""
        _, gram, prompts = np.unique(self._grams, return_inverse=True, return_counts=True)
        chosen = np.ones(len(self._grams), bool)
        open_ = np.ones(len(self._sizes), bool)
        for fewer in FEWER:
            frequent = prompts[gram] > fewer
            covered = _coverage(frequent, self._first_gram, self._sizes, self.ngram)
            decided = open_ & (covered <= self.share + ROUNDING)
            chosen &= ~(decided[self._item] & frequent)
            open_ &= ~decided
        return chosen

    def _by_whole(self, block: Rows, words: Tokens, stretches: Stretches, wanted: Wanted) -> Found:
        """Prompts with fewer words than an n-gram that are a row's whole request or first message, or most of it."""
        prompts, starts = self.prompts, words.offsets[:-1]
        rows = np.arange(len(block))
        found = [
            _met(self._whole, prompts.whole[block], rows),
            _met(self._whole, prompts.first[block], rows),
        ]
        # Of the words taken out nobody knows in which turn they stood: a first message may have all of them.
        system, opening, size = prompts.system[block], prompts.opening[block], np.diff(words.offsets)
        asks, opens = size - system + prompts.taken[block], opening - system + prompts.taken[block]
        for length in self._lengths:
            rows = np.flatnonzero(length > self.share * opens + ROUNDING)
            rows = rows[size[rows] - system[rows] >= length]
            counts = size[rows] - system[rows] - length + 1
            row = np.repeat(rows, counts)
            place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + system[row]
            most = length > self.share * np.where(place + length <= opening[row], opens[row], asks[row]) + ROUNDING
            row, place = row[most], place[most] + starts[row[most]]
            if len(row):
                number, row = _met(self._whole, stretches.of(place, place + length), row)
                found.append((number[self._inside[number]], row[self._inside[number]]))
        number, row = (np.concatenate(part) for part in zip(*found, strict=True))
        item = self._short[number]
        look = wanted(self.items.row[item], block[row])
        return Found(item[look], block[row[look]], np.ones(int(look.sum())))


def _met(rising: Hashes, keys: Hashes, rows: Rows) -> tuple[Rows, Rows]:
    """Where keys stand among the rising ones, and the rows of those keys."""
    number = np.minimum(np.searchsorted(rising, keys), len(rising) - 1)
    met = rising[number] == keys
    return number[met], rows[met]


def _places(words: Tokens, length: int) -> Rows:
    """Where stretches of so many words begin, text after text."""
    sizes = np.maximum(np.diff(words.offsets) - length + 1, 0)
    offsets = np.cumsum(sizes) - sizes
    places: Rows = np.repeat(words.offsets[:-1] - offsets, sizes) + np.arange(int(sizes.sum()))
    return places


def _coverage(found: NDArray[np.bool_], first: Rows, words: Rows, ngram: int) -> NDArray[np.float64]:
    """The share of each text's words that its n-grams which are found cover.

    Args:
        first: Where each text's n-grams begin in `found`, and where the last one ends.
        words: Of each text.
    """
    ends = np.cumsum(words)
    text = np.repeat(np.arange(len(words)), np.diff(first))
    starts = ((ends - words)[text] + np.arange(len(found)) - first[text])[found]
    steps = np.bincount(starts, minlength=int(words.sum()) + 1) - np.bincount(
        starts + ngram, minlength=int(words.sum()) + 1
    )
    covered = np.concatenate((np.zeros(1, np.int64), np.cumsum(np.cumsum(steps) > 0)))
    share: NDArray[np.float64] = (covered[ends] - covered[ends - words]) / np.maximum(words, 1)
    return share


def _of_row(grams: Hashes, place: Rows) -> Hashes:
    """N-grams as those of one row: equal where both are."""
    return mixed(grams + mixed(place.astype(np.uint64) + np.uint64(1)))


def _slot(keys: Hashes) -> Hashes:
    return keys >> np.uint64(64 - TABLE_BITS)
