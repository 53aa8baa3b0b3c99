"""A scorer of one's own: imported from the working directory, hashed by its source, its failures told in words."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.tasks.scorers.making import item, scorer, task
from tunelift.errors import UserError

SOURCE = """
def share(output, item, task, wanted="a"):
    return output.count(wanted) / max(1, len(output))

def same(output, item, task):
    return output in item.accepted

def failing(output, item, task):
    return 1 / len(output)

def texts(output, item, task):
    return "0.5"

def far(output, item, task):
    return 3

THING = 3
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of a name that no other test imports, in the working directory."""
    name = "own_" + hashlib.sha256(request.node.name.encode()).hexdigest()[:12]
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    return name


def test_it_is_called_with_its_arguments_and_named_like_the_function(module: str) -> None:
    rule = scorer(f"{module}:share", arguments={"wanted": "b"})
    assert (rule.name, rule.kind, rule.bounded) == ("share", "graded", True)
    assert rule.function("abbb", item(), task()) == 0.75
    same = scorer(f"{module}:same", kind="binary", name="equal")
    assert (same.name, same.kind, same.function("x", item("x"), task())) == ("equal", "binary", 1.0)


def test_a_changed_source_is_another_scorer(module: str, tmp_path: Path) -> None:
    before = scorer(f"{module}:share").identity
    source = hashlib.sha256(SOURCE.encode()).hexdigest()
    assert before["options"] == {"source": {module: source}}
    (tmp_path / f"{module}.py").write_text(SOURCE + "\n# changed\n")
    assert scorer(f"{module}:share").identity != before
    assert scorer(f"{module}:share", arguments={"wanted": "c"}).identity["options"]["arguments"] == {"wanted": "c"}


def test_a_failure_names_function_item_and_line(module: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        scorer(f"{module}:failing").function("", item(), task())
    assert caught.value.message == (
        f"The scorer {module}:failing failed on item '1': ZeroDivisionError: division by zero."
    )
    assert caught.value.where == f"{tmp_path / module}.py:9"


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("texts", {}, "gave '0.5' on item '1', which is no number from 0 to 1"),
        ("far", {}, "gave 3 on item '1', which is no number from 0 to 1"),
        ("share", {"kind": "binary"}, r"gave 0\.5 on item '1', which is no 0 or 1"),
    ],
)
def test_what_is_no_score_is_refused(module: str, function: str, options: dict[str, str], message: str) -> None:
    rule = scorer(f"{module}:{function}", **options)
    with pytest.raises(UserError, match=message):
        rule.function("ab", item(), task())


def test_an_unbounded_score_may_be_anything_finite(module: str) -> None:
    rule = scorer(f"{module}:far", bounded=False, lower_is_better=True)
    assert (rule.function("x", item(), task()), rule.bounded, rule.lower_is_better) == (3, False, True)


def test_what_cannot_be_imported_is_told_in_words(module: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There is no module 'no_such_module_here'") as caught:
        scorer("no_such_module_here:f")
    assert "no_such_module_here.py" in caught.value.remedy
    with pytest.raises(UserError, match="has no function 'nothing'"):
        scorer(f"{module}:nothing")
    with pytest.raises(UserError, match="has no function 'THING'"):
        scorer(f"{module}:THING")
    (tmp_path / f"{module}_broken.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match="cannot be imported: ZeroDivisionError"):
        scorer(f"{module}_broken:f")
    (tmp_path / f"{module}_needs.py").write_text("import no_such_module_here\n")
    with pytest.raises(UserError, match="imports 'no_such_module_here', which is not there"):
        scorer(f"{module}_needs:f")
    (tmp_path / "yaml.py").write_text(SOURCE)
    with pytest.raises(UserError, match="Another module is called yaml"):
        scorer("yaml:share")
    with pytest.raises(UserError, match="no Python source"):
        scorer("math:sqrt")


def test_an_installed_module_works_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert scorer("tests.tasks.scorers.test_own:always").function("", item(), task()) == 1


def always(output: str, item: object, task: object) -> bool:
    return True
