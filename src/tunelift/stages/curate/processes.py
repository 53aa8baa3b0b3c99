"""One function over many chunks of rows, in several processes; results come back in the order of the chunks.

The function and what prepares it know nothing of this: another engine may call them as well.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, TypeVar

from tunelift.errors import MachineError
from tunelift.runtime.stopping import raise_if_stopped
from tunelift.runtime.worker import die_with_parent, leave_torch_out

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
WAITING = 3
"""Chunks under way for each process: enough that none waits, few enough that memory stays small."""


class Processes:
    """Processes that are started when the first of them is needed, and kept for all that is done after.

    Args:
        number: How many; with 1, everything happens here.
    """

    def __init__(self, number: int) -> None:
        self._number = number
        self._pool: ProcessPoolExecutor | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="tunelift-")
        self._tasks = (Path(self._folder.name, str(number)) for number in count())

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        self._folder.cleanup()

    def map(
        self,
        prepare: Callable[..., Callable[[Chunk], Result]],
        arguments: tuple[Any, ...],
        chunks: Iterable[Chunk],
        *,
        few: int,
    ) -> Iterator[Result]:
        """What the function that `prepare(*arguments)` returns makes of each chunk, in order.

        Args:
            prepare: Called once in each process; a module's function, so that a new process can import it.
            arguments: Can be pickled, as chunks and results can.
            few: So many chunks are done here: to start processes would take longer. If there are more, and for all
                that comes after, each is done in one of them.

        Raises:
            MachineError: a process was killed, for memory as a rule.
        """
        rest = iter(chunks)
        if self._pool is None:
            held = list(islice(rest, few + 1)) if self._number > 1 else []
            rest = chain(held, rest)
            if len(held) <= few:
                yield from map(prepare(*arguments), rest)
                return
            # A fork would take over locks of threads that do not exist in it.
            self._pool = ProcessPoolExecutor(self._number, multiprocessing.get_context("spawn"), _begin)
        task = next(self._tasks)
        task.write_bytes(pickle.dumps((prepare, arguments)))  # Too much to be sent along with each chunk.
        try:
            yield from _in_order(self._pool, task, rest, self._number * WAITING)
        except BrokenProcessPool as error:
            raise MachineError(
                "A process that looks at rows was killed; as a rule the machine has run out of memory.",
                remedy="Set curate.processes to a smaller number, and run the same command again.",
            ) from error


def _in_order(pool: ProcessPoolExecutor, task: Path, rest: Iterator[Any], at_once: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque()
    try:
        waiting.extend(pool.submit(_work, task, chunk) for chunk in islice(rest, at_once))
        while waiting:
            raise_if_stopped()
            result = waiting.popleft().result()
            waiting.extend(pool.submit(_work, task, chunk) for chunk in islice(rest, 1))
            yield result
    finally:
        for future in waiting:
            future.cancel()


_prepared: tuple[Path, Callable[[Any], Any]] | None = None
"""In one of the processes: the task at hand, and what does it."""


def _begin() -> None:
    die_with_parent()
    leave_torch_out()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Each process has a core of its own.


def _work(task: Path, chunk: Any) -> Any:
    global _prepared
    if _prepared is None or _prepared[0] != task:
        _prepared = None  # What the task before needed is let go first.
        prepare, arguments = pickle.loads(task.read_bytes())
        _prepared = task, prepare(*arguments)
    return _prepared[1](chunk)
