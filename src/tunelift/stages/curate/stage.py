"""Curation from top to bottom: read, examine each row, decide over all rows, write, account for every one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from tunelift.artifacts.records import digest, file_sha256
from tunelift.artifacts.store import writing
from tunelift.config.curation import CurateConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.hardware import detect as detect_hardware
from tunelift.runtime.lengths import Lost
from tunelift.runtime.turns import TOOL_REASONS, TOOL_REMEDY
from tunelift.stages.curate.card import data_set_card, funnel
from tunelift.stages.curate.decide import Decided, decide
from tunelift.stages.curate.decisions import decisions
from tunelift.stages.curate.detection import detect
from tunelift.stages.curate.examine import Chunk, Examined, Rules, dropped_entry, examine_chunks
from tunelift.stages.curate.files import refuse_overlap
from tunelift.stages.curate.page import write_curation_page
from tunelift.stages.curate.passed import Passed
from tunelift.stages.curate.processes import Processes
from tunelift.stages.curate.read import read_source, source_fingerprint
from tunelift.stages.curate.reasons import REMEDIES, remedy
from tunelift.stages.curate.rows import Line, Quarantined, RawRow
from tunelift.stages.curate.split import JOINED, JOINED_REMEDY, SPLITS
from tunelift.stages.curate.write import Ledger, by_count, check_counts, with_cluster

NAMED_SOURCES = 3
CHUNK_ROWS = 250
FIRST_PLACES = 3
"""Shown of what was found."""
FEW_CHUNKS = 16
"""So many are done sooner than other processes are started."""


def curate(
    config: CurateConfig,
    *,
    tokenizer_folder: Path,
    max_length: int,
    max_truncated_ratio: float = 0.0,
    questions: dict[str, list[str]],
    seed: int,
    out: Path,
    added_tokens: Sequence[str] = (),
    template: str | None = None,
) -> dict[str, Any]:
    """Turn raw rows into a data set: train, validation and test splits, and an account of every row.

    What is made depends on what the sources hold, not on their order or the number of processes.

    Args:
        config: Sources and rules.
        tokenizer_folder: The model folder whose tokenizer and chat template measure the rows.
        template: The chat template to use in place of the folder's own.
        max_length: Longest row in tokens; longer ones are dropped whole.
        max_truncated_ratio: Share of the supervised tokens that may be lost in this way.
        questions: By task name, what each of its items asks (the request alone, without the prompt around it).
        seed: Decides the split together with a row's group, and what a budget draws.
        out: Folder to fill; files of an earlier attempt are overwritten.
        added_tokens: Tokens that training adds to the vocabulary, so that rows are measured as they will be trained on.

    Returns:
        `content` (sha256 over the split files), `rows`, `splits`, `contamination`, `truncation` and `formats`.

    Raises:
        UserError: a source cannot be read, too many rows are broken, more is lost to `max_length` than allowed, one
            group of alike rows is too large, or a split that is needed came out empty.
        MachineError: a process was killed.
        CountError: the counts do not add up, which is a bug.
    """
    rules = Rules(config, tokenizer_folder, template, tuple(added_tokens), max_length, questions)
    number = detect_hardware().cores if config.processes == "auto" else config.processes
    reading, account = Reading(config), Account(questions)
    with writing(out):
        with Ledger(out) as ledger, Passed(out / "passed.work") as passed, Processes(number) as processes:
            examine(rules, reading, processes, passed, account, ledger)
            _check_readable(config, reading.read.total(), ledger)
            decided = decide(passed, account.places, config, seed, processes)
            write(passed, decided, account, ledger)
        stats = ledger.stats(reading.read, reading.formats, max_length, account.counts() | decided.counts)
        check_counts(stats, out)
        _check_usable(config, stats, ledger, ledger.lost(max_length), max_truncated_ratio)
        content = digest({split: file_sha256(out / f"{split}.jsonl") for split in SPLITS})
        hashes = {source.path: source_fingerprint(source) for source in config.sources}
        (out / "stats.json").write_bytes(orjson.dumps(stats, option=orjson.OPT_INDENT_2) + b"\n")
        card = data_set_card(config, stats, hashes, content, max_length, seed)
        (out / "README.md").write_text(card, encoding="utf-8")
        write_curation_page(
            out, name=_name(config), decisions=decisions(config, max_length, seed), sources=hashes, content=content
        )
    for line in funnel(stats):
        console.say(line)
    _warn(stats, config)
    return {
        "content": content,
        "rows": stats["rows"],
        "splits": stats["splits"],
        "contamination": stats["contamination"],
        "truncation": stats["truncation"],
        "formats": reading.formats,
    }


def _name(config: CurateConfig) -> str:
    """What the page calls the data set: its sources."""
    names = sorted(Path(source.path).name for source in config.sources)
    return ", ".join(names[:NAMED_SOURCES]) + (f" and {len(names) - NAMED_SOURCES} more" * (len(names) > NAMED_SOURCES))


@dataclass
class Reading:
    """Reads the sources, in the order of their paths, and counts what comes out of them before anything is decided."""

    config: CurateConfig
    read: Counter[str] = field(default_factory=Counter)
    """Rows by file."""
    formats: dict[str, str | None] = field(default_factory=dict)
    """Format by file."""

    def chunks(self) -> Iterator[Chunk]:
        """All rows, at most `max_rows`, in chunks of one source.

        Raises:
            UserError: a source cannot be read, or a file is part of two.
        """
        refuse_overlap(self.config.sources)
        sources = sorted(enumerate(self.config.sources), key=lambda entry: entry[1].path)
        for number, source in sources:
            left = None if self.config.max_rows is None else self.config.max_rows - self.read.total()
            if left == 0:
                return
            shape, rows = detect(source, islice(read_source(source), left))
            for some in _chunked(rows):
                files = Counter(row.file for row in some)
                self.read += files
                self.formats |= dict.fromkeys(files, shape)
                yield Chunk(number, source, shape, some)


def _chunked(rows: Iterable[Line | RawRow | Quarantined]) -> Iterator[list[Line | RawRow | Quarantined]]:
    rest = iter(rows)
    while some := list(islice(rest, CHUNK_ROWS)):
        yield some


@dataclass
class Account:
    """What is counted and remembered of the rows beside the ledger."""

    questions: dict[str, list[str]]
    files: list[str] = field(default_factory=list)
    """Of each row that passed, its file."""
    places: list[str] = field(default_factory=list)
    """Likewise, `file:line`."""
    edited: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    wrong_calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By flag, the calls that their row's tools do not allow: how many, and the first few."""
    added_tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By token, the words that it cuts: how many in how many rows, the first word and where it stands."""
    items: dict[str, set[int]] = field(default_factory=dict)
    """By task, the items found in any row."""
    searched: int = 0
    """Rows in which items were looked for: all that could be read."""

    def note(self, row: Examined) -> None:
        """Count what was done to a row and found in it."""
        if row.facts:
            self.files.append(row.file)
            self.places.append(row.place)
            self.edited.update(row.edits)
            self.flagged.update(row.flags)
            for flag, finding in row.calls:
                of = self.wrong_calls.setdefault(flag, {"calls": 0, "first": []})
                of["calls"] += 1
                of["first"] += [f"{row.place} ({finding})"] * (len(of["first"]) < FIRST_PLACES)
            for token in dict.fromkeys(token for token, _ in row.cuts):
                words = [word for cut_by, word in row.cuts if cut_by == token]
                cut = self.added_tokens.setdefault(
                    token, {"words": 0, "rows": 0, "such_as": words[0], "first": row.place}
                )
                cut["words"] += len(words)
                cut["rows"] += 1
        self.searched += not row.quarantined
        for task, item in row.items:
            self.items.setdefault(task, set()).add(item)

    def counts(self) -> dict[str, Any]:
        """`edited`, `flagged` and the others of stats.json that stand below."""
        items = {
            task: {"items": len(texts), "found": len(self.items.get(task, ()))}
            for task, texts in self.questions.items()
        }
        return {
            "edited": by_count(self.edited),
            "flagged": by_count(self.flagged),
            "wrong_calls": self.wrong_calls,
            "added_tokens": self.added_tokens,
            "contamination": {task: count["found"] / max(count["items"], 1) for task, count in items.items()},
            "contaminated_items": items,
            "contamination_rows": self.searched,
        }


def examine(
    rules: Rules, reading: Reading, processes: Processes, passed: Passed, account: Account, ledger: Ledger
) -> None:
    """Look at each row alone: it passes, or is written to `dropped` or `quarantine`."""
    examined = processes.map(examine_chunks, (rules,), reading.chunks(), few=FEW_CHUNKS)
    with console.progress("curate", unit="rows") as bar:
        for source, rows in examined:
            for row in rows:
                account.note(row)
                ledger.note_pii(row.place, row.pii)
                if row.facts:
                    passed.append(row.entry, row.raw, source, row.facts)
                elif row.quarantined:
                    ledger.quarantine(row.file, row.place, row.reason, row.finding, row.entry)
                else:
                    ledger.drop(
                        row.file,
                        row.place,
                        row.reason,
                        row.finding,
                        row.entry,
                        row.supervised_tokens,
                        row.tokens,
                    )
            bar.advance(len(rows))


def write(passed: Passed, decided: Decided, account: Account, ledger: Ledger) -> None:
    """Write what was decided over all rows: the splits, the rows dropped, duplicates and conflicts."""
    supervised, clusters = passed.supervised, decided.clusters.tolist()
    for row, (file, place) in enumerate(zip(account.files, account.places, strict=True)):
        if fault := decided.faults.get(row):
            entry = dropped_entry(place, fault, passed.raw(row))
            ledger.drop(file, place, fault.reason, fault.in_words(), entry, int(supervised[row]))
        else:
            entry = with_cluster(passed.line(row), clusters[row])
            ledger.keep(SPLITS[decided.splits[row]], file, entry, passed.lengths(row))
    for line in decided.duplicates:
        ledger.write("duplicates", line)
    for line in decided.conflicts:
        ledger.write("conflicts", line)


def _check_readable(config: CurateConfig, read: int, ledger: Ledger) -> None:
    """Told before anything is decided over all rows: the input is wrong as a whole, or the template is for it."""
    reasons = by_count(sum(ledger.quarantined.values(), Counter()))
    quarantined = sum(reasons.values())
    if quarantined / read > config.max_quarantine_ratio:
        raise UserError(
            f"{quarantined} of {read} rows cannot be read, more than curate.max_quarantine_ratio="
            f"{config.max_quarantine_ratio:g} allows.\n{_examples(reasons, ledger)}",
            remedy=REMEDIES.get(next(iter(reasons)), "Correct the rows, or name the source's format.")
            + f" All of them are in {ledger.out / 'quarantine.jsonl'}.",
        )
    dropped = by_count(sum(ledger.dropped.values(), Counter()))
    without_tools = {reason: count for reason, count in dropped.items() if reason in TOOL_REASONS}
    if without_tools:
        raise UserError(
            f"{sum(without_tools.values())} of {read} rows use tools, and the model's chat template does not: "
            f"the model would learn to call tools that it is not shown.\n{_examples(without_tools, ledger)}",
            remedy=f"{TOOL_REMEDY} All of them are in {ledger.out / 'dropped.jsonl'}.",
        )


def _check_usable(
    config: CurateConfig, stats: dict[str, Any], ledger: Ledger, lost: Lost, max_truncated_ratio: float
) -> None:
    rows = stats["rows"]
    if not rows["kept"]:
        raise UserError(
            "No row is left after curation.\n" + "\n".join(funnel(stats)) + f"\n{_examples(rows['dropped'], ledger)}",
            remedy=_about_dropped(rows["dropped"], ledger),
        )
    lost.refuse_above(max_truncated_ratio, str(ledger.out / "dropped.jsonl"))
    for split in ("validation", "train"):
        if not stats["splits"][split]["rows"]:
            raise _empty_split(split, config, stats, ledger)


def _empty_split(split: str, config: CurateConfig, stats: dict[str, Any], ledger: Ledger) -> UserError:
    rows = stats["rows"]
    told = f"The {split} split is empty: none of the {rows['kept']} rows kept fell into it."
    validation = "curate.split.validation"
    shares = f"raise {validation}" if split == "validation" else f"lower {validation} and curate.split.test"
    by = ", or another curate.split.group_by." if config.split.group_by else "."
    more = f"add rows, {shares}, or choose another seed{by}"
    joined = stats["groups"]["joined"]
    if joined["rows"] > config.split.validation * rows["kept"]:  # Parted, these would have filled it.
        one, other = joined["example"]
        or_else = " or begin with the same message" if joined["by"] == "rows" else ""
        told += (
            f" {joined['rows']:,} of them lie in {joined['groups']:,} groups, which cannot be parted, since rows such "
            f"as {one} and {other} {JOINED[joined['by']]}{or_else}."
        )
        return UserError(told, remedy=f"{JOINED_REMEDY[joined['by']]}. Or {more}")
    if sum(rows["dropped"].values()) <= rows["kept"]:
        return UserError(told, remedy=more.capitalize())
    # Too few rows are left for a split each: what took the others matters more than how they are divided.
    return UserError(
        "\n".join([told, *funnel(stats), _examples(rows["dropped"], ledger)]),
        remedy=f"{_about_dropped(rows['dropped'], ledger)} Or {more}",
    )


def _about_dropped(dropped: dict[str, int], ledger: Ledger) -> str:
    """What to do about the commonest reason."""
    todo = remedy(next(iter(dropped), "")) or "Correct the rows, or the rules that drop them."
    return f"{todo} All of them are in {ledger.out / 'dropped.jsonl'}, with the reason."


def _examples(reasons: dict[str, int], ledger: Ledger) -> str:
    """The commonest reasons, each with the first row that it befell."""
    lines = [
        f"  {reason}: {count} rows, first {ledger.first[reason][0]} ({ledger.first[reason][1]})"
        for reason, count in reasons.items()
    ]
    return "\n".join(lines[:5])


def _warn(stats: dict[str, Any], config: CurateConfig) -> None:
    if config.split.test and not stats["splits"]["test"]["rows"]:
        console.warn("the test split is empty; add rows, or raise curate.split.test")
