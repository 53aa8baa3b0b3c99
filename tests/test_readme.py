"""The README's commands: make targets that exist, configs and overrides that load; test_pipeline runs its examples."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tunelift import cli
from tunelift.config.load import load_config

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


MAKE = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("make ")]


@pytest.mark.parametrize("line", MAKE)
def test_each_make_command_runs_a_command_that_parses(line: str) -> None:
    dry = subprocess.run(
        ["make", "-n", *shlex.split(line, comments=True)[1:]], cwd=ROOT, capture_output=True, text=True
    )
    assert dry.returncode == 0, dry.stderr
    for command in re.findall(r"^@?\S*/tunelift (.+)$", dry.stdout, flags=re.MULTILINE):
        parsed = cli._parser().parse_args(shlex.split(command))
        load_config(ROOT / parsed.config, parsed.overrides)


def test_the_two_commands_come_first() -> None:
    assert [line.split("#")[0].strip() for line in blocks("bash")[0].splitlines()] == ["make quickstart", "make test"]


def test_the_example_config_loads(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(blocks("yaml")[0])
    config = load_config(path)
    assert config.evaluate.tasks[0].from_split == "test"


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target


def test_nothing_is_left_to_fill_in() -> None:
    assert not re.search(r"TODO|[A-Z]+_TABLE|\bTBD\b|XXX", README)
