"""Several processes: the same results in the same order, few chunks in memory, and a death that is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import pytest

from tunelift.errors import MachineError
from tunelift.stages.curate.processes import WAITING, map_chunks


def multiplier(factor: int) -> Callable[[int], int]:
    return lambda number: factor * number


def here_or_there(_: int) -> Callable[[int], int]:
    return lambda number: os.getpid()


def killer(_: int) -> Callable[[int], int]:
    parent = os.getppid()

    def work(number: int) -> int:
        if number == 5 and os.getppid() == parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    return work


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order(processes: int) -> None:
    made = map_chunks(multiplier, (3,), range(40), processes=processes, chunks_here=3)
    assert list(made) == [3 * number for number in range(40)]


def test_few_chunks_start_no_process() -> None:
    made = list(map_chunks(here_or_there, (0,), range(4), processes=2, chunks_here=4))
    assert made == [os.getpid()] * 4


def test_later_chunks_are_done_elsewhere() -> None:
    made = list(map_chunks(here_or_there, (0,), range(30), processes=2, chunks_here=2))
    assert made[:2] == [os.getpid()] * 2
    assert os.getpid() not in made[2:]


def test_chunks_are_taken_as_they_are_needed() -> None:
    taken = 0

    def chunks() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    made = map_chunks(multiplier, (1,), chunks(), processes=2, chunks_here=1)
    for _ in range(5):
        next(made)
    assert taken <= 5 + 2 * WAITING + 1
    made.close()  # type: ignore[attr-defined]


def test_a_killed_process_is_the_machines_failure() -> None:
    with pytest.raises(MachineError, match="killed"):
        list(map_chunks(killer, (0,), range(20), processes=2, chunks_here=1))
