"""Running pip: its words to a log, progress and remedies to the person."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from environment.words import SetupError, clock, last_line

LINE_SECONDS = 10.0
"""Without a terminal, progress is a line this often."""

REMEDIES = {
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


def has_release(python: Path, requirement: str) -> bool:
    """Whether pip's indexes and folders have `name==version` for this interpreter; nothing is downloaded.

    Raises:
        SetupError: pip could not ask them.
    """
    name, _, version = requirement.partition("==")
    command = [str(python), "-m", "pip", "index", "versions", "--no-input", name]
    answer = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if answer.returncode != 0:
        remedy = remedy_for(answer.stdout, "Check pip's settings (pip config list), then run make setup again.")
        raise SetupError(f"pip could not ask its index for {name}: {last_line(answer.stdout)}", remedy, code=3)
    return version in re.findall(r"[^\s,()]+", answer.stdout)


def run_pip(venv: Path, log: Path, arguments: list[str], packages: int) -> None:
    """Run `pip install` in an environment, output to the log, progress to the person.

    Raises:
        SetupError: pip failed; with its last words and a remedy.
    """
    # Python compiles the files that are used when they are used; compiling all of them takes longer than the rest.
    command = [str(venv / "bin" / "python"), "-m", "pip", "install", "--no-input", "--no-compile", "--progress-bar=off"]
    command += arguments
    tail: list[str] = []
    with log.open("a", encoding="utf-8") as written, Progress(venv, packages) as progress:
        written.write(f"\n$ {' '.join(command)}\n")
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        with process:
            for line in process.stdout or ():
                written.write(line)
                written.flush()
                progress.saw(line)
                if not line.startswith("WARNING: Location"):  # pip may say so hundreds of times.
                    tail = [*tail[-40:], line]
    if process.returncode != 0:
        text = "".join(tail)
        errors = [line.strip() for line in tail if line.startswith("ERROR")] or [last_line(text)]
        remedy = remedy_for(text, f"Read the end of {log.parent.name}/{log.name}, then run make setup again.")
        raise SetupError("pip failed:\n    " + "\n    ".join(line[:300] for line in errors[-3:]), remedy, code=3)


def remedy_for(text: str, otherwise: str) -> str:
    """What to do about what pip said."""
    found = (words for pattern, words in REMEDIES.items() if re.search(pattern, text))
    return next(found, otherwise)


class Progress:
    """How far pip is, and for how long: one line, rewritten on a terminal, repeated now and then elsewhere."""

    def __init__(self, venv: Path, packages: int) -> None:
        self.venv = venv
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
                done = len(list(self.venv.glob("lib/python*/site-packages/*.dist-info")))
                unpacked = f", {min(done, self.packages)} of {self.packages} done"
            text = f"  {self.step}{unpacked}, {clock(time.monotonic() - self.started)}"
            print(f"\r\033[K{text}" if terminal else text, end="" if terminal else "\n", file=sys.stderr, flush=True)
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
