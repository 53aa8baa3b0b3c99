"""Packed rows: each is computed as if it stood alone, and a step learns what it learns from padded rows."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.stages.conversations import train_config, write_dataset
from tunelift.runtime.attention import by_row
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import IGNORED, Row, collate, read_encoded
from tunelift.runtime.weights import Kind, Precision, load_base, supervised_logits
from tunelift.stages.train import train
from tunelift.stages.train.order import Positions
from tunelift.stages.train.packing import computed_positions, pack, padded_if_rows_mix, row_lengths, rows_stay_apart

TOLERANCE = {"fp32": 1e-5, "bf16": 0.03}
"""On logits of magnitude 1: a few roundings of the dtype."""
SAME = 5e-5
"""Relative, of losses and gradient norms in fp32 over a few steps."""
KERNELS = ["eager", "sdpa", "eager_by_row", "sdpa_by_row"]
SHAPE = {
    "vocab_size": 512,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "pad_token_id": 0,
    "bos_token_id": None,
    "eos_token_id": 2,
}

TWO_EXPERTS = {
    "num_experts": 2,
    "num_experts_per_tok": 1,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}


@pytest.fixture(scope="module", autouse=True)
def known_to_transformers() -> None:
    assert [by_row(kernel) for kernel in KERNELS[:2]] == KERNELS[2:]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def rows(tiny_model: Path, dataset: Path) -> list[Row]:
    return read_encoded(load_tokenizer(tiny_model), dataset, "train", 5)


def packed(rows: list[Row]) -> dict[str, torch.Tensor]:
    return pack([{"input_ids": row.rendered.input_ids, "labels": row.labels} for row in rows])


def family(name: str, attention: str = "eager", **more) -> torch.nn.Module:
    """A random model of a family, two layers deep."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(name, **(SHAPE | more))
    return AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()


# --- isolation ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def farthest(model: torch.nn.Module, rows: list[Row], **changes) -> float:
    """The largest difference between a row's logits inside a pack and alone; `changes` to the pack's inputs."""
    batch = {name: value for name, value in packed(rows).items() if name != "labels"} | {"use_cache": False} | changes
    together = model(**batch).logits[0].float()
    found, start = 0.0, 0
    for row in rows:
        alone = model(input_ids=torch.tensor([row.rendered.input_ids]), use_cache=False).logits[0].float()
        found = max(found, (together[start : start + len(row)] - alone).abs().max().item())
        start += len(row)
    return found


@pytest.mark.parametrize("kind", ["qlora", "lora"])
@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_packed_row_has_the_logits_that_it_has_alone(
    precision: Precision, attention: str, kind: Kind, tiny_model: Path, rows: list[Row]
) -> None:
    model = load_base(tiny_model, kind=kind, device="cpu", precision=precision, attention=attention)
    assert farthest(model, rows) < TOLERANCE[precision]


@pytest.mark.parametrize("attention", KERNELS[:2])
@pytest.mark.parametrize(
    "leak",
    [
        {"position_ids": None},
        {"use_cache": True},
        {"attention_mask": "ones"},
    ],
    ids=["no positions", "a cache", "an attention mask"],
)
def test_without_what_isolates_it_a_row_has_other_logits(
    leak: dict, attention: str, tiny_model: Path, rows: list[Row]
) -> None:
    model = load_base(tiny_model, kind="lora", device="cpu", precision="fp32", attention=attention)
    if "attention_mask" in leak:
        leak = {"attention_mask": torch.ones(1, sum(map(len, rows)), dtype=torch.long)}
    assert farthest(model, rows, **leak) > 100 * TOLERANCE["fp32"]


@pytest.mark.parametrize("attention", KERNELS)
@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("llama", {}),
        ("mistral", {"sliding_window": 8}),
        ("qwen2", {}),
        ("qwen3", {}),
        ("gemma2", {"sliding_window": 8}),
        ("gemma3_text", {"sliding_window": 8}),
        ("phi3", {}),
        ("olmo2", {}),
        ("granite", {}),
        ("smollm3", {}),
    ],
)
def test_the_rows_of_each_family_stay_apart(name: str, more: dict, attention: str, rows: list[Row]) -> None:
    model = family(name, attention, **more)
    assert farthest(model, rows) < 1e-5
    assert rows_stay_apart(model, rows)
    assert farthest(model, rows, position_ids=None) > 1e-3


@pytest.mark.parametrize(
    ("name", "more"), [("mamba", {"state_size": 4}), ("qwen3_next", TWO_EXPERTS), ("opt", {"ffn_dim": 48})]
)
def test_a_model_that_mixes_packed_rows_is_noticed(name: str, more: dict, rows: list[Row], capsys) -> None:
    model = family(name, **more)
    assert farthest(model, rows) > 1e-4
    assert padded_if_rows_mix(train_config(packing=True), model, rows).packing is False
    assert "lets a packed row see the row before it, so rows are padded instead" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_the_check_holds_for_the_base_as_it_is_trained(kind: Kind, tiny_model: Path, rows: list[Row]) -> None:
    model = load_base(tiny_model, kind=kind, device="cpu", precision="bf16")
    assert rows_stay_apart(model, rows)
    assert rows_stay_apart(model, rows[:1])  # A data set of one row.


def test_the_lengths_of_the_rows_are_read_off_either_layout(tiny_model: Path, rows: list[Row]) -> None:
    lengths = [len(row) for row in rows]
    padded = collate(rows, load_tokenizer(tiny_model).pad_token_id, "cpu")
    assert row_lengths(packed(rows)) == row_lengths(padded) == lengths
    assert computed_positions([packed(rows)]) == Positions(sum(lengths), 0)
    assert computed_positions([padded, padded]).computed == 2 * len(rows) * max(lengths)


# --- what is learnt -------------------------------------------------------------------------------------------------


def test_no_row_learns_to_predict_the_next_rows_first_token() -> None:
    batch = pack([{"input_ids": [5, 6], "labels": [5, 6]}, {"input_ids": [7, 8, 9], "labels": [7, IGNORED, 9]}])
    assert batch["labels"].tolist() == [[IGNORED, 6, IGNORED, IGNORED, 9]]
    assert batch["position_ids"].tolist() == [[0, 1, 0, 1, 2]]
    assert batch["input_ids"].tolist() == [[5, 6, 7, 8, 9]]


def test_the_loss_per_supervised_token_is_that_of_padded_rows(tiny_model: Path, rows: list[Row]) -> None:
    model = load_base(tiny_model, kind="lora", device="cpu", precision="fp32")
    tokenizer = load_tokenizer(tiny_model)
    padded_logits, padded_targets = supervised_logits(model, collate(rows, tokenizer.pad_token_id, "cpu"))
    logits, targets = supervised_logits(model, packed(rows))
    assert targets.tolist() == padded_targets.tolist()
    assert len(targets) == sum(row.rendered.supervised_tokens for row in rows)
    assert cross_entropy(logits, targets).item() == pytest.approx(
        cross_entropy(padded_logits, padded_targets).item(), rel=1e-5
    )


@pytest.fixture(scope="module")
def trained(tiny_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict]]:
    def run(**changes) -> list[dict]:
        out = tmp_path_factory.mktemp("trained")
        config = train_config(**{"max_steps": 4, "warmup_ratio": 0, "precision": "fp32"} | changes)
        train(config, model=tiny_model, dataset=dataset, seed=1, device="cpu", out=out)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
        return [line for line in lines if "loss" in line]

    return run


@pytest.fixture(scope="module")
def padded_run(trained: Callable[..., list[dict]]) -> list[dict]:
    return trained()


@pytest.mark.parametrize(
    "changes",
    [{}, {"micro_batch_size": 8}, {"micro_batch_size": 1}, {"gradient_checkpointing": True}, {"attention": "eager"}],
    ids=str,
)
def test_packed_steps_learn_the_same_from_the_same_rows(
    changes: dict, trained: Callable[..., list[dict]], padded_run: list[dict]
) -> None:
    steps = trained(packing=True, **changes)
    assert [step["supervised_tokens"] for step in steps] == [step["supervised_tokens"] for step in padded_run]
    for key in ("loss", "grad_norm"):
        assert [step[key] for step in steps] == pytest.approx([step[key] for step in padded_run], rel=SAME), key


def unmarked(rows: list[dict]) -> dict[str, torch.Tensor]:
    """A pack whose positions run on, so that it is one long row."""
    batch = pack(rows)
    return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])[None]}


def test_a_pack_in_which_rows_see_each_other_learns_otherwise(
    trained: Callable[..., list[dict]], padded_run: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunelift.stages.train.trainer.pack", unmarked)
    steps = trained(packing=True, max_steps=1)
    assert steps[0]["loss"] != pytest.approx(padded_run[0]["loss"], rel=3 * SAME)


def test_where_packed_rows_would_mix_they_are_padded(
    trained: Callable[..., list[dict]], padded_run: list[dict], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tunelift.stages.train.packing.pack", unmarked)
    steps = trained(packing=True)
    assert [step["padding_share"] for step in steps] == [step["padding_share"] for step in padded_run]
    assert [step["loss"] for step in steps] == pytest.approx([step["loss"] for step in padded_run], rel=SAME)
