"""The plan against the tensors that are alive in real steps of tiny models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.loading import load_script
from tests.tiny import tiny_tokenizer
from tunelift.config.schema import TrainConfig
from tunelift.runtime.shape import FAMILIES

WITHIN = 0.05
LLAMA_WITHIN = 0.03
"""Where the terms were read off; dropping one of them changes more than this."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory):
    """Makes a tiny model of an architecture, whose widths can be told apart; once each."""
    made: dict[str, Path] = {}
    root, tokenizer = tmp_path_factory.mktemp("models"), tiny_tokenizer()

    def make(family: str) -> Path:
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM

        if family not in made:
            config = AutoConfig.for_model(
                family,
                vocab_size=len(tokenizer),
                hidden_size=96,
                intermediate_size=256,
                num_hidden_layers=3,
                num_attention_heads=3,
                num_key_value_heads=1,
                head_dim=32,
                max_position_embeddings=512,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
                tie_word_embeddings=False,
            )
            made[family] = root / family
            AutoModelForCausalLM.from_config(config).to(torch.bfloat16).save_pretrained(made[family])
            tokenizer.save_pretrained(made[family])
        return made[family]

    return make


def config(**changes) -> TrainConfig:
    settings = {
        "adapter": {"kind": "lora", "rank": 16, "alpha": 32},
        "global_batch_size": 4,
        "micro_batch_size": 2,
        "max_length": 64,
        "gradient_checkpointing": False,
        "attention": "sdpa",
        "precision": "bf16",
    }
    return TrainConfig.model_validate(settings | changes)


def assert_near(model: Path, settings: TrainConfig, *, within: float, padded: bool = False) -> None:
    from memory_check.steps import compare

    found = compare(model, settings, padded=padded)
    assert abs(found.weights_off) < 0.001
    assert abs(found.off) < within, (
        f"planned {found.planned.tensors:,} {found.planned.moment}, "
        f"measured {found.measured:,} after {found.operation}: {found.off:+.2%}"
    )


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_plan_is_what_is_alive_whatever_the_architecture(family: str, checkpointing: bool, models) -> None:
    assert_near(models(family), config(gradient_checkpointing=checkpointing), within=WITHIN, padded=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"kind": "qlora"}},
        {"adapter": {"kind": "qlora"}, "gradient_checkpointing": True},
        {"adapter": {"kind": "qlora"}, "max_length": 16, "micro_batch_size": 1, "gradient_checkpointing": True},
        {"adapter": {"kind": "lora", "targets": ("q_proj", "v_proj")}},
        {"adapter": {"kind": "lora", "dropout": 0.1}},
        {"adapter": {"kind": "lora", "dropout": 0.1}, "gradient_checkpointing": True},
        {"precision": "fp32"},
        {"precision": "fp32", "gradient_checkpointing": True},
        {"precision": "fp32", "attention": "eager"},
        {"attention": "eager", "max_length": 320, "micro_batch_size": 1},
        {"attention": "eager", "max_length": 320, "micro_batch_size": 1, "gradient_checkpointing": True},
        {"global_batch_size": 2, "gradient_checkpointing": True},
        {"packing": True},
        {"packing": True, "attention": "eager"},
        {"adapter": {"kind": "lora", "options": {"rank_pattern": {"down_proj": 64, "layers.1.self_attn.q_proj": 4}}}},
    ],
    ids=str,
)
def test_the_plan_is_what_is_alive_whatever_the_settings(changes: dict, models) -> None:
    assert_near(models("llama"), config(**changes), within=LLAMA_WITHIN)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"kind": "lora", "modules_to_save": ["lm_head"]}},
        {"adapter": {"kind": "qlora", "modules_to_save": ["embed_tokens"]}},
        {"adapter": {"kind": "lora", "modules_to_save": ["lm_head", "embed_tokens"]}, "global_batch_size": 2},
        {"adapter": {"kind": "lora", "modules_to_save": ["lm_head", "embed_tokens"]}, "precision": "fp32"},
        {"adapter": {"kind": "lora", "modules_to_save": ["norm"]}},
        {"added_tokens": ["<|one|>", "<|two|>"]},
    ],
    ids=str,
)
def test_what_is_trained_whole_is_in_the_plan(changes: dict, checkpointing: bool, models) -> None:
    assert_near(models("llama"), config(gradient_checkpointing=checkpointing, **changes), within=WITHIN)


@pytest.mark.parametrize(
    "changes",
    [{"adapter": {"kind": "lora", "modules_to_save": ["lm_head"]}}, {"added_tokens": ["<|one|>", "<|two|>"]}],
    ids=str,
)
def test_embeddings_that_are_tied_count_once(changes: dict, tiny_model: Path) -> None:
    for checkpointing in (False, True):
        assert_near(tiny_model, config(gradient_checkpointing=checkpointing, **changes), within=WITHIN)


def test_published_figures_are_met_or_the_difference_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    from memory_check.published import FIGURES

    script = load_script("check_memory")
    agree = [script.published(figure) for figure in FIGURES]
    assert all(agree)
    said = capsys.readouterr().out
    assert said.count("planned") == len(FIGURES) == 6
    assert said.count("why:") == 1


def test_a_figure_that_is_missed_without_a_reason_fails(capsys: pytest.CaptureFixture[str]) -> None:
    from memory_check.published import Figure

    script = load_script("check_memory")
    assert not script.published(Figure("off", 10.0, 2**30, lambda: {"weights": 12 * 2.0**30}))
    assert "+20.0%" in capsys.readouterr().out
