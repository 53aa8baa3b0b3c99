"""Resolution: pure, told with reasons, and refusing what cannot work."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunelift.config.resolve import Facts, resolve
from tunelift.config.schema import Config
from tunelift.errors import UserError

CPU = Facts(device="cpu", context=8192, wandb_key=False)
GPU = Facts(device="cuda", context=131072, wandb_key=True)


def config(**sections) -> Config:
    return Config(name="a", model={"id": "x"}, curate={"sources": [{"path": "a.jsonl"}]}, **sections)


def test_no_auto_is_left_in_what_stages_read() -> None:
    for facts in (CPU, GPU):
        resolved = resolve(config(), facts)
        left = [
            f"{section}.{name}"
            for section in ("train", "engine", "tracking")
            for name, value in getattr(resolved.config, section)
            if value == "auto"
        ]
        assert left == []


def test_each_choice_says_what_and_why() -> None:
    choices = {choice.field: choice for choice in resolve(config(), CPU).choices}
    assert choices["train.micro_batch_size"].value == 8
    assert choices["train.gradient_checkpointing"].value is False
    assert choices["engine.max_model_len"].value == 4096
    assert choices["tracking.wandb"].value == "offline"
    assert all(choice.why for choice in choices.values())


def test_attention_on_the_cpu_follows_the_length_of_the_rows() -> None:
    short, long = (resolve(config(train={"max_length": length}), CPU).config.train.attention for length in (512, 513))
    assert (short, long) == ("eager", "sdpa")


def test_a_gpu_gets_other_choices() -> None:
    resolved = resolve(config(), GPU).config
    assert resolved.train.gradient_checkpointing is True
    assert resolved.engine.enforce_eager is False
    assert resolved.tracking.wandb == "online"


@pytest.mark.parametrize(("native", "training", "engine"), [(True, "bf16", "bfloat16"), (False, "fp32", "float32")])
def test_bf16_is_chosen_where_the_hardware_multiplies_it(native: bool, training: str, engine: str) -> None:
    resolved = resolve(config(), Facts(device="cpu", context=8192, wandb_key=False, native_bf16=native)).config
    assert (resolved.train.precision, resolved.engine.dtype) == (training, engine)


def test_rows_are_packed_where_the_kernel_takes_rows_of_unequal_length() -> None:
    for attention, packed in (("flash_attention_2", True), ("sdpa", False), ("eager", False)):
        assert resolve(config(train={"attention": attention}), GPU).config.train.packing is packed
    assert resolve(config(), CPU).config.train.packing is True
    assert resolve(config(train={"packing": False}), CPU).config.train.packing is False


def test_what_the_user_set_is_kept_and_not_listed_as_a_choice() -> None:
    resolved = resolve(config(train={"micro_batch_size": 2, "global_batch_size": 6}), CPU)
    assert resolved.config.train.micro_batch_size == 2
    assert "train.micro_batch_size" not in {choice.field for choice in resolved.choices}


@pytest.mark.parametrize(("whole", "micro"), [(16, 8), (24, 8), (17, 1), (7, 7)])
def test_the_micro_batch_divides_the_global_batch(whole: int, micro: int) -> None:
    assert resolve(config(train={"global_batch_size": whole}), CPU).config.train.micro_batch_size == micro


@pytest.mark.parametrize(
    ("sections", "facts", "message"),
    [
        ({"train": {"max_length": 9000}}, CPU, "longer than the model's context of 8192"),
        ({"engine": {"max_model_len": 9000}}, CPU, "longer than the model's context of 8192"),
    ],
)
def test_what_cannot_work_is_refused_with_a_remedy(sections, facts, message) -> None:
    with pytest.raises(UserError, match=message) as caught:
        resolve(config(**sections), facts)
    assert caught.value.remedy


def test_runtime_knobs_do_not_change_the_fingerprint() -> None:
    plain = resolve(config(), CPU).config
    tuned = resolve(
        config(train={"micro_batch_size": 4, "save_steps": 7}, evaluate={"concurrency": 3}, serve={"port": 9}), CPU
    ).config
    assert plain.identity() == tuned.identity()
    assert plain.identity() != resolve(config(train={"global_batch_size": 8}), CPU).config.identity()


def test_memory_is_probed_where_running_out_can_be_survived() -> None:
    assert [resolve(config(), facts).config.train.memory_probe for facts in (CPU, GPU)] == [False, True]


def planned(without: int, recomputed: int) -> Facts:
    """A GPU on which so many rows fit, without and with recomputation."""
    return replace(GPU, rows_that_fit=lambda train: recomputed if train.gradient_checkpointing else without)


@pytest.mark.parametrize(
    ("facts", "recompute", "micro"),
    [(planned(9, 16), False, 8), (planned(4, 16), False, 4), (planned(3, 6), True, 4), (planned(0, 0), True, 1)],
)
def test_a_gpu_recomputes_only_where_few_rows_fit_and_takes_the_rows_that_do(facts, recompute, micro) -> None:
    train = resolve(config(), facts).config.train
    assert (train.gradient_checkpointing, train.micro_batch_size) == (recompute, micro)


def test_no_size_is_chosen_from_a_plan_that_does_not_count_all() -> None:
    train = resolve(config(), replace(GPU, rows_that_fit=lambda _: None)).config.train
    assert (train.gradient_checkpointing, train.micro_batch_size) == (True, 4)


def test_a_recomputation_that_is_set_decides_which_rows_fit() -> None:
    train = resolve(config(train={"gradient_checkpointing": False}), planned(2, 16)).config.train
    assert train.micro_batch_size == 2


@pytest.mark.parametrize(
    ("changes", "attention"),
    [
        ({}, "sdpa"),
        ({"flash_attention": True, "capability": 8.9}, "flash_attention_2"),
        ({"flash_attention": True, "capability": 7.5}, "sdpa"),
    ],
)
def test_flash_attention_is_taken_where_it_is_installed_and_the_card_takes_it(changes: dict, attention: str) -> None:
    assert resolve(config(), replace(GPU, **changes)).config.train.attention == attention


def test_flash_attention_is_neither_chosen_nor_taken_in_fp32() -> None:
    ampere = replace(GPU, flash_attention=True, capability=8.6)
    train = resolve(config(train={"precision": "fp32"}), ampere).config.train
    assert (train.attention, train.packing) == ("sdpa", False)
    asked = config(train={"attention": "flash_attention_2", "precision": "fp32"})
    with pytest.raises(UserError, match="takes bf16 only") as caught:
        resolve(asked, ampere)
    assert "train.attention to auto" in caught.value.remedy
    turing = replace(GPU, flash_attention=True, capability=7.5, native_bf16=False)
    with pytest.raises(UserError, match=r"train\.precision is fp32"):
        resolve(config(train={"attention": "flash_attention_2"}), turing)


@pytest.mark.parametrize(
    ("mode", "key", "chosen", "why"),
    [
        ("offline", True, "offline", "WANDB_MODE is offline"),
        ("dryrun", True, "offline", "WANDB_MODE is dryrun"),
        ("disabled", True, "off", "WANDB_MODE is disabled"),
        ("online", False, "online", "WANDB_MODE is online"),
        ("shared", True, "online", "WANDB_API_KEY is set"),
        ("", False, "offline", "WANDB_API_KEY is not set; `wandb sync` uploads later"),
    ],
)
def test_tracking_does_as_wandb_mode_says(mode: str, key: bool, chosen: str, why: str) -> None:
    facts = replace(CPU, wandb_key=key, wandb_mode=mode)
    resolved = resolve(config(), facts)
    assert resolved.config.tracking.wandb == chosen
    assert next(choice.why for choice in resolved.choices if choice.field == "tracking.wandb") == why
    assert resolve(config(tracking={"wandb": "online"}), facts).config.tracking.wandb == "online", "set by hand"


@pytest.mark.parametrize(
    ("asked", "facts", "recompute"),
    [(8, planned(7, 32), True), (2, planned(3, 16), False), (4, planned(4, 16), False), (4, planned(3, 16), True)],
)
def test_recomputation_follows_the_micro_batch_that_is_set(asked: int, facts: Facts, recompute: bool) -> None:
    train = resolve(config(train={"micro_batch_size": asked}), facts).config.train
    assert (train.gradient_checkpointing, train.micro_batch_size) == (recompute, asked)


@pytest.mark.parametrize(
    ("length", "tasks", "context", "engine"),
    [
        (8192, [{"from_split": "test", "max_tokens": 300}], 131_072, 8492),
        (8192, [{"from_split": "test"}, {"from_split": "validation", "max_tokens": 900}], 131_072, 9092),
        (8192, ["evals/a"], 131_072, 8448),
        (8192, [{"from_split": "test"}], 8200, 8200),
        (3840, [{"from_split": "test"}], 131_072, 4096),
        (512, [{"from_split": "test"}], 2048, 2048),
    ],
)
def test_the_engine_takes_rows_as_long_as_those_that_are_trained_on(
    length: int, tasks: list, context: int, engine: int
) -> None:
    asked = config(train={"max_length": length}, evaluate={"tasks": tasks})
    resolved = resolve(asked, replace(GPU, context=context))
    assert resolved.config.engine.max_model_len == engine
    why = next(choice.why for choice in resolved.choices if choice.field == "engine.max_model_len")
    assert ("train.max_length and the longest answer come to" in why) == (length == 8192)
    assert resolve(config(engine={"max_model_len": 777}), GPU).config.engine.max_model_len == 777
