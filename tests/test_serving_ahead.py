"""What can be served is told before anything is trained, and what is trained is found on the next machine."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunelift.artifacts.records import Artifact, Manifest
from tunelift.config.load import load_config
from tunelift.config.resolve import resolve
from tunelift.errors import MachineError, UserError
from tunelift.facts import facts_for, in_4_bits, merge_device, refuse_unservable
from tunelift.pipeline import Pipeline, open_run
from tunelift.planning import Assumptions, describe_on
from tunelift.runtime import gpus, hardware
from tunelift.runtime.published import published_shape

CONFIGS = Path(__file__).parents[1] / "configs"
LLAMA = published_shape("meta-llama/Llama-3.1-8B-Instruct")
assert LLAMA is not None


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes come from the built-in table, without a wait for what cannot be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def machine(card: str) -> hardware.Hardware:
    found = gpus.find(card)
    return hardware.Hardware("cuda", found.name, found.memory_gib, 8, found.native_bf16, found.capability)


def resolved(card: str, *overrides: str, recipe: str = "llama3.1-8b-qlora") -> Any:
    config = load_config(CONFIGS / f"{recipe}.yaml", overrides)
    return resolve(config, facts_for(machine(card), LLAMA.context, LLAMA)).config


def refused(card: str, *overrides: str, recipe: str = "llama3.1-8b-qlora") -> UserError | None:
    try:
        refuse_unservable(resolved(card, *overrides, recipe=recipe), machine(card), LLAMA.parameters, LLAMA)
    except UserError as error:
        return error
    return None


# --- what fits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("card", ["rtx-4090", "l4", "a100-80"])
def test_a_card_that_can_serve_is_not_told_anything(card: str) -> None:
    assert refused(card) is None


@pytest.mark.parametrize("card", ["rtx-4080", "t4"])
def test_a_16_gb_card_is_told_of_the_form_that_it_can_serve(card: str) -> None:
    error = refused(card, "engine.max_model_len=2048")
    assert error is not None and "cannot serve the tuned model" in error.message
    assert "Set serve.mode=adapter: 4-bit base + adapter, room for" in error.remedy
    assert "`tunelift train` works here" in error.remedy and "the adapter is found" in error.remedy
    assert refused(card, "engine.max_model_len=2048", "serve.mode=adapter") is None
    assert refused(card, recipe="llama3.1-8b-qlora-16gb") is None, "the recipe for such cards works on them"


def test_what_vllm_serves_merged_alone_is_not_offered_otherwise() -> None:
    error = refused("rtx-4080", "train.adapter.dora=true")
    assert error is not None and "serve.mode=adapter" not in error.remedy
    assert "a card of 2" in error.remedy


def test_a_card_that_can_serve_neither_form_is_told_which_one_can() -> None:
    small = dataclasses.replace(machine("rtx-4080"), name="a small one", memory_gib=6.0)
    for mode in ("merged", "adapter"):
        config = resolved("rtx-4080", f"serve.mode={mode}")
        with pytest.raises(UserError, match=r"a small one \(6.0 GiB\) cannot serve the tuned model") as caught:
            refuse_unservable(config, small, LLAMA.parameters, LLAMA)
        assert "serve.mode" not in caught.value.remedy
        assert f"a card of {'2' if mode == 'merged' else '9'}" in caught.value.remedy


def test_an_unknown_shape_is_left_to_the_engine() -> None:
    refuse_unservable(resolved("rtx-4080"), machine("rtx-4080"), LLAMA.parameters, None)


def test_plan_shows_the_forms_that_a_card_can_serve() -> None:
    text = describe_on(load_config(CONFIGS / "llama3.1-8b-qlora-16gb.yaml"), "rtx-4080", Assumptions())
    assert "does not fit" in next(line for line in text.splitlines() if "(serve.mode=merged)" in line)
    assert "room for" in next(line for line in text.splitlines() if "(serve.mode=adapter)" in line)


@pytest.mark.parametrize(("card", "dtype"), [("t4", "float16"), ("l4", "bfloat16")])
def test_a_gpu_without_bf16_serves_in_fp16(card: str, dtype: str) -> None:
    assert resolved(card).engine.dtype == dtype


@pytest.mark.parametrize(
    ("card", "memory_gib", "device"), [("rtx-4090", 16, "cuda"), ("rtx-4080", 32, "cpu"), ("t4", 64, "cpu")]
)
def test_what_the_card_cannot_merge_the_cpu_does(
    card: str, memory_gib: float, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "physical_memory_gib", lambda: memory_gib)
    assert merge_device(machine(card), LLAMA.parameters) == device


def test_where_neither_can_merge_the_other_form_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "physical_memory_gib", lambda: 16.0)
    with pytest.raises(
        UserError, match=r"Merging takes 18 GiB.* this machine has 16.0 GiB \(16.0 on its GPU\)"
    ) as caught:
        merge_device(machine("rtx-4080"), LLAMA.parameters)
    assert "serve.mode=adapter" in caught.value.remedy and "tunelift train" in caught.value.remedy


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("train.adapter.dora=true", "train.adapter.dora"),
        ("train.adapter.modules_to_save=[lm_head]", "train.adapter.modules_to_save"),
        ("train.added_tokens=['<|tool|>']", "train.added_tokens"),
        ("train.adapter.options={bias: all}", "train.adapter.options.bias=all"),
        ("train.adapter={kind: lora, options: {init_lora_weights: pissa}}", "init_lora_weights=pissa"),
        ("train.adapter.rank=600", "a rank above 512"),
    ],
)
def test_what_cannot_be_served_unmerged_is_refused_as_the_config_is_read(override: str, named: str) -> None:
    with pytest.raises(UserError, match="vLLM serves no adapter with") as caught:
        load_config(CONFIGS / "llama3.1-8b-qlora.yaml", ["serve.mode=adapter", override])
    assert named in str(caught.value)


# --- found again ----------------------------------------------------------------------------------------------------


@pytest.fixture
def on(project: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Pipeline]:
    """The small project's run, as planned on a machine."""
    monkeypatch.chdir(project)

    def planned(where: hardware.Hardware, *overrides: str) -> Pipeline:
        monkeypatch.setattr(hardware, "detect", lambda: where)
        return open_run(Path("config.yaml"), overrides)

    return planned


OLD_CPU = hardware.Hardware("cpu", "an old CPU", 64.0, 8, native_bf16=False)


def test_an_adapter_is_found_whatever_the_precision_is_resolved_to(on: Callable[..., Pipeline]) -> None:
    machines = (machine("t4"), machine("a100-80"), OLD_CPU)
    runs = [on(where) for where in machines]
    assert [run.config.train.precision for run in runs] == ["fp32", "bf16", "fp32"]
    dataset = runs[0].make_curate()
    assert len({run.train_plan(dataset).fingerprint for run in runs}) == 1
    adapter = Artifact(Path("a"), Manifest("train", 1, "f" * 64, {}, {}, {}, {}, "", 0.0, {"precision": "fp32"}))
    plans = [run.merge_plan(dataset, adapter) for run in runs]
    assert len({plan.fingerprint for plan in plans}) == 1
    assert plans[1].section["precision"] == "fp32", "what it was trained in, not what this machine would take"
    asked = {on(machines[1], f"train.precision={said}").train_plan(dataset).fingerprint for said in ("bf16", "fp32")}
    assert len(asked) == 2, "what the config says is what is trained"


def test_how_the_tuned_model_is_served_is_part_of_every_evaluation_of_it_and_of_no_training(
    on: Callable[..., Pipeline],
) -> None:
    card = machine("a100-80")
    merged, unmerged = on(card), on(card, "serve.mode=adapter")
    dataset = merged.make_curate()
    assert merged.train_plan(dataset).fingerprint == unmerged.train_plan(dataset).fingerprint
    base = next(arm for arm in merged.arms if arm.model == "base")
    plans = [run.evaluate_plan(base, "w", dataset) for run in (merged, unmerged)]
    assert plans[0].fingerprint != plans[1].fingerprint and plans[1].section["engine"]["precision"] == "nf4"
    sixteen = on(card, "serve.mode=adapter", "train.adapter.kind=lora")
    assert (
        not in_4_bits(sixteen.config) and "precision" not in sixteen.evaluate_plan(base, "w", dataset).section["engine"]
    )
    tuned = next(arm for arm in merged.arms if arm.model == "tuned")
    adapter = Artifact(Path("a"), Manifest("train", 1, "f" * 64, {}, {}, {}, {}, "", 0.0, {"content": "c"}))
    fingerprint, folder, described = unmerged.answering(tuned, adapter)
    assert fingerprint != adapter.content and folder == Path("a/adapter")
    assert described["precision"] == "nf4" and "beside the 4-bit base" in described["tuned"]


# --- the order ------------------------------------------------------------------------------------------------------


class Broken(Exception):
    """Where a run would have begun to train."""


def test_untuned_arms_are_asked_before_training(on: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch) -> None:
    run = on(dataclasses.replace(OLD_CPU, native_bf16=True), "evaluate.arms=[tuned, base, prompted]")
    asked: list[str] = []

    def evaluate(arm: Any, *_: Any) -> Any:
        asked.append(arm.name)

    def train() -> Any:
        raise Broken

    monkeypatch.setattr(run, "_evaluate", evaluate)
    monkeypatch.setattr(run, "make_train", train)
    with pytest.raises(Broken):
        run.make_evaluate()
    assert asked and set(asked) == {arm.name for arm in run.arms if arm.model != "tuned"}


def test_where_no_untuned_arm_tries_the_engine_it_is_tried_before_training(
    on: Callable[..., Pipeline], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = on(dataclasses.replace(OLD_CPU, native_bf16=True), "evaluate.arms=[tuned]", "evaluate.noise_floor=false")
    monkeypatch.setattr(
        "tunelift.engines.vllm.vllm_arguments", lambda *_, **__: ["python", "-c", "raise ValueError('no kernel image')"]
    )
    monkeypatch.setattr(run, "make_train", lambda: pytest.fail("it trained"))
    with pytest.raises(MachineError, match="no kernel image"):
        run.make_evaluate()
