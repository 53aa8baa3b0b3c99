from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

from environment import make, python
from tests.scripts.environment.conftest import Machine

SCRIPTS = Path(__file__).parents[3] / "scripts"


@pytest.mark.parametrize("path", [SCRIPTS / "setup.py", *sorted((SCRIPTS / "environment").glob("*.py"))], ids=str)
def test_an_old_python_can_read_what_it_is_told_by(path: Path) -> None:
    """setup.py on any Python 3, so that the version is told; what it imports from 3.7 on."""
    oldest = (3, 4) if path.name == "setup.py" else (3, 7)
    tree = ast.parse(path.read_text(), feature_version=oldest)
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    strings = [node for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)]
    assert path.name != "setup.py" or future + strings == []


def test_a_python_that_the_locks_have_files_for_is_found_behind_one_that_they_have_not(machine: Machine) -> None:
    machine.python("python3", "3.14")
    expected = machine.python("python3.12", "3.12")
    found, seen = python.find_python()
    assert found is not None
    assert (found.path, found.version) == (str(expected), (3, 12))
    assert "python3 is 3.14" in seen
    assert "python3.11 is not there" in seen


def test_one_that_makes_environments_is_preferred(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(machine.python("python3", "3.11", ensurepip=False)))
    expected = machine.python("python3.13", "3.13")
    found, _ = python.find_python()
    assert found is not None
    assert found.path == str(expected)


def test_a_named_python_is_the_only_one_asked(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.python("python3.11", "3.11")
    monkeypatch.setenv("PYTHON", str(machine.python("old", "3.9")))
    found, seen = python.find_python()
    assert found is None
    assert seen.endswith("old is 3.9")


@pytest.mark.parametrize("version", ["3.9", "3.14"])
def test_the_command_that_brings_a_python_is_told(
    machine: Machine, capsys: pytest.CaptureFixture[str], version: str
) -> None:
    machine.python("python3", version)
    assert make.main() == 2
    said = capsys.readouterr().err
    assert "Python 3.11, 3.12 or 3.13 (/nowhere/python3 is not there; python3.11 is not there" in said
    assert f"python3 is {version})" in said
    assert "install uv (docs.astral.sh/uv); make setup then fetches a Python through it" in said
    assert "apt-get" not in said  # Not where the package lists have none.
    machine.program("apt-get", "exit 0")
    machine.program("apt-cache", '[ "$2" = python3.13 ]')
    assert make.main() == 2
    assert "\n    apt-get update && apt-get install python3.13 python3.13-venv\n" in capsys.readouterr().err


def test_a_python_without_pip_gets_the_package_that_has_it(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.python("python3", "3.13", ensurepip=False)
    machine.program("apt-get", "exit 0")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert make.main() == 2
    said = capsys.readouterr().err
    assert "it has no ensurepip" in said
    assert "\n    sudo apt-get update && sudo apt-get install python3.13-venv\n" in said


def test_uv_fetches_a_python_where_none_fits(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.python("python3", "3.9")
    fetched = machine.python("of-uv", "3.11", torch="2.13.0+cpu")
    machine.program(
        "uv",
        f"""case "$2" in
          install) : >'{machine.folder}/fetched';;
          find) [ -e '{machine.folder}/fetched' ] && echo '{fetched}';;
        esac""",
    )
    assert make.main() == 0
    assert "so uv fetches 3.11" in capsys.readouterr().err
    assert make.installed()["lock"] == "cpu"


def test_a_uv_that_cannot_fetch_is_told_in_its_words(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.program("uv", "echo 'error: Failed to download' >&2; exit 2")
    assert make.main() == 2
    assert "uv python install 3.11 failed: error: Failed to download" in capsys.readouterr().err
