"""Training measured on this machine: the figures of the table."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from tests.project import make_project
from tests.scripts.loading import load_script
from tests.stages.conversations import train_config, write_dataset
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import read_encoded
from tunelift.runtime.flops import training_flops
from tunelift.runtime.shape import read_shape

bench_recipes = load_script("bench_recipes")
training = sys.modules["benchmarks.training"]


def test_rates_and_mfu_are_of_the_timed_steps_alone(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    job = training.make_job(train_config(), steps=4, model=tiny_model, dataset=dataset, seed=3, folder=tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    (out / "training.json").write_text(json.dumps({"trainable_parameters": 1000, "peak_memory_gib": 1.5}))
    measured = training.Measured((60.0, 62.0, 64.0, 66.0), (2.0,) * 4, (0.0,) * 4, out / "adapter")
    found = bench_recipes.line("tiny", job, measured, after=2, peak_flops_per_second=1e9)
    rows = [list(step) for step in job.steps[2:]]
    lengths, scored = [len(row) for step in rows for row in step], sum(training.tokens(job)[2:])
    assert found.tokens_per_second == pytest.approx(sum(lengths) / 4)
    assert found.supervised_per_second == pytest.approx(scored / 4)
    work = training_flops(read_shape(tiny_model), lengths, scored, 1000).model
    assert found.mfu == pytest.approx(work / 4 / 1e9)
    assert (found.peak_memory_gib, found.first_step_seconds) == (1.5, 60.0)
    assert 0 < found.planned_gib < 0.1
    assert found.setting == "qlora, bf16, sdpa, 4 × 2 rows"


def test_the_table_has_a_line_a_recipe() -> None:
    line = bench_recipes.Line("quickstart", "qlora", 1234.4, 432.1, 0.163, 1.06, 1.24, 9.6)
    table = bench_recipes.as_markdown([line, line], "a CPU")
    assert table.count("| quickstart | qlora | 1,234 | 432 | 16.3% | 1.1 GiB | 1.2 GiB | 10 s |\n") == 2


def test_there_are_recipes_for_either_device() -> None:
    assert all(path.is_file() for device in ("cpu", "cuda") for path in bench_recipes.recipes(device))


def test_full_rows_are_as_long_as_may_be(tiny_model: Path, tmp_path: Path) -> None:
    config = train_config(max_length=200)
    dataset = bench_recipes.write_full_rows(tiny_model, config, tmp_path)
    rows = read_encoded(load_tokenizer(tiny_model), dataset, "train")
    assert len(rows) == 2 * config.global_batch_size
    assert all(170 < len(row) <= 200 for row in rows), [len(row) for row in rows]
    assert len({tuple(row.rendered.input_ids) for row in rows}) == len(rows)


def test_settings_can_be_those_of_another_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    jobs = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench_recipes, "tunelift", jobs.append)
    monkeypatch.setattr(bench_recipes, "line", lambda name, job, *_: (name, job.config))
    monkeypatch.setattr(bench_recipes, "matmul_flops_per_second", lambda _: 1e12)
    config = make_project(tmp_path)
    arguments = argparse.Namespace(set=[], gpu="l4", full_rows=True, steps=2, after=1)
    name, settings = bench_recipes.measure(config, arguments, tmp_path / "bench")
    assert name == "tiny on l4"
    assert (settings.memory_probe, settings.packing, settings.attention) == (True, False, "sdpa")
    assert len(jobs) == 1
