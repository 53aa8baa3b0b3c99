"""Which checkpoint a killed run goes on from: the newest that was written to its end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

MARKER = "complete.json"
"""Written last into a checkpoint: the size of every other file."""


def mark_complete(checkpoint: Path) -> None:
    """Say that everything is written."""
    marker = checkpoint / MARKER
    temporary = marker.with_suffix(".tmp")
    temporary.write_text(json.dumps(_sizes(checkpoint)))
    temporary.replace(marker)


def is_complete(checkpoint: Path) -> bool:
    """Every file that the marker names is there in full."""
    try:
        sizes = json.loads((checkpoint / MARKER).read_text())
    except (OSError, ValueError):
        return False
    return bool(sizes) and sizes == _sizes(checkpoint)


def _sizes(checkpoint: Path) -> dict[str, int]:
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file())
    return {str(path.relative_to(checkpoint)): path.stat().st_size for path in files if path.name != MARKER}


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a checkpoint has seen."""
    return int(checkpoint.name.rpartition("-")[2])


def newest(folder: Path) -> Path | None:
    """The complete checkpoint of the latest step; torn ones are deleted, since a later one may take their name."""
    found: list[Path] = []
    for checkpoint in folder.glob("checkpoint-*"):
        if is_complete(checkpoint):
            found.append(checkpoint)
        else:
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(found, key=step_of, default=None)
