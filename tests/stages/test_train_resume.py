"""A run that is killed, however often and wherever, ends with the bytes of an undisturbed one."""

from __future__ import annotations

import json
import pickle
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stages.conversations import write_dataset
from tests.stages.forked import Runs, kill_after, running, steps_taken
from tunelift.stages.train import checkpoints, journal

EVERYTHING = {
    "adapter": {"kind": "qlora", "rank": 4, "alpha": 8, "dropout": 0.1},
    "learning_rate": 5e-3,
    "max_steps": 16,  # More than three epochs of five steps.
    "save_steps": 4,
    "eval_steps": 3,
    "best": {"by": "exact_match", "rows": 8, "max_tokens": 4, "patience": 50},
    "samples": {"every": 5, "rows": 2, "max_tokens": 3},
    "memory_probe": True,
    "precision": "fp32",
}
"""Whatever a resume has to go on with: dropout, 4-bit weights, the best step, samples, the probe's micro-batch."""
STOPS_EARLY = {
    "precision": "fp32",
    "max_steps": 40,
    "save_steps": 5,
    "eval_steps": 2,
    "learning_rate": 1e-6,
    "best": {"by": "eval_loss", "patience": 3, "min_delta": 0.5},
}
TIMING = ("seconds", "tokens_per_second", "mfu", "memory_gib")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    with running(tmp_path_factory.mktemp("server") / "log") as server:
        yield server


@pytest.fixture(scope="module")
def undisturbed(runs: Runs, tiny_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("undisturbed")
    assert runs.run(out, tiny_model, dataset, EVERYTHING) == 0
    return out


def told(out: Path) -> dict[str, Any]:
    """All that a run leaves behind, without what depends on the clock."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    details = json.loads((out / "training.json").read_text())
    for found in (*lines, details):
        for key in (*TIMING, "first_step_seconds", "peak_memory_gib"):
            found.pop(key, None)
    files = {
        str(path.relative_to(out)): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name not in {"metrics.jsonl", "training.json"}
    }
    return {"metrics": lines, "details": details} | files


def assert_alike(out: Path, undisturbed: Path) -> None:
    ours, theirs = told(out), told(undisturbed)
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], name


def test_random_kills_in_one_run_change_nothing(
    runs: Runs, undisturbed: Path, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    chance, kills = random.Random(4), 0
    for _ in range(3):
        at = min(steps_taken(tmp_path) + chance.randint(-2, 8), 15)
        blow = kill_after(tmp_path, max(at, 1), chance.uniform(0, 0.15))
        kills += runs.run(tmp_path, tiny_model, dataset, EVERYTHING, blow) == -signal.SIGKILL
    assert kills >= 2
    assert runs.run(tmp_path, tiny_model, dataset, EVERYTHING) == 0
    assert_alike(tmp_path, undisturbed)


def test_sigterm_writes_a_checkpoint_of_the_step_it_came_in(
    runs: Runs, undisturbed: Path, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    blow = kill_after(tmp_path, 6, blow=signal.SIGTERM)
    assert runs.run(tmp_path, tiny_model, dataset, EVERYTHING, blow) == -signal.SIGTERM
    reached = steps_taken(tmp_path)
    newest = checkpoints.newest(tmp_path / "checkpoints")
    assert newest is not None and checkpoints.step_of(newest) == reached < 16
    assert runs.run(tmp_path, tiny_model, dataset, EVERYTHING) == 0
    assert_alike(tmp_path, undisturbed)
    clock = [line["seconds"] for line in journal.read(tmp_path / "metrics.jsonl")]
    assert clock == sorted(clock), "the clock goes on from where the kill stopped it"
    assert json.loads((tmp_path / "training.json").read_text())["seconds"] == clock[-1]


@pytest.mark.parametrize(
    ("what", "step"), [("evaluation", 6), ("scorer", 9), ("samples", 5), ("evaluation", 16), ("samples", 16)]
)
def test_what_sigterm_cuts_short_between_steps_is_made_up_for(
    what: str, step: int, runs: Runs, undisturbed: Path, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    ended = runs.run(tmp_path, tiny_model, dataset, EVERYTHING, stopped_in=(what, step))
    assert ended == -signal.SIGTERM and not (tmp_path / "training.json").exists()
    newest = checkpoints.newest(tmp_path / "checkpoints")
    assert newest is not None and checkpoints.step_of(newest) == step, "no later step was taken"
    cut = "samples.jsonl" if what == "samples" else "metrics.jsonl"
    lines = [json.loads(line) for line in (tmp_path / cut).read_text().splitlines()]
    assert not any(line["step"] == step and "loss" not in line for line in lines), "it did not go on to its end"
    assert runs.run(tmp_path, tiny_model, dataset, EVERYTHING) == 0
    assert_alike(tmp_path, undisturbed)


@pytest.fixture(scope="module")
def killed(runs: Runs, tiny_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("killed")
    assert runs.run(out, tiny_model, dataset, EVERYTHING, kill_after(out, 9)) == -signal.SIGKILL
    whole = checkpoints.whole(out / "checkpoints")
    assert checkpoints.step_of(whole[0]) >= 8 and len(whole) >= 2
    return out


def cut_in_the_middle(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def turn_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


DAMAGE = {
    "the optimizer is cut": lambda folder: cut_in_the_middle(folder / "optimizer.pt"),
    "the weights are cut": lambda folder: cut_in_the_middle(folder / "adapter_model.safetensors"),
    "the random state is empty": lambda folder: (folder / "rng_state.pth").write_bytes(b""),
    "the marker is missing": lambda folder: (folder / "complete.json").unlink(),
    "the marker is cut": lambda folder: cut_in_the_middle(folder / "complete.json"),
    "the scheduler is missing": lambda folder: (folder / "scheduler.pt").unlink(),
    "one bit is turned": lambda folder: turn_a_bit(folder / "optimizer.pt"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_a_damaged_checkpoint_is_not_taken_and_the_one_before_is(what: str, killed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(killed / "checkpoints", folder)
    newest, before = checkpoints.whole(folder)[:2]
    DAMAGE[what](newest)
    assert checkpoints.resumable(folder, lambda step: None) == before
    assert not newest.exists()


def test_after_damage_the_run_still_ends_alike_and_unpickles_nothing(
    runs: Runs, killed: Path, undisturbed: Path, tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return Path.touch, (tmp_path / "sprung",)

    out = tmp_path / "out"
    shutil.copytree(killed, out)
    newest, before = checkpoints.whole(out / "checkpoints")[:2]
    DAMAGE["the optimizer is cut"](newest)
    (before / "training_args.bin").write_bytes(pickle.dumps(Trap()))  # Where the Trainer writes a pickle of its own.
    checkpoints.mark_complete(before)
    torn = out / "checkpoints/checkpoint-15"
    torn.mkdir()
    (torn / "trainer_state.json").write_text('{"global_step": 15}')
    assert runs.run(out, tiny_model, dataset, EVERYTHING) == 0
    assert not (tmp_path / "sprung").exists()
    assert_alike(out, undisturbed)


def test_early_stopping_counts_on_over_a_kill(runs: Runs, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert runs.run(whole, tiny_model, dataset, STOPS_EARLY) == 0
    details = json.loads((whole / "training.json").read_text())
    assert details["steps"] == 8 and "no better validation loss in 3 evaluations" in details["kept"]["why_stopped"]
    assert runs.run(broken, tiny_model, dataset, STOPS_EARLY, kill_after(broken, 6, 0.01)) == -signal.SIGKILL
    assert runs.run(broken, tiny_model, dataset, STOPS_EARLY) == 0
    assert_alike(broken, whole)


# --- which checkpoints are kept -------------------------------------------------------------------------------------


def make_checkpoints(folder: Path, steps: range) -> None:
    for step in steps:
        checkpoint = checkpoints.at(folder, step)
        checkpoint.mkdir(parents=True)
        (checkpoint / "optimizer.pt").write_bytes(bytes(step))
        checkpoints.mark_complete(checkpoint)


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    make_checkpoints(tmp_path, range(1, 12))
    checkpoints.rotate(tmp_path, keep=2, best=9, sound_step=11)
    assert sorted(map(checkpoints.step_of, checkpoints.whole(tmp_path))) == [9, 10, 11]
    checkpoints.rotate(tmp_path, keep=1, best=None, sound_step=11)
    assert sorted(map(checkpoints.step_of, checkpoints.whole(tmp_path))) == [11]


def test_the_newest_from_before_the_loss_rose_is_kept(tmp_path: Path) -> None:
    make_checkpoints(tmp_path, range(2, 12, 2))
    checkpoints.rotate(tmp_path, keep=1, best=None, sound_step=5)
    assert sorted(map(checkpoints.step_of, checkpoints.whole(tmp_path))) == [4, 10]
    found = checkpoints.newest(tmp_path, up_to=5)
    assert found is not None and checkpoints.step_of(found) == 4


def test_a_lost_best_checkpoint_is_made_again_from_one_before_it(tmp_path: Path) -> None:
    make_checkpoints(tmp_path, range(3, 7))
    (tmp_path / "checkpoint-5/complete.json").unlink()

    def best_as_of(step: int) -> int | None:
        return 5 if step >= 5 else 3

    chosen = checkpoints.resumable(tmp_path, best_as_of)
    assert chosen is not None and checkpoints.step_of(chosen) == 4
    assert sorted(map(checkpoints.step_of, checkpoints.whole(tmp_path))) == [3, 4], "later ones have no metrics now"
    assert checkpoints.resumable(tmp_path, lambda _: 2) is None and not checkpoints.whole(tmp_path)
