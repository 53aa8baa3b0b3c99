"""From `scorers:` to scorers: names, options, identities, and mistakes with their places."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from tests.tasks.scorers.making import anything, item, json_values, task
from tunelift.errors import UserError
from tunelift.tasks.folder import TaskFile
from tunelift.tasks.scorers import SCORERS, VERSION, build_scorers, score

EXAMPLES: dict[str, dict[str, Any]] = {
    "regex": {"pattern": "a+"},
    "contains": {"texts": ["a"]},
    "not_contains": {"texts": ["a"]},
    "length": {"at_most": 3},
}
"""Options for those that need some."""
RULES = build_scorers(
    [{"scorer": name, **EXAMPLES.get(name, {})} for name in SCORERS if name != "evaluate"], has_tools=True
)


def place(path: Sequence[str | int]) -> str:
    return "task.yaml:" + ".".join(map(str, path))


def refused(*entries: Any, **more: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        build_scorers(entries, where=place, **more)
    return caught.value


def test_a_name_and_a_mapping_of_it_are_the_same_scorer() -> None:
    short, long = build_scorers(["exact_match", {"scorer": "exact_match", "name": "again", "find": "only"}])
    assert (short.name, long.name, short.kind) == ("exact_match", "again", "binary")
    assert short.identity == long.identity == {"scorer": "exact_match", "options": {}, "version": VERSION}


def test_options_are_identity_and_the_name_is_not() -> None:
    first, second, third = build_scorers(
        [
            {"scorer": "number", "tolerance": "1e-2"},
            {"scorer": "number", "name": "close", "tolerance": 0.01},
            {"scorer": "number", "name": "exact"},
        ]
    )
    assert first.identity == second.identity != third.identity


@pytest.mark.parametrize(
    ("entry", "where", "message", "remedy"),
    [
        ("exact_mach", "0.scorer", "no scorer `exact_mach`", "Did you mean `exact_match`?"),
        ("zzz", "0.scorer", "no scorer `zzz`", "module:function"),
        (3, "0", "3 names no scorer", "Write a name"),
        ({"name": "x"}, "0", "names no scorer", "Write a name"),
        (
            {"scorer": "number", "tolerence": 1},
            "0.tolerence",
            "no key `tolerence` for the scorer number",
            "`tolerance`",
        ),
        ({"scorer": "number", "tolerance": -1}, "0.tolerance", "tolerance=-1", "Correct it"),
        ({"scorer": "regex"}, "0.pattern", "The key `pattern` is missing for the scorer regex", "For example"),
        ({"scorer": "valid_json", "x": 1}, "0.x", "no key `x`", "none at all"),
        ({"scorer": "schema_valid", "schemas": "a"}, "0.schemas", "no key `schemas`", "`schema`"),
        ({"scorer": "exact_match", "name": "a b"}, "0.name", "name='a b' is no name", "letters"),
        ("schema_valid", "0", "`schema_valid` needs the tools", "`schema:`"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_the_remedy(entry: Any, where: str, message: str, remedy: str) -> None:
    error = refused(entry)
    assert message in error.message
    assert remedy in error.remedy
    assert error.where == f"task.yaml:{where}"


def test_two_metrics_cannot_have_one_name() -> None:
    error = refused("exact_match", {"scorer": "number", "name": "exact_match"})
    assert "stands twice" in error.message
    assert error.where == "task.yaml:1"


def test_a_missing_file_is_named_from_the_tasks_folder(tmp_path: Path) -> None:
    error = refused({"scorer": "schema_valid", "schema": "x.json"}, folder=tmp_path)
    assert error.where == str(tmp_path / "x.json")


def test_every_rule_says_what_it_means() -> None:
    for name, rule in SCORERS.items():
        assert rule.options.__doc__, name
        assert all(field.description for field in rule.options.model_fields.values()), name


@given(anything, json_values)
def test_no_rule_raises_on_any_text_and_binary_ones_are_binary(output: str, accepted: object) -> None:
    found = score(output, item(accepted, {"tool": None}), task(*RULES))
    assert set(found) == {rule.name for rule in RULES}
    for rule in RULES:
        assert 0 <= found[rule.name] <= 1, rule.name
        assert rule.kind == "graded" or found[rule.name] in {0, 1}, rule.name


def test_the_guide_names_every_scorer_option_and_key() -> None:
    guide = (Path(__file__).parents[3] / "docs" / "tasks.md").read_text()
    options = {field.alias or name for rule in SCORERS.values() for name, field in rule.options.model_fields.items()}
    missing = [name for name in sorted({*SCORERS, *options, *TaskFile.model_fields}) if name not in guide]
    assert not missing
