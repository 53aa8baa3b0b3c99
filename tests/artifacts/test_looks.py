"""Looks at test items are counted by what tuned models were asked, and a torn line costs nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from tunelift.artifacts.looks import FILE, FOLDER, AskedItems, count_looks, note_look


def of(numbers: Iterable[int], digest: str = "f00") -> AskedItems:
    return AskedItems(digest, frozenset(f"{number:016x}" for number in numbers))


def look(root: Path, evaluation: str, items: AskedItems, *, task: str = "golden", tuned: bool = True) -> None:
    note_look(root, run="a", arm="mine", tuned=tuned, evaluation=evaluation, task=task, items=items)


def test_looks_of_tuned_arms_are_counted_by_task(tmp_path: Path) -> None:
    golden, guard = of(range(20)), of(range(50, 60))
    assert count_looks(tmp_path, {"golden": golden}) == {}
    for evaluation, tuned in (("base", False), ("one", True), ("two", True)):
        look(tmp_path, evaluation, golden, tuned=tuned)
        look(tmp_path, evaluation, guard, tuned=tuned, task="guard")
    assert count_looks(tmp_path, {"golden": golden, "guard": guard, "new": of([99])}) == {"golden": 2, "guard": 2}


def test_twenty_looks_count_whatever_changed_beside_the_questions(tmp_path: Path) -> None:
    for number in range(20):
        look(tmp_path, str(number), of(range(168)))
    now = {"other name, other answers": of(range(168), "ba2"), "one more": of(range(169)), "most": of(range(167))}
    assert count_looks(tmp_path, now | {"others": of(range(500, 600))}) == dict.fromkeys(now, 20)


def test_looks_at_a_part_of_the_items_count_for_that_part(tmp_path: Path) -> None:
    for number in range(20):
        look(tmp_path, str(number), of(range(84)))
    assert count_looks(tmp_path, {"golden": of(range(168)), "half": of(range(84))}) == {"golden": 10, "half": 20}
    look(tmp_path, "whole", of(range(168)))
    assert count_looks(tmp_path, {"golden": of(range(168))}) == {"golden": 11}


def test_one_evaluation_is_one_look_however_often_it_goes_on_and_under_however_many_names_it_asks(
    tmp_path: Path,
) -> None:
    for _ in range(5):
        look(tmp_path, "one", of(range(10)))
    look(tmp_path, "one", of(range(5)), task="again")
    look(tmp_path, "one", of(range(5, 30)), task="more")
    assert len((tmp_path / FILE).read_text().splitlines()) == 3
    assert count_looks(tmp_path, {"all": of(range(30))}) == {"all": 1}


def test_what_was_asked_is_kept_once_and_as_digests_only(tmp_path: Path) -> None:
    for number in range(50):
        look(tmp_path, str(number), of(range(1000)))
    (kept,) = (tmp_path / FOLDER).iterdir()
    assert set(kept.read_text().split()) == of(range(1000)).questions
    assert sum(path.stat().st_size for path in (kept, tmp_path / FILE)) < 40_000


def test_looks_of_older_runs_count_as_far_as_they_tell(tmp_path: Path) -> None:
    older = {"run": "a", "task": "golden", "items": "f00"}
    lines = [older | {"arm": "tuned"}, older | {"arm": "mine", "tuned": True}, older | {"arm": "base", "tuned": False}]
    (tmp_path / FILE).write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"run": "b", "ar')
    look(tmp_path, "one", of(range(10)))
    assert count_looks(tmp_path, {"golden": of(range(10))}) == {"golden": 3}
    assert count_looks(tmp_path, {"golden": of(range(10), "of other answers")}) == {"golden": 1}


def test_a_torn_line_and_a_lost_set_cost_nothing_else(tmp_path: Path) -> None:
    look(tmp_path, "one", of(range(10)))
    with (tmp_path / FILE).open("a") as file:
        file.write('{"run": "b", "ar')
    look(tmp_path, "two", of(range(10)))
    assert count_looks(tmp_path, {"golden": of(range(10))}) == {"golden": 2}
    for path in (tmp_path / FOLDER).iterdir():
        path.unlink()
    assert count_looks(tmp_path, {"golden": of(range(10))}) == {"golden": 2}, "by the digest of all items"
