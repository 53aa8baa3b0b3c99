"""Malformed files: nothing crashes, no row is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scripts.loading import load_script

fuzz = load_script("fuzz_curate")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**60))
def test_no_malformed_file_crashes_reading_or_loses_a_row(seed: int, tmp_path: Path) -> None:
    fuzz.outcomes(fuzz.Maker(seed).file(), tmp_path)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=60), suffix=st.sampled_from([".jsonl", ".json", ".csv", ".jsonl.gz", ".csv.zst"]))
def test_any_bytes_are_read_or_refused(content: bytes, suffix: str, tmp_path: Path) -> None:
    fuzz.outcomes(fuzz.Made("any bytes", suffix, content), tmp_path)


def test_a_lost_row_is_a_violation_that_ends_with_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert fuzz.main(["--inputs", "40", "--seed", "3"]) == 0
    assert "40 files in" in capsys.readouterr().out
    read = fuzz.read_source
    monkeypatch.setattr(fuzz, "read_source", lambda source: list(read(source))[1:])
    assert fuzz.main(["--inputs", "40", "--seed", "3"]) == 1
    assert "lines that are not blank" in capsys.readouterr().out
