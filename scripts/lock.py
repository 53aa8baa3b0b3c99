"""Write the locks, or check that they still hold.

    python scripts/lock.py [cpu] [cpu-pypi] [cuda] [--upgrade]   resolve and write requirements/<lock>.txt
    python scripts/lock.py [cpu] [cpu-pypi] [cuda] --check       resolve again; fail if one is not a solution any more

Pins that are in a lock stay unless they must change, so `--check` does not fail because a newer release appeared.
Only metadata is read: nothing is downloaded or built. Indexes and folders of wheels come from uv's or pip's environment
variables (UV_INDEX, UV_FIND_LINKS, PIP_FIND_LINKS, ...) and never enter the files.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]

# PyTorch's CPU builds lie outside the common index, and their hashes are those of the files that were in reach when the
# lock was made: CPython 3.11 on x86-64 Linux. The other locks have markers and hashes for every Python from 3.11 on.
UV_OPTIONS = {
    "cpu": ("--extra=serve-cpu", "--python-version=3.11", "--python-platform=x86_64-manylinux_2_28"),
    "cpu-pypi": ("--extra=serve-cpu", "--python-version=3.11", "--universal"),
    "cuda": ("--extra=serve-cuda", "--python-version=3.11", "--universal"),
}
HEADERS = {
    "cpu": "# Python 3.11 on x86-64 Linux, no GPU. Made by `make lock`, installed by `make setup`.\n",
    "cpu-pypi": (
        "# Python 3.11 to 3.13 on x86-64 Linux, no GPU, with PyTorch's build for CUDA, which the common index has.\n"
        "# Made by `make lock`, installed by `make setup` where the CPU build is not to be had.\n"
    ),
    "cuda": "# Python 3.11 to 3.13 on x86-64 Linux, NVIDIA GPU. Made by `make lock`, installed by `make setup`.\n",
}
PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==(\S+)((?: ; [^\\]*)?)")


def main() -> int:
    """Returns the exit code: 0 done, 1 a lock does not hold, 3 uv failed."""
    parser = argparse.ArgumentParser(description="Write the locks, or check them.")
    parser.add_argument("locks", nargs="*", metavar="cpu|cpu-pypi|cuda", help="which; all by default")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a lock is not a solution any more")
    parser.add_argument("--upgrade", action="store_true", help="take the newest releases that the ranges allow")
    arguments = parser.parse_args()
    if unknown := set(arguments.locks) - set(UV_OPTIONS):
        parser.error(f"no such lock: {', '.join(sorted(unknown))}; there are {', '.join(UV_OPTIONS)}")
    codes = [lock(name, arguments.check, arguments.upgrade) for name in arguments.locks or UV_OPTIONS]
    return max(codes)


def lock(name: str, check: bool, upgrade: bool) -> int:
    """Resolve one lock, then write it or compare with it."""
    path = REPOSITORY / "requirements" / f"{name}.txt"
    with tempfile.TemporaryDirectory() as folder:
        resolved = Path(folder) / path.name
        if path.exists():
            shutil.copyfile(path, resolved)  # uv prefers the pins that it finds in the output file.
        if error := resolve(name, resolved, upgrade):
            print(f"requirements/{path.name} cannot be resolved:\n{error}", file=sys.stderr)
            return 3
        text = HEADERS[name] + without_comment_lines_at_top(resolved.read_text())
    if not check:
        path.write_text(text)
        print(f"requirements/{path.name}: {len(pins(text))} packages")
        return 0
    changes = differences(pins(path.read_text()) if path.exists() else {}, pins(text))
    if changes:
        listed = "\n".join(f"  {line}" for line in changes)
        print(f"requirements/{path.name} does not fit pyproject.toml any more:\n{listed}", file=sys.stderr)
        print("Run: make lock", file=sys.stderr)
        return 1
    print(f"requirements/{path.name}: {len(pins(text))} packages, still a solution")
    return 0


def resolve(name: str, output: Path, upgrade: bool) -> str:
    """Let uv solve pyproject.toml for lock `name` into `output`; returns its error, or nothing."""
    uv = str(Path(sys.executable).with_name("uv"))
    command = [uv, "pip", "compile", "pyproject.toml", "--group=dev"]
    command += [f"--override=requirements/overrides-{name}.txt", "--generate-hashes", *UV_OPTIONS[name]]
    command += ["--no-header", "--no-emit-find-links", "--no-emit-index-url", "--quiet", f"--output-file={output}"]
    if upgrade:
        command.append("--upgrade")
    environment = dict(os.environ)
    if name == "cpu-pypi":
        # The common index alone: a CPU build from elsewhere would count as the same release.
        for variable in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "UV_INDEX", "UV_EXTRA_INDEX_URL"):
            environment.pop(variable, None)
    if "PIP_FIND_LINKS" in environment:
        # pip separates by spaces, uv by commas.
        environment.setdefault("UV_FIND_LINKS", ",".join(environment["PIP_FIND_LINKS"].split()))
    result = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    return "" if result.returncode == 0 else result.stderr.strip()


def without_comment_lines_at_top(text: str) -> str:
    """The lock without the header that a former run left."""
    lines = text.splitlines(keepends=True)
    while lines and lines[0].startswith("#"):
        lines.pop(0)
    return "".join(lines)


def pins(text: str) -> dict[str, str]:
    """`name ; marker` -> version of each package in a lock."""
    found = (PIN.match(line) for line in text.splitlines())
    return {match[1] + match[3].rstrip(" \\"): match[2] for match in found if match}


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """One line for each pin that is new, gone or other."""
    names = sorted(before.keys() | after.keys())
    return [
        f"{name}: {before.get(name, 'absent')} -> {after.get(name, 'absent')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


if __name__ == "__main__":
    sys.exit(main())
