"""Which split a row falls into: groups stay whole, and a group's place depends on its own hash and the seed alone.

So adding rows moves no other row, unless they join two groups. With `stratify_by` the groups of each value are dealt
out in the order of their hashes, which gives like shares, and lets rows move.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tunelift.config.curation import SplitConfig
from tunelift.errors import UserError
from tunelift.stages.curate.similarity import Hashes, Rows

SPLITS = ("train", "validation", "test")
TRAIN, VALIDATION, TEST = range(3)
JUDGED_ROWS = 20
"""Below this many rows, no group is called too large."""
TEXT_CHARACTERS = 60
JOINED = {"prompts": "share most of the words of their prompts", "rows": "are near duplicates"}
JOINED_REMEDY = {
    "prompts": "If what they share is an instruction, put it into the system message. Or set "
    "curate.split.alike_prompts to report, which leaves such rows where they are (curate.split.group_by then names a "
    "field that must stay together), or to drop, which drops the training rows that ask what a held-out row asks",
    "rows": "If what they share is an instruction, put it into the system message. Or raise "
    "curate.duplicates.threshold, so that fewer rows count as alike",
}
"""What to do about rows that are joined for their prompts, or as a whole."""


def short_hash(text: str) -> str:
    """16 hexadecimal digits of sha256: names rows and groups in the files."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def group_key(group: str) -> int:
    """The short hash of a group's text as a number of 64 bits."""
    return int(short_hash(group), 16)


def split_of(group: str, config: SplitConfig, seed: int) -> str:
    """The split of a group's text where no other group is joined to it."""
    return split_of_key(group_key(group), config, seed)


def split_of_key(key: int, config: SplitConfig, seed: int) -> str:
    """The same, by the group's key."""
    return SPLITS[_cut(_place(key, seed), config)]


def groups(rows: int, edges: Rows, keys: Hashes) -> Rows:
    """Rows that must share a split, each group by the number of its first row.

    Args:
        edges: Pairs of rows that belong together, m × 2: near duplicates, those that differ in values as well.
        keys: Of each row the `group_key`; rows of equal keys belong together.
    """
    from scipy.sparse import coo_array  # Here alone, so that processes that look at rows start sooner.
    from scipy.sparse.csgraph import connected_components

    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    one = np.concatenate((edges[:, 0], order[same]))
    other = np.concatenate((edges[:, 1], order[same + 1]))
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(rows, rows))
    _, labels = connected_components(graph, directed=False)
    _, first, label = np.unique(labels, return_index=True, return_inverse=True)
    head: Rows = first[label].astype(np.int64)
    return head


def smallest_keys(grouped: Rows, keys: Hashes) -> Hashes:
    """Of each row the smallest key in its group, which names the group."""
    heads, group = np.unique(grouped, return_inverse=True)
    smallest = np.full(len(heads), np.iinfo(np.uint64).max)
    np.minimum.at(smallest, group, keys)
    return smallest[group]


def assign(
    grouped: Rows, keys: Hashes, strata: Sequence[str] | None, config: SplitConfig, seed: int
) -> NDArray[np.uint8]:
    """Each row's split, as its place in SPLITS.

    Args:
        grouped: As `groups` gives them.
        strata: Each row's value of `stratify_by`, as text.
    """
    _, first, group, sizes = np.unique(grouped, return_index=True, return_inverse=True, return_counts=True)
    places = np.array([_place(key, seed) for key in smallest_keys(grouped, keys)[first].tolist()])
    if strata is None:
        chosen = np.array([_cut(place, config) for place in places.tolist()], np.uint8)
    else:
        chosen = _dealt(places, sizes, _commonest(group, strata), config)
    return chosen[group]


def refuse_large_group(
    grouped: Rows,
    edges: Rows,
    keys: Hashes,
    config: SplitConfig,
    describe: Callable[[int], tuple[str, str]],
    asking: Rows | None = None,
) -> None:
    """Raise if one group holds more of the rows than `max_group_ratio`; few rows are not judged.

    Args:
        describe: Answers a row with its place (`file:line`) and the text that it is grouped by.
        asking: The pairs, m × 2, that are joined for their prompts.

    Raises:
        UserError: with the group's name and share, what holds it together, and what to change.
    """
    heads, sizes = np.unique(grouped, return_counts=True)
    rows, size = len(grouped), int(sizes.max(initial=0))
    if rows < JUDGED_ROWS or size <= config.max_group_ratio * rows:
        return
    head = int(heads[sizes.argmax()])
    inside = grouped == head
    place, text = describe(head)
    if len(text) > TEXT_CHARACTERS:
        text = f"{text[:TEXT_CHARACTERS]}…"
    by = f"curate.split.group_by={config.group_by}" if config.group_by else "the first user message"
    if (keys[inside] == keys[head]).all():
        how = f"all of them have the value {text!r} of {by}"
        remedy = "Group by a field with more values (curate.split.group_by)"
    elif asking is not None and len(of_prompts := asking[inside[asking[:, 0]]]):
        one, other = of_prompts[0].tolist()
        how = f"{describe(one)[0]} and {describe(other)[0]} {JOINED['prompts']}, and so on; {by} begins with {text!r}"
        remedy = JOINED_REMEDY["prompts"]
    else:
        one, other = edges[inside[edges[:, 0]]][0].tolist()
        how = f"{describe(one)[0]} and {describe(other)[0]} {JOINED['rows']}, and so on; {by} begins with {text!r}"
        remedy = JOINED_REMEDY["rows"]
    allowing = math.ceil(size / rows * 100) / 100
    raise UserError(
        f"One group holds {size:,} of {rows:,} rows ({size / rows:.0%}), more than curate.split.max_group_ratio="
        f"{config.max_group_ratio:g} allows: {how}. A group stays in one split, so no split of it would be fair.",
        where=place,
        remedy=f"{remedy}, or allow it with curate.split.max_group_ratio={allowing:g}.",
    )


def _place(key: int, seed: int) -> float:
    """Where a key lies between 0 and 1: the first 8 bytes of sha256(seed, key in hexadecimal)."""
    digest = hashlib.sha256(f"{seed}\0{key:016x}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def _cut(place: float, config: SplitConfig) -> int:
    if place < config.test:
        return TEST
    return VALIDATION if place < config.test + config.validation else TRAIN


def _commonest(group: Rows, strata: Sequence[str]) -> Rows:
    """Each group's stratum as a number: its commonest value, the first by name where several are."""
    names, value = np.unique(np.array(strata, dtype=object).astype(str), return_inverse=True)
    pairs, counts = np.unique(group * len(names) + value, return_counts=True)
    owner, value = pairs // len(names), pairs % len(names)
    order = np.lexsort((value, -counts, owner))
    best = order[np.searchsorted(owner[order], np.arange(int(group.max(initial=-1)) + 1))]
    chosen: Rows = value[best].astype(np.int64)
    return chosen


def _dealt(places: NDArray[np.float64], sizes: Rows, stratum: Rows, config: SplitConfig) -> NDArray[np.uint8]:
    """Each group's split: in every stratum, by rising place, the first rows to test and the next to validation."""
    order = np.lexsort((places, stratum))
    rows = np.cumsum(sizes[order])
    begins = np.searchsorted(stratum[order], stratum[order])
    before = np.concatenate((np.zeros(1, np.int64), rows))[begins]
    totals = np.bincount(stratum, weights=sizes)[stratum[order]]
    # A group goes where its middle lies, so that a large one does not fill a small split.
    middle = (rows - before - sizes[order] / 2) / totals
    chosen = np.empty(len(places), np.uint8)
    chosen[order] = [_cut(share, config) for share in middle.tolist()]
    return chosen
