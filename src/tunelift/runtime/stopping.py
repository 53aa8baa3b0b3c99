"""Ctrl-C and SIGTERM, heeded even where Python swallows what a signal handler raises (fork hooks, finalizers)."""

from __future__ import annotations

import signal
import sys


class Stopped(KeyboardInterrupt):
    """The user or the system asked to stop; unwinds everything, so that engines, workers and locks are let go.

    A KeyboardInterrupt, since asyncio lets no other exception out of a running task.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


_received: list[int] = []


def heed_signals() -> None:
    """Let SIGINT and SIGTERM raise `Stopped` in this process."""
    signal.signal(signal.SIGINT, _stop)
    signal.signal(signal.SIGTERM, _stop)
    sys.unraisablehook = _unless_stopped


def _stop(number: int, _: object) -> None:
    _received.append(number)
    raise Stopped(number)


def _unless_stopped(swallowed: sys.UnraisableHookArgs) -> None:
    """Print no traceback of a stop that Python swallows; `raise_if_stopped` raises it again."""
    if not isinstance(swallowed.exc_value, Stopped):
        sys.__unraisablehook__(swallowed)


def raise_if_stopped() -> None:
    """Raise what was swallowed; called now and then by whatever waits."""
    if _received:
        raise Stopped(_received[0])
