"""`tunelift explain`: what became of one raw row, from the files that curation left; nothing is curated again."""

from __future__ import annotations

import mmap
import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import orjson

from tunelift.errors import UserError
from tunelift.pipeline import Pipeline
from tunelift.runtime import console
from tunelift.stages.curate.files import shown
from tunelift.stages.curate.reasons import meaning, remedy

Json = dict[str, Any]

SPLITS = ("train", "validation", "test")
LONGEST = 600
"""Of a raw row, in characters."""
SHORT = 120
"""Of a reply, in characters."""
MOST_LINES = 8
"""Of what is listed of one kind: near duplicates, findings, other answers."""


def explain(run: Pipeline, place: str) -> str:
    """What became of the row at `place` (FILE:LINE) and what it was compared with, as text.

    FILE is a path as curation shows it, any path to the same file, the end of one if only one source ends so, or a
    folder or data set that only one source lies in.

    Raises:
        UserError: no data set yet, no such source, or no row on this line.
    """
    out = run.curated().path
    sources = orjson.loads((out / "stats.json").read_bytes())["sources"]
    file, line = _parsed(place, sources)
    found = _quarantined(out, file, line) or _dropped(run, out, f"{file}:{line}") or _kept(run, out, f"{file}:{line}")
    found = found or _inside_quarantined(out, file, line)
    if found is None:
        raise _no_row(out, file, line, run.config.curate.max_rows)
    return console.harmless("\n".join(found))


# --- Which row ------------------------------------------------------------------------------------------------------


def _parsed(place: str, sources: Json) -> tuple[str, int]:
    name, _, number = place.rpartition(":")
    if not name or not number.isascii() or not number.isdigit() or int(number) < 1:
        raise UserError(
            f"{place!r} names no row.", remedy="Write FILE:LINE, such as data/train.jsonl:12; lines count from 1."
        )
    if name in sources:
        return name, int(number)
    same = shown(Path(name).expanduser())
    if same in sources:
        return same, int(number)
    wanted = PurePath(name).parts
    ending = [source for source in sources if PurePath(source).parts[-len(wanted) :] == wanted]
    inside = [source for source in sources if PurePath(same) in PurePath(source).parents]
    for found in (ending, inside):
        if len(found) == 1:
            return found[0], int(number)
    ending = ending or inside
    listed = "\n".join(f"  {source}" for source in sorted(ending or sources)[:20])
    if ending:
        raise UserError(
            f"{len(ending)} sources are called {name}:\n{listed}", remedy="Give more of the path, as it stands there."
        )
    raise UserError(
        f"{name} is no source of this data set. It was made from:\n{listed}", remedy="Name one of these files."
    )


def _no_row(out: Path, file: str, line: int, max_rows: int | None) -> UserError:
    """Why there is nothing to tell: the line is blank, inside a row, beyond the end, or was never read."""
    lines = sorted(_all_lines(out, file))
    before, after = (
        max((n for n in lines if n < line), default=None),
        min((n for n in lines if n > line), default=None),
    )
    if after is None:
        limit = f", since curate.max_rows={max_rows} was set" if max_rows else ""
        where = f"the last row that was read from it is on line {before}{limit}" if before else "no row of it was read"
        return UserError(f"There is no row: {where}.", where=f"{file}:{line}", remedy="Choose a line up to there.")
    rows = f"those of lines {before} and {after}" if before else f"that of line {after}"
    return UserError(
        "No row begins on this line: it is blank, or in the middle of a row.",
        where=f"{file}:{line}",
        remedy=f"The rows next to it are {rows}.",
    )


def _all_lines(out: Path, file: str) -> Iterator[int]:
    place = re.compile(rb'"source":' + re.escape(orjson.dumps(file)[:-1]) + rb':(\d+)"')
    unread = re.compile(rb'"file":' + re.escape(orjson.dumps(file)) + rb',"line":(\d+),')
    for name in (*SPLITS, "dropped", "quarantine"):
        with _mapped(out / f"{name}.jsonl") as content:
            yield from (int(match[1]) for match in (unread if name == "quarantine" else place).finditer(content))


# --- Finding lines without reading a file whole ---------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """An entry of a .jsonl file."""

    number: int
    """Its line, from 1."""
    entry: Json


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap | bytes]:
    with path.open("rb") as file:
        if not path.stat().st_size:  # An empty file cannot be mapped.
            yield b""
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _entries(path: Path, text: bytes) -> Iterator[Found]:
    """The entries whose line holds these bytes; only those lines are parsed, so that a million rows take a second."""
    with _mapped(path) as content:
        at, counted, number = content.find(text), 0, 1
        while at >= 0:
            start, end = content.rfind(b"\n", 0, at) + 1, content.find(b"\n", at)
            end = len(content) if end < 0 else end
            number += _newlines(content, counted, start)
            counted = start
            yield Found(number, orjson.loads(content[start:end]))
            at = content.find(text, end)


def _newlines(content: mmap.mmap | bytes, start: int, end: int, step: int = 1 << 24) -> int:
    """Counted in parts: a slice of a mapped file is a copy."""
    return sum(content[at : min(at + step, end)].count(b"\n") for at in range(start, end, step))


def _of(out: Path, name: str, place: str, key: str = "source") -> list[Json]:
    """Entries of `name`.jsonl whose `key` is `place`."""
    return [found.entry for found in _entries(out / f"{name}.jsonl", orjson.dumps(place)) if found.entry[key] == place]


# --- What became of it ----------------------------------------------------------------------------------------------


def _unread(out: Path, file: str, line: int) -> Json | None:
    """The entry of quarantine.jsonl for the row on this line."""
    text = b'"file":' + orjson.dumps(file) + b',"line":' + str(line).encode() + b","
    entries = (found.entry for found in _entries(out / "quarantine.jsonl", text))
    return next((entry for entry in entries if (entry["file"], entry["line"]) == (file, line)), None)


def _quarantined(out: Path, file: str, line: int) -> list[str] | None:
    entry = _unread(out, file, line)
    if entry is None:
        return None
    return [
        f"{file}:{line} could not be read, and stands in quarantine.jsonl.",
        "",
        *_facts(
            ("reason", f"{entry['reason']}. {meaning(entry['reason'])}"),
            ("where", "the row itself" if entry["path"] == "$" else entry["path"]),
            ("what", entry["detail"]),
            ("remedy", remedy(entry["reason"])),
            ("raw", _cut(entry["raw"], LONGEST)),
        ),
    ]


def _inside_quarantined(out: Path, file: str, line: int) -> list[str] | None:
    """The record of CSV that could not be read, where this is one of its other lines."""
    begins = max((number for number in _all_lines(out, file) if number < line), default=0)
    entry = _unread(out, file, begins) if ".csv" in file.lower() else None
    if entry is None or begins + entry["raw"].count("\n") < line:
        return None
    return [f"Line {line} is in the record that begins on line {begins}.", *(_quarantined(out, file, begins) or ())]


def _dropped(run: Pipeline, out: Path, place: str) -> list[str] | None:
    entry = next(iter(_of(out, "dropped", place)), None)
    if entry is None:
        return None
    evidence = dict(entry["evidence"])
    told = evidence.pop("remedy", None) or remedy(entry["reason"])
    other = evidence.get("duplicate_of")
    lines = [
        f"{place} was dropped.",
        "",
        *_facts(
            ("reason", f"{entry['reason']}. {meaning(entry['reason'])}"),
            *((key.replace("_", " "), _cut(_plain(value), LONGEST)) for key, value in evidence.items()),
            ("remedy", told),
            *_findings(out, place),
            ("raw", _cut(_plain(entry["row"]), LONGEST)),
        ),
    ]
    if other:
        lines += ["", f"What became of the other: {_command(run, 'explain', other)}"]
    return lines


def _kept(run: Pipeline, out: Path, place: str) -> list[str] | None:
    for split in SPLITS:
        for found in _entries(out / f"{split}.jsonl", b'"source":' + orjson.dumps(place)):
            row = found.entry
            if row["source"] != place:  # The same bytes inside a message.
                continue
            several = f", in {row['training_rows']} training rows" if row["training_rows"] > 1 else ""
            show = _command(run, "render", "--id", row["id"], "--split", split)
            return [
                f"{place} was kept, in {split}.",
                "",
                *_facts(
                    ("row", f"number {found.number:,} of {split}, id {row['id']}"),
                    ("length", f"{row['tokens']:,} tokens, {row['supervised_tokens']:,} of them learnt{several}"),
                    ("edited", ", ".join(row.get("edits", ()))),
                    *_listed("mended", [_change(one) for one in _of(out, "edits", place)]),
                    ("flagged", ", ".join(row.get("flags", ()))),
                    *_findings(out, place),
                    ("group", _group(out, split, row["group"], run.config.curate.split.group_by or "first message")),
                    ("cluster", _cluster(out, split, row.get("cluster", ""))),
                ),
                "",
                f"What is learnt of it: {show}",
            ]
    return None


def _group(out: Path, split: str, group: str, by: str) -> str:
    """The rows of one key: a split keeps them together, as it does rows that are alike."""
    mates = sum(
        found.entry["group"] == group for found in _entries(out / f"{split}.jsonl", b'"group":' + orjson.dumps(group))
    )
    return f"{mates - 1:,} more rows of {split} have its {by}" if mates > 1 else f"no other row of {split} has its {by}"


def _cluster(out: Path, split: str, cluster: str) -> str:
    """The rows that are one item with it; empty where it stands alone."""
    if not cluster:
        return ""
    mark = b'"cluster":' + orjson.dumps(cluster)
    mates = sum(found.entry.get("cluster") == cluster for found in _entries(out / f"{split}.jsonl", mark))
    return f"{mates - 1:,} more rows of {split} are alike, ask the same or have one key with it" if mates > 1 else ""


def _findings(out: Path, place: str) -> Iterator[tuple[str, str]]:
    """Personal data, near duplicates and other answers to the same prompt."""
    yield from _listed(
        "personal data",
        [
            f"{one['kind']} {one['masked']} in {_where(one['message'])} ({one['action']})"
            for one in _of(out, "pii", place)
        ],
    )
    yield from _listed("near duplicates", list(_pairs(out, place)))
    yield from _listed("same prompt", list(_conflicts(out, place)))


def _change(one: Json) -> str:
    return f"{one['before']!r} is now {one['after']!r} in {_where(one['message'])}"


def _where(message: int | None) -> str:
    return "the tools' definitions" if message is None else f"message {message + 1}"


BOTH_STAY = {
    "values_differ": "stays too: only values differ",
    "related": "stays too: alike on the whole, not in each of prompt, reply, system message and tools",
    "reported": "stays too",
}


def _pairs(out: Path, place: str) -> Iterator[str]:
    for found in _entries(out / "duplicates.jsonl", orjson.dumps(place)):
        pair = found.entry
        if place not in (pair["kept"], pair["source"]):
            continue
        first = pair["kept"] == place
        dropped = "was dropped because of this one" if first else "stands for this one"
        outcome = {"dropped": dropped, **BOTH_STAY}[pair["outcome"]]
        yield f"{pair['source' if first else 'kept']} ({pair['jaccard']:.2f}) {outcome}"


def _conflicts(out: Path, place: str) -> Iterator[str]:
    for found in _entries(out / "conflicts.jsonl", orjson.dumps(place)):
        rows = found.entry["rows"]
        if any(row["source"] == place for row in rows):
            for row in rows:
                if row["source"] != place:
                    yield f"{row['source']} in {row['split']} answers: {_cut(row['reply'], SHORT)}"


def _listed(name: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    shown_lines = lines[:MOST_LINES] + ([f"and {len(lines) - MOST_LINES:,} more"] if len(lines) > MOST_LINES else [])
    yield from ((name if number == 0 else " ", line) for number, line in enumerate(shown_lines))


def _facts(*facts: tuple[str, str]) -> list[str]:
    return [f"  {name:18} {value.strip()}".rstrip() for name, value in facts if value]


def _command(run: Pipeline, verb: str, *arguments: str) -> str:
    return shlex.join(["tunelift", verb, str(run.folder), *arguments])


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _cut(text: str, longest: int) -> str:
    """On one line, and no longer than a screen holds."""
    line = " ".join(text[: 4 * longest].split())
    left = len(text) - longest
    return line if left <= 0 else f"{line[:longest]} … {left:,} more characters"
