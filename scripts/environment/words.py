"""What setup says to a person."""

from __future__ import annotations

import sys


class SetupError(Exception):
    """What is wrong and what to do, for a person."""

    def __init__(self, message: str, remedy: str, code: int = 2) -> None:
        space = "" if remedy.startswith("\n") else " "
        super().__init__(f"error: {message}\n  What to do:{space}{remedy}")
        self.code = code


def say(line: str) -> None:
    """Print for a person."""
    print(line, file=sys.stderr, flush=True)


def last_line(text: str) -> str:
    """The last line that says something."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "it said nothing")


def clock(seconds: float) -> str:
    """Seconds as a person reads them."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
