"""Raw rows out of files, folders and the hub. A bad row is quarantined with its place and text, and reading goes on."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import orjson

from tunelift.artifacts.provenance import FileHashes
from tunelift.artifacts.records import digest, file_sha256
from tunelift.config.schema import SourceConfig
from tunelift.errors import UserError
from tunelift.stages.curate import documents, tables
from tunelift.stages.curate.rows import Quarantined, RawRow

Rows = Iterator[RawRow | Quarantined]

HUB = "hub:"
BOM = b"\xef\xbb\xbf"
ACCEPTED = "a .jsonl, .json, .csv or .parquet file, a folder written by save_to_disk, or hub:owner/name"


def read_source(source: SourceConfig) -> Rows:
    """Yield each row of a source, or why it could not be read, in the order of the source.

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


def _rows(source: SourceConfig) -> Rows:
    if source.path.startswith(HUB):
        name = source.path.removeprefix(HUB)
        return tables.from_hub(name, source.split, tables.hub_commit(name, source.revision))
    path = locate(source)
    if path.is_dir():
        return tables.from_folder(path, shown(path), source.split)
    return READERS[path.suffix.lower()](path, shown(path))


def source_fingerprint(source: SourceConfig, hashes: FileHashes | None = None) -> str:
    """What the source holds: a file's sha256, a digest over a folder's files, or a hub data set's commit.

    Raises:
        UserError: the source is not there, cannot be read, or is of no known kind.
    """
    if source.path.startswith(HUB):
        return tables.hub_commit(source.path.removeprefix(HUB), source.revision)
    path = locate(source)
    sha256 = hashes.sha256 if hashes else file_sha256
    with _explained(path):
        if path.is_dir():
            return digest(
                {str(file.relative_to(path)): sha256(file) for file in sorted(path.rglob("*")) if file.is_file()}
            )
        return sha256(path)


def shown(path: Path) -> str:
    """The path as it stands in records: relative when it is below the working directory, so that records can move."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def locate(source: SourceConfig) -> Path:
    """The local path of a source, checked to be of a kind that can be read.

    Raises:
        UserError: nothing is there, it is of no known kind, or a setting has no meaning for it.
    """
    path = Path(source.path).expanduser()
    if source.revision:
        raise UserError(
            f"revision={source.revision!r} means nothing for a local source.",
            where=source.path,
            remedy="Remove it, or name a data set of the hub as hub:owner/name.",
        )
    if not path.exists():
        raise _not_there(path)
    if path.is_dir():
        if not tables.is_saved_folder(path):
            raise _no_data_set(path)
        return path
    if path.suffix.lower() not in READERS:
        raise UserError(
            f"Files of the type {path.suffix or '(none)'!r} cannot be read.",
            where=source.path,
            remedy=f"Give {ACCEPTED}; rename the file if it holds one of these under another name.",
        )
    if source.split != SourceConfig.model_fields["split"].default:
        raise UserError(
            f"split={source.split!r} means nothing for a single file.",
            where=source.path,
            remedy="Remove it; curate.split divides the rows.",
        )
    return path


def _not_there(path: Path) -> UserError:
    folder = path.parent
    if not folder.is_dir():
        return UserError(
            f"The folder {folder} does not exist.", where=str(path), remedy="Check the path under curate.sources."
        )
    near = difflib.get_close_matches(path.name, [entry.name for entry in folder.iterdir()], n=1, cutoff=0.7)
    hint = f"Did you mean {folder / near[0]}?" if near else f"Give {ACCEPTED}."
    return UserError("There is no such file.", where=str(path), remedy=hint)


def _no_data_set(path: Path) -> UserError:
    files = sorted(file.name for file in path.iterdir() if file.suffix.lower() in READERS)
    remedy = f"Name one of its files: {', '.join(files[:5])}." if files else f"Give {ACCEPTED}."
    return UserError("The folder is no data set written by save_to_disk.", where=str(path), remedy=remedy)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The file cannot be read ({error.strerror or error}).",
            where=str(path),
            remedy="Check its permissions and the disk.",
        ) from error


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """Open a text file as bytes, past a UTF-8 byte order mark; refuse one that is no UTF-8 as a whole."""
    with _explained(path), path.open("rb") as file:
        head = file.read(64)
        if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head:
            kind = "UTF-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "binary, or UTF-16 without a mark"
            raise UserError(
                f"The file is not UTF-8 text but {kind}.",
                where=str(path),
                remedy=f"Convert it: iconv -f UTF-16 -t UTF-8 {path} > {path.with_name(f'utf8-{path.name}')}",
            )
        file.seek(len(BOM) if head.startswith(BOM) else 0)
        yield file


def _jsonl(path: Path, file: str) -> Rows:
    with _opened(path) as stream:
        for number, line in enumerate(stream, start=1):
            if line.strip():
                yield _json_line(file, number, line.strip())


def _json_line(file: str, number: int, line: bytes) -> RawRow | Quarantined:
    raw = line.decode("utf-8", errors="backslashreplace")
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as wrong:
            return documents.not_utf8(file, number, wrong, raw)
        return Quarantined(file, number, "$", "invalid_json", f"{error.msg}, at column {error.colno}", raw)
    return documents.row(file, number, value, raw)


def _json(path: Path, file: str) -> Rows:
    with _opened(path) as stream:
        content = stream.read()
    yield from documents.from_json(content, file, str(path))


def _csv(path: Path, file: str) -> Rows:
    with _opened(path) as stream:
        yield from documents.from_csv(stream, file, str(path))


def _parquet(path: Path, file: str) -> Rows:
    with _explained(path):
        yield from tables.from_parquet(path, file)


READERS: dict[str, Callable[[Path, str], Rows]] = {
    ".jsonl": _jsonl,
    ".json": _json,
    ".csv": _csv,
    ".parquet": _parquet,
}
"""By suffix: path and shown name to rows."""
