"""From what the machine has to .venv: which lock, whether all is there that it needs, and the installation."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from environment.gpus import Driver, ask_driver
from environment.machine import notes, refuse_what_is_missing
from environment.pip import has_release, run_pip
from environment.python import Interpreter, dotted, examine, fetch_python, find_python
from environment.words import SetupError, clock, last_line, say

REPOSITORY = Path(__file__).resolve().parents[2]
VENV = REPOSITORY / ".venv"
STAMP = VENV / "tunelift-setup.json"
LOG = VENV / "tunelift-setup.log"

DEVICES = ("cpu", "cuda")
CPU_BUILD_PYTHON = (3, 11)
"""requirements/cpu.txt has PyTorch's CPU build for this one; cpu-pypi.txt has a build for each Python."""


def main() -> int:
    """Returns the exit code: 0 done, 2 the user can mend it, 3 the machine failed."""
    try:
        driver = ask_driver()
        device, reason = choose_device(driver)
        kept = installed_lock(device)
        if kept and installed() == fingerprint(device, kept):
            say(f"Environment: .venv is ready ({device}: {reason}).")
            return 0
        refuse_link()
        say(f"Environment: packages for {device}, since {reason}.")
        started = time.monotonic()
        python = prepare(device, kept, driver)
        make_venv(python, device)
        lock = kept or choose_lock(device, python)
        install_lock(lock)
        install_project()
        STAMP.write_text(json.dumps(fingerprint(device, lock)) + "\n")
        say(f"Environment: ready in .venv after {clock(time.monotonic() - started)}.")
    except SetupError as error:
        print(error, file=sys.stderr)
        return error.code
    except OSError as error:
        print(f"error: {error.filename or VENV}: {error.strerror}.", file=sys.stderr)
        print("  What to do: free space or make this folder writable, then run make setup again.", file=sys.stderr)
        return 3
    except KeyboardInterrupt:
        print("Stopped. Run make setup again to go on.", file=sys.stderr)
        return 130
    return 0


def refuse_link() -> None:
    """Raises SetupError if .venv is a link: making it anew would empty a folder that may be another's."""
    if VENV.is_symlink():
        raise SetupError(f".venv is a link to {os.readlink(VENV)}.", "Remove it (rm .venv), then run make setup again.")


def choose_device(driver: Driver | None) -> tuple[str, str]:
    """`cpu` or `cuda`, and why."""
    chosen = os.environ.get("DEVICE", "").strip().lower()
    if chosen:
        if chosen not in DEVICES:
            raise SetupError(f"DEVICE={chosen} is not a device.", "Say DEVICE=cpu or DEVICE=cuda, or leave it out.")
        return chosen, f"DEVICE={chosen} is set"
    if driver is None:
        return "cpu", "there is no nvidia-smi, so no NVIDIA driver"
    # One that fails is no sign of a machine without a GPU.
    if driver.failure:
        return "cuda", "there is an nvidia-smi"
    return "cuda", f"nvidia-smi finds {len(driver.cards)} × {driver.cards[0].name}"


def prepare(device: str, kept: str, driver: Driver | None) -> Interpreter:
    """An interpreter, once the machine has all that the packages need.

    Raises:
        SetupError: it has not; with all that is missing.
    """
    python, seen = find_python()
    if device == "cuda" and os.environ.get("DEVICE") and (driver is None or driver.failure):
        # An image may be built where no GPU is, and the tests of this lock run there.
        why = f"nvidia-smi fails: {driver.failure}" if driver else "there is no nvidia-smi"
        say(f"Environment: driver and card are not looked at, since {why}.")
        driver = None
    small = python is not None and python.version == CPU_BUILD_PYTHON
    likely = kept or (device if device == "cuda" or small else "cpu-pypi")
    asked = driver if device == "cuda" else None
    refuse_what_is_missing(likely, VENV, asked, python, seen, update=(VENV / "lib").exists())
    for line in notes(asked) if asked else ():
        say(f"Environment: {line}.")
    return python or fetch_python()


def choose_lock(device: str, python: Interpreter) -> str:
    """The lock's name, for packages that are not there yet.

    PyTorch keeps its CPU build on an index of its own. Where pip reaches none that has it, the common index's build,
    with CUDA, serves as well: it only takes more room.
    """
    if device == "cuda":
        return "cuda"
    wanted = next(line.split()[0] for line in lock_file("cpu").read_text().splitlines() if line.startswith("torch=="))
    release = wanted.partition("==")[2].partition("+")[0]
    if python.version != CPU_BUILD_PYTHON:
        why = f"its CPU build is locked for Python {dotted(CPU_BUILD_PYTHON)}, and this is {dotted(python.version)}"
    elif has_release(VENV / "bin" / "python", wanted):
        return "cpu"
    else:
        why = "pip's index has no CPU build of it"
    say(f"Environment: PyTorch {release} comes with CUDA (some 3 GB more) and runs on the CPU, since {why}.")
    refuse_what_is_missing("cpu-pypi", VENV, None, python, "", update=False)
    return "cpu-pypi"


def lock_file(lock: str) -> Path:
    """The file of a lock."""
    return REPOSITORY / "requirements" / f"{lock}.txt"


def fingerprint(device: str, lock: str) -> dict[str, str]:
    """What an environment is made from: it is made again when this changes."""
    digest = hashlib.sha256(lock_file(lock).read_bytes() + (REPOSITORY / "pyproject.toml").read_bytes())
    return {"device": device, "lock": lock, "folder": str(REPOSITORY), "sha256": digest.hexdigest()}


def installed() -> dict[str, str]:
    """What .venv was made from; nothing if it is not whole."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if (VENV / "bin" / "python").exists() else {}


def installed_lock(device: str) -> str:
    """The lock of the packages that are there for `device`, which is kept; nothing if there are none."""
    stamp = installed()
    return stamp.get("lock", device) if stamp.get("device") == device else ""


def make_venv(python: Interpreter, device: str) -> None:
    """Make .venv, or keep it if it is for the same device and Python."""
    if VENV.exists():
        inside = examine(str(VENV / "bin" / "python"))
        # Both builds of vLLM own one folder, so a change of device starts afresh.
        if inside and inside.version == python.version and installed().get("device", device) == device:
            if STAMP.exists():
                STAMP.unlink()
            return
        say("Environment: .venv was made for another device or Python; making it anew.")
    command = [python.path, "-m", "venv", "--clear", str(VENV)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            f"{' '.join(command[:3])} failed: {last_line(result.stdout + result.stderr)}",
            f"On Debian and Ubuntu: apt-get install python{dotted(python.version)}-venv. Then run make setup again.",
        )


def install_lock(lock: str) -> None:
    """Install the locked packages, just as they are."""
    path = lock_file(lock)
    packages = len(re.findall(r"^[A-Za-z0-9][^ ]*==", path.read_text(), re.MULTILINE))
    say(f"Installing {packages} packages of requirements/{path.name}; pip's words go to {LOG.relative_to(REPOSITORY)}")
    run_pip(VENV, LOG, ["--no-deps", "--require-hashes", "--requirement", str(path)], packages)


def install_project() -> None:
    """Install tunelift from this folder, editable; the lock holds what builds it."""
    run_pip(VENV, LOG, ["--no-deps", "--no-build-isolation", "--editable", str(REPOSITORY)], 1)
