"""Looks at test items are counted for tuned arms only, and a torn line costs nothing else."""

from __future__ import annotations

from pathlib import Path

from tunelift.artifacts.looks import FILE, count_looks, note_look


def test_looks_of_tuned_arms_are_counted_by_task(tmp_path: Path) -> None:
    asked = {"golden": "f00", "guard": "ba2"}
    assert count_looks(tmp_path, asked) == {}
    for run, arm, tuned in (("a", "base", False), ("a", "tuned", True), ("b", "mine", True)):
        note_look(tmp_path, run=run, arm=arm, tuned=tuned, items=asked)
    assert count_looks(tmp_path, asked) == {"golden": 2, "guard": 2}


def test_looks_noted_before_arms_had_names_of_their_own_still_count(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('{"run": "a", "arm": "tuned", "task": "golden", "items": "f00"}\n{"run": "b", "ar')
    assert count_looks(tmp_path, {"golden": "f00"}) == {"golden": 1}


def test_a_look_at_other_items_of_the_same_name_is_none_at_these(tmp_path: Path) -> None:
    for items in ({"test": "old"}, {"test": "old"}, {"test": "new", "golden": "f00"}):
        note_look(tmp_path, run="a", arm="tuned", tuned=True, items=items)
    assert count_looks(tmp_path, {"test": "new"}) == {"test": 1}
    assert count_looks(tmp_path, {"test": "newest"}) == {}
