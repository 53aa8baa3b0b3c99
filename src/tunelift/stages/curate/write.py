"""What curation leaves on disk: the splits, what was dropped and quarantined, and the counts that must add up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import orjson

from tunelift.runtime.lengths import LongRow, Lost
from tunelift.stages.curate.histogram import histogram
from tunelift.stages.curate.pii import covered
from tunelift.stages.curate.split import SPLITS

QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
FILES = (*SPLITS, "dropped", "quarantine", "duplicates", "conflicts", "pii", "edits")
PII_SAMPLES = 5


class CountError(RuntimeError):
    """Rows were lost or counted twice: a fault of tunelift, never of the data."""


@dataclass
class Found:
    """Personal data of one kind."""

    action: str
    rows: int = 0
    found: int = 0
    samples: list[str] = field(default_factory=list)
    """Masked."""


class Ledger:
    """Writes each row's outcome as it is decided, and counts."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.dropped: dict[str, Counter[str]] = {}
        self.quarantined: dict[str, Counter[str]] = {}
        self.unlearnt: Counter[str] = Counter()
        """By reason, supervised tokens of the rows dropped."""
        self.long: list[LongRow] = []
        """The rows that are dropped for their length alone."""
        self.kept: Counter[str] = Counter()
        self.lengths: dict[str, list[tuple[int, int]]] = {split: [] for split in SPLITS}
        """By split, tokens and supervised tokens of each row that training makes of it."""
        self.rows: Counter[str] = Counter()
        """Rows of each split."""
        self.first: dict[str, tuple[str, str]] = {}
        """By reason, the place and the finding of the first row it befell."""
        self.pii: dict[str, Found] = {}
        self._stack = ExitStack()
        self._files: dict[str, IO[bytes]] = {}

    def __enter__(self) -> Ledger:
        for name in FILES:
            self._files[name] = self._stack.enter_context((self.out / f"{name}.jsonl").open("wb"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def quarantine(self, file: str, place: str, reason: str, finding: str, entry: bytes) -> None:
        """Write and count a row that could not be read."""
        self.quarantined.setdefault(file, Counter())[reason] += 1
        self.first.setdefault(reason, (place, finding))
        self._files["quarantine"].write(entry)

    def drop(
        self, file: str, place: str, reason: str, finding: str, entry: bytes, supervised_tokens: int, tokens: int = 0
    ) -> None:
        """Write and count a row that is not used; `tokens` says how long it is if it is too long."""
        self.dropped.setdefault(file, Counter())[reason] += 1
        self.unlearnt[reason] += supervised_tokens
        if reason == "too_long":
            self.long.append(LongRow(place, place, tokens, supervised_tokens))
        self.first.setdefault(reason, (place, finding))
        self._files["dropped"].write(entry)

    def keep(self, split: str, file: str, entry: bytes, lengths: list[tuple[int, int]]) -> None:
        """Write and count a row of a split."""
        self.kept[file] += 1
        self.rows[split] += 1
        self.lengths[split] += lengths
        self._files[split].write(entry)

    def note_pii(self, place: str, findings: tuple[dict[str, Any], ...]) -> None:
        """List and count personal data of a row, whatever becomes of the row."""
        for kind in dict.fromkeys(str(finding["kind"]) for finding in findings):
            of_kind = [finding for finding in findings if finding["kind"] == kind]
            counted = self.pii.setdefault(kind, Found(of_kind[0]["action"]))
            counted.rows += 1
            counted.found += len(of_kind)
            room = PII_SAMPLES - len(counted.samples)
            counted.samples += [str(finding["masked"]) for finding in of_kind[:room]]
        for finding in findings:
            self.write("pii", {"source": place, **finding})

    def note_edits(self, place: str, changes: tuple[dict[str, Any], ...]) -> None:
        """List what mending did to the text of a row that passed; personal data in it is masked."""
        for one in changes:
            shown = {"before": covered(one["before"]), "after": covered(one["after"])}
            self.write("edits", {"source": place, "message": one["message"], **shown})

    def write(self, name: str, entry: Mapping[str, Any]) -> None:
        """A line of `duplicates`, `conflicts`, `pii` or `edits`."""
        self._files[name].write(as_json(entry) + b"\n")

    def lost(self, max_length: int) -> Lost:
        """What the limit on length costs, over all splits."""
        left = sum(learnt for lengths in self.lengths.values() for _, learnt in lengths)
        return Lost(max_length, tuple(self.long), left)

    def stats(
        self, read: Counter[str], formats: Mapping[str, str | None], max_length: int, more: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The content of stats.json; `read` and `formats` are by source, `more` is what others have counted."""
        return {
            "rows": {
                "read": read.total(),
                "kept": self.kept.total(),
                "dropped": by_count(sum(self.dropped.values(), Counter())),
                "quarantined": by_count(sum(self.quarantined.values(), Counter())),
            },
            "splits": {
                split: {
                    "rows": self.rows[split],
                    "tokens": sum(tokens for tokens, _ in lengths),
                    "supervised_tokens": sum(learnt for _, learnt in lengths),
                    "training_rows": len(lengths),
                }
                for split, lengths in self.lengths.items()
            },
            "dropped_supervised_tokens": by_count(self.unlearnt),
            "truncation": self.lost(max_length).as_json(),
            "pii": {kind: vars(self.pii[kind]) for kind in sorted(self.pii)},
            **more,
            "sources": {
                file: {
                    "format": formats.get(file),
                    "read": read[file],
                    "kept": self.kept[file],
                    "dropped": by_count(self.dropped.get(file, Counter())),
                    "quarantined": by_count(self.quarantined.get(file, Counter())),
                }
                for file in read
            },
            "lengths": {split: _of_both(lengths, _quantiles) for split, lengths in self.lengths.items()},
            "histograms": {split: _of_both(lengths, histogram) for split, lengths in self.lengths.items()},
        }


def _of_both(lengths: list[tuple[int, int]], summary: Any) -> dict[str, Any]:
    """A summary of the tokens, and one of the supervised tokens."""
    columns = np.asarray(lengths, dtype=np.int64).reshape(-1, 2)
    return {"tokens": summary(columns[:, 0]), "supervised_tokens": summary(columns[:, 1])}


def _quantiles(values: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, int]:
    """Nearest-rank quantiles; empty for no values."""
    ranked = np.sort(values)
    places = {name: max(0, int(np.ceil(share * len(ranked))) - 1) for name, share in QUANTILES.items()}
    return {name: int(ranked[place]) for name, place in places.items()} if len(ranked) else {}


def with_cluster(line: bytes, key: int) -> bytes:
    """A line of a split file with the key of its group; to read and write the JSON again would take longer."""
    row, brace, end = line.rpartition(b"}")
    return row + b',"cluster":"%016x"' % key + brace + end if brace else line


def as_json(value: Any) -> bytes:
    """JSON of a row; values that JSON has no form for, such as dates out of Parquet, as text."""
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS)


def by_count(counts: Counter[str]) -> dict[str, int]:
    """The commonest first; by name where equal."""
    return dict(sorted(counts.items(), key=lambda entry: (-entry[1], entry[0])))


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
    count = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            count += block.count(b"\n")
    return count
