"""Raw rows out of files, folders and the hub. A bad row is quarantined with its place and text, and reading goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path

from tunelift.artifacts.provenance import FileHashes
from tunelift.artifacts.records import digest, file_sha256
from tunelift.config.curation import SourceConfig
from tunelift.errors import UserError
from tunelift.stages.curate import documents, separated, tables
from tunelift.stages.curate.documents import parse
from tunelift.stages.curate.files import HUB, files_of, kind_of, shown
from tunelift.stages.curate.opening import explained, opened
from tunelift.stages.curate.rows import Line, Quarantined, RawRow

Rows = Iterator[RawRow | Quarantined | Line]


def read_source(source: SourceConfig) -> Rows:
    """Yield each row of a source, or why it could not be read, file by file in the order of their shown paths.

    Rows of JSONL files come as they stand there, for `parse`: that is the costly part, and any process may do it.
    Blank lines are no rows. `line` is the line of the file on which the row begins; in Parquet files and
    Hugging Face data sets, which have no lines, it is the number of the row.

    Raises:
        UserError: the source as a whole cannot be read, or is empty.
    """
    empty = True
    for row in _rows(source):
        empty = False
        yield row
    if empty:
        raise UserError(
            "The source has no rows.", where=source.path, remedy="Fill it, or remove it from curate.sources."
        )


def parsed(rows: Iterable[RawRow | Quarantined | Line]) -> Iterator[RawRow | Quarantined]:
    """Rows with their lines parsed, for those who need no second process."""
    return (parse(row) if isinstance(row, Line) else row for row in rows)


def _rows(source: SourceConfig) -> Rows:
    if source.path.startswith(HUB):
        name = source.path.removeprefix(HUB)
        return tables.from_hub(name, source.config, source.split, tables.hub_commit(name, source.revision))
    return chain.from_iterable(_file_rows(path, source) for path in files_of(source))


def _file_rows(path: Path, source: SourceConfig) -> Rows:
    if path.is_dir():
        return tables.from_folder(path, shown(path), source.split)
    return READERS[str(kind_of(path))](path, shown(path))


def source_fingerprint(source: SourceConfig, hashes: FileHashes | None = None) -> str:
    """What the source holds: a file's sha256, a digest over a glob's or folder's files, or a hub data set's commit.

    Raises:
        UserError: the source is not there, cannot be read, or is of no known kind.
    """
    if source.path.startswith(HUB):
        return tables.hub_commit(source.path.removeprefix(HUB), source.revision)
    files = files_of(source)
    sha256 = hashes.sha256 if hashes else file_sha256
    with explained(files[0]):
        if files[0].is_dir():
            inside = sorted(file for file in files[0].rglob("*") if file.is_file())
            return digest({str(file.relative_to(files[0])): sha256(file) for file in inside})
    found = {}
    for file in files:
        with explained(file):
            found[shown(file)] = sha256(file)
    named = len(files) == 1 and str(files[0]) == str(Path(source.path).expanduser())
    return found[shown(files[0])] if named else digest(found)


def _jsonl(path: Path, file: str) -> Rows:
    with opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if data := line.strip():
                yield Line(file, number, data)


def _json(path: Path, file: str) -> Rows:
    with opened(path) as stream:
        content = stream.read()
    yield from documents.from_json(content, file, str(path))


def _csv(path: Path, file: str) -> Rows:
    with opened(path) as stream:
        yield from separated.from_csv(stream, file, str(path))


def _parquet(path: Path, file: str) -> Rows:
    with explained(path):
        yield from tables.from_parquet(path, file)


READERS: dict[str, Callable[[Path, str], Rows]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""By suffix: path and shown name to rows."""
