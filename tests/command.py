"""The command line as a user meets it: in a process of its own, inside a small project."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.project import make_project

DONE, USER, MACHINE, STOPPED = 0, 2, 3, 130
"""Exit codes."""
CURATE = ("curate", "config.yaml")


def make_curated(folder: Path) -> Path:
    """A project whose data set is made, so that a mended copy is quickly known to work."""
    curate = {"sources": [{"path": "data/rows.jsonl"}], "split": {"validation": 0.15, "test": 0.15}}
    make_project(folder, curate=curate)
    result = tunelift(folder, *CURATE)
    assert result.returncode == DONE, result.stderr
    return folder


def copied(original: Path, to: Path) -> Path:
    """A copy of a project, in place of what is there."""
    shutil.rmtree(to, ignore_errors=True)
    return shutil.copytree(original, to, symlinks=True)


def tunelift(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a project to its end."""
    return subprocess.run(
        _command(arguments), cwd=folder, env=_environment(environment), capture_output=True, text=True, timeout=500
    )


def started(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command, running."""
    return subprocess.Popen(
        _command(arguments),
        cwd=folder,
        env=_environment({}),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "tunelift.cli", *arguments]


def _environment(changes: dict[str, str]) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **changes}


def is_told(result: subprocess.CompletedProcess[str], code: int, *says: str) -> None:
    """The command ended with `code`, one message that holds each of `says`, and a remedy."""
    shown = result.stderr
    assert result.returncode == code, shown
    assert "Traceback" not in shown
    assert shown.count("error: ") == 1, shown
    assert shown.count("What to do: ") == 1, shown
    for text in says:
        assert text in shown, f"{text!r} is not in: {shown}"


def lines(path: Path) -> list[str]:
    """Of a file."""
    return path.read_text().splitlines()


def good_rows(folder: Path) -> list[dict]:
    """The rows of the project's file that curation keeps."""
    return [json.loads(line) for line in lines(folder / "data/rows.jsonl")[:64]]
