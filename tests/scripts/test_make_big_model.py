"""The random checkpoint: its shapes are the published ones, and a half-written one is never taken for whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.scripts.loading import load_script
from tunelift.errors import MachineError, UserError
from tunelift.runtime.chat import load_tokenizer, supervise

big = load_script("make_big_model")
SMALL = big.LLAMA_31_8B | {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 300,
}


def test_the_shapes_are_those_of_llama_3_1_8b() -> None:
    shards = big.plan(big.LLAMA_31_8B)
    shapes = {name: shape for part in shards.values() for name, shape in part.items()}
    assert sum(map(big.elements, shapes.values())) == 8_030_261_248  # As the published checkpoint has.
    assert len(shapes) == 291 and len(shards) == 34
    assert sum(map(big.bytes_of, shards.values())) == 16_060_522_496  # `total_size` of its index.


def test_the_model_loads_without_a_tensor_missing_or_left_over(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    folder = big.make(tmp_path / "model", SMALL, seed=1)
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert model.config.rope_parameters["rope_type"] == "llama3" and model.config.rope_parameters["factor"] == 8.0
    assert model.lm_head.weight.data_ptr() != model.model.embed_tokens.weight.data_ptr()


def test_its_tokenizer_renders_and_masks_a_conversation(tmp_path: Path) -> None:
    tokenizer = load_tokenizer(big.make(tmp_path / "model", SMALL, seed=1))
    (row,) = supervise(tokenizer, [{"role": "user", "content": "Grüße"}, {"role": "assistant", "content": "Hi"}])
    learnt = [token for token, mask in zip(row.input_ids, row.mask, strict=True) if mask]
    assert tokenizer.decode(learnt) == "Hi<|eot_id|>" and len(tokenizer) == SMALL["vocab_size"]


def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = big.make(tmp_path / "whole", SMALL, seed=1)
    tensors, drawn = big.random_tensors, []

    def killed(shapes: dict, seed: int):  # type: ignore[no-untyped-def]
        drawn.append(seed)
        if len(drawn) == 3:
            raise KeyboardInterrupt
        return tensors(shapes, seed)

    monkeypatch.setattr(big, "random_tensors", killed)
    with pytest.raises(KeyboardInterrupt):
        big.make(tmp_path / "model", SMALL, seed=1)
    assert not (tmp_path / "model").exists()
    big.make(tmp_path / "model", SMALL, seed=1)
    assert len(drawn) == 5  # Two shards before, the third twice, the fourth.
    for shard in sorted(whole.glob("*.safetensors")):
        assert (tmp_path / "model" / shard.name).read_bytes() == shard.read_bytes()


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = type("Usage", (), {"free": 10**9})
    monkeypatch.setattr(big.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(MachineError, match=r"needs 17\.1 GB of disk, 1\.0 GB are free"):
        big.make(tmp_path / "model", big.LLAMA_31_8B, seed=1)
    assert "16.1 GB are to be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_only_what_it_made_is_removed(tmp_path: Path) -> None:
    big.make(tmp_path / "model", SMALL, seed=1)
    with pytest.raises(UserError, match="another model"):
        big.make(tmp_path / "model", SMALL, seed=2)
    big.remove(tmp_path / "model")
    (tmp_path / "other").mkdir()
    with pytest.raises(UserError, match="did not make"):
        big.remove(tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
