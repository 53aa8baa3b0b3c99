"""The merged model's folder: its config, its generation config, and the templates of its base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.published import PUBLISHED, Published, write_small_files
from tests.stages.conversations import write_dataset
from tests.stages.training import run_merge, run_training
from tunelift.runtime.chat import load_tokenizer
from tunelift.stages.merge.folder import write_model
from tunelift.stages.merge.stage import fold, load_trained


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def trained(tiny_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained")
    run_training(tiny_model, dataset, out, adapter={"kind": "lora", "rank": 4, "alpha": 8}, max_steps=1)
    return out


GENERATION = {
    "temperature without sampling": {"temperature": 0.9, "top_p": 0.6},
    "top_k without sampling": {"do_sample": False, "top_k": 1},
    "beams' settings without beams": {"num_beams": 1, "length_penalty": 0.8, "early_stopping": True},
    "no padding": {"pad_token_id": -1, "max_length": 4096},
    "a temperature too small": {"do_sample": False, "temperature": 1e-6},
}


@pytest.mark.parametrize("settings", GENERATION.values(), ids=GENERATION)
def test_a_base_that_transformers_only_warns_of_is_merged_with_its_own_generation_config(
    settings: dict, tiny_model: Path, trained: Path, tmp_path: Path
) -> None:
    """Loaded with a warning, such settings are refused when the model saves them: after the training, for good."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **settings}))
    adapter = shutil.copytree(trained / "adapter", tmp_path / "adapter")
    whole = {"eos_token_id": [2, 0], **settings}
    (adapter / "generation_config.json").write_text(json.dumps(whole))
    model = load_trained("lora", base, adapter, "cpu", "bf16")
    out = tmp_path / "out"
    out.mkdir()
    write_model(fold(model, "lora"), base, adapter, out)
    assert json.loads((out / "generation_config.json").read_text()) == whole


def test_all_templates_of_the_base_reach_adapter_and_merged_model(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "additional_chat_templates").mkdir()
    template = (base / "chat_template.jinja").read_text()
    (base / "additional_chat_templates/tool_use.jinja").write_text(template + "{# tools #}")
    trained, out = tmp_path / "trained", tmp_path / "merged"
    run_training(base, dataset, trained, max_steps=1)
    run_merge(base, dataset, trained, out, "qlora")
    for folder in (trained / "adapter", out):
        assert load_tokenizer(folder).chat_template == {"default": template, "tool_use": template + "{# tools #}"}


@pytest.mark.parametrize("form", ["as transformers 4 wrote it", "as transformers 5 writes it"])
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_the_config_says_the_same_in_the_words_of_transformers_4_and_5(
    published: Published, form: str, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    own = write_small_files(base, published)
    read = AutoConfig.from_pretrained(base)
    if form == "as transformers 5 writes it":
        read.save_pretrained(base)
    for folder in (adapter, out):
        folder.mkdir()
    write_model(AutoModelForCausalLM.from_config(read).to(torch.bfloat16), base, adapter, out)
    again, saved = AutoConfig.from_pretrained(out), json.loads((out / "config.json").read_text())
    assert again.rope_parameters == read.rope_parameters
    for name in ("rope_theta", "rope_local_base_freq"):
        assert saved.get(name) == own.get(name), name
    assert saved.get("partial_rotary_factor", 1.0) == own.get("partial_rotary_factor", 1.0)
    assert (saved.get("rope_scaling") or {}) == (own.get("rope_scaling") or {})
    assert saved["dtype"] == saved["torch_dtype"] == "bfloat16" and "auto_map" not in saved


@pytest.mark.parametrize(
    "old", [{"rope_theta": 10000.0}, {"rope_theta": 5e5, "rope_scaling": None}, {"rope_theta": 5e5}, {}]
)
def test_where_a_base_says_two_things_of_its_rope_both_forms_say_what_was_trained(
    old: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    base, adapter, out = shutil.copytree(tiny_model, tmp_path / "base"), tmp_path / "adapter", tmp_path / "out"
    described = json.loads((base / "config.json").read_text())
    scaling = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    scaling |= {"original_max_position_embeddings": 64}
    described = {key: value for key, value in described.items() if not key.startswith("rope_")} | old
    described["rope_parameters"] = {"rope_theta": 5e5, **scaling}
    (base / "config.json").write_text(json.dumps(described))
    for folder in (adapter, out):
        folder.mkdir()
    read = AutoConfig.from_pretrained(base)
    write_model(AutoModelForCausalLM.from_config(read).to(torch.bfloat16), base, adapter, out)
    saved = json.loads((out / "config.json").read_text())
    assert (saved["rope_theta"], saved["rope_scaling"]) == (5e5, scaling)
    assert AutoConfig.from_pretrained(out).rope_parameters == read.rope_parameters


def test_a_vocabulary_that_grew_is_the_merged_models(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    trained, out = tmp_path / "trained", tmp_path / "merged"
    run_training(tiny_model, dataset, trained, max_steps=1, added_tokens=["<|tool|>"])
    run_merge(tiny_model, dataset, trained, out, "qlora")
    sizes = [json.loads((folder / "config.json").read_text())["vocab_size"] for folder in (tiny_model, out)]
    assert sizes[1] == sizes[0] + 1
