"""Finding the base model, and saying what to do when it cannot be had."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tunelift.artifacts.provenance import FileHashes
from tunelift.config.section import ModelConfig
from tunelift.errors import UserError
from tunelift.runtime.modeling import inspect, inspect_base
from tunelift.runtime.shape import EXPERTS


@pytest.fixture
def hashes(tmp_path: Path) -> FileHashes:
    return FileHashes(tmp_path / "hashes.json")


def test_a_local_folder_is_described_from_its_headers(tiny_model: Path, hashes: FileHashes) -> None:
    facts = inspect(ModelConfig(id=str(tiny_model)), hashes)
    assert (facts.architecture, facts.context, facts.dtype) == ("LlamaForCausalLM", 512, "bfloat16")
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    assert facts.parameters == model.num_parameters()
    assert facts.linear_dims == sum(
        sum(weight.shape) for name, weight in model.named_parameters() if ".layers." in name and weight.dim() == 2
    )


def test_changed_weights_change_the_fingerprint(tiny_model: Path, tmp_path: Path, hashes: FileHashes) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    first = inspect(ModelConfig(id=str(copy)), hashes).fingerprint
    assert first == inspect(ModelConfig(id=str(tiny_model)), hashes).fingerprint
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-2] + b"xx")
    assert inspect(ModelConfig(id=str(copy)), hashes).fingerprint != first


def test_the_origin_note_reaches_the_card(tiny_model: Path, tmp_path: Path, hashes: FileHashes) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "tunelift_origin.json").write_text(json.dumps({"source": "a wheel", "note": "dequantized from Q4_1"}))
    assert inspect(ModelConfig(id=str(copy)), hashes).card()["note"] == "dequantized from Q4_1"


def test_a_model_for_images_is_described_by_its_text_part_and_is_no_base(
    tiny_model: Path, tmp_path: Path, hashes: FileHashes
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    described = json.loads((copy / "config.json").read_text())
    text = {"max_position_embeddings": described.pop("max_position_embeddings")}
    several = described | {"model_type": "gemma3", "text_config": text, "vision_config": {"hidden_size": 32}}
    (copy / "config.json").write_text(json.dumps(several))
    assert inspect(ModelConfig(id=str(copy)), hashes).context == 512
    with pytest.raises(UserError, match=r"reads more than text .*vision_config") as caught:
        inspect_base(ModelConfig(id=str(copy)), hashes)
    assert "gemma-3-1b-it" in caught.value.remedy
    assert inspect_base(ModelConfig(id=str(tiny_model)), hashes).context == 512


@pytest.mark.parametrize("key", EXPERTS)
def test_a_mixture_of_experts_is_described_and_is_no_base(
    key: str, tiny_model: Path, tmp_path: Path, hashes: FileHashes
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    described = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(described | {key: 8}))
    config = ModelConfig(id=str(copy))
    assert inspect(config, hashes).context == 512
    with pytest.raises(UserError, match="mixture of experts, whose experts would be neither trained") as caught:
        inspect_base(config, hashes)
    assert "dense" in caught.value.remedy
    (copy / "config.json").write_text(json.dumps(described | {key: 1}))
    assert inspect_base(config, hashes).context == 512


@pytest.mark.parametrize("name", ["./nowhere", "runs/models/nowhere", "no-slash", "a/b/c"])
def test_a_missing_folder_is_told(name: str, hashes: FileHashes) -> None:
    with pytest.raises(UserError, match="no folder here and no hub id") as caught:
        inspect(ModelConfig(id=name), hashes)
    assert caught.value.remedy


def test_an_unreachable_hub_is_told_with_two_ways_out(
    hashes: FileHashes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UserError, match="cannot be reached") as caught:
        inspect(ModelConfig(id="owner/never-downloaded"), hashes)
    assert "HF_HUB_OFFLINE" in caught.value.remedy
    assert "local folder" in caught.value.remedy


def _response(status: int, headers: dict[str, str]):
    import httpx

    return httpx.Response(status, headers=headers, request=httpx.Request("GET", "http://localhost"))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("GatedRepoError", "HF_TOKEN"),
        ("RepositoryNotFoundError", "spelling"),
        ("RevisionNotFoundError", "model.revision"),
    ],
)
def test_what_the_hub_refuses_is_told_with_the_remedy(
    kind: str, said: str, hashes: FileHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub import errors

    def refuse(*arguments, **options):
        raise getattr(errors, kind)("refused", response=_response(403, {}))

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    with pytest.raises(UserError) as caught:
        inspect(ModelConfig(id="owner/model"), hashes)
    assert said in caught.value.remedy


def test_pickled_weights_are_refused(tiny_model: Path, tmp_path: Path, hashes: FileHashes) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(UserError, match="only pickled ones"):
        inspect(ModelConfig(id=str(copy)), hashes)


def test_a_damaged_weights_file_is_told(tiny_model: Path, tmp_path: Path, hashes: FileHashes) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(UserError, match="damaged"):
        inspect(ModelConfig(id=str(copy)), hashes)


def test_a_revision_of_a_local_folder_is_refused(tiny_model: Path, hashes: FileHashes) -> None:
    with pytest.raises(UserError, match="means nothing for the local folder"):
        inspect(ModelConfig(id=str(tiny_model), revision="main"), hashes)


@pytest.mark.parametrize(
    ("quantized", "said"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, r"quantized already \(fp8\)"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, r"quantized already \(bitsandbytes\)"),
        ({"load_in_8bit": True}, "quantized already;"),
    ],
)
def test_a_quantized_model_is_described_and_is_no_base(
    quantized: dict, said: str, tiny_model: Path, tmp_path: Path, hashes: FileHashes
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    described = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(described | {"quantization_config": quantized}))
    config = ModelConfig(id=str(copy))
    assert inspect(config, hashes).context == 512, "vLLM may well serve it as an arm"
    with pytest.raises(UserError, match=said) as caught:
        inspect_base(config, hashes)
    assert "made from" in caught.value.remedy
    (copy / "config.json").write_text(json.dumps(described | {"quantization_config": None}))
    assert inspect_base(config, hashes).context == 512


@pytest.fixture
def sharded(tiny_model: Path, tmp_path: Path) -> Path:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(tmp_path / "sharded", max_shard_size="300KB")
    assert len(list((tmp_path / "sharded").glob("model-*.safetensors"))) > 1
    return tmp_path / "sharded"


def test_weights_that_lie_there_twice_are_counted_once(tiny_model: Path, sharded: Path, hashes: FileHashes) -> None:
    """As beside the shards of Mistral-7B-Instruct-v0.3."""
    from safetensors.torch import load_file, save_file

    once = inspect(ModelConfig(id=str(tiny_model)), hashes)
    again = {f"again.{name}": tensor for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    save_file(again, sharded / "consolidated.safetensors")
    found = inspect(ModelConfig(id=str(sharded)), hashes)
    assert (found.parameters, found.linear_dims) == (once.parameters, once.linear_dims)
    copy = shutil.copytree(tiny_model, sharded / "copy")
    save_file(again, copy / "consolidated.safetensors")
    assert inspect(ModelConfig(id=str(copy)), hashes).parameters == once.parameters


def test_a_shard_that_is_not_there_is_told_before_anything_is_made(sharded: Path, hashes: FileHashes) -> None:
    first, *_ = sorted(sharded.glob("model-*.safetensors"))
    first.unlink()
    with pytest.raises(UserError, match=f"lacks {first.name}"):
        inspect(ModelConfig(id=str(sharded)), hashes)
    (sharded / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(UserError, match="no `weight_map`"):
        inspect(ModelConfig(id=str(sharded)), hashes)


def test_without_weights_the_config_tells_the_size(
    tiny_model: Path, tmp_path: Path, hashes: FileHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tiny_model))
    whole = inspect(ModelConfig(id="owner/model"), hashes)
    small = shutil.copytree(tiny_model, tmp_path / tiny_model.name, ignore=shutil.ignore_patterns("*.safetensors"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(small))
    found = inspect(ModelConfig(id="owner/model"), hashes, weights=False)
    assert found == replace(whole, path=small) and found.linear_dims
    with pytest.raises(UserError, match=r"no .*safetensors weights"):
        inspect(ModelConfig(id="owner/model"), hashes)
    with pytest.raises(UserError, match=r"no .*safetensors weights"):
        inspect(ModelConfig(id=str(small)), hashes, weights=False)
    described = json.loads((small / "config.json").read_text()) | {"model_type": "unheard-of"}
    (small / "config.json").write_text(json.dumps(described))
    assert inspect(ModelConfig(id="owner/model"), hashes, weights=False).parameters == 0


def test_weights_that_lie_on_the_hub_twice_are_downloaded_once(
    tiny_model: Path, hashes: FileHashes, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    there = ["config.json", "model-00001-of-00003.safetensors", "consolidated.safetensors", "consolidated.00.pth"]
    taken: list[str] = []

    def download(_name: str, *, revision: str | None, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        taken.extend(filter_repo_objects(there, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))
        return str(tiny_model)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    inspect(ModelConfig(id="owner/model"), hashes)
    assert taken == there[:2]
