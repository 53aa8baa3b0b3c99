"""What only the whole set can tell: which rows are duplicates or contradict each other, which stay, in which split.

Rows are named by their number in the order of reading; a step that looks at some rows only numbers them anew, from 0.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunelift.config.curation import CurateConfig, DuplicatesConfig
from tunelift.runtime.supervision import through_last_supervised
from tunelift.stages.curate.families import with_families
from tunelift.stages.curate.leakage import Settled, settle
from tunelift.stages.curate.mix import draw
from tunelift.stages.curate.near import (
    DUPLICATE,
    RELATED,
    VALUES_DIFFER,
    Pair,
    Pairs,
    Sketch,
    choose,
    conflicts,
    joined,
    near_duplicates,
    sketch,
)
from tunelift.stages.curate.passed import Passed, StoredTexts, answer
from tunelift.stages.curate.processes import Processes
from tunelift.stages.curate.prompt_pairs import PromptPairs, about_prompts
from tunelift.stages.curate.prompts import Prompts, equal_rows
from tunelift.stages.curate.rows import Fault
from tunelift.stages.curate.similarity import Hashes, On, Rows, Sets, common_shingles, mixed, row_sets
from tunelift.stages.curate.split import SPLITS, groups, refuse_large_group, smallest_keys

CHUNK_ROWS = 2000
FEW_CHUNKS = 4
SHOWN_CHARACTERS = 300


@dataclass(frozen=True)
class Decided:
    """What becomes of the rows that passed."""

    faults: dict[int, Fault]
    """Why a row is dropped."""
    splits: NDArray[np.uint8]
    """The number of each row's split in `SPLITS`; of a row that is dropped it means nothing."""
    clusters: Hashes
    """Each row's group as the smallest key in it: rows of one group are no independent items."""
    duplicates: Iterator[dict[str, Any]]
    """Lines of duplicates.jsonl, made as they are asked for: there may be many more than rows."""
    conflicts: list[dict[str, Any]]
    """Lines of conflicts.jsonl."""
    counts: dict[str, Any]
    """`duplicates`, `conflicts`, `groups`, `leakage` and `mix` of stats.json."""


def decide(passed: Passed, places: Sequence[str], config: CurateConfig, seed: int, processes: Processes) -> Decided:
    """Decide over all rows that passed.

    Args:
        places: Where each row stands, as `file:line`.
        seed: Decides the split and what a budget draws.

    Raises:
        UserError: one group holds too many rows.
        MachineError: a process was killed.
    """
    left = np.arange(len(passed))
    faults, left = _without_equals(passed, places, left)
    pairs, common = _near_pairs(passed.texts(left), config.duplicates, processes)
    pairs = replace(pairs, a=left[pairs.a], b=left[pairs.b])
    pairs = _related_by_setting(pairs, passed.column("setting"))
    near = choose(pairs, len(passed)) if config.duplicates.near == "drop" else {}
    faults |= {
        row: Fault("near_duplicate", {"duplicate_of": places[pair.a], "jaccard": pair.jaccard})
        for row, pair in near.items()
    }
    left = _without(left, near)
    drawn = left[_drawn(passed, left, config, seed)]
    faults |= {int(row): Fault("not_sampled", _budget(config)) for row in np.setdiff1d(left, drawn)}
    prompts = Prompts(passed.texts(drawn), passed.column("exact")[drawn], processes, passed.path.parent)
    looking = PromptPairs(prompts, config.contamination_ngram, config.contamination_overlap)
    settled = _settled(passed, places, drawn, pairs, common, looking, config, seed, processes)
    outcome = about_prompts(settled, looking, passed.column("exact")[drawn], config)
    faults |= {
        int(drawn[row]): Fault(
            "held_out_prompt",
            {"held_out": places[drawn[seen.held]], "split": SPLITS[settled.splits[seen.held]], "overlap": seen.share},
        )
        for row, seen in outcome.dropped.items()
    }
    stay = np.setdiff1d(np.arange(len(drawn)), np.fromiter(outcome.dropped, np.int64))
    mix = _mix(passed, left, drawn[stay], config)
    splits, clusters = np.zeros(len(passed), np.uint8), np.zeros(len(passed), np.uint64)
    grouped, keys = outcome.grouped, passed.column("group")[drawn]
    if len(common) and not config.split.group_by:  # Without boilerplate, rows that differ in values are near pairs.
        grouped = with_families(grouped, settled.splits, passed.texts(drawn), keys)
    splits[drawn], clusters[drawn] = settled.splits, smallest_keys(grouped, keys)
    kept = drawn[stay]
    contradictions = [
        kept[rows].tolist() for rows in conflicts(passed.column("prompt")[kept], passed.column("reply")[kept])
    ]
    _, sizes = np.unique(outcome.grouped[stay], return_counts=True)
    apart = {split: len(np.unique(clusters[kept][splits[kept] == place])) for place, split in enumerate(SPLITS)}
    counts = {
        "duplicates": _duplicate_counts(faults, pairs, near),
        "conflicts": {"prompts": len(contradictions), "rows": sum(map(len, contradictions))},
        "groups": {
            "count": len(sizes),
            "in_split": apart,
            "largest": round(int(sizes.max(initial=0)) / max(len(kept), 1), 4),
            "joined": settled.joined(lambda row: places[drawn[row]]),
        },
        "leakage": {
            "threshold": config.duplicates.threshold,
            "compared": settled.compared,
            "moved": settled.moved,
            "pairs": 0,
            "prompts": outcome.counts,
        },
        "mix": mix,
    }
    return Decided(
        faults,
        splits,
        clusters,
        _pair_lines(pairs, places, near),
        [_conflict_line(passed, places, rows, splits) for rows in contradictions],
        counts,
    )


def families(passed: Passed, config: CurateConfig, processes: Processes) -> tuple[Hashes, dict[int, int]]:
    """Each row's group by the key that decides its split, without a seed: as if every row were held out.

    A duplicate, which is dropped, is in the group of the row that stays.

    Returns:
        The groups, and by near duplicate that is dropped the row that stays.
    """
    _, stays, place = np.unique(passed.column("exact"), return_index=True, return_inverse=True)
    left, first = np.sort(stays), stays[place]
    pairs, _ = _near_pairs(passed.texts(left), config.duplicates, processes)
    pairs = _related_by_setting(replace(pairs, a=left[pairs.a], b=left[pairs.b]), passed.column("setting"))
    near = choose(pairs, len(passed)) if config.duplicates.near == "drop" else {}
    left = _without(left, near)
    number = np.full(len(passed), -1)
    number[left] = np.arange(len(left))
    edges = number[np.stack((pairs.a, pairs.b), axis=1)]
    keys = passed.column("group")[left]
    prompts = Prompts(passed.texts(left), passed.column("exact")[left], processes, passed.path.parent)
    edges = np.concatenate((edges[(edges >= 0).all(axis=1)], equal_rows(prompts.first)))
    grouped = groups(len(left), edges, keys)
    asking = PromptPairs(prompts, config.contamination_ngram, config.contamination_overlap).all(grouped)
    found = np.zeros(len(passed), np.uint64)
    found[left] = smallest_keys(groups(len(left), np.concatenate((edges, asking)), keys), keys)
    for row, pair in near.items():
        found[row] = found[pair.a]
    return found[first], {row: pair.a for row, pair in near.items()}


def _without_equals(passed: Passed, places: Sequence[str], left: Rows) -> tuple[dict[int, Fault], Rows]:
    """Exact duplicates: of equal conversations the first stays."""
    _, first, place = np.unique(passed.column("exact"), return_index=True, return_inverse=True)
    kept = first[place]
    later = np.flatnonzero(kept != left)
    faults = {int(row): Fault("exact_duplicate", {"duplicate_of": places[kept[row]]}) for row in later}
    return faults, np.setdiff1d(left, later)


def _without(rows: Rows, dropped: Iterable[int]) -> Rows:
    return np.setdiff1d(rows, np.fromiter(dropped, dtype=np.int64))


def _near_pairs(texts: StoredTexts, config: DuplicatesConfig, processes: Processes) -> tuple[Pairs, Hashes]:
    """Near duplicates among the rows of `texts`, and the boilerplate that does not count."""
    rows = len(texts)
    common = common_shingles(texts, rows, config.on)
    if config.near == "off" or rows < 2:
        return Pairs.of(()), common
    chunks = (np.arange(start, min(start + CHUNK_ROWS, rows)) for start in range(0, rows, CHUNK_ROWS))
    parts: Iterable[Sketch] = processes.map(_sketcher, (texts, config, common), chunks, few=FEW_CHUNKS)

    def apply(check: Callable[[Rows], Pairs], blocks: Iterable[Rows]) -> Iterator[Pairs]:
        return processes.map(_as_it_is, (check,), blocks, few=FEW_CHUNKS)

    return near_duplicates(texts, joined(list(parts)), config, common, apply), common


def _related_by_setting(pairs: Pairs, settings: Hashes) -> Pairs:
    """The pairs, where those under another system message or with other tools are no duplicates."""
    other = (settings[pairs.a] != settings[pairs.b]) & (pairs.kind == DUPLICATE)
    return replace(pairs, kind=np.where(other, np.uint8(RELATED), pairs.kind))


def _sketcher(texts: StoredTexts, config: DuplicatesConfig, common: Hashes) -> Callable[[Rows], Sketch]:
    return lambda rows: sketch(texts(rows), config.on, common)


def _as_it_is(check: Callable[[Rows], Pairs]) -> Callable[[Rows], Pairs]:
    return check


def _drawn(passed: Passed, left: Rows, config: CurateConfig, seed: int) -> NDArray[np.bool_]:
    """Which of the rows stay under the weights and the budget."""
    weights = [source.weight for source in config.sources if source.weight is not None]
    if not weights and config.keep_rows is None and config.keep_tokens is None:
        return np.ones(len(left), dtype=bool)
    salt = mixed(np.asarray([seed + 1], dtype=np.uint64))
    return draw(
        passed.sources[left],
        mixed(passed.column("exact")[left] ^ salt),
        passed.tokens[left],
        weights=weights or None,
        keep_rows=config.keep_rows,
        keep_tokens=config.keep_tokens,
    )


def _budget(config: CurateConfig) -> dict[str, Any]:
    """What keeps a row out that nothing is wrong with."""
    limits = {"keep_rows": config.keep_rows, "keep_tokens": config.keep_tokens}
    weights = {source.path: source.weight for source in config.sources if source.weight is not None}
    return {name: limit for name, limit in limits.items() if limit is not None} | (
        {"weights": weights} if weights else {}
    )


def _mix(passed: Passed, left: Rows, drawn: Rows, config: CurateConfig) -> dict[str, Any]:
    """By source, what passed and what was drawn; empty if all were."""
    if not _budget(config):
        return {}
    both = [np.bincount(passed.sources[rows], minlength=len(config.sources)) for rows in (left, drawn)]
    return {
        source.path: {"weight": source.weight, "passed": int(both[0][number]), "kept": int(both[1][number])}
        for number, source in enumerate(config.sources)
    }


def _settled(
    passed: Passed,
    places: Sequence[str],
    drawn: Rows,
    pairs: Pairs,
    common: Hashes,
    looking: PromptPairs,
    config: CurateConfig,
    seed: int,
    processes: Processes,
) -> Settled:
    """The split of the drawn rows, proved to keep alike rows together, and prompts as the config says."""
    texts, duplicates = passed.texts(drawn), config.duplicates
    number = np.full(len(passed), -1)
    number[drawn] = np.arange(len(drawn))
    edges = number[np.stack((pairs.a, pairs.b), axis=1)]

    def sets_of(blocks: Iterable[Rows]) -> Iterator[Sets]:
        return processes.map(_reader, (texts, duplicates.on, common), blocks, few=FEW_CHUNKS)

    def describe(row: int) -> tuple[str, str]:
        whole = int(drawn[row])
        field = config.split.group_by
        if field:
            return places[whole], str(orjson.loads(passed.raw(whole))[field])
        messages = orjson.loads(passed.line(whole))["messages"]
        return places[whole], next((one["content"] for one in messages if one["role"] == "user"), "")

    keys = passed.column("group")[drawn]
    # A row's first message is its group; case and punctuation make no other.
    same = edges[:0] if config.split.group_by else equal_rows(looking.prompts.first)
    settled = settle(
        sets_of,
        np.concatenate((edges[(edges >= 0).all(axis=1)], same)),
        keys,
        passed.strata(drawn) if config.split.stratify_by else None,
        config.split,
        threshold=duplicates.threshold,
        seed=seed,
        asking=looking.joining if config.split.alike_prompts == "join" else None,
    )
    refuse_large_group(settled.grouped, settled.edges, keys, config.split, describe, settled.asking)
    return settled


def _reader(texts: StoredTexts, on: On, common: Hashes) -> Callable[[Rows], Sets]:
    return lambda rows: row_sets(texts(rows), on, common)


def _duplicate_counts(faults: dict[int, Fault], pairs: Pairs, near: dict[int, Pair]) -> dict[str, int]:
    clusters = Counter(pair.a for pair in near.values())
    return {
        "exact": sum(fault.reason == "exact_duplicate" for fault in faults.values()),
        "near": len(near),
        "values_differ": int(np.count_nonzero(pairs.kind == VALUES_DIFFER)),
        "clusters": len(clusters),
        "largest": max(clusters.values(), default=-1) + 1,
    }


def _pair_lines(pairs: Pairs, places: Sequence[str], near: dict[int, Pair]) -> Iterator[dict[str, Any]]:
    """Pairs that decided something, or that say why nothing was; a row that is dropped stands in one only."""
    for pair in pairs:
        if pair.b in near and near[pair.b] == pair:
            outcome = "dropped"
        elif pair.a in near or pair.b in near:
            continue
        else:
            outcome = "reported" if pair.kind == "duplicate" else pair.kind
        yield {"kept": places[pair.a], "source": places[pair.b], "jaccard": pair.jaccard, "outcome": outcome}


def _conflict_line(
    passed: Passed, places: Sequence[str], rows: Sequence[int], splits: NDArray[np.uint8]
) -> dict[str, Any]:
    ((prompt, _),) = passed.texts(np.asarray(rows[:1]))(np.arange(1))
    last = [through_last_supervised(orjson.loads(passed.line(row))["messages"])[-1] for row in rows]
    replies = ["\n".join(filter(None, answer(message))) for message in last]
    return {
        "prompt": prompt[:SHOWN_CHARACTERS],
        "rows": [
            {"source": places[row], "split": SPLITS[splits[row]], "reply": reply[:SHOWN_CHARACTERS]}
            for row, reply in zip(rows, replies, strict=True)
        ],
    }
