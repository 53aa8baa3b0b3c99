"""Shapes: what config.json says is what transformers builds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.tiny import make_tiny_model
from tunelift.errors import UserError
from tunelift.runtime.shape import FAMILIES, read_shape, shape_from

SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 24,
    "vocab_size": 300,
}


def built(family: str, **more):
    """The model that transformers builds, without memory."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    given = {**SMALL, "pad_token_id": 0} | more
    if family == "phi3":  # It takes the head's width from the hidden width.
        del given["head_dim"]
    config = AutoConfig.for_model(family, **given)
    with torch.device("meta"):
        return config, AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_parameters_and_linear_layers_are_those_that_transformers_builds(family: str, tied: bool) -> None:
    import torch

    more = {"tie_word_embeddings": tied, "attention_bias": family in {"llama", "qwen3"}, "mlp_bias": family == "llama"}
    config, model = built(family, **more)
    shape = shape_from({"model_type": family, **config.to_dict()}, where="config.json")
    assert shape.parameters == sum(part.numel() for part in model.parameters())
    layer = model.model.layers[0]
    linears = {
        name: (module.in_features, module.out_features, module.bias is not None)
        for name, module in layer.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    assert {linear.name: (linear.inputs, linear.outputs, linear.bias) for linear in shape.linears} == linears


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_what_a_config_file_leaves_out_is_what_transformers_takes(family: str, tmp_path: Path) -> None:
    config, model = built(family)
    config.save_pretrained(tmp_path)
    assert read_shape(tmp_path).parameters == sum(part.numel() for part in model.parameters())


@pytest.mark.parametrize(
    "targets", ["all-linear", ("q_proj", "v_proj"), ("self_attn.o_proj", "mlp.down_proj"), r".*\.mlp\.(gate|up)_proj"]
)
def test_adapted_layers_are_those_that_peft_adapts(targets, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    folder = make_tiny_model(tmp_path)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder),
        LoraConfig(r=4, target_modules=targets if isinstance(targets, str) else list(targets), task_type="CAUSAL_LM"),
    )
    assert read_shape(folder).lora_parameters(4, targets) == model.get_nb_trainable_parameters()[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "mixtral", "num_local_experts": 8}, "mixture of experts"),
        ({"model_type": "mamba2"}, "no architecture whose shape is known"),
        ({"hidden_size": None}, "hidden_size=None should be a positive whole number"),
    ],
)
def test_what_is_not_known_is_said(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        shape_from({"model_type": "llama", **SMALL, **change}, where="m/config.json")
    assert caught.value.where == "m/config.json"


def test_a_missing_or_damaged_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="missing"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_shape(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **SMALL}))
    assert read_shape(tmp_path).queries == 96
