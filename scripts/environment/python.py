"""Interpreters: one that the locks have files for, found on this machine or fetched through uv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import NamedTuple

from environment.words import SetupError, last_line, say

VERSIONS = ((3, 11), (3, 12), (3, 13))
"""That the locks have files for, best first."""
# Of Python's headers, those that Triton will include: Debian's own scheme points to a folder without them.
QUESTION = """
import importlib.util, json, sys, sysconfig
scheme = "posix_prefix" if "posix_prefix" in sysconfig.get_scheme_names() else None
paths = sysconfig.get_paths(scheme) if scheme else sysconfig.get_paths()
print(json.dumps([sys.version_info[:2], paths["include"], importlib.util.find_spec("ensurepip") is not None]))
"""


class Interpreter(NamedTuple):
    """A Python that runs."""

    path: str
    version: tuple[int, int]
    include: str
    """Folder of its Python.h, which may not be there."""
    makes_environments: bool
    """It has ensurepip, which Debian keeps in a package of its own."""


def find_python() -> tuple[Interpreter | None, str]:
    """The first interpreter that the locks have files for, best one that makes environments; and what else was seen."""
    asked = os.environ.get("PYTHON", "")
    usual = [sys.executable, *(f"python{a}.{b}" for a, b in VERSIONS), shutil.which("python3") or "python3"]
    names = [asked] if asked else list(dict.fromkeys(usual))
    fitting, seen = [], []
    for name in names:
        found = examine(shutil.which(name))
        if found and found.version in VERSIONS:
            fitting.append(found)
        else:
            seen.append(f"{name} is {'not there' if found is None else dotted(found.version)}")
    return next((python for python in fitting if python.makes_environments), next(iter(fitting), None)), "; ".join(seen)


def examine(path: str | None) -> Interpreter | None:
    """What an interpreter is, or nothing if it does not run."""
    if not path:
        return None
    try:
        answer = subprocess.run([path, "-c", QUESTION], capture_output=True, text=True, timeout=60, check=True).stdout
        version, include, makes_environments = json.loads(answer)
        return Interpreter(path, (version[0], version[1]), include, makes_environments)
    except (OSError, ValueError, LookupError, TypeError, subprocess.SubprocessError):
        return None


def can_fetch() -> bool:
    """Whether uv is there to fetch a Python, unless the user named one."""
    return not os.environ.get("PYTHON") and shutil.which("uv") is not None


def fetch_python() -> Interpreter:
    """An interpreter that uv has, or downloads.

    Raises:
        SetupError: uv could not get one.
    """
    if not can_fetch():
        raise SetupError(
            f"No Python {accepted()} is here.", "Name one that lies elsewhere: PYTHON=/its/path make setup"
        )
    wanted = dotted(VERSIONS[0])
    find = ["uv", "python", "find", "--no-project", f">={wanted},<={dotted(VERSIONS[-1])}.99"]
    found = subprocess.run(find, capture_output=True, text=True, check=False)
    if found.returncode != 0:
        say(f"Environment: no Python {accepted()} here, so uv fetches {wanted} (some 30 MB).")
        fetched = subprocess.run(["uv", "python", "install", wanted], capture_output=True, text=True, check=False)
        if fetched.returncode != 0:
            raise SetupError(
                f"uv python install {wanted} failed: {last_line(fetched.stderr)}",
                f"Check the network, or install Python {accepted()} by hand and run: PYTHON=/its/path make setup",
            )
        found = subprocess.run(find, capture_output=True, text=True, check=False)
    python = examine(found.stdout.strip())
    if python is None:
        raise SetupError(
            f"uv names no Python {accepted()} that runs: {last_line(found.stdout + found.stderr)}",
            "Install one by hand and run: PYTHON=/its/path make setup",
        )
    return python


def dotted(version: tuple[int, int]) -> str:
    """3.11"""
    return ".".join(map(str, version))


def accepted() -> str:
    """The versions, for a person."""
    return ", ".join(map(dotted, VERSIONS[:-1])) + f" or {dotted(VERSIONS[-1])}"
