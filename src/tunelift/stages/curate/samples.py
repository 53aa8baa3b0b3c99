"""Samples of what curation decided, read from its files as streams: memory holds the samples alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import Any

import orjson

from tunelift.stages.curate.split import SPLITS

Json = dict[str, Any]

SHOWN_ROWS = 5
"""Of each reason, task and kind of personal data; the first ones, so that the same files give the same page."""
SHOWN_PAIRS = {"dropped": 20, "values_differ": 10, "related": 10, "reported": 10}
"""Of near duplicates, by outcome."""
SHOWN_PROMPTS = 20


@dataclass
class Samples:
    """The first rows of each kind."""

    dropped: dict[str, list[Json]] = field(default_factory=dict)
    """Entries of dropped.jsonl, by reason."""
    quarantined: dict[str, list[Json]] = field(default_factory=dict)
    """Entries of quarantine.jsonl, by reason."""
    contaminated: dict[str, list[Json]] = field(default_factory=dict)
    """Entries of dropped.jsonl, by task."""
    pairs: dict[str, list[Json]] = field(default_factory=dict)
    """Entries of duplicates.jsonl, by outcome."""
    rows: dict[str, Json] = field(default_factory=dict)
    """By place, the rows that the pairs name: as they were kept, or raw."""
    conflicts: list[Json] = field(default_factory=list)
    """Entries of conflicts.jsonl."""
    pii: dict[str, list[Json]] = field(default_factory=dict)
    """Entries of pii.jsonl, by kind."""
    edits: list[Json] = field(default_factory=list)
    """Entries of edits.jsonl."""


def read_samples(out: Path) -> Samples:
    """Read a curation's files, each once and line by line."""
    samples = Samples()
    for pair in _entries(out / "duplicates.jsonl"):
        _first(samples.pairs, pair["outcome"], pair, SHOWN_PAIRS[pair["outcome"]])
    wanted = {pair[key] for pairs in samples.pairs.values() for pair in pairs for key in ("kept", "source")}
    for entry in _entries(out / "dropped.jsonl"):
        _first(samples.dropped, entry["reason"], entry)
        if entry["reason"] == "contaminated":
            _first(samples.contaminated, str(entry["evidence"]["task"]), entry)
        if entry["source"] in wanted:
            samples.rows[entry["source"]] = entry["row"]
    for row in chain.from_iterable(_entries(out / f"{split}.jsonl") for split in SPLITS):
        if len(samples.rows) == len(wanted):
            break
        if row["source"] in wanted:
            samples.rows[row["source"]] = row
    for entry in _entries(out / "quarantine.jsonl"):
        _first(samples.quarantined, entry["reason"], entry)
    for finding in _entries(out / "pii.jsonl"):
        _first(samples.pii, finding["kind"], finding)
    samples.conflicts = list(islice(_entries(out / "conflicts.jsonl"), SHOWN_PROMPTS))
    samples.edits = list(islice(_entries(out / "edits.jsonl"), SHOWN_PROMPTS))
    return samples


def _first(found: dict[str, list[Json]], kind: str, entry: Json, most: int = SHOWN_ROWS) -> None:
    entries = found.setdefault(kind, [])
    if len(entries) < most:
        entries.append(entry)


def _entries(path: Path) -> Iterator[Json]:
    with path.open("rb") as file:
        yield from map(orjson.loads, file)
