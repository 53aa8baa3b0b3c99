"""Feed malformed files to curation's reading, and hold that nothing crashes and no row is lost.

    python scripts/fuzz_curate.py                        # 10,000 files, some minutes on one core
    python scripts/fuzz_curate.py --inputs 500 --seed 7

Each file is random bytes, or a sound JSONL, JSON, CSV or Parquet file whose values, nesting, encoding, bytes or
compression are broken. It is read, its format detected, and each row turned into a conversation. Allowed are rows,
quarantined rows and a `UserError` with a remedy for the file as a whole. Every line of a JSONL file must come back
once, in order, and what is quarantined with its text; of the other kinds, the rows must be as many as the file holds.
Exit code 1 if that is broken, with the seed that shows it again.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard

from tunelift.config.curation import SourceConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.stages.curate.detection import detect
from tunelift.stages.curate.formats import FIELDS, ShapeError, to_conversation
from tunelift.stages.curate.read import parsed, read_source
from tunelift.stages.curate.rows import Quarantined, RawRow
from tunelift.stages.curate.write import as_json

INPUTS = 10_000
ENCODINGS = ("utf-8-sig", "utf-16", "utf-16-le", "utf-32", "latin-1", "cp1252", "utf-7")
NAMES = sorted({name for fields in FIELDS.values() for name in fields} | {"conversation", "text", "label", ""})
TEXTS = ("", " ", "Hi", "naïve café", "日本語", "\0", "\u2028", '"', "[", "{", '[{"role": "user"}]', "-1", "x" * 2000)
PIECES = (b"\n", b"\r", b'"', b"\0", b",", b"}", b"\xff", b"\xe2\x80", b"[" * 9)
ROLES = ("user", "assistant", "system", "tool", "human", "gpt", "function_call", "asst", "", "USER ")


@dataclass(frozen=True)
class Made:
    """A malformed file."""

    kind: str
    """How it was made."""
    suffix: str
    content: bytes


class Maker:
    """Makes malformed files; the same seed makes the same ones."""

    def __init__(self, seed: int | str) -> None:
        self.dice = random.Random(seed)  # Reproducible, and no secret.

    def file(self) -> Made:
        """One file."""
        suffix = self.dice.choice((".jsonl", ".jsonl", ".json", ".csv", ".parquet"))
        kind = self.dice.choices(
            ("random bytes", "wrong types", "nesting", "broken bytes", "encoding", "huge line"), (2, 8, 3, 8, 3, 0.1)
        )[0]
        if kind == "random bytes":
            content = self.dice.randbytes(self.dice.randrange(300))
        else:
            content = WRITERS[suffix](self, self.rows(kind))
        if kind == "encoding" and suffix != ".parquet":
            text = content.decode("utf-8", errors="replace")
            content = text.encode(self.dice.choice(ENCODINGS), errors="replace")
        if kind == "broken bytes":
            content = self.broken(content)
        if suffix != ".parquet" and self.dice.random() < 0.2:
            suffix, content = self.compressed(suffix, content)
            kind += ", compressed"
        return Made(kind, suffix, content)

    def rows(self, kind: str) -> list[Any]:
        """Some rows; all but the wrong types' are of a known format."""
        if kind == "wrong types":
            return [self.value(3) if self.dice.random() < 0.1 else self.row() for _ in range(self.dice.randrange(6))]
        rows: list[Any] = [self.sound() for _ in range(self.dice.randrange(1, 6))]
        if kind == "nesting":
            rows.insert(self.dice.randrange(len(rows) + 1), self.nested())
        if kind == "huge line":
            rows[0] = {"prompt": "x" * self.dice.choice((100_000, 5_000_000)), "completion": "y"}
        return rows

    def sound(self) -> dict[str, Any]:
        """A row as it should be."""
        text = f"{self.dice.choice(TEXTS)} {self.dice.randrange(99)}"
        return self.dice.choice(
            (
                {"instruction": text, "input": "", "output": text},
                {"prompt": text, "completion": text},
                {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": text}]},
                {"conversations": [{"from": "human", "value": text}, {"from": "gpt", "value": text}]},
            )
        )

    def row(self) -> dict[str, Any]:
        """An object with names that mean something and values that may be anything."""
        return {name: self.value(3) for name in self.dice.sample(NAMES, self.dice.randrange(1, 5))}

    def value(self, depth: int) -> Any:
        """Any JSON value, often one that resembles messages."""
        make = self.dice.randrange(9 if depth else 6)
        if make < 6:
            plain = (None, True, self.dice.randrange(-9, 10**20), self.dice.random(), *(self.dice.choice(TEXTS),) * 2)
            return plain[make]
        if make == 6:
            return [self.value(depth - 1) for _ in range(self.dice.randrange(4))]
        if make == 7:
            turn = {"role": self.dice.choice(ROLES), "content": self.value(depth - 1)}
            if self.dice.random() < 0.3:
                turn["tool_calls"] = self.value(depth - 1)
            return [turn, {"from": self.dice.choice(ROLES), "value": self.value(depth - 1)}]
        names = ("role", "name", "arguments", "function")
        return {name: self.value(depth - 1) for name in names[: self.dice.randrange(5)]}

    def nested(self) -> dict[str, Any]:
        """A row that is nested deeply: as JSON, or as JSON in a text, which is a marker until it is written."""
        depth = self.dice.choice((50, 190, 220, 400, 1100, 100_000))
        left, right = self.dice.choice((("[", "]"), ('{"a":', "}")))
        text = left * depth + ("1" if left != "[" else "") + right * depth
        name = self.dice.choice(("messages", "conversations", "tools", "prompt", "output"))
        return {name: text if self.dice.random() < 0.5 else Marker(text), "completion": "x"}

    def broken(self, content: bytes) -> bytes:
        """Bytes changed, taken out, put in, doubled, or cut off."""
        data = bytearray(content)
        for _ in range(self.dice.randrange(1, 6)):
            at = self.dice.randrange(len(data) + 1)
            match self.dice.randrange(5):
                case 0 if at < len(data):
                    data[at] = self.dice.randrange(256)
                case 1:
                    del data[at : at + self.dice.randrange(1, 9)]
                case 2:
                    data[at:at] = self.dice.choice(PIECES)
                case 3:
                    data[at:at] = data[at : at + 40]
                case 4 if self.dice.random() < 0.3:
                    del data[at:]
        return bytes(data)

    def compressed(self, suffix: str, content: bytes) -> tuple[str, bytes]:
        """Compressed, and often damaged after."""
        if self.dice.random() < 0.5:
            suffix, content = suffix + ".gz", gzip.compress(content, mtime=0)
        else:
            suffix, content = suffix + ".zst", zstandard.ZstdCompressor().compress(content)
        return suffix, self.broken(content) if self.dice.random() < 0.5 else content


class Marker(str):
    """JSON that is put in as it is."""


def _as_text(row: Any) -> str:
    """JSON of a row, with markers put in as they are: `json` cannot write what is nested deeply."""
    if isinstance(row, dict) and any(isinstance(value, Marker) for value in row.values()):
        return "{" + ", ".join(f"{json.dumps(name)}: {_as_text(value)}" for name, value in row.items()) + "}"
    return str(row) if isinstance(row, Marker) else json.dumps(row, ensure_ascii=False)


def write_jsonl(maker: Maker, rows: list[Any]) -> bytes:
    """One a line, with blank lines between."""
    end = maker.dice.choice(("\n", "\r\n", "\n\n", "\n \n"))
    return end.join(map(_as_text, rows)).encode()


def write_json(maker: Maker, rows: list[Any]) -> bytes:
    """A list, or an object that holds it."""
    text = "[" + maker.dice.choice((", ", ",\n", "\n,\r\n")).join(map(_as_text, rows)) + "]"
    key = maker.dice.choice((None, None, "data", "train", "rows"))
    return (text if key is None else f'{{"version": [1], "{key}": {text}}}').encode()


def write_csv(maker: Maker, rows: list[Any]) -> bytes:
    """With the first row's fields as the header; what is no text stands as JSON."""
    names = list(rows[0]) if rows and isinstance(rows[0], dict) else ["prompt", "completion"]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=maker.dice.choice(",;\t"))
    writer.writerow(names)
    for row in rows:
        values = row.values() if isinstance(row, dict) else [row]
        writer.writerow([value if isinstance(value, str) else json.dumps(value) for value in values])
    return stream.getvalue().encode()


def write_parquet(_: Maker, rows: list[Any]) -> bytes:
    """As far as Arrow finds one type for each field, otherwise with the values as JSON."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [row if isinstance(row, dict) else {"value": row} for row in rows]
    try:
        table = pa.Table.from_pylist(rows)
        stream = io.BytesIO()
        pq.write_table(table, stream)
    except (pa.ArrowException, OverflowError):
        table = pa.Table.from_pylist([{name: _as_text(value) for name, value in row.items()} for row in rows])
        stream = io.BytesIO()
        pq.write_table(table, stream)
    return stream.getvalue()


WRITERS: dict[str, Callable[[Maker, list[Any]], bytes]] = {
    ".jsonl": write_jsonl,
    ".json": write_json,
    ".csv": write_csv,
    ".parquet": write_parquet,
}


class ViolationError(AssertionError):
    """What must hold does not."""


def outcomes(made: Made, folder: Path) -> Counter[str]:
    """Read a file to its end, and count what became of its rows; `refused` for a file that is refused as a whole.

    Raises:
        ViolationError: a row is lost or cannot be written, or a refusal has no remedy.
    """
    path = folder / f"input{made.suffix}"
    path.write_bytes(made.content)
    source = SourceConfig(path=str(path))
    try:
        rows = list(parsed(read_source(source)))
    except UserError as error:
        require(bool(error.remedy and error.message), f"a refusal without a remedy: {error}")
        return Counter(refused=1)
    _check_places(made, rows)
    shape = None
    try:
        shape, again = detect(source, iter(rows))
        require(list(again) == rows, "detection loses rows")
    except UserError as error:
        require(bool(error.remedy), f"a refusal without a remedy: {error}")
    found = Counter(_outcome(row, one) for row in rows for one in ((shape,) if shape else tuple(FIELDS)))
    require(found.total() == len(rows) * (1 if shape else len(FIELDS)), "counts do not add up")
    return found


def _outcome(row: RawRow | Quarantined, shape: Any) -> str:
    if isinstance(row, Quarantined):
        as_json(row.__dict__)
        return row.reason
    try:
        messages, tools = to_conversation(row.value, shape, "Be brief.", {})
    except ShapeError as error:
        as_json({"row": row.value, "detail": error.detail, "path": error.path})
        return error.reason
    as_json({"messages": messages, "tools": tools, "wrapped": {"row": row.value}})
    return "a conversation"


def _check_places(made: Made, rows: list[RawRow | Quarantined]) -> None:
    places = [row.line for row in rows]
    require(places == sorted(set(places)), f"places are not in order, or not their own: {places[:20]}")
    content = _plain(made)
    if made.suffix.startswith(".jsonl"):
        lines = {number: line.strip() for number, line in enumerate(content.split(b"\n"), start=1) if line.strip()}
        require(places == list(lines), f"{len(lines)} lines that are not blank, {len(rows)} rows")
        for row in rows:
            raw = row.raw if isinstance(row, Quarantined) else row.text
            require(raw == lines[row.line].decode("utf-8", errors="backslashreplace"), f"line {row.line} is not kept")
    elif made.suffix.startswith(".csv") and not set(content.replace(b"\r\n", b"\n")) & set(b'"\r'):
        lines_ = content.replace(b"\r\n", b"\n").split(b"\n")
        header = next(number for number, line in enumerate(lines_) if line.strip())
        require(len(rows) == sum(bool(line) for line in lines_[header + 1 :]), "records are lost")
    elif made.suffix.startswith(".json"):
        document = json.loads(content.decode("utf-8", errors="surrogateescape"))
        held = document if isinstance(document, list) else document.get("data", document.get("train"))
        require(len(rows) == len(held), f"{len(held)} elements, {len(rows)} rows")


def _plain(made: Made) -> bytes:
    """The content, decompressed, without a byte order mark."""
    content = made.content
    if made.suffix.endswith(".gz"):
        content = gzip.decompress(content)
    if made.suffix.endswith(".zst"):
        stream = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(content), read_across_frames=True)
        content = stream.read()
    return content.removeprefix(b"\xef\xbb\xbf")


def require(holds: bool, says: str) -> None:
    """Raise unless it holds."""
    if not holds:
        raise ViolationError(says)


def fuzz(inputs: int, seed: int, folder: Path) -> Iterator[tuple[Made, Counter[str] | Exception]]:
    """Each file with what became of it, or with what must not have happened."""
    for number in range(inputs):
        made = Maker(f"{seed}/{number}").file()
        try:
            yield made, outcomes(made, folder)
        except Exception as error:  # Whatever it is: that is what is looked for.
            (folder / f"violation-{number}{made.suffix}").write_bytes(made.content)
            yield made, error


def main(arguments: list[str] | None = None) -> int:
    """Run, print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(description=str(__doc__).split("\n", 1)[0])
    parser.add_argument("--inputs", type=int, default=INPUTS, help="files to make (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    chosen = parser.parse_args(arguments)
    console.set_verbosity(-1)
    started, found, violations = time.monotonic(), Counter[str](), Counter[str]()
    kinds: dict[str, Counter[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for number, (made, result) in enumerate(fuzz(chosen.inputs, chosen.seed, Path(folder))):
            kind = f"{made.suffix.split('.')[1]}: {made.kind}"
            if isinstance(result, Exception):
                violations[type(result).__name__] += 1
                print(f"✗ input {number} of seed {chosen.seed}, {kind}: {type(result).__name__}: {str(result)[:300]}")
                continue
            kinds.setdefault(kind, Counter())["files"] += 1
            kinds[kind]["refused"] += result["refused"]
            found += result
    for kind in sorted(kinds):
        print(f"{kind:40} {kinds[kind]['files']:>6} files, {kinds[kind]['refused']:>5} refused as a whole")
    print("\nrows, by what became of them (as each format, where none was found)")
    for outcome, count in found.most_common():
        print(f"  {outcome:24} {count:>8,}")
    seconds = time.monotonic() - started
    print(f"\n{chosen.inputs:,} files in {seconds:.0f} s, {violations.total()} violations")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
