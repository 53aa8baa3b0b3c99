"""What vLLM is given to serve an adapter beside its base."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from tunelift.config.schema import EngineConfig
from tunelift.engines import adapter as unmerged
from tunelift.engines.vllm import vllm_arguments


def folders(root: Path, **described: object) -> tuple[Path, Path]:
    """A base and an adapter, with files that say whose they are."""
    import numpy
    from safetensors.numpy import save_file

    base, adapter = root / "base", root / "adapter"
    names = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "vocab.json")
    for folder, files in ((base, (*names, "model.safetensors")), (adapter, names[1:4])):
        folder.mkdir()
        for name in files:
            (folder / name).write_text(json.dumps({"of": folder.name}))
    (base / "additional_chat_templates").mkdir()
    (adapter / "chat_template.jinja").write_text("pinned")
    (adapter / "adapter_config.json").write_text(json.dumps({"r": 16, **described}))
    layers = ("model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj")
    tensors = {f"base_model.model.{one}.lora_{side}.weight": numpy.zeros((2, 2)) for one in layers for side in "AB"}
    save_file(tensors, adapter / "adapter_model.safetensors")
    return base, adapter


def test_the_folder_has_the_bases_weights_and_what_training_wrote(tmp_path: Path) -> None:
    base, adapter = folders(tmp_path)
    for _ in range(2):  # The second time over the first.
        out = unmerged.as_served(base, adapter, tmp_path / "out")
    whose = {path.name: json.loads(path.read_text())["of"] for path in out.glob("*.json")}
    assert whose == {
        "config.json": "base",
        "generation_config.json": "adapter",
        "tokenizer.json": "adapter",
        "tokenizer_config.json": "adapter",
    }
    assert (out / "model.safetensors").resolve() == (base / "model.safetensors").resolve()
    assert (out / "chat_template.jinja").read_text() == "pinned"
    assert not (out / "additional_chat_templates").exists() and not (out / "adapter_config.json").exists()


@pytest.mark.parametrize(
    ("described", "rank"), [({}, "16"), ({"r": 4}, "8"), ({"rank_pattern": {"q_proj": 65}}, "128"), ({"r": 512}, "512")]
)
def test_the_command_names_the_adapter_its_rank_and_its_layers(
    described: dict[str, object], rank: str, tmp_path: Path
) -> None:
    base, adapter = folders(tmp_path, **described)
    command = vllm_arguments(
        base,
        EngineConfig(max_model_len=512, dtype="bfloat16"),
        device="cuda",
        seed=1,
        host="127.0.0.1",
        port=1,
        served_name="tuned",
        adapter=adapter,
        in_4_bits=True,
    )
    after = dict(itertools.pairwise(command))
    assert after["--served-model-name"] == "tuned-base" and after["--max-lora-rank"] == rank
    assert json.loads(after["--lora-modules"]) == {"name": "tuned", "path": str(adapter)}
    targets = command[command.index("--lora-target-modules") + 1 :][:2]
    assert targets == ["down_proj", "q_proj"]
    assert after["--quantization"] == after["--load-format"] == "bitsandbytes"
