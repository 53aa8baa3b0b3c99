"""Finding the base model, and saying what to do when it cannot be had."""

from __future__ import annotations

import json
import shutil
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
