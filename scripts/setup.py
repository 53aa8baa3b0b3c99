"""Make the environment: .venv with the locked packages for this machine, and tunelift itself.

    python3 scripts/setup.py            (or: make setup)

Runs on a bare Python, with the standard library only. It says which lock it takes and why, installs nothing that is not
pinned by hash, and returns at once when all is in place already.

Environment:
    DEVICE=cpu|cuda   take this lock, whatever the machine has
    PYTHON=/path      use this interpreter
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
VENV = REPOSITORY / ".venv"
STAMP = VENV / "tunelift-setup.json"
LOG = VENV / "tunelift-setup.log"

PYTHONS = {"cpu": ((3, 11),), "cuda": ((3, 11), (3, 12), (3, 13))}
"""Versions that each lock has hashes for, best first."""
NEEDED_GIB = {"cpu": 6, "cuda": 25}
"""Disk for the environment, with pip's downloads."""
LINE_SECONDS = 10.0
"""Without a terminal, progress is a line this often."""

REMEDIES = {
    r"No matching distribution found for torch|Could not find a version that satisfies the requirement torch": (
        "This needs PyTorch's CPU build, which PyTorch keeps on an index of its own. Find that index's address at "
        'pytorch.org/get-started (choose "Pip" and "CPU") and run: PIP_EXTRA_INDEX_URL=<address> make setup'
    ),
    r"No space left|Disk quota": "Free some space and run make setup again.",
    r"DO NOT MATCH THE HASHES": (
        "The index served another file than the locked one. Clear pip's cache (pip cache purge) or use another index, "
        "then run make setup again."
    ),
    r"Permission denied|Read-only file system": "Make this folder writable, then run make setup again.",
    r"ConnectionError|Max retries|Temporary failure|timed out|NewConnectionError|ProxyError|SSLError": (
        "Check the network (PIP_INDEX_URL, HTTPS_PROXY), then run make setup again; finished downloads are kept."
    ),
    r"No matching distribution|Could not find a version": (
        "pip's index does not have this locked file. Point pip at a complete index with PIP_INDEX_URL or "
        "PIP_EXTRA_INDEX_URL, then run make setup again."
    ),
}
"""What pip's log says, and what to do about it; the first that fits."""


class SetupError(Exception):
    """What is wrong and what to do, for a person."""

    def __init__(self, message: str, remedy: str, code: int = 2) -> None:
        super().__init__(f"error: {message}\n  What to do: {remedy}")
        self.code = code


def main() -> int:
    """Returns the exit code: 0 done, 2 the user can mend it, 3 the machine failed."""
    try:
        device, reason = choose_device()
        wanted = fingerprint(device)
        if installed() == wanted:
            say(f"Environment: .venv is ready ({device}: {reason}).")
            return 0
        say(f"Environment: the {device} lock, since {reason}.")
        python = find_python(device)
        need_free_space(device)
        make_venv(python, device)
        started = time.monotonic()
        install_lock(device)
        install_project()
        STAMP.write_text(json.dumps(wanted) + "\n")
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


def say(line: str) -> None:
    """Print for a person."""
    print(line, file=sys.stderr, flush=True)


def choose_device() -> tuple[str, str]:
    """`cpu` or `cuda`, and why."""
    chosen = os.environ.get("DEVICE", "").strip().lower()
    if chosen:
        if chosen not in PYTHONS:
            raise SetupError(f"DEVICE={chosen} is not a device.", "Say DEVICE=cpu or DEVICE=cuda, or leave it out.")
        return chosen, f"DEVICE={chosen} is set"
    if not shutil.which("nvidia-smi"):
        return "cpu", "there is no nvidia-smi, so no NVIDIA driver"
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return "cpu", f"nvidia-smi does not answer ({type(error).__name__})"
    names = re.findall(r"^GPU \d+: (.+?)(?: \(UUID|$)", answer.stdout, re.MULTILINE)
    if answer.returncode != 0 or not names:
        return "cpu", "nvidia-smi finds no GPU"
    return "cuda", f"nvidia-smi finds {len(names)} × {names[0]}"


def lock_file(device: str) -> Path:
    """The lock for a device."""
    return REPOSITORY / "requirements" / f"{device}.txt"


def fingerprint(device: str) -> dict[str, str]:
    """What an environment is made from: it is made again when this changes."""
    digest = hashlib.sha256(lock_file(device).read_bytes() + (REPOSITORY / "pyproject.toml").read_bytes())
    return {"device": device, "folder": str(REPOSITORY), "sha256": digest.hexdigest()}


def installed() -> dict[str, str]:
    """What .venv was made from; nothing if it is not whole."""
    try:
        stamp: dict[str, str] = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if (VENV / "bin" / "python").exists() else {}


def find_python(device: str) -> str:
    """An interpreter that the lock has files for.

    Raises:
        SetupError: there is none, or it cannot make environments.
    """
    asked = os.environ.get("PYTHON", "")
    names = [asked] if asked else [sys.executable, *(f"python{a}.{b}" for a, b in PYTHONS[device]), "python3"]
    seen = []
    for name in names:
        path = shutil.which(name)
        version = version_of(path) if path else None
        if path and version in PYTHONS[device]:
            return path
        seen.append(f"{name} is {'not there' if version is None else '.'.join(map(str, version))}")
    wanted = " or ".join(f"{a}.{b}" for a, b in PYTHONS[device])
    newest = "python{}.{}".format(*PYTHONS[device][0])
    raise SetupError(
        f"The {device} lock needs Python {wanted} ({'; '.join(seen)}).",
        f"Install it (Debian and Ubuntu: apt-get install {newest} {newest}-venv; anywhere: uv python install "
        f"{newest[6:]}), then run: PYTHON={newest} make setup",
    )


def version_of(python: str) -> tuple[int, int] | None:
    """Major and minor version, or nothing if it does not run."""
    command = [python, "-c", "import sys; print(*sys.version_info[:2])"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.split()
        return int(answer[0]), int(answer[1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError):
        return None


def need_free_space(device: str) -> None:
    """Refuse to begin what the disk cannot hold."""
    if (VENV / "lib").exists():
        return  # An update needs little.
    free_gib = shutil.disk_usage(REPOSITORY).free / 2**30
    if free_gib < NEEDED_GIB[device]:
        raise SetupError(
            f"The environment needs {NEEDED_GIB[device]} GiB, and {free_gib:.1f} GiB are free.",
            "Free some space and run make setup again.",
            code=3,
        )


def make_venv(python: str, device: str) -> None:
    """Make .venv, or keep it if it is for the same device and Python."""
    inside = VENV / "bin" / "python"
    if VENV.exists():
        same_python = version_of(str(inside)) == version_of(python)
        # Both builds of vLLM own one folder, so a change of device starts afresh.
        if same_python and installed().get("device", device) == device:
            STAMP.unlink(missing_ok=True)
            return
        say("Environment: .venv was made for another device or Python; making it anew.")
    result = subprocess.run([python, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True, check=False)
    if result.returncode != 0:
        package = "python{}.{}-venv".format(*(version_of(python) or (3, 11)))
        shutil.rmtree(VENV, ignore_errors=True)
        raise SetupError(
            f"{python} -m venv failed: {last_line(result.stdout + result.stderr)}",
            f"On Debian and Ubuntu: apt-get install {package}. Then run make setup again.",
        )


def install_lock(device: str) -> None:
    """Install the locked packages, just as they are."""
    lock = lock_file(device)
    packages = len(re.findall(r"^[A-Za-z0-9][^ ]*==", lock.read_text(), re.MULTILINE))
    say(f"Installing {packages} packages of requirements/{lock.name}; pip's words go to {LOG.relative_to(REPOSITORY)}")
    run_pip(["--no-deps", "--require-hashes", "--requirement", str(lock)], packages)


def install_project() -> None:
    """Install tunelift from this folder, editable; the lock holds what builds it."""
    run_pip(["--no-deps", "--no-build-isolation", "--editable", str(REPOSITORY)], 1)


def run_pip(arguments: list[str], packages: int) -> None:
    """Run `pip install`, output to the log, progress to the person.

    Raises:
        SetupError: pip failed; with its last words and a remedy.
    """
    # Python compiles the files that are used when they are used; compiling all of them takes longer than the rest.
    command = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar=off"]
    command += arguments
    tail: list[str] = []
    with (
        LOG.open("a", encoding="utf-8") as log,
        Progress(packages) as progress,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        ) as process,
    ):
        log.write(f"\n$ {' '.join(command)}\n")
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            progress.saw(line)
            if not line.startswith("WARNING: Location"):  # pip may say so hundreds of times.
                tail = [*tail[-40:], line]
    code = process.returncode
    if code != 0:
        text = "".join(tail)
        errors = [line.strip() for line in tail if line.startswith("ERROR")] or [last_line(text)]
        read = f"Read the end of {LOG.relative_to(REPOSITORY)}, then run make setup again."
        remedy = next((words for pattern, words in REMEDIES.items() if re.search(pattern, text)), read)
        raise SetupError("pip failed:\n    " + "\n    ".join(line[:300] for line in errors[-3:]), remedy, code=3)


class Progress:
    """How far pip is, and for how long: one line, rewritten on a terminal, repeated now and then elsewhere."""

    def __init__(self, packages: int) -> None:
        self.packages = packages
        self.found = 0
        self.step = "looking for packages"
        self.started = time.monotonic()
        self.stopped = threading.Event()
        self.ticker = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Progress:
        self.ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopped.set()
        self.ticker.join()

    def saw(self, line: str) -> None:
        """Take note of one line of pip's."""
        if line.startswith(("Collecting ", "Requirement already satisfied", "Ignoring ")):
            self.found += 1
            self.step = f"{self.found} of {self.packages} packages found"
        elif line.startswith("Installing collected packages"):
            self.step = "unpacking"

    def _tick(self) -> None:
        terminal = sys.stderr.isatty()
        while not self.stopped.wait(0.5 if terminal else LINE_SECONDS):
            unpacked = ""
            if self.step == "unpacking":
                done = len(list(VENV.glob("lib/python*/site-packages/*.dist-info")))
                unpacked = f", {min(done, self.packages)} of {self.packages} done"
            text = f"  {self.step}{unpacked}, {clock(time.monotonic() - self.started)}"
            print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def clock(seconds: float) -> str:
    """Seconds as a person reads them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


if __name__ == "__main__":
    sys.exit(main())
