"""The one cache: finished artifacts by fingerprint, each made once, under a lock, visible only when whole."""

from __future__ import annotations

import datetime
import errno
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tunelift.artifacts.provenance import FileHashes
from tunelift.artifacts.records import MANIFEST, Artifact, Manifest, digest
from tunelift.errors import MachineError, UserError

Build = Callable[[Path], dict[str, Any]]
"""Fills the folder it is given and returns what it measured or chose.

One that goes on where a kill stopped it returns `seconds` over all restarts, if it knows them.
"""


PARTIAL, FORCED = ".partial", ".forced"
"""Ends of the names of the folders in which artifacts are being made."""


@dataclass(frozen=True)
class Plan:
    """What is to be made: the parts of a fingerprint."""

    stage: str
    version: int
    section: dict[str, Any]
    inputs: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """sha256 over stage, version, section and inputs, as hex."""
        return digest({"stage": self.stage, "version": self.version, "section": self.section, "inputs": self.inputs})


class Store:
    """Artifacts under `root/<stage>/<fingerprint>`."""

    def __init__(self, root: Path, environment: Callable[[], dict[str, Any]]) -> None:
        self.root = root
        self.hashes = FileHashes(root / "hashes.json")
        self._environment = environment

    def folder(self, plan: Plan) -> Path:
        """Where the finished artifact lies or will lie."""
        return self.root / plan.stage / plan.fingerprint[:32]

    def partial(self, plan: Plan, *, force: bool = False) -> Path:
        """Where the artifact is being made; survives a kill, so that work goes on.

        What is made by force has a folder of its own, so that the same command goes on there, and begins anew where
        only a plain one was at work.
        """
        forced = self.folder(plan).with_suffix(FORCED)
        return forced if force or forced.exists() else self.folder(plan).with_suffix(PARTIAL)

    def find(self, plan: Plan) -> Artifact | None:
        """The finished artifact, if it is there and its files are as they were written."""
        folder = self.folder(plan)
        manifest = _manifest(folder)
        if manifest is None or next(self._changed(folder, manifest), None):
            return None
        return Artifact(folder, manifest, found=True)

    def damage(self, plan: Plan) -> str:
        """What is wrong with the finished artifact, in words; empty if it is sound or was never made."""
        folder = self.folder(plan)
        if not folder.is_dir():
            return ""
        manifest = _manifest(folder)
        found = [f"{MANIFEST} cannot be read"] if manifest is None else list(self._changed(folder, manifest))
        return found[0] + (f", and {len(found) - 1} more" if len(found) > 1 else "") if found else ""

    def _changed(self, folder: Path, manifest: Manifest) -> Iterator[str]:
        """The files that are not as they were written."""
        for name, sha256 in manifest.files.items():
            path = folder / name
            if not path.is_file():
                yield f"{name} is missing"
            elif self.hashes.sha256(path) != sha256:
                yield f"{name} is not as it was written"

    def make(self, plan: Plan, build: Build, *, force: bool = False) -> Artifact:
        """Return the artifact, building it if it is not there.

        Args:
            plan: What it is.
            build: Fills the folder.
            force: Build it though it is there, from the beginning or from where a forced build was killed.

        Raises:
            UserError: another process is making the same artifact, or the folder cannot be written.
            MachineError: the disk is full.
        """
        if not force and (found := self.find(plan)):
            return found
        folder = self.folder(plan)
        with writing(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        with self._locked(folder):
            if not force and (found := self.find(plan)):
                return found
            with writing(folder):
                partial = self.partial(plan, force=force)
                if partial.suffix == FORCED:
                    shutil.rmtree(folder.with_suffix(PARTIAL), ignore_errors=True)
                partial.mkdir(exist_ok=True)
                started, clock = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), time.monotonic()
                details = build(partial)
                for torn in partial.rglob("*.tmp"):  # Left by a kill in the middle of a durable write.
                    torn.unlink()
                manifest = Manifest(
                    stage=plan.stage,
                    version=plan.version,
                    fingerprint=plan.fingerprint,
                    inputs=plan.inputs,
                    section=plan.section,
                    files={name: sha for name, sha in self.hashes.of_folder(partial).items() if name != MANIFEST},
                    environment=self._environment(),
                    started=started,
                    # A build that went on after a kill says itself what all of it took.
                    seconds=round(max(time.monotonic() - clock, details.get("seconds", 0.0)), 3),
                    details=details,
                )
                write_durably(partial / MANIFEST, manifest.to_json())
                if folder.exists():
                    shutil.rmtree(folder)
                partial.rename(folder)
        return Artifact(folder, manifest)

    def _locked(self, folder: Path) -> FileLock:
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                "Another process is making this artifact.",
                where=str(folder),
                remedy="Wait until it is done and run the same command again; it will find the result.",
            ) from None
        except OSError as error:
            raise disk_error(error, folder) from error
        return lock


def _manifest(folder: Path) -> Manifest | None:
    """The artifact's; None where there is none that can be read."""
    try:
        return Manifest(**json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError):
        return None


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn a failure to write below `folder` into a message with a remedy."""
    try:
        yield
    except OSError as error:
        if error.errno not in _DISK_TROUBLE:
            raise
        raise disk_error(error, folder) from error


_FULL = {errno.ENOSPC, errno.EDQUOT}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}
_IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR}
_DISK_TROUBLE = {*_FULL, *_FORBIDDEN, *_IN_THE_WAY, errno.EIO, errno.EFBIG}


def disk_error(error: OSError, folder: Path) -> MachineError | UserError:
    """A full or failing disk is the machine's trouble; a folder that must not be written is the user's."""
    where = str(error.filename or folder)
    if error.errno in _FULL:
        return MachineError(
            "The disk is full.",
            where=where,
            remedy="Free some space and run the same command again; what is finished is kept.",
        )
    if error.errno in _FORBIDDEN:
        return UserError(
            f"Cannot write here ({error.strerror}).",
            where=where,
            remedy="Make the folder writable, or run from another folder.",
        )
    if error.errno in _IN_THE_WAY:
        files = [path for path in (Path(where), *Path(where).parents) if path.is_file()]
        return UserError(
            "A file stands where a folder is needed.",
            where=str(files[0] if files else where),
            remedy="Move it away, or run from another folder.",
        )
    return MachineError(
        f"The disk failed: {error.strerror}.", where=where, remedy="Check the disk, then run the same command again."
    )


def write_durably(path: Path, text: str) -> None:
    """Write so that after a crash the file is either whole or not there."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # Two runs may write one config.yaml.
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
