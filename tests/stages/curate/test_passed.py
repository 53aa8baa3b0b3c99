"""Rows that passed: what was put in comes out, at any place and in other processes."""

from __future__ import annotations

import errno
import pickle
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path

import numpy as np
import orjson
import pytest

from tunelift.stages.curate.passed import Facts, Passed


def facts(number: int, lengths: tuple[tuple[int, int], ...] = ((9, 3),), stratum: str = "") -> Facts:
    return Facts(
        lengths,
        exact=number + 2**63,
        prompt=number,
        reply=2 * number,
        setting=4 * number,
        group=3 * number,
        stratum=stratum,
    )


def entry(prompt: str, *replies: dict) -> bytes:  # type: ignore[type-arg]
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": prompt}, *replies]
    return orjson.dumps({"messages": messages}) + b"\n"


@pytest.fixture
def passed(tmp_path: Path) -> Iterator[Passed]:
    with Passed(tmp_path / "work") as empty:
        yield empty


@pytest.fixture
def filled(passed: Passed) -> Passed:
    for number in range(5):
        reply = {"role": "assistant", "content": f"Ä{number}"}
        lengths = ((9, 3),) if number % 2 == 0 else ((4, 1), (7, 2))
        stratum = "abc"[number % 3]
        passed.append(
            entry(f"Ask {number}", reply), b'{"raw":%d}' % number, number % 2, facts(number, lengths, stratum)
        )
    return passed


def test_rows_come_back_as_they_were(filled: Passed) -> None:
    passed = filled
    assert len(passed) == 5
    assert passed.line(3) == entry("Ask 3", {"role": "assistant", "content": "Ä3"})
    assert passed.raw(0) == b'{"raw":0}'
    assert passed.column("exact").tolist() == [number + 2**63 for number in range(5)]
    assert passed.column("setting").tolist() == [0, 4, 8, 12, 16]
    assert passed.column("group").tolist() == [0, 3, 6, 9, 12]
    assert passed.sources.tolist() == [0, 1, 0, 1, 0]
    assert passed.strata(np.asarray([4, 0, 2])) == ["b", "a", "c"]


def test_the_file_is_gone_afterwards(tmp_path: Path) -> None:
    with Passed(tmp_path / "work") as passed:
        passed.append(entry("Hi"), b"{}", 0, facts(1))
        assert passed.line(0) == entry("Hi")
    assert not (tmp_path / "work").exists()


def test_lengths_are_of_each_row_that_training_makes(filled: Passed) -> None:
    passed = filled
    assert passed.lengths(0) == [(9, 3)]
    assert passed.lengths(3) == [(4, 1), (7, 2)]
    assert passed.tokens.tolist() == [9, 11, 9, 11, 9]
    assert passed.supervised.tolist() == [3, 3, 3, 3, 3]


def test_texts_are_read_where_they_are_needed(filled: Passed) -> None:
    texts = filled.texts(np.asarray([4, 1]))
    elsewhere = pickle.loads(pickle.dumps(texts))
    assert len(elsewhere) == 2
    assert elsewhere(np.asarray([1, 0])) == [("Ask 1", "Ä1"), ("Ask 4", "Ä4")]


def test_tool_calls_are_part_of_what_is_learnt(passed: Passed) -> None:
    call = {"type": "function", "function": {"name": "look", "arguments": {"for": "x"}}}
    turns = [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "found"},
        {"role": "assistant", "content": "There."},
    ]
    passed.append(entry("Where?", *turns), b"{}", 0, facts(1))
    assert passed.texts(np.asarray([0]))(np.asarray([0])) == [
        ("Where?", '{"name":"look","arguments":{"for":"x"}}\nThere.')
    ]


def test_thinking_is_part_of_what_is_learnt(passed: Passed) -> None:
    reply = {"role": "assistant", "content": "There.", "reasoning_content": "It was here before."}
    passed.append(entry("Where?", reply), b"{}", 0, facts(1))
    assert passed.texts(np.asarray([0]))(np.asarray([0])) == [("Where?", "It was here before.\nThere.")]


def test_no_rows_are_no_trouble(passed: Passed) -> None:
    nothing = np.asarray([], dtype=np.int64)
    assert passed.tokens.tolist() == passed.column("exact").tolist() == passed.texts(nothing)(nothing) == []


class Full(BytesIO):
    """A file that cannot be written to its end."""

    def close(self) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_on_a_full_disk_the_file_goes_all_the_same(passed: Passed, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(passed, "_file", Full())
        with pytest.raises(OSError, match="No space left"):
            passed.__exit__()
    assert not passed.path.exists()


def test_a_run_that_was_started_again_keeps_its_file(tmp_path: Path) -> None:
    """What a killed run left behind ends later than the new run begins: it takes away its own file only."""
    path = tmp_path / "work"
    with Passed(path):
        path.unlink()
        path.write_bytes(b"the new run's")
    assert path.read_bytes() == b"the new run's"
