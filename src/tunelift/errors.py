"""What a user or a machine can cause: a message, where it is, and what to do about it.

The command line prints these without a traceback and exits with `exit_code`.
Anything else that escapes is a bug in tunelift and keeps its traceback.
"""

from __future__ import annotations


class TuneliftError(Exception):
    """Base of the errors that are shown as one message and a remedy.

    Args:
        message: What is wrong, with the value at fault.
        remedy: What to do next, as a sentence.
        where: The place at fault, such as `configs/a.yaml:12` or `data/x.jsonl:40`.
    """

    exit_code = 1

    def __init__(self, message: str, *, remedy: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy
        self.where = where

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        remedy = f"\n  What to do: {self.remedy}" if self.remedy else ""
        return f"{place}{self.message}{remedy}"


class GateError(TuneliftError):
    """A gate did not hold: the evidence does not support the claim, or parity broke."""

    exit_code = 1


class UserError(TuneliftError):
    """The user's input is wrong."""

    exit_code = 2


class MachineError(TuneliftError):
    """The machine failed the run: out of memory or disk, an engine that died."""

    exit_code = 3


KINDS: dict[str, type[TuneliftError]] = {kind.__name__: kind for kind in (GateError, UserError, MachineError)}
"""By name, to carry an error from a worker process to its parent."""
