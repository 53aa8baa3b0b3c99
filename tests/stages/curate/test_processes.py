"""Several processes: the same results in the same order, few chunks in memory, and a death that is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator

import psutil
import pytest

from tunelift.errors import MachineError, UserError
from tunelift.stages.curate.processes import WAITING, Processes


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


@pytest.fixture
def two() -> Iterator[Processes]:
    with Processes(2) as processes:
        yield processes


@pytest.mark.parametrize("number", [1, 2])
def test_results_come_in_order(number: int) -> None:
    with Processes(number) as processes:
        assert list(processes.map(multiplier, (3,), range(40), few=3)) == [3 * one for one in range(40)]


def test_few_chunks_start_no_process(two: Processes) -> None:
    assert list(two.map(here_or_there, (0,), range(4), few=4)) == [os.getpid()] * 4


def test_many_chunks_are_all_done_elsewhere(two: Processes) -> None:
    assert os.getpid() not in list(two.map(here_or_there, (0,), range(30), few=29))


def test_what_comes_next_is_done_by_the_same_processes(two: Processes) -> None:
    first = set(two.map(here_or_there, (0,), range(30), few=0))
    assert list(two.map(multiplier, (3,), range(40), few=0)) == [3 * one for one in range(40)]
    assert list(two.map(multiplier, (4,), range(40), few=0)) == [4 * one for one in range(40)]
    assert len(first | set(two.map(here_or_there, (0,), range(30), few=10))) <= 2, "one of them may do all"


def test_no_process_is_left_in_the_end() -> None:
    with Processes(2) as processes:
        made = set(processes.map(here_or_there, (0,), range(30), few=0))
        assert all(map(psutil.pid_exists, made))
    assert not any(map(psutil.pid_exists, made))


def test_chunks_are_taken_as_they_are_needed(two: Processes) -> None:
    taken = 0

    def chunks() -> Iterator[int]:
        nonlocal taken
        for number in range(1000):
            taken += 1
            yield number

    made = two.map(multiplier, (1,), chunks(), few=1)
    for _ in range(5):
        next(made)
    assert taken <= 5 + 2 * WAITING + 1


def test_a_killed_process_is_the_machines_failure(two: Processes) -> None:
    with pytest.raises(MachineError, match="killed"):
        list(two.map(killer, (0,), range(20), few=1))


def unprepared(_: int) -> Callable[[int], int]:
    raise UserError("The schema for replies cannot be read.", where="schema.json", remedy="Correct it.")


@pytest.mark.parametrize("few", [0, 20])
def test_what_is_wrong_with_the_rules_is_told_alike_here_and_there(two: Processes, few: int) -> None:
    with pytest.raises(UserError, match="cannot be read") as caught:
        list(two.map(unprepared, (0,), range(20), few=few))
    assert (caught.value.where, caught.value.remedy) == ("schema.json", "Correct it.")
