"""The comparison of training: its arithmetic and its reading of what the tools print."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scripts.loading import SCRIPTS, load_script
from tests.stages.conversations import train_config, write_dataset

bench_train = load_script("bench_train")
training = sys.modules["benchmarks.training"]


def run(number: int, side: str, rate: float, *, kind: str = "qlora", first: float = 2.0, validation: float = 0.5):  # type: ignore[no-untyped-def]
    return bench_train.Run(number, side, kind, rate, rate / 2, 9.0, first, Path("adapter"), validation)


@pytest.fixture
def job(tiny_model: Path, tmp_path: Path):  # type: ignore[no-untyped-def]
    config = train_config(global_batch_size=8, micro_batch_size=4, max_length=128, warmup_ratio=0.2)
    dataset = write_dataset(tmp_path / "data")
    return training.make_job(config, steps=7, model=tiny_model, dataset=dataset, seed=3, folder=tmp_path / "job")


@pytest.mark.parametrize(
    ("line", "loss"),
    [
        ("{'loss': '2.326', 'grad_norm': '1.762', 'learning_rate': '0', 'epoch': '0.125'}\n", 2.326),
        ("{'loss': 1.5e-05, 'grad_norm': 1.7, 'learning_rate': 0.0, 'epoch': 1.0}\n", 1.5e-5),
        ("{'train_runtime': '12.1', 'train_loss': '1.9', 'epoch': '1'}\n", None),
        ("{'eval_loss': '1.9', 'epoch': '1'}\n", None),
        ("[INFO|callbacks.py] {'loss': 2.3, 'epoch': 1.0}\n", None),
    ],
)
def test_a_step_is_counted_once_and_nothing_else_is(line: str, loss: float | None) -> None:
    assert training.step_loss(line) == loss


@given(
    st.lists(st.tuples(st.integers(1, 900), st.floats(0.01, 50)), min_size=2, max_size=30),
    st.floats(0, 500),
    st.data(),
)
def test_the_rate_leaves_out_loading_and_the_steps_before(
    steps: list[tuple[int, float]], loading: float, data: st.DataObject
) -> None:
    after = data.draw(st.integers(1, len(steps) - 1))
    ends, now = [], loading
    for _, seconds in steps:
        now += seconds
        ends.append(now)
    measured = training.Measured(tuple(ends), (1.0,) * len(steps), tuple(2 * end for end in ends), Path())
    expected = sum(tokens for tokens, _ in steps[after:]) / sum(seconds for _, seconds in steps[after:])
    assert measured.rate([tokens for tokens, _ in steps], after) == pytest.approx(expected, rel=1e-3)
    counts = [tokens for tokens, _ in steps]
    assert measured.rate_per_cpu_second(counts, after) == pytest.approx(expected / 2, rel=1e-3)
    assert measured.first_step_seconds == loading + steps[0][1]


def test_each_round_is_compared_with_its_own_run_of_the_same_adapter() -> None:
    [trl] = [side for side in training.SIDES if side.name == "trl"]
    runs = [
        run(1, "tunelift", 300),
        run(1, "trl", 100),
        run(1, "tunelift", 900, kind="lora"),
        run(2, "tunelift", 200, validation=0.55),
        run(2, "trl", 100, first=2.5),
        run(1, "llamafactory", 1, kind="lora"),
    ]
    found = bench_train.against(runs, trl)
    assert found.speed == found.cpu_speed == pytest.approx((3, 2))
    assert found.first_loss == pytest.approx((0, -0.2))
    assert found.quality == pytest.approx((0, 0.1))


def test_other_tokens_fail_the_comparison_and_a_slow_round_is_not_hidden(capsys: pytest.CaptureFixture[str]) -> None:
    [trl] = [side for side in training.SIDES if side.name == "trl"]
    right = [run(1, "tunelift", 300), run(1, "trl", 100), run(2, "tunelift", 150), run(2, "trl", 100)]
    assert bench_train.report(right, [trl]) == 0
    shown = capsys.readouterr().out
    assert "speed 2.12x, as promised" in shown and "by round 3.00, 1.50" in shown
    assert bench_train.report([*right[:3], run(2, "trl", 100, first=2.1)], [trl]) == 1
    assert "NOT THE SAME ROWS OR TOKENS" in capsys.readouterr().out
    assert bench_train.report([run(1, "tunelift", 250, validation=0.51), run(1, "trl", 100)], [trl]) == 0
    assert "speed 2.50x, NOT as promised" in capsys.readouterr().out


def test_the_job_holds_the_rows_of_each_step_over_more_than_an_epoch(job) -> None:  # type: ignore[no-untyped-def]
    assert [len(rows) for rows in job.steps] == [8] * 7
    first_epoch = [row.id for rows in job.steps[:5] for row in rows]
    assert sorted(first_epoch) == sorted(f"row-{number}" for number in range(40))
    assert training.tokens(job) == [sum(sum(row.rendered.mask) for row in rows) for rows in job.steps]


def test_both_tools_get_the_settings_of_the_train_stage(job) -> None:  # type: ignore[no-untyped-def]
    settings = training._shared_settings(job)
    assert (settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]) == (4, 2)
    assert (settings["learning_rate"], settings["warmup_steps"], settings["max_steps"]) == (1e-2, 2, 7)
    assert (settings["lr_scheduler_type"], settings["seed"], settings["max_grad_norm"]) == ("cosine", 3, 1.0)


def test_lines_are_noted_as_they_come(tmp_path: Path) -> None:
    with training.Lines(tmp_path / "metrics") as seen, (tmp_path / "metrics").open("w", buffering=1) as file:
        for count in range(1, 4):
            file.write("{}\n")
            while len(seen.at) < count:
                time.sleep(0.01)
    assert seen.at == sorted(seen.at) and len(seen.cpu_seconds) == 3


@pytest.mark.slow
def test_this_project_and_trl_train_the_same_rows(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data")
    command = [
        sys.executable,
        str(SCRIPTS / "bench_train.py"),
        "--smoke",
        "--against",
        "trl",
        "--model",
        str(tiny_model),
    ]
    command += ["--dataset", str(dataset), "--folder", str(tmp_path / "bench")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the same tokens are learnt" in done.stdout
