"""Rows out of Arrow: Parquet files, folders written by `datasets`, and data sets of the hub."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from tunelift.errors import UserError
from tunelift.runtime import hub
from tunelift.stages.curate.arrow import AsJson
from tunelift.stages.curate.rows import Quarantined, RawRow

BATCH_ROWS = 1000


def from_parquet(path: Path, file: str) -> Iterator[RawRow | Quarantined]:
    """Rows of a Parquet file.

    Raises:
        UserError: the file is damaged or no Parquet file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        number = 0
        with pq.ParquetFile(path) as table:
            _check_columns(table.schema_arrow.names, str(path))
            as_json = AsJson(table.schema_arrow, lambda columns: table.iter_batches(columns=columns))
            for batch in table.iter_batches(batch_size=BATCH_ROWS):
                for index in range(batch.num_rows):
                    number += 1
                    yield _arrow_row(batch, index, file, number, as_json)
    except (pa.ArrowException, UnicodeDecodeError) as error:  # The latter: a column's name.
        raise UserError(
            f"The file cannot be read as Parquet: {first_line(error)}.",
            where=str(path),
            remedy="Write or copy it again; a text file needs the suffix .jsonl, .json or .csv.",
        ) from error


def _check_columns(names: Sequence[str], where: str) -> None:
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise UserError(
            f"The file has more than one column {', '.join(map(repr, repeated))}.",
            where=where,
            remedy="Name each column once.",
        )


def _arrow_row(batch: Any, index: int, file: str, number: int, as_json: AsJson) -> RawRow | Quarantined:
    row = batch.slice(index, 1)
    try:
        value, edits = as_json(row.to_pylist()[0])
        return RawRow(file, number, value, edits=edits)
    except ValueError as error:  # Bytes that are no UTF-8, a date that Python has none for, Arrow's own refusals.
        return _unreadable(error, file, number, row)


def _unreadable(error: ValueError, file: str, number: int, row: Any) -> Quarantined:
    """A row that Arrow holds and Python cannot; `raw` has each column as far as it goes."""
    columns = orjson.dumps(dict(_columns(row)), default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    if isinstance(error, UnicodeDecodeError):
        detail = f"byte 0x{error.object[error.start]:02x} is not UTF-8"
        return Quarantined(file, number, "$", "not_utf8", detail, columns)
    return Quarantined(file, number, "$", "wrong_type", f"a value cannot be read: {first_line(error)}", columns)


def _columns(row: Any) -> Iterator[tuple[str, Any]]:
    for name in row.schema.names:
        try:
            yield name, row.column(name).to_pylist()[0]
        except UnicodeDecodeError as error:
            yield name, error.object.decode("utf-8", errors="backslashreplace")
        except ValueError as error:
            yield name, f"({first_line(error)})"


def is_saved_folder(path: Path) -> bool:
    """Whether `datasets` wrote this folder with `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def from_folder(path: Path, file: str, split: str) -> Iterator[RawRow | Quarantined]:
    """Rows of a folder written by `save_to_disk`; `split` picks from a folder with several.

    Raises:
        UserError: the folder is damaged, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        saved = load_from_disk(str(path))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"The folder cannot be loaded as a data set: {first_line(error)}.",
            where=str(path),
            remedy="Write it again with save_to_disk.",
        ) from error
    if isinstance(saved, DatasetDict):
        if split not in saved:
            raise UserError(
                f"The data set has no split {split!r}.",
                where=str(path),
                remedy=f"Set split to one of: {', '.join(saved)}.",
            )
        saved, file = saved[split], f"{file}/{split}"
    yield from _numbered(saved, file)


def from_hub(name: str, config: str | None, split: str, commit: str) -> Iterator[RawRow | Quarantined]:
    """Rows of one split of a hub data set, or of one of its configs, at a commit.

    Raises:
        UserError: the data set has no such config or split, cannot be loaded, or the hub cannot be reached.
    """
    from datasets import load_dataset

    try:
        loaded = load_dataset(name, config, split=split, revision=commit)
    except Exception as error:  # `datasets` lets errors of many libraries through: Arrow, fsspec, httpx, its own.
        raise UserError(
            f"The data set cannot be loaded: {_with_choices(error)}.",
            where=f"hub:{name}",
            remedy="Check config, split and revision (for init: --config and --split). If a row is malformed, download "
            "the file and name it as path: bad rows are then set aside one by one.",
        ) from error
    yield from _numbered(loaded, "/".join((f"hub:{name}", *([config] if config else []), split)))


def _with_choices(error: Exception) -> str:
    """The first line, and the second where it lists what there is: `Please pick one among …`."""
    first, second = first_line(error), "".join(str(error).strip().splitlines()[1:2])
    return f"{first}. {second.rstrip('.')}" if "[" in second else first


def _numbered(rows: Any, file: str) -> Iterator[RawRow | Quarantined]:
    """`rows` are a `datasets.Dataset`, which stops at a value that it cannot read: from there on, row by row."""
    number = 0

    def columns(names: list[str]) -> Iterator[Any]:
        for table in rows.select_columns(names).with_format("arrow").iter(BATCH_ROWS):
            yield from table.to_batches()

    as_json = AsJson(rows.features.arrow_schema, columns)
    try:
        for row in rows:
            value, edits = as_json(dict(row))
            yield RawRow(file, number + 1, value, edits=edits)
            number += 1
    except ValueError:
        for index in range(number, len(rows)):
            try:
                value, edits = as_json(dict(rows[index]))
                yield RawRow(file, index + 1, value, edits=edits)
            except ValueError as error:
                stored = rows.with_format("arrow")[index]
                yield _unreadable(error, file, index + 1, stored)


def hub_commit(name: str, revision: str | None) -> str:
    """The commit that a hub data set's revision stands for; a full commit is taken as it is, without asking the hub.

    Raises:
        UserError: the hub has no such data set or revision, refuses it, or cannot be reached.
    """
    where = f"hub:{name}"
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise UserError("This is no data set id.", where=where, remedy="Write it as hub:owner/name.")
    if revision and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    from huggingface_hub import HfApi

    with hub.explained(
        "data set",
        where,
        revision=str(revision),
        field="revision",
        otherwise="set revision to a full commit that lies in the local cache, or name a file",
    ):
        return str(HfApi().dataset_info(name, revision=revision).sha)


def first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
