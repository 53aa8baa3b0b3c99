"""Lines for a person."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunelift.cli import main
from tunelift.runtime import console


def test_no_line_steers_the_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(console.VERBOSITY, "1")
    for tell in (console.say, console.detail, console.warn):
        tell("\x1b[2Jgone\r")
    assert capsys.readouterr().err == "␛[2Jgone␍\n␛[2Jgone␍\nwarning: ␛[2Jgone␍\n"


def test_an_error_does_not_either(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "c.yaml"
    path.write_text('name: "\\e[2J"\nmodel: {id: "a/b\\e]0;x"}\ncurate: {sources: [{path: a}]}\n"\\e[1m": 1\n')
    assert main(["show", str(path)]) == 2
    assert "\x1b" not in capsys.readouterr().err


def test_text_from_elsewhere_cannot_steer_the_terminal() -> None:
    """Escape sequences of one or two characters, and marks that turn text round; line breaks and tabs stay."""
    assert console.harmless("a\x1b[31m\x9b31m\u202e\x7f\n\tb") == "a␛[31m�31m�␡\n\tb"
