"""What becomes of rows that ask what a held-out row asks: joined with it, dropped, or only counted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunelift.config.curation import CurateConfig
from tunelift.stages.curate.heldout import Found, Index, Items, items_of
from tunelift.stages.curate.leakage import Settled
from tunelift.stages.curate.prompts import Prompts, joined_pairs
from tunelift.stages.curate.similarity import Hashes, Rows
from tunelift.stages.curate.split import SPLITS, TEST, TRAIN, VALIDATION, groups

MOST = 4
"""Of the prompts with an n-gram so many are compared before the proof: linear, however many have it."""
CLOSE_PROMPTS = 1_000
"""Held-out prompts of which a close training prompt is looked for."""
CLOSE_NGRAM, CLOSE_SHARE = 3, 0.5
"""A training prompt is close when it has more than this share of a prompt's words, in runs of three or more. With every
fourth word changed it has 75% of them."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Outcome:
    """What became of the rows that ask what a held-out row asks."""

    dropped: dict[int, Seen]
    """The rows to drop, with what shows it."""
    grouped: Rows
    """Each row's group, with held-out rows of one split that ask the same."""
    counts: dict[str, Any]
    """`leakage.prompts` of stats.json."""


class Seen(NamedTuple):
    """Where a held-out prompt was found."""

    held: int
    """The held-out row."""
    share: float
    """Of its prompt's words."""


def about_prompts(settled: Settled, looking: PromptPairs, keys: Hashes, config: CurateConfig) -> Outcome:
    """Drop or count what asks the same in two splits, where it was not joined, and measure what comes near to it.

    Args:
        keys: A hash of each row's content.
    """
    splits, grouped, handling = settled.splits, settled.grouped, config.split.alike_prompts
    dropped: dict[int, Seen] = {}
    left = np.ones(len(splits), bool)
    standing = np.empty(0, np.int64)
    if handling != "join":
        pairs = looking.joining(splits, grouped, left, exact=False)
        in_one_split = splits[pairs[:, 0]] == splits[pairs[:, 1]]
        grouped = groups(len(splits), pairs[in_one_split], grouped.astype(np.uint64))
    if handling == "drop":
        dropped = looking.seen(splits)
        left[list(dropped)] = False
    if handling == "report":
        standing = looking.standing(splits, left)
    close, measured = looking.close(splits, left, keys)
    held = {SPLITS[split]: int(np.count_nonzero(left & (splits == split))) for split in (VALIDATION, TEST)}
    counts = {
        "handling": handling,
        "ngram": looking.ngram,
        "overlap": looking.overlap,
        "held_out": sum(held.values()),
        "in_other_split": {split: int(np.count_nonzero(splits[standing] == SPLITS.index(split))) for split in held},
        "moved": settled.moved_for_prompts,
        "dropped": len(dropped),
        "boilerplate": round(looking.prompts.boilerplate, 4),
        "close": {
            "prompts": measured,
            "found": close,
            "share": round(close / max(1, measured), 4),
            "ngram": CLOSE_NGRAM,
            "overlap": CLOSE_SHARE,
        },
    }
    return Outcome(dropped, grouped, counts)


@dataclass(frozen=True)
class PromptPairs:
    """Looks for the prompts of some rows in what others ask, by one rule."""

    prompts: Prompts
    ngram: int
    overlap: float

    def joining(self, splits: NDArray[np.uint8], grouped: Rows, only: Mask, *, exact: bool) -> Rows:
        """Pairs of rows of two groups, m × 2: a held-out one, and one that asks the same.

        Without `exact` a prompt is also looked for in its own split, since such rows are no independent items; of many
        prompts with an n-gram `MOST` are then looked at.

        Args:
            only: One of the two rows is among these.
        """
        pairs = [np.empty((0, 2), np.int64)]
        for split in (TEST, VALIDATION):
            held = splits == split
            looked = splits != split if exact else np.ones(len(splits), bool)
            for asked, rows in ((held & only, looked), (held & ~only, looked & only)):
                if asked.any() and rows.any():
                    pairs += self._pairs(np.flatnonzero(asked), np.flatnonzero(rows), grouped, exact)
        return joined_pairs(pairs)

    def all(self, grouped: Rows) -> Rows:
        """The same, were every row held out."""
        rows = np.arange(len(grouped))
        return joined_pairs(self._pairs(rows, rows, grouped, exact=False))

    def _pairs(self, held: Rows, rows: Rows, grouped: Rows, exact: bool) -> Iterator[Rows]:
        items = items_of(self.prompts, held, self.ngram)
        if not exact:
            equal = np.stack((items.row[items.equal[:, 0]], items.equal[:, 1]), axis=1)
            yield equal[grouped[equal[:, 0]] != grouped[equal[:, 1]]]
        for found in self._index(items, None if exact else MOST).search(
            rows, lambda one, other: grouped[one] != grouped[other]
        ):
            row = items.row[found.item]
            # One pair is enough to join two groups.
            _, first = np.unique(grouped[row] * len(grouped) + grouped[found.row], return_index=True)
            yield np.stack((row[first], found.row[first]), axis=1)

    def _index(self, items: Items, most: int | None) -> Index:
        return Index(self.prompts, items, self.ngram, self.overlap, most)

    def seen(self, splits: NDArray[np.uint8]) -> dict[int, Seen]:
        """The rows to drop so that no held-out prompt is asked in another split: none of test, then none of validation
        that asks nothing of test."""
        of = [np.flatnonzero(splits == split) for split in (TRAIN, VALIDATION, TEST)]
        found = self._rows_with(of[TEST], np.sort(np.concatenate((of[TRAIN], of[VALIDATION]))))
        validation = _without(of[VALIDATION], found)
        found |= self._asked_by(validation, of[TEST])
        validation = _without(validation, found)
        return found | self._rows_with(validation, _without(of[TRAIN], found))

    def standing(self, splits: NDArray[np.uint8], left: Mask) -> Rows:
        """The held-out rows whose prompt is asked in another split, of the rows `left`."""
        found: list[int] = []
        for split in (TEST, VALIDATION):
            held = np.flatnonzero(left & (splits == split))
            found += self._asked_by(held, np.flatnonzero(left & (splits != split)))
        return np.array(sorted(found), np.int64)

    def _rows_with(self, held: Rows, rows: Rows) -> dict[int, Seen]:
        """The rows that ask one of the prompts."""
        found: dict[int, Seen] = {}
        items = items_of(self.prompts, held, self.ngram)
        for most in (MOST, None):
            for some in self._index(items, most).search(_without(rows, found), _any):
                _keep_fullest(found, some.row, items.row[some.item], some)
        return found

    def _asked_by(self, held: Rows, rows: Rows) -> dict[int, Seen]:
        """Of the held-out rows those whose prompt one of the rows asks, with that row."""
        found: dict[int, Seen] = {}
        for most in (MOST, None):
            items = items_of(self.prompts, _without(held, found), self.ngram)
            of_items: dict[int, Seen] = {}
            for some in self._index(items, most).search(rows, _any):
                _keep_fullest(of_items, some.item, some.row, some)
            found |= {int(items.row[one]): seen for one, seen in of_items.items()}
            found |= {other: of_items[one] for one, other in items.equal.tolist() if one in of_items}
        return found

    def close(self, splits: NDArray[np.uint8], left: Mask, keys: Hashes) -> tuple[int, int]:
        """Of how many held-out prompts a training prompt has many of the words, in runs of a few, so that a paraphrase
        by edit is seen; and of how many that was measured.

        Those of test, or of validation where there is none; of many the 1,000 with the smallest keys.
        """
        held = np.flatnonzero(left & (splits == TEST))
        held = held if len(held) else np.flatnonzero(left & (splits == VALIDATION))
        held = np.sort(held[np.argsort(keys[held], kind="stable")[:CLOSE_PROMPTS]])
        items, found = items_of(self.prompts, held, CLOSE_NGRAM), np.zeros(len(splits), bool)
        looked = np.flatnonzero(left & (splits == TRAIN))
        # A row is close once, however many are close to it.
        index = Index(self.prompts, items, CLOSE_NGRAM, CLOSE_SHARE)
        for some in index.search(looked, lambda one, _: ~found[one]):
            found[items.row[some.item]] = True
            found[items.equal[np.isin(items.equal[:, 0], some.item), 1]] = True
        return int(np.count_nonzero(found)), len(held)


def _any(held: Rows, _: Rows) -> Mask:
    return np.ones(len(held), bool)


def _keep_fullest(found: dict[int, Seen], keys: Rows, others: Rows, some: Found) -> None:
    for key, other, share in zip(keys.tolist(), others.tolist(), some.share.tolist(), strict=True):
        if key not in found or share > found[key].share:
            found[key] = Seen(other, round(share, 4))


def _without(rows: Rows, found: dict[int, Seen]) -> Rows:
    return np.setdiff1d(rows, np.fromiter(found, np.int64))
