"""A machine made of shell scripts: what is on PATH is all that it has."""

from __future__ import annotations

import json
import shutil
import stat
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import pytest

from environment import machine as machine_module
from environment import make

Usage = namedtuple("Usage", "total used free")


class Machine:
    """Programs on a PATH of their own, and how much the disks hold."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.patch = monkeypatch
        self.free_gib: Callable[[str], float] = lambda _: 100.0
        self.libraries = {"libnuma.so.1"}
        self.calls = folder / "calls"

    def program(self, name: str, body: str) -> Path:
        """An executable shell script."""
        path = self.folder / name
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def python(self, name: str, version: str, *, ensurepip: bool = True, header: bool = True, torch: str = "") -> Path:
        """An interpreter that makes environments of itself; its pip notes calls and knows these releases of torch."""
        include = self.folder / f"include-{name}"
        include.mkdir(exist_ok=True)
        if header:
            (include / "Python.h").touch()
        answer = json.dumps([[int(part) for part in version.split(".")], str(include), ensurepip])
        return self.program(
            name,
            f"""case "$1 $2 $3" in
              -c*) echo '{answer}';;
              "-m venv "*) PATH=/usr/bin:/bin; mkdir -p "$4/bin" "$4/lib"; cp "$0" "$4/bin/python";;
              "-m pip index") echo "probe" >>'{self.calls}'; echo "Available versions: {torch}";;
              "-m pip install") echo "$@" >>'{self.calls}'; echo "Collecting a";;
            esac""",
        )

    def nvidia_smi(self, *cards: str, driver: str = "580.95.05", mig: str = "[N/A]", slices: str = "") -> None:
        """`name, capability` of each card; no capability as of a driver that is too old to know it."""
        names = "\n".join(f"{driver}, {card.partition(',')[0]}" for card in cards)
        capabilities = "\n".join(card.partition(",")[2].strip() for card in cards)
        told = f"echo '{capabilities}'" if capabilities.strip() else "echo 'Field is not valid to query.'; exit 2"
        listed = "\n".join(f"GPU {n}: {card.partition(',')[0]} (UUID: GPU-{n})" for n, card in enumerate(cards))
        self.program(
            "nvidia-smi",
            f"""case "$1" in
              *driver_version*) echo '{names}';;
              *compute_cap*) {told};;
              *mig*) echo '{mig}';;
              -L) echo '{listed}'; echo '{slices}';;
            esac""",
        )


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A box with nothing on it but room, in a clone with small locks."""
    programs = tmp_path / "bin"
    programs.mkdir()
    monkeypatch.setenv("PATH", str(programs))
    for variable in ("DEVICE", "PYTHON", "ANYWAY", "CC", "CUDA_VISIBLE_DEVICES", "PIP_NO_CACHE_DIR"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "executable", "/nowhere/python3")
    monkeypatch.setattr("os.geteuid", lambda: 0)

    clone = tmp_path / "clone"
    (clone / "requirements").mkdir(parents=True)
    for lock, torch in (("cpu", "2.13.0+cpu"), ("cpu-pypi", "2.13.0"), ("cuda", "2.14.0")):
        (clone / f"requirements/{lock}.txt").write_text(f"torch=={torch} \\\n    --hash=sha256:0\n")
    (clone / "pyproject.toml").touch()
    monkeypatch.setattr(make, "REPOSITORY", clone)
    monkeypatch.setattr(make, "VENV", clone / ".venv")
    monkeypatch.setattr(make, "STAMP", clone / ".venv/tunelift-setup.json")
    monkeypatch.setattr(make, "LOG", clone / ".venv/tunelift-setup.log")

    box = Machine(programs, monkeypatch)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, box.free_gib(str(path)) * 2**30))
    monkeypatch.setattr(machine_module, "can_load", lambda library: library in box.libraries)
    return box
