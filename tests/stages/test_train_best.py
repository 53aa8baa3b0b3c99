"""The step that is kept, early stopping, answers while training, and what a person watches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from tests.stages.conversations import conversation, train_config, write_dataset
from tunelift.config.schema import BestConfig, TrainConfig
from tunelift.errors import UserError
from tunelift.runtime import peak
from tunelift.runtime.chat import load_tokenizer, render
from tunelift.runtime.console import Bar
from tunelift.runtime.encoded import collate, read_encoded
from tunelift.runtime.generation import greedy
from tunelift.runtime.peak import matmul_flops_per_second
from tunelift.runtime.weights import load_base, supervised_logits
from tunelift.stages.train import lora_config, stage, train
from tunelift.stages.train.answers import ask, check_choice
from tunelift.stages.train.best import Measure, standing
from tunelift.stages.train.journal import live_line
from tunelift.stages.train.samples import plain
from tunelift.stages.train.trainer import SupervisedTrainer


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def run(model: Path, dataset: Path, out: Path, **changes) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    return train(
        train_config(**{"precision": "fp32"} | changes), model=model, dataset=dataset, seed=1, device="cpu", out=out
    )


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


# --- which step is kept ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chosen(tiny_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    """A run whose validation loss is best at step 4 of 8, since evaluation is told other losses."""
    told = {2: 3.0, 4: 1.0, 6: 2.0, 8: 2.5}
    out, patch = tmp_path_factory.mktemp("chosen"), pytest.MonkeyPatch()
    log = SupervisedTrainer.log

    def lied(self, logs: dict[str, Any], *args: Any) -> None:
        step = self.state.global_step
        log(self, logs | ({"eval_loss": told[step]} if "eval_loss" in logs else {}), *args)

    patch.setattr(SupervisedTrainer, "log", lied)
    details_of = stage._details

    def kept_aside(*args: Any) -> dict[str, Any]:
        shutil.copytree(out / "checkpoints", out / "checkpoints-at-the-end")
        return details_of(*args)

    patch.setattr(stage, "_details", kept_aside)
    settings = {"best": {"by": "eval_loss"}, "eval_steps": 2, "save_steps": 3, "keep_checkpoints": 1}
    sampled = {"samples": {"every": 4, "rows": 2, "max_tokens": 6}}
    details = run(tiny_model, dataset, out, **settings, **sampled)
    patch.undo()
    return out, details


def test_the_adapter_is_that_of_the_step_with_the_least_validation_loss(chosen: tuple[Path, dict]) -> None:
    out, details = chosen
    assert details["kept"] == {"step": 4, "by": "eval_loss", "value": 1.0, "why_stopped": "all 8 steps were taken"}
    assert details["steps"] == 8 and details["eval_loss"] == 1.0
    kept, last = (
        load_file(out / f"checkpoints-at-the-end/checkpoint-{step}/adapter_model.safetensors") for step in (4, 8)
    )
    adapter = load_file(out / "adapter/adapter_model.safetensors")
    assert all(torch.equal(adapter[name], kept[name]) for name in adapter)
    assert any(not torch.equal(adapter[name], last[name]) for name in adapter)
    assert json.loads((out / "training.json").read_text())["kept"]["step"] == 4


def test_the_newest_checkpoint_the_last_known_to_be_sound_and_the_best_are_all_that_stay(
    chosen: tuple[Path, dict],
) -> None:
    left = sorted(path.name for path in (chosen[0] / "checkpoints-at-the-end").iterdir())
    assert left == ["checkpoint-4", "checkpoint-6", "checkpoint-8"]


def test_by_default_the_last_step_is_kept(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    details = run(tiny_model, dataset, tmp_path, max_steps=2)
    assert details["kept"] == {"step": 2, "by": "last", "why_stopped": "all 2 steps were taken"}


def test_a_scorer_on_generated_answers_chooses_the_step(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {conversation(number)["messages"][1]["content"]: conversation(number) for number in range(60)}

    def answer(model, tokenizer, prompts, **kwargs):  # Right at step 2 alone.
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        rows = [next(row for asked, row in right.items() if asked + "<|im_end|>" in text) for text in texts]
        step = trainers[0].state.global_step
        return [row["messages"][-1]["content"] if step == 2 else "{}" for row in rows]

    trainers: list[SupervisedTrainer] = []
    evaluate = SupervisedTrainer.evaluate

    def noted(self, *args, **kwargs):
        trainers[:] = [self]
        return evaluate(self, *args, **kwargs)

    monkeypatch.setattr(SupervisedTrainer, "evaluate", noted)
    monkeypatch.setattr("tunelift.stages.train.answers.greedy", answer)
    details = run(
        tiny_model, dataset, tmp_path, max_steps=4, eval_steps=1, best={"by": "exact_match", "rows": 8}, save_steps=9
    )
    measured = [line["eval_exact_match"] for line in lines(tmp_path / "metrics.jsonl") if "eval_loss" in line]
    assert measured == [0.0, 1.0, 0.0, 0.0]
    assert details["kept"]["step"] == 2 and details["kept"]["by"] == "eval_exact_match"


@pytest.mark.parametrize(
    ("changes", "validation", "message"),
    [
        ({"best": {"by": "exact_mach"}}, 10, "train.best.by=exact_mach: There is no scorer `exact_mach`"),
        (
            {"best": {"by": "eval_loss"}},
            0,
            "train.best.by=eval_loss chooses by the validation split, and that is empty",
        ),
        ({"best": {"by": "exact_match"}}, 0, "train.best.by=exact_match chooses by the validation split, and that is"),
        ({"best": {"by": "eval_loss"}}, 7, "would choose the step by 7 validation rows.* It takes 8"),
        ({"best": {"by": "eval_loss"}, "eval_rows": 3}, 10, "would choose the step by train.eval_rows=3"),
        ({"best": {"by": "exact_match", "rows": 3}}, 10, "would choose the step by train.best.rows=3"),
        ({"samples": {"every": 5}}, 0, "train.samples.every=5 answers the validation split, and that is empty"),
    ],
)
def test_what_cannot_choose_or_be_answered_is_refused_before_training(
    changes: dict, validation: int, message: str, tiny_model: Path, tmp_path: Path
) -> None:
    data = write_dataset(tmp_path / "data", validation=validation)
    with pytest.raises(UserError, match=message) as caught:
        run(tiny_model, data, tmp_path / "out", **changes)
    assert "curate.split.validation" in caught.value.remedy or validation
    with pytest.raises(UserError, match=message):
        check_choice(train_config(**changes), data, seed=1)


def test_rows_of_one_group_choose_as_one(tmp_path: Path) -> None:
    data = write_dataset(tmp_path, validation=20)
    rows = [json.loads(line) for line in (data / "validation.jsonl").read_text().splitlines()]
    grouped = [row | {"cluster": str(number % 7)} for number, row in enumerate(rows)]
    config = train_config(best={"by": "eval_loss"}, eval_rows=16)
    check_choice(config, data, seed=1)
    (data / "validation.jsonl").write_text("".join(json.dumps(row) + "\n" for row in grouped))
    with pytest.raises(UserError, match="by 7 validation rows"):
        check_choice(config, data, seed=1)
    check_choice(train_config(), data, seed=1)


def test_a_scorer_that_does_not_exist_is_told_before_there_is_a_data_set() -> None:
    check_choice(train_config(best={"by": "right_tool"}), None, seed=1)
    with pytest.raises(UserError, match=r"train\.best\.by=exact_mach: There is no scorer"):
        check_choice(train_config(best={"by": "exact_mach"}), None, seed=1)


def test_patience_without_a_measure_is_refused_at_load() -> None:
    with pytest.raises(ValidationError, match=r"patience has nothing to go by while by=last"):
        BestConfig(patience=2)


def test_evaluation_is_identity_only_where_it_chooses() -> None:
    plain_, often = TrainConfig(), TrainConfig(eval_steps=7)
    assert plain_.identity() == often.identity()
    chooses = [TrainConfig(best={"by": "eval_loss"}, eval_steps=steps).identity() for steps in (7, 8)]
    assert chooses[0] != chooses[1] and chooses[0] != plain_.identity()
    unused = [TrainConfig(best={"by": "eval_loss", "rows": rows}).identity() for rows in (7, 8)]
    assert unused[0] == unused[1]
    asked = [TrainConfig(best={"by": "exact_match", "rows": rows}).identity() for rows in (7, 8)]
    assert asked[0] != asked[1]


LOSS = Measure("eval_loss", lower_is_better=True)


@given(st.lists(st.floats(0, 5), max_size=12), st.floats(0, 1), st.booleans())
def test_the_best_step_is_the_first_of_the_best_values(values: list[float], delta: float, lower: bool) -> None:
    measure = Measure("eval_x", lower_is_better=lower)
    told = [{"step": 5 * (number + 1), "eval_x": value} for number, value in enumerate(values)]
    stands = standing([{"step": 1, "loss": 9.0}, *told], measure, delta)
    if values:
        best = (min if lower else max)(values)
        assert stands.value == best and stands.step == 5 * (values.index(best) + 1)
    else:
        assert (stands.step, stands.value) == (None, None)


def test_patience_counts_evaluations_without_enough_progress() -> None:
    told = [{"step": step, "eval_loss": loss} for step, loss in enumerate([3.0, 2.0, 1.95, 1.91, 1.89], start=1)]
    waited = [standing(told[:count], LOSS, 0.1).waited for count in range(1, 6)]
    assert waited == [0, 0, 1, 2, 0]
    assert standing([{"step": 1, "eval_loss": float("nan")}], LOSS, 0.0).step is None


# --- answers --------------------------------------------------------------------------------------------------------


def test_greedy_answers_are_those_of_one_row_at_a_time_and_end_at_the_end_token(
    tiny_model: Path, dataset: Path
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    model = load_base(tiny_model, kind="lora", device="cpu", precision="fp32")
    model.generation_config.repetition_penalty = 5.0  # As some models ask for; it must not be heeded.
    prompts = [
        tokenizer(render(tokenizer, conversation(number)["messages"][:2], None, generate=True))["input_ids"]
        for number in range(4)
    ]

    def alone(prompt: list[int]) -> list[int]:
        ids = list(prompt)
        with torch.no_grad():
            for _ in range(8):
                ids.append(int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
        return ids[len(prompt) :]

    expected = [alone(prompt) for prompt in prompts]
    stop = expected[0][3]
    before = torch.get_rng_state()
    outputs = greedy(model, tokenizer, prompts, max_tokens=8, stops=[stop], rows_at_once=2, bf16=False)
    assert torch.equal(before, torch.get_rng_state())
    cut = [ids[: ids.index(stop)] if stop in ids else ids for ids in expected]
    assert outputs == [tokenizer.decode(ids, skip_special_tokens=True) for ids in cut]
    assert model.generation_config.repetition_penalty == 5.0


def test_gradients_through_4_bit_layers_survive_generation(tiny_model: Path, dataset: Path) -> None:
    from peft import get_peft_model

    tokenizer = load_tokenizer(tiny_model)
    batch = collate(read_encoded(tokenizer, dataset, "train", 4), tokenizer.pad_token_id, "cpu")
    torch.manual_seed(0)
    model = get_peft_model(
        load_base(tiny_model, kind="qlora", device="cpu", precision="fp32"), lora_config(train_config())
    ).train()
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)

    def gradients() -> list[torch.Tensor]:
        model.zero_grad()
        cross_entropy(*supervised_logits(model, batch)).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    greedy(model, tokenizer, [[5, 6, 7], [8]], max_tokens=3, stops=[2], rows_at_once=2, bf16=False)
    assert model.training
    assert all(torch.equal(one, other) for one, other in zip(before, gradients(), strict=True))


def test_which_rows_are_asked_depends_on_seed_and_ids_alone(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    backwards = (dataset / "validation.jsonl").read_text().splitlines(keepends=True)[::-1]
    (tmp_path / "validation.jsonl").write_text("".join(backwards))

    def asked(folder: Path, seed: int) -> list[str]:
        found = ask(tokenizer, folder, rows=4, max_tokens=5, scorer=None, seed=seed, stops=[2])
        return [item.id for item in found.task.items]

    assert asked(dataset, 1) == asked(tmp_path, 1) != asked(dataset, 2)


def test_samples_stand_beside_the_bases_own_answer(chosen: tuple[Path, dict], tiny_model: Path) -> None:
    found = lines(chosen[0] / "samples.jsonl")
    assert [line["step"] for line in found] == [4, 4, 8, 8]
    assert found[0].keys() == {"step", "id", "prompt", "expected", "base_output", "output"}
    tokenizer = load_tokenizer(tiny_model)
    prompts = [tokenizer(render(tokenizer, line["prompt"], None, generate=True))["input_ids"] for line in found[2:]]
    base = load_base(tiny_model, kind="qlora", device="cpu", precision="fp32")
    stops = [tokenizer.convert_tokens_to_ids("<|im_end|>")]
    said = greedy(base, tokenizer, prompts, max_tokens=6, stops=stops, rows_at_once=4, bf16=False)
    assert [line["base_output"] for line in found] == said * 2
    assert [line["output"] for line in found[2:]] != said


def test_a_run_that_stops_early_answers_at_its_end(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    best = {"by": "eval_loss", "patience": 1, "min_delta": 5.0}
    details = run(
        tiny_model, dataset, tmp_path, best=best, eval_steps=2, samples={"every": 30, "rows": 2, "max_tokens": 3}
    )
    assert details["steps"] == 4
    assert [line["step"] for line in lines(tmp_path / "samples.jsonl")] == [4, 4]


def test_a_sample_cannot_move_the_terminals_cursor() -> None:
    assert plain("a\x1b[2J\u202e\n b" + "x" * 200).startswith("a [2J b") and len(plain("x" * 200)) <= 84


# --- what a person watches ------------------------------------------------------------------------------------------


def test_metrics_hold_all_that_the_live_line_shows(chosen: tuple[Path, dict]) -> None:
    step = lines(chosen[0] / "metrics.jsonl")[0]
    keys = "step epoch loss loss_smoothed learning_rate grad_norm supervised_tokens tokens_per_second mfu memory_gib"
    assert step.keys() >= {*keys.split(), "seconds"}
    assert step["loss_smoothed"] == pytest.approx(step["loss"]) and 0 < step["mfu"] < 2 and step["memory_gib"] > 0.1


def test_the_live_line_fits_100_columns() -> None:
    numbers = {
        "loss": 12.3456,
        "loss_smoothed": 11.2345,
        "learning_rate": 1.5e-5,
        "grad_norm": 0.0123,
        "tokens_per_second": 12345.6,
        "mfu": 0.4321,
        "memory_gib": 72.5,
    }
    bar = Bar("train", 1200, "steps", done=999, lean=True, started=-1e5)
    bar._text = live_line(numbers)
    assert len(bar.line()) <= 100, bar.line()
    for shown in ("999/1200", "left", "12.35", "(11.23)", "1.5e-5", "0.012", "12.3k tok/s", "MFU 43%", "72 GiB"):
        assert shown in bar.line()


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_peak_is_that_of_the_faster_precision(device: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    emulated = {torch.bfloat16: 1e12, torch.float32: 7e12}
    monkeypatch.setattr(peak, "_fastest", lambda _, dtype: emulated[dtype])
    assert matmul_flops_per_second(device) == 7e12


def test_the_peak_is_measured_in_less_than_a_second_and_moves_no_random_state() -> None:
    before = torch.get_rng_state()
    assert matmul_flops_per_second("cpu") > 1e8
    assert torch.equal(before, torch.get_rng_state())
