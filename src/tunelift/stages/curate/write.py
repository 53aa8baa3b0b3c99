"""What curation leaves on disk: the splits, what was dropped and quarantined, and the counts that must add up."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from tunelift.runtime.lengths import LongRow, Lost
from tunelift.stages.curate.rows import Dropped, Example, Kept, Outcome, Quarantined
from tunelift.stages.curate.split import SPLITS, short_hash

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}


class CountError(RuntimeError):
    """Rows were lost or counted twice: a fault of tunelift, never of the data."""


class Ledger:
    """Writes each row's outcome as it is decided, and counts; rows stand in the files in the order they were read."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.dropped: dict[str, Counter[str]] = {}
        self.quarantined: dict[str, Counter[str]] = {}
        self.unlearnt: Counter[str] = Counter()
        """By reason, supervised tokens of the rows dropped."""
        self.long: list[LongRow] = []
        """The rows that are dropped for their length alone."""
        self.kept: Counter[str] = Counter()
        self.lengths: dict[str, list[tuple[tuple[int, int], ...]]] = {split: [] for split in SPLITS}
        """By split and row, tokens and supervised tokens of each row that training makes of it."""
        self.first: dict[str, tuple[str, str]] = {}
        """By reason, the place and the finding of the first row it befell."""
        self._stack = ExitStack()
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Ledger:
        for name in (*SPLITS, "dropped", "quarantine"):
            self._files[name] = self._stack.enter_context((self.out / f"{name}.jsonl").open("wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def record(self, outcome: Outcome) -> None:
        """Write and count one row."""
        match outcome:
            case Kept():
                self._keep(outcome)
            case Dropped(example=example, fault=fault, supervised_tokens=supervised):
                self.dropped.setdefault(example.file, Counter())[fault.reason] += 1
                self.unlearnt[fault.reason] += supervised
                if fault.reason == "too_long":
                    row_id = _id(_conversation(example))
                    self.long.append(LongRow(row_id, example.place, fault.evidence["tokens"], supervised))
                self.first.setdefault(fault.reason, (example.place, _in_words(fault.evidence)))
                entry = {
                    "source": example.place,
                    "reason": fault.reason,
                    "evidence": fault.evidence,
                    "row": example.raw,
                }
                self._write("dropped", entry)
            case Quarantined():
                self.quarantined.setdefault(outcome.file, Counter())[outcome.reason] += 1
                inside = "" if outcome.path == "$" else f"{outcome.path}: "
                self.first.setdefault(outcome.reason, (outcome.place, inside + outcome.detail))
                self._write("quarantine", _quarantine_entry(outcome))

    def _keep(self, kept: Kept) -> None:
        example = kept.example
        self.kept[example.file] += 1
        self.lengths[kept.split].append(kept.lengths)
        conversation = _conversation(example)
        entry = {
            "id": _id(conversation),
            **conversation,
            "source": example.place,
            "group": short_hash(example.group),
            "tokens": sum(tokens for tokens, _ in kept.lengths),
            "supervised_tokens": sum(learnt for _, learnt in kept.lengths),
            "training_rows": len(kept.lengths),
        }
        self._write(kept.split, entry)

    def _write(self, name: str, entry: dict[str, Any]) -> None:
        self._files[name].write(as_json(entry) + b"\n")

    def lost(self, max_length: int) -> Lost:
        """What the limit on length costs, over all splits."""
        left = sum(learnt for rows in self.lengths.values() for lengths in rows for _, learnt in lengths)
        return Lost(max_length, tuple(self.long), left)

    def stats(
        self, read: Counter[str], formats: dict[str, str | None], contamination: dict[str, float], max_length: int
    ) -> dict[str, Any]:
        """The content of stats.json; `read` and `formats` are by source, lengths of the rows that training sees."""
        seen = {split: [length for lengths in rows for length in lengths] for split, rows in self.lengths.items()}
        return {
            "rows": {
                "read": read.total(),
                "kept": self.kept.total(),
                "dropped": _sorted(sum(self.dropped.values(), Counter())),
                "quarantined": _sorted(sum(self.quarantined.values(), Counter())),
            },
            "splits": {
                split: {
                    "rows": len(self.lengths[split]),
                    "tokens": sum(all_ for all_, _ in rows),
                    "supervised_tokens": sum(learnt for _, learnt in rows),
                    "training_rows": len(rows),
                }
                for split, rows in seen.items()
            },
            "dropped_supervised_tokens": _sorted(self.unlearnt),
            "truncation": self.lost(max_length).as_json(),
            "contamination": contamination,
            "sources": {
                file: {
                    "format": formats.get(file),
                    "read": read[file],
                    "kept": self.kept[file],
                    "dropped": _sorted(self.dropped.get(file, Counter())),
                    "quarantined": _sorted(self.quarantined.get(file, Counter())),
                }
                for file in read
            },
            "lengths": {
                split: {
                    "tokens": _quantiles([tokens for tokens, _ in rows]),
                    "supervised_tokens": _quantiles([learnt for _, learnt in rows]),
                }
                for split, rows in seen.items()
            },
        }


def _conversation(example: Example) -> dict[str, Any]:
    return {"messages": example.messages, **({"tools": example.tools} if example.tools else {})}


def _id(conversation: dict[str, Any]) -> str:
    return short_hash(as_json(conversation).decode())


def _in_words(evidence: dict[str, Any]) -> str:
    words = [f"{key.replace('_', ' ')} {value}" for key, value in evidence.items()]
    return str(evidence["detail"]) if "detail" in evidence else ", ".join(words)


def _quarantine_entry(row: Quarantined) -> dict[str, Any]:
    return {
        "file": row.file,
        "line": row.line,
        "path": row.path,
        "reason": row.reason,
        "detail": row.detail,
        "raw": row.raw,
    }


def as_json(value: Any) -> bytes:
    """JSON of a row; values that JSON has no form for, such as dates out of Parquet, as text."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)


def _sorted(counts: Counter[str]) -> dict[str, int]:
    """The commonest first; by name where equal."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


def _quantiles(values: list[int]) -> dict[str, int]:
    """Nearest-rank quantiles; empty for no values."""
    ranked = sorted(values)
    return {name: ranked[math.ceil(share * len(ranked)) - 1] for name, share in QUANTILES.items()} if ranked else {}


def check_counts(stats: dict[str, Any], out: Path) -> None:
    """Hold read = kept + dropped + quarantined, overall and by source, and hold the files to these numbers.

    Raises:
        CountError: a row is missing or counted twice.
    """
    for name, rows in {"all sources": stats["rows"], **stats["sources"]}.items():
        dropped, quarantined = sum(rows["dropped"].values()), sum(rows["quarantined"].values())
        if rows["read"] != rows["kept"] + dropped + quarantined:
            raise CountError(
                f"{name}: {rows['read']} rows read, {rows['kept']} kept, {dropped} dropped, {quarantined} quarantined"
            )
    told = {split: stats["splits"][split]["rows"] for split in SPLITS}
    told |= {
        "dropped": sum(stats["rows"]["dropped"].values()),
        "quarantine": sum(stats["rows"]["quarantined"].values()),
    }
    written = {name: _lines(out / f"{name}.jsonl") for name in told}
    if told != written or sum(written.values()) != stats["rows"]["read"]:
        raise CountError(f"{stats['rows']['read']} rows read and counted as {told}, but the files hold {written}")


def _lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)
