"""Which checkpoints a killed run may go on from, and which are kept."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from tunelift.artifacts.records import file_sha256
from tunelift.runtime import console

MARKER = "complete.json"
"""Written last into a checkpoint: size and sha256 of every other file."""


def mark_complete(checkpoint: Path) -> None:
    """Say that everything is written, once it is on the disk: a marker that outlives its files would be a lie."""
    marker = checkpoint / MARKER
    temporary = marker.with_suffix(".tmp")
    files = _files(checkpoint)
    for path in files.values():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    told = {name: [path.stat().st_size, file_sha256(path)] for name, path in files.items()}
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(told, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(marker)


def is_complete(checkpoint: Path) -> bool:
    """Every file that the marker names is there as it was written, and no other."""
    try:
        told = json.loads((checkpoint / MARKER).read_text())
        files = _files(checkpoint)
        sizes = {name: path.stat().st_size for name, path in files.items()}
        return (
            bool(told)
            and sizes == {name: size for name, (size, _) in told.items()}
            and all(file_sha256(files[name]) == sha256 for name, (_, sha256) in told.items())
        )
    except (OSError, ValueError, TypeError, AttributeError):
        return False


def _files(checkpoint: Path) -> dict[str, Path]:
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file())
    return {str(path.relative_to(checkpoint)): path for path in files if path.stem != Path(MARKER).stem}


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a checkpoint has seen."""
    return int(checkpoint.name.rpartition("-")[2])


def at(folder: Path, step: int) -> Path:
    """Where the checkpoint of a step lies, by the Trainer's naming."""
    return folder / f"checkpoint-{step}"


def whole(folder: Path) -> list[Path]:
    """The complete checkpoints, the newest first; torn ones are deleted, since a later one may take their name."""
    found: list[Path] = []
    for checkpoint in folder.glob("checkpoint-*"):
        if is_complete(checkpoint):
            found.append(checkpoint)
        else:
            console.say(f"train: {checkpoint.name} was not written to its end or is damaged; it is not used")
            shutil.rmtree(checkpoint, ignore_errors=True)
    return sorted(found, key=step_of, reverse=True)


def newest(folder: Path, up_to: int | None = None) -> Path | None:
    """The complete checkpoint of the latest step, or of the latest up to one."""
    return next((one for one in whole(folder) if up_to is None or step_of(one) <= up_to), None)


def resumable(folder: Path, best_as_of: Callable[[int], int | None]) -> Path | None:
    """The newest complete checkpoint from which the run can end as it would have.

    That takes the best checkpoint as well: where it is damaged, training goes on from one before it and makes it again.
    Those after it are deleted: they would pass for newer ones when it comes to rotation and the next resume, without
    the metrics that belong to them.

    Args:
        folder: Holds the checkpoints.
        best_as_of: The best step as things stood at a step, if steps are chosen among.
    """
    found = whole(folder)
    steps = {step_of(checkpoint) for checkpoint in found}
    chosen = next((one for one in found if best_as_of(step_of(one)) in {None, *steps}), None)
    for later in found[: found.index(chosen)] if chosen else found:
        _delete(later)
    return chosen


def rotate(folder: Path, keep: int, *, best: int | None, sound_step: int) -> None:
    """Delete what is not needed any more. Call it when the newest is marked complete.

    Args:
        folder: Holds the checkpoints.
        keep: How many of the newest stay.
        best: The best step, if steps are chosen among; its checkpoint stays.
        sound_step: The newest checkpoint up to this step stays, since newer ones may turn out to be of no use.
    """
    newest_first = sorted(folder.glob("checkpoint-*"), key=step_of, reverse=True)
    sound = next((checkpoint for checkpoint in newest_first if step_of(checkpoint) <= sound_step), None)
    for checkpoint in newest_first[keep:]:
        if checkpoint != sound and step_of(checkpoint) != best:
            _delete(checkpoint)


def _delete(checkpoint: Path) -> None:
    (checkpoint / MARKER).unlink(missing_ok=True)  # First: half deleted, it must not pass for whole.
    shutil.rmtree(checkpoint)
