"""One function over many chunks of rows, in several processes; results come back in the order of the chunks.

The function and what prepares it know nothing of this: another engine may call them as well.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from typing import Any, TypeVar

from tunelift.errors import MachineError
from tunelift.runtime.stopping import raise_if_stopped
from tunelift.runtime.worker import die_with_parent, leave_torch_out

Chunk = TypeVar("Chunk")
Result = TypeVar("Result")
WAITING = 3
"""Chunks under way for each process: enough that none waits, few enough that memory stays small."""


def map_chunks(
    prepare: Callable[..., Callable[[Chunk], Result]],
    arguments: tuple[Any, ...],
    chunks: Iterable[Chunk],
    *,
    processes: int,
    chunks_here: int,
) -> Iterator[Result]:
    """What the function that `prepare(*arguments)` returns makes of each chunk, in order.

    Args:
        prepare: Called once in each process; a module's function, so that a new process can import it.
        arguments: Can be pickled, as chunks and results can.
        processes: How many; with 1, everything happens here.
        chunks_here: So many chunks are done here before other processes are started, which may take longer.

    Raises:
        MachineError: a process was killed, for memory as a rule.
    """
    work, rest = prepare(*arguments), iter(chunks)
    yield from map(work, islice(rest, chunks_here) if processes > 1 else rest)
    first = next(rest, None)
    if first is None:
        return
    context = multiprocessing.get_context("spawn")  # A fork would take over locks of threads that do not exist in it.
    with ProcessPoolExecutor(processes, context, _begin, (prepare, arguments)) as pool:
        try:
            yield from _in_order(pool, first, rest, processes * WAITING)
        except BrokenProcessPool as error:
            raise MachineError(
                "A process that looks at rows was killed; as a rule the machine has run out of memory.",
                remedy="Set curate.processes to a smaller number, and run the same command again.",
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _in_order(pool: ProcessPoolExecutor, first: Any, rest: Iterator[Any], at_once: int) -> Iterator[Any]:
    waiting: deque[Future[Any]] = deque([pool.submit(_work, first)])
    waiting.extend(pool.submit(_work, chunk) for chunk in islice(rest, at_once - 1))
    while waiting:
        raise_if_stopped()
        result = waiting.popleft().result()
        waiting.extend(pool.submit(_work, chunk) for chunk in islice(rest, 1))
        yield result


_prepared: Callable[[Any], Any] | None = None


def _begin(prepare: Callable[..., Callable[[Any], Any]], arguments: tuple[Any, ...]) -> None:
    global _prepared
    die_with_parent()
    leave_torch_out()
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # Each process has a core of its own.
    _prepared = prepare(*arguments)


def _work(chunk: Any) -> Any:
    assert _prepared is not None, "the process has not begun"
    return _prepared(chunk)
