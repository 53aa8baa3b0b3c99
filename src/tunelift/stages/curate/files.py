"""Which files a source's path stands for, and of what kind each is."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Sequence
from pathlib import Path

from tunelift.config.curation import SourceConfig
from tunelift.errors import UserError
from tunelift.stages.curate.tables import is_saved_folder

HUB = "hub:"
TEXT_KINDS = (".jsonl", ".json", ".csv")
KINDS = (*TEXT_KINDS, ".parquet")
COMPRESSIONS = (".gz", ".zst")
ACCEPTED = (
    "a .jsonl, .json or .csv file (also as .gz or .zst), a .parquet file, a glob of such files, a folder written by "
    "save_to_disk, or hub:owner/name"
)
WILDCARDS = "*?["


def kind_of(path: Path) -> str | None:
    """The suffix that tells how a file is read, without the compression's; none for files that cannot be read."""
    name = path.name.lower()
    pressed = compression(path)
    inner = Path(name.removesuffix(pressed)).suffix
    return inner if inner in (TEXT_KINDS if pressed else KINDS) else None


def compression(path: Path) -> str:
    """`.gz`, `.zst`, or nothing."""
    return path.suffix.lower() if path.suffix.lower() in COMPRESSIONS else ""


def shown(path: Path) -> str:
    """The path as it stands in records: relative when it is below the working directory, so that records can move."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def files_of(source: SourceConfig) -> list[Path]:
    """The files that a local source stands for, or its one folder, in the order of their shown paths.

    Raises:
        UserError: nothing is there, something is of no known kind, or a setting has no meaning for it.
    """
    path = Path(source.path).expanduser()
    foreign = next((name for name in ("revision", "config") if getattr(source, name)), None)
    if foreign:
        raise UserError(
            f"{foreign}={getattr(source, foreign)!r} means nothing for a local source.",
            where=source.path,
            remedy="Remove it, or name a data set of the hub as hub:owner/name.",
        )
    if path.is_dir():
        if not is_saved_folder(path):
            raise _no_data_set(path)
        return [path]
    if not path.exists() and any(mark in source.path for mark in WILDCARDS):
        files = _matches(path)
    elif path.exists():
        files = [path]
    else:
        raise _not_there(path)
    for file in files:
        _check_kind(file, source)
    if source.split != SourceConfig.model_fields["split"].default:
        raise UserError(
            f"split={source.split!r} means nothing for {'files' if len(files) > 1 else 'a single file'}.",
            where=source.path,
            remedy="Remove it; curate.split divides the rows.",
        )
    return files


def refuse_overlap(sources: Sequence[SourceConfig]) -> None:
    """Hold that no file is in two sources, where its rows would be told apart by nothing.

    Raises:
        UserError: one is, or a source is not there.
    """
    found: dict[str, str] = {}
    for source in sources:
        if source.path.startswith(HUB):
            continue
        for file in files_of(source):
            other = found.setdefault(os.path.realpath(file), source.path)
            if other != source.path:
                raise UserError(
                    f"{shown(file)} belongs to two sources, {other} and {source.path}.",
                    remedy="Take one of them out of curate.sources, or narrow its glob.",
                )


def _matches(pattern: Path) -> list[Path]:
    # `Path.glob` takes no absolute pattern, and finds hidden files.
    files = [Path(name) for name in glob.glob(str(pattern), recursive=True)]  # noqa: PTH207
    files = sorted((file for file in files if file.is_file()), key=shown)
    if not files:
        raise UserError(
            "No file matches this glob.",
            where=str(pattern),
            remedy=f"Check it from {Path.cwd()}: * stands for anything within a name, ** for folders at any depth.",
        )
    return files


def _check_kind(file: Path, source: SourceConfig) -> None:
    if kind_of(file) is not None:
        return
    kind = "".join(file.suffixes[-2:] if compression(file) else file.suffixes[-1:]) or "(none)"
    by_glob = str(file) != str(Path(source.path).expanduser())
    raise UserError(
        f"Files of the type {kind!r} cannot be read" + (f", and the glob matches {shown(file)}." if by_glob else "."),
        where=source.path,
        remedy=f"Narrow the glob, as to {Path(source.path).parent / '*.jsonl'}."
        if by_glob
        else f"Give {ACCEPTED}; rename the file if it holds one of these under another name.",
    )


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
    files = sorted(file.name for file in path.iterdir() if kind_of(file))
    remedy = f"Name one of its files: {', '.join(files[:5])}." if files else f"Give {ACCEPTED}."
    if len(files) > 1:
        remedy += f" For all of a kind write a glob, such as {path / '*'}{Path(files[0]).suffix}."
    return UserError("The folder is no data set written by save_to_disk.", where=str(path), remedy=remedy)
