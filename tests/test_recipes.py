"""The shipped recipes: each loads, and the GPU ones build every library's real settings at the model's real shape."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.vllm_parser import parsed
from tunelift.config.load import load_config
from tunelift.config.resolve import Facts, resolve
from tunelift.config.schema import Config

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "configs"
GPU_RECIPES = sorted(path.stem for path in CONFIGS.glob("*-8b-*.yaml"))


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_config_loads_and_points_editors_to_the_schema(path: Path) -> None:
    assert load_config(path).name == path.stem
    assert path.read_text().startswith("# yaml-language-server: $schema=./schema.json")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.stem)
def test_no_row_and_no_answer_leaves_the_machine_unless_its_user_says_so(path: Path) -> None:
    """People put their own data under a shipped recipe, with their W&B key set."""
    assert load_config(path).tracking.log_samples is False


def test_the_shipped_schema_is_the_configs_own() -> None:
    import json

    from tunelift.config.load import json_schema

    assert json.loads((CONFIGS / "schema.json").read_text()) == json_schema(), "run: make schema"


def resolved(name: str) -> Config:
    context = 131072 if name.startswith("llama") else 40960
    return resolve(load_config(CONFIGS / f"{name}.yaml"), Facts(device="cuda", context=context, wandb_key=False)).config


def shape(name: str):
    """The published config.json of the model: meta-llama/Llama-3.1-8B-Instruct and Qwen/Qwen3-8B."""
    from transformers import LlamaConfig, Qwen3Config

    common = {"hidden_size": 4096, "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False}
    if name.startswith("llama"):
        return LlamaConfig(vocab_size=128256, intermediate_size=14336, num_hidden_layers=32, **common)
    return Qwen3Config(vocab_size=151936, intermediate_size=12288, num_hidden_layers=36, head_dim=128, **common)


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_the_recipe_builds_the_real_training_settings(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from accelerate.utils import imports
    from transformers import training_args

    from tunelift.stages.train.settings import lora_config, quantization, sft_config

    # Only the question whether this machine's device can compute in bf16 is answered for it.
    monkeypatch.setattr(training_args, "is_torch_bf16_gpu_available", lambda: True)
    monkeypatch.setattr(imports, "is_bf16_available", lambda *_, **__: True)
    train = resolved(name).train
    settings = sft_config(train, device="cuda", steps=100, seed=1, checkpoints=tmp_path)
    assert settings.per_device_train_batch_size * settings.gradient_accumulation_steps == train.global_batch_size
    assert settings.bf16
    assert settings.gradient_checkpointing
    assert settings.max_length is None, "a length given to TRL is a length at which it cuts"
    bits = quantization(train)
    if train.adapter.kind == "qlora":
        assert (bits.bnb_4bit_quant_type, bits.bnb_4bit_use_double_quant) == ("nf4", True)
        assert bits.bnb_4bit_compute_dtype == torch.bfloat16
    else:
        assert bits is None
    assert lora_config(train).target_modules == "all-linear"


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_the_recipes_adapter_fits_a_model_of_the_real_shape(name: str) -> None:
    import torch
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM

    from tunelift.stages.train.settings import lora_config

    train, config = resolved(name).train, shape(name)
    with torch.device("meta"):
        model = get_peft_model(AutoModelForCausalLM.from_config(config), lora_config(train))
    trainable, total = model.get_nb_trainable_parameters()
    assert total - trainable == (8_030_261_248 if name.startswith("llama") else 8_190_735_360)
    layers, rank, width, kv, middle = config.num_hidden_layers, train.adapter.rank, 4096, 1024, config.intermediate_size
    assert trainable == layers * rank * (2 * (width + width) + 2 * (width + kv) + 3 * (width + middle))
    assert not any("lm_head" in key and "lora" in key for key, _ in model.named_parameters())


@pytest.mark.timeout(300)
def test_vllms_own_parser_takes_the_recipes_command_lines(tmp_path: Path) -> None:
    from tests.engines.test_adapter import folders
    from tunelift.engines.vllm import vllm_arguments

    _, adapter = folders(tmp_path)

    def command(config: Config) -> list[str]:
        unmerged = config.serve.mode == "adapter"
        return vllm_arguments(
            Path("model"),
            config.engine,
            device="cuda",
            seed=3,
            host="127.0.0.1",
            port=8123,
            served_name="tuned",
            adapter=adapter if unmerged else None,
            in_4_bits=unmerged,
        )

    configs = [resolved(name) for name in GPU_RECIPES]
    for config, found in zip(configs, parsed([command(config) for config in configs], tmp_path), strict=True):
        engine, unmerged = config.engine, config.serve.mode == "adapter"
        assert (found["model"], found["port"]) == ("model", 8123)
        assert found["served_model_name"] == (["tuned-base"] if unmerged else ["tuned"])
        assert found["max_model_len"] == engine.max_model_len
        assert found["gpu_memory_utilization"] == engine.gpu_memory_utilization
        assert found["generation_config"] == "vllm"
        assert found["enforce_eager"] is False
        assert found.get("quantization") == ("bitsandbytes" if unmerged else None)


PLANNED = re.compile(r"^# Planned on (\S+): (.+)$", re.MULTILINE)


def plan_of(name: str, gpu: str) -> str:
    """What a recipe's comment should say of a card."""
    from tunelift.planning import forecast_on

    plan = forecast_on(load_config(CONFIGS / f"{name}.yaml", ["train.attention=sdpa"]), gpu)
    run = plan.run
    how = "recomputing" if run.checkpointing else "keeping"
    fits = "" if plan.fits else " (does not fit)"
    return (
        f"{run.rows} x {run.length:,} tokens in {run.precision}, {how} activations, "
        f"{plan.peak.total / 2**30:.1f} of {plan.memory_gib:.1f} GiB{fits}"
    )


@pytest.mark.parametrize("name", GPU_RECIPES)
def test_the_recipe_fits_the_cards_that_its_comment_names_as_it_says(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    said = PLANNED.findall((CONFIGS / f"{name}.yaml").read_text())
    assert said
    assert [(gpu, plan_of(name, gpu)) for gpu, _ in said] == said
    assert not any("does not fit" in plan for _, plan in said)


def test_gpu_recipes_differ_from_the_quickstart_in_settings_only() -> None:
    for name in GPU_RECIPES:
        written = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
        assert set(written) <= {"extends", "name", "model", "train", "engine", "serve"}, name
        assert resolved(name).curate == load_config(CONFIGS / "quickstart.yaml").curate
