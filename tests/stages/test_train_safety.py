"""What ends a run before it spoils anything: memory that runs out, a loss that is no number or explodes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import SGD
from transformers.training_args import OptimizerNames

from tests.stages.conversations import train_config, write_dataset
from tunelift.errors import MachineError
from tunelift.runtime.encoded import Row
from tunelift.stages.train import probe, train
from tunelift.stages.train.health import BEGINNING_STEPS, PATIENCE_STEPS, LossWatch
from tunelift.stages.train.probe import fits
from tunelift.stages.train.trainer import SupervisedTrainer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def run(model: Path, dataset: Path, out: Path, **changes) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    config = train_config(**{"max_steps": 3, "eval_steps": 9, "save_steps": 1, "precision": "fp32"} | changes)
    return train(config, model=model, dataset=dataset, seed=1, device="cpu", out=out)


def steps(out: Path) -> list[dict]:
    return [line for line in map(json.loads, (out / "metrics.jsonl").read_text().splitlines()) if "loss" in line]


def limit_memory(monkeypatch: pytest.MonkeyPatch, positions: int, from_step: int = 0) -> list[int]:
    """Batches of more positions, padding included, run out of memory; returns a list of all that were tried."""
    compute_loss, tried = SupervisedTrainer.compute_loss, []

    def limited(self, model, inputs, *args, **kwargs):
        tried.append(inputs["input_ids"].numel())
        if tried[-1] > positions and self.state.global_step >= from_step:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return compute_loss(self, model, inputs, *args, **kwargs)

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", limited)
    return tried


# --- the probe ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_the_probe_leaves_no_trace(kind: str, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    adapter = {"kind": kind, "rank": 4, "alpha": 8, "dropout": 0.1}
    with_, without = (
        run(tiny_model, dataset, tmp_path / str(probed), adapter=adapter, memory_probe=probed)
        for probed in (True, False)
    )
    assert with_["micro_batch"]["probed"] and not without["micro_batch"]["probed"]
    assert with_["content"] == without["content"]
    assert [line["loss"] for line in steps(tmp_path / "True")] == [line["loss"] for line in steps(tmp_path / "False")]


def test_a_micro_batch_that_does_not_fit_is_halved_and_the_global_batch_stays(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    tried = limit_memory(monkeypatch, positions=2 * 75)
    details = run(tiny_model, dataset, tmp_path, micro_batch_size=8, memory_probe=True)
    assert (details["micro_batch_size"], details["accumulation"]) == (2, 4)
    assert "2 rows at once instead of 8, 4 times a step: 4 rows of up to 75 tokens" in capsys.readouterr().err
    assert tried[1] == 8 * 75  # The longest row's micro-batch, after one row that makes gradients and optimizer state.
    written = json.loads((tmp_path / "micro_batch.json").read_text())
    assert written["asked"] == 8 and "4 rows of up to 75 tokens" in written["why"]
    monkeypatch.undo()
    run(tiny_model, dataset, tmp_path / "free", micro_batch_size=2)
    ours, free = steps(tmp_path), steps(tmp_path / "free")
    assert [line["supervised_tokens"] for line in ours] == [line["supervised_tokens"] for line in free]
    assert [line["loss"] for line in ours] == [line["loss"] for line in free]


@pytest.mark.parametrize(("optimizer", "stepped"), [("adamw_8bit", True), ("paged_adamw_8bit", False)])
def test_the_probe_makes_no_state_that_is_never_freed(
    optimizer: str, stepped: bool, tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bitsandbytes keeps what a paged optimizer has allocated for good; it need not fit, either."""
    made: list[str] = []

    def settle(trainer, out, *, probe):  # type: ignore[no-untyped-def]
        monkeypatch.setattr(trainer, "create_optimizer", lambda: made.append(optimizer) or SGD([torch.zeros(1)]))
        monkeypatch.setattr(trainer.args, "optim", OptimizerNames(optimizer))
        fits(trainer, trainer.rows[:2])
        raise KeyboardInterrupt

    monkeypatch.setattr(probe, "settle", settle)
    with pytest.raises(KeyboardInterrupt):
        run(tiny_model, dataset, tmp_path)
    assert bool(made) == stepped


def test_packed_rows_are_probed_as_a_pack_of_the_longest(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = limit_memory(monkeypatch, positions=8 * 75 - 1)
    details = run(tiny_model, dataset, tmp_path, micro_batch_size=8, memory_probe=True, packing=True)
    assert tried[1] == max(tried) and 4 * 75 < tried[1] < 8 * 75, "no padding, and no step has more"
    assert details["micro_batch_size"] == 8 and details["padding_share"] == 0


def test_the_choice_is_reused_at_a_resume_without_another_probe(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    probe.save(tmp_path, {"asked": 8, "micro_batch_size": 2, "accumulation": 4, "probed": True, "why": "as before"})
    monkeypatch.setattr(probe, "fits", lambda *_: pytest.fail("probed again"))
    details = run(tiny_model, dataset, tmp_path, micro_batch_size=8, memory_probe=True)
    assert details["micro_batch"]["why"] == "as before" and details["micro_batch_size"] == 2


def test_another_micro_batch_in_the_config_is_probed_anew(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    probe.save(tmp_path, {"asked": 8, "micro_batch_size": 2, "accumulation": 4, "probed": True, "why": "as before"})
    details = run(tiny_model, dataset, tmp_path, micro_batch_size=4, memory_probe=True)
    assert (details["micro_batch_size"], details["accumulation"]) == (4, 2)


def test_one_row_that_does_not_fit_is_named_with_its_length(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, positions=70)
    with pytest.raises(MachineError, match=r"Not even one row fits into memory: row-\d+ has 75 tokens") as caught:
        run(tiny_model, dataset, tmp_path, memory_probe=True)
    assert "train.max_length" in caught.value.remedy


def test_memory_that_runs_out_later_halves_the_micro_batch_of_the_next_start(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit_memory(monkeypatch, positions=2 * 75, from_step=2)
    with pytest.raises(MachineError, match=r"Memory ran out in step 3, whose longest row, row-\d+") as caught:
        run(tiny_model, dataset, tmp_path)
    assert "from step 2 with 2 rows at once instead of 4" in caught.value.remedy
    details = run(tiny_model, dataset, tmp_path)
    assert (details["micro_batch_size"], details["accumulation"], details["steps"]) == (2, 4, 3)


@given(
    lengths=st.lists(st.tuples(st.integers(1, 40), st.integers(1, 40)), min_size=1, max_size=12),
    micro=st.integers(1, 5),
)
def test_no_micro_batch_is_larger_than_the_probed_one(lengths: list[tuple[int, int]], micro: int) -> None:
    from tunelift.runtime.chat import Supervised

    rows = [
        Row(str(number), Supervised("", [1] * (prompt + reply), [False] * prompt + [True] * reply))
        for number, (prompt, reply) in enumerate(lengths)
    ]
    probed = probe.largest(rows, micro, packed=False)

    def size(batch: list[Row]) -> tuple[int, int]:
        return max(map(len, batch)) * len(batch), sum(row.rendered.supervised_tokens for row in batch)

    for start in range(len(rows)):
        batch = rows[start : start + micro]
        assert size(batch)[0] <= size(probed)[0]
        rest = sorted(batch, key=len)[:-1]  # One place is the longest row's.
        assert sum(row.rendered.supervised_tokens for row in rest) <= size(probed)[1]


@pytest.mark.parametrize(("micro", "whole", "half"), [(8, 16, 4), (6, 6, 3), (3, 6, 1), (5, 10, 2), (2, 14, 1)])
def test_half_a_micro_batch_divides_the_global_batch(micro: int, whole: int, half: int) -> None:
    assert probe.halved(micro, whole) == half


# --- a loss that is no number, or explodes --------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_a_bad_step_saves_its_rows_and_reaches_no_weight(
    what: str, tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute_loss = SupervisedTrainer.compute_loss

    class Poison(torch.autograd.Function):
        @staticmethod
        def forward(context, value):
            return value.clone()

        @staticmethod
        def backward(context, gradient):
            return gradient * float("inf")

    def broken(self, *args, **kwargs):
        loss = compute_loss(self, *args, **kwargs)
        if self.state.global_step < 2:
            return loss
        return loss * float("nan") if what == "loss" else Poison.apply(loss)

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", broken)
    message = {"loss": "The loss of step 3 is nan. Its rows: row-", "gradient": "The gradient of step 3 is not finite."}
    with pytest.raises(MachineError, match=message[what]) as caught:
        run(tiny_model, dataset, tmp_path)
    found = json.loads(Path(caught.value.where).read_text())
    assert found["step"] == 3 and found["learning_rate"] > 0 and len(found["before"]) == 2
    rows = found["rows"]
    assert len(rows) == 8 and all(row["tokens"] > row["supervised_tokens"] > 0 for row in rows)
    assert [row["loss"] for row in rows] == sorted((row["loss"] for row in rows), reverse=True)  # Weights are sound.
    assert "The checkpoint of step 2 is kept" in caught.value.remedy
    monkeypatch.undo()
    assert run(tiny_model, dataset, tmp_path)["steps"] == 3
    assert not (tmp_path / "bad_step.json").exists()


@pytest.mark.parametrize(("save_steps", "keep", "good"), [(5, 2, 10), (1, 1, 10), (4, 1, 8)])
def test_a_loss_that_explodes_ends_the_run_and_a_checkpoint_from_before_is_kept(
    save_steps: int, keep: int, good: int, tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch
) -> None:
    compute_loss = SupervisedTrainer.compute_loss

    def growing(self, *args, **kwargs):
        loss = compute_loss(self, *args, **kwargs)
        return loss + 2.0 * loss.detach() * (self.state.global_step >= 11)

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", growing)
    changes = {"max_steps": 60, "save_steps": save_steps, "keep_checkpoints": keep, "learning_rate": 1e-6}
    with pytest.raises(MachineError, match="The loss has exploded: smoothed, it is") as caught:
        run(tiny_model, dataset, tmp_path, **changes)
    assert "train.learning_rate" in caught.value.remedy and "train.max_loss_ratio" in caught.value.remedy
    found = json.loads((tmp_path / "bad_step.json").read_text())
    assert found["step"] == len(steps(tmp_path)) < 60 and len(found["rows"]) == 8
    # Step 12 has the first high loss, which is that of step 11's weights.
    assert (tmp_path / f"checkpoints/checkpoint-{good}/complete.json").exists()
    assert f"The checkpoint of step {good} is kept" in caught.value.remedy


@given(
    st.lists(st.floats(0.5, 1.0), min_size=60, max_size=120), st.floats(0.0, 3.0), st.sampled_from([0.001, 0.03, 1.0])
)
def test_noise_around_a_falling_loss_is_no_explosion(noise: list[float], start: float, scale: float) -> None:
    watch = LossWatch(2.0)
    for step, factor in enumerate(noise):
        watch.see(scale * factor * (1 + start * 0.95**step))
        assert not watch.exploded


@pytest.mark.parametrize(
    ("began", "lowest", "plateau", "stops"),
    [(2.5, 1.5, 8.0, True), (6.2, 2.0, 12.5, True), (2.5, 0.2, 1.0, False), (0.01, 0.002, 0.2, False)],
)
def test_an_explosion_is_told_from_overfitting(began: float, lowest: float, plateau: float, stops: bool) -> None:
    watch = LossWatch(2.0, [began] * BEGINNING_STEPS + [lowest] * 40)
    stopped_after = next((step for step in range(60) if watch.see(plateau) and watch.exploded), None)
    assert (stopped_after is not None) == stops
    if stopped_after is not None:
        assert PATIENCE_STEPS <= stopped_after + 1 <= 3 * PATIENCE_STEPS
    assert not LossWatch(None, [began] * 20 + [plateau] * 60).exploded


def test_the_watch_goes_on_alike_from_the_losses_so_far() -> None:
    losses = [3.0 / (1 + step) for step in range(30)]
    whole, again = LossWatch(2.0, losses), LossWatch(2.0, losses[:17])
    assert [again.see(loss) for loss in losses[17:]][-1] == whole.smoothed
    assert whole.limit == again.limit
