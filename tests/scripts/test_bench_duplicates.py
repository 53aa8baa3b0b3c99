"""The comparison of near-duplicate tools: what is planted, and that this project's side finds it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import duplicates
from tests.scripts.loading import load_script
from tunelift.errors import MachineError

bench = load_script("bench_duplicates")


def test_copies_differ_in_few_words_and_variants_in_numbers_alone() -> None:
    planted = duplicates.plant(600, 100)
    assert len(planted.rows) == 600
    assert len(planted.copies) == 30
    assert len(planted.variants) == 10 * max(1, 600 // 100 // 10)
    for one, other in planted.copies:
        first, second = (set(" ".join(planted.rows[row]).split()) for row in (one, other))
        assert 1 <= len(first ^ second) <= 11 or first == second
    masked = {
        " ".join("#" if word.isdigit() else word for word in " ".join(planted.rows[row]).split())
        for row in planted.variants
    }
    assert len(masked) == 1
    assert len({planted.rows[row] for row in planted.variants}) == 10


def test_the_same_seed_plants_the_same() -> None:
    assert duplicates.plant(300, 40) == duplicates.plant(300, 40)
    assert duplicates.plant(300, 40) != duplicates.plant(300, 40, seed=2)


def test_this_projects_side_finds_the_copies_and_keeps_the_variants(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["bench_duplicates.py", "--records=400", "--words=120", "--against", f"--folder={tmp_path}"]
    monkeypatch.setattr(sys, "argv", command)
    assert bench.main() == 0
    out = capsys.readouterr().out
    assert "400 records of 120 words" in out
    assert "0 of 10" in out
    assert (tmp_path / "duplicates.json").is_file()


def test_missed_copies_and_dropped_variants_fail_the_comparison(capsys: pytest.CaptureFixture[str]) -> None:
    good = bench.Run(1, "tunelift", 1.0, 20_000.0, 0.995, 0, 3.0, 100.0)
    other = bench.Run(1, "datasketch", 4.0, 5_000.0, 1.0, 180, 9.0, 200.0)
    assert bench.report([good, other], 200) == 0
    assert "4.0× (aim 4×)" in capsys.readouterr().out
    assert bench.report([bench.Run(1, "tunelift", 1.0, 20_000.0, 0.98, 0, 3.0, 100.0)], 200) == 1
    assert bench.report([bench.Run(1, "tunelift", 1.0, 20_000.0, 1.0, 1, 3.0, 100.0)], 200) == 1


def test_a_side_that_fails_shows_its_last_words(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such option')"]
    with pytest.raises(MachineError, match="no such option"):
        bench._run(command, tmp_path / "log")


def test_the_times_of_text_dedup_are_read_from_its_log(tmp_path: Path) -> None:
    from datasets import Dataset

    planted = duplicates.Planted([("a b", "c"), ("a b", "d"), ("e", "f")], [(0, 1)], [])
    Dataset.from_dict({"text": ["a b c", "e f"]}).save_to_disk(str(tmp_path / "text-dedup-output"))
    log = tmp_path / "log"
    log.write_text("INFO  MinHashing : 19.70s timer.py:65\n Clustering  : 4.92s\n Filtering : 3.34s\n Total : 33.13s")
    told = bench._told_by_text_dedup(log, tmp_path, planted)
    assert told == {"seconds": pytest.approx(27.96), "dropped": [1]}
    log.write_text("nothing")
    with pytest.raises(MachineError, match="told no times"):
        bench._told_by_text_dedup(log, tmp_path, planted)
