"""What a person sees while a command runs: plain lines, and progress with rate and time left.

Everything goes to standard error, so that standard output stays for results. A worker process writes to the file
descriptor named by `TUNELIFT_CONSOLE_FD`, since its own standard error is a log file.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

CONSOLE_FD = "TUNELIFT_CONSOLE_FD"
VERBOSITY = "TUNELIFT_VERBOSITY"
PLAIN_LINE_SECONDS = 10.0
"""Without a terminal, progress is a line this often."""
CONTROL = {
    **{code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"},
    0x7F: 0x2421,
    # What begins an escape sequence in one character, or turns the text after it round, has no picture of its own.
    **dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), 0xFFFD),
}
"""Control characters as their pictures, or as a replacement character."""


def verbosity() -> int:
    """-1 quiet, 0 normal, 1 verbose; inherited by worker processes through the environment."""
    return int(os.environ.get(VERBOSITY, "0"))


def set_verbosity(level: int) -> None:
    """Set it for this process and its workers."""
    os.environ[VERBOSITY] = str(level)


def stream() -> IO[str]:
    """Where lines for a person go."""
    number = os.environ.get(CONSOLE_FD)
    return _opened(int(number)) if number else sys.stderr


def descriptor() -> int:
    """The file descriptor behind `stream()`, to hand to a worker process."""
    try:
        return stream().fileno()
    except (OSError, ValueError):  # Replaced by an object without one, as test runners do.
        return 2


_streams: dict[int, IO[str]] = {}


def _opened(number: int) -> IO[str]:
    if number not in _streams:
        _streams[number] = os.fdopen(number, "w", buffering=1, encoding="utf-8", closefd=False)
    return _streams[number]


def say(line: str) -> None:
    """Print one line, unless `--quiet`; as `warn` and `detail`, so that text from elsewhere is harmless."""
    if verbosity() >= 0:
        print(harmless(line), file=stream(), flush=True)


def detail(line: str) -> None:
    """Print one line with `-v` only."""
    if verbosity() >= 1:
        print(harmless(line), file=stream(), flush=True)


def warn(line: str) -> None:
    """Print a warning, even with `--quiet`."""
    print(f"warning: {harmless(line)}", file=stream(), flush=True)


@dataclass
class Bar:
    """One running progress display: `advance` counts, `note` adds a short text such as the loss."""

    label: str
    total: int | None
    unit: str
    done: int = 0
    lean: bool = False
    """Only the count and the time left beside the note, which needs the room."""
    started: float = field(default_factory=time.monotonic)
    _rich: Progress | None = None
    _task: TaskID | None = None
    _first: int = 0
    _last_line: float = field(default_factory=time.monotonic)
    _text: str = ""

    def advance(self, count: int = 1, note: str | None = None) -> None:
        """Count `count` more units as done, with a new `note` beside them if one is given."""
        self.done += count
        self._text = self._text if note is None else note
        self._show()

    def note(self, text: str) -> None:
        """Show `text` beside the bar."""
        self._text = text
        self._show()

    def _show(self) -> None:
        if self._rich is not None and self._task is not None:
            self._rich.update(self._task, completed=self.done, text=self._text)
        elif time.monotonic() - self._last_line >= PLAIN_LINE_SECONDS:
            self._last_line = time.monotonic()
            say(self.line())

    def line(self) -> str:
        """The state as plain text: count, rate and time left."""
        seconds = max(time.monotonic() - self.started, 1e-9)
        rate = (self.done - self._first) / seconds
        left = f", {clock((self.total - self.done) / rate)} left" if self.total and rate > 0 else ""
        of = f"/{self.total}" if self.total else ""
        text = f"  {self._text}" if self._text else ""
        if self.lean:
            return f"{self.label}: {self.done}{of}{left}{text}"
        return f"{self.label}: {self.done}{of} {self.unit}, {rate:.1f} {self.unit}/s{left}{text}"


@contextmanager
def progress(
    label: str, total: int | None = None, unit: str = "items", done: int = 0, lean: bool = False
) -> Iterator[Bar]:
    """Show progress while the block runs: a bar on a terminal, a line now and then elsewhere, nothing if quiet.

    Args:
        label: What is being done.
        total: How many units there are, if known.
        unit: The plural of what is counted.
        done: How many were done before (a resumed run); they do not count towards the rate.
        lean: Show no more than the count and the time left beside the note.
    """
    bar = Bar(label, total, unit, done=done, lean=lean, _first=done)
    if verbosity() < 0 or not stream().isatty():
        yield bar
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    wide = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} {task.fields[unit]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}"),
    )
    narrow = (
        TextColumn("{task.description} {task.completed}/{task.total}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    columns = narrow if lean else wide
    with Progress(*columns, console=Console(file=stream()), transient=False) as rich:
        bar._rich, bar._task = rich, rich.add_task(label, total=total, completed=done, unit=unit, text="")
        yield bar


def clock(seconds: float) -> str:
    """Seconds as `1 h 02 min`, `3 min 05 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole} s"


def harmless(text: str) -> str:
    """Text from elsewhere that cannot steer the terminal."""
    return text.translate(CONTROL)
