"""The machine's trouble with models in memory, told by the words of whoever ran out."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.published import PUBLISHED, write_published
from tests.tiny import make_tiny_model
from tunelift.errors import MachineError, UserError
from tunelift.runtime.attention import by_row
from tunelift.runtime.quantized import is_finite
from tunelift.runtime.weights import Kind, is_out_of_memory, load_base, machine_trouble

ON_A_GPU = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    torch.AcceleratorError("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' for more information."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
]
ON_THE_CPU = [
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried to allocate"
    ),
    MemoryError(),
]
OTHER = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    RuntimeError("shapes cannot be multiplied (4x8 and 4x8)"),
]


@pytest.mark.parametrize("error", [*ON_A_GPU, *ON_THE_CPU], ids=str)
def test_memory_that_ran_out_is_told_from_its_words(error: BaseException) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize("error", OTHER, ids=str)
def test_other_trouble_is_not_taken_for_memory(error: BaseException) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    ("error", "where"),
    [*((one, "The GPU") for one in ON_A_GPU), *((one, "The machine") for one in ON_THE_CPU)],
    ids=str,
)
def test_whose_memory_it_was_is_told(error: BaseException, where: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match=f"{where} ran out of memory"), machine_trouble(tmp_path):
        raise error


def test_an_attention_that_cannot_be_had_names_its_setting(tiny_model: Path) -> None:
    with pytest.raises(UserError, match="FlashAttention2") as caught:
        load_base(tiny_model, kind="lora", device="cpu", precision="bf16", attention="flash_attention_2")
    assert "train.attention" in caught.value.remedy


def test_a_model_that_sdpa_is_not_written_for_is_loaded_all_the_same(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To merge it, where no attention is set; the setting for training is named."""
    from transformers import LlamaForCausalLM

    monkeypatch.setattr(LlamaForCausalLM, "_supports_sdpa", False)
    model = load_base(tiny_model, kind="lora", device="cpu", precision="bf16")
    assert model.config._attn_implementation == "eager"
    with pytest.raises(UserError, match="does not support an attention implementation") as caught:
        load_base(tiny_model, kind="lora", device="cpu", precision="bf16", attention="sdpa")
    assert "train.attention" in caught.value.remedy


@pytest.mark.parametrize("attention", [None, "sdpa", by_row("sdpa"), "eager"])
def test_soft_capped_scores_stay_capped(attention: str | None, tmp_path: Path) -> None:
    """transformers' own default leaves Gemma 2's cap out, so another model would be trained than vLLM serves."""
    from transformers import AutoModelForCausalLM

    gemma = next(one for one in PUBLISHED if one.name == "gemma_2")
    gemma = replace(gemma, config=gemma.config | {"attn_logit_softcapping": 0.5})
    folder = write_published(tmp_path / "gemma_2", gemma)
    ids = torch.arange(5, 105).unsqueeze(0)

    def logits(model) -> torch.Tensor:  # type: ignore[no-untyped-def]
        with torch.no_grad():
            return model.eval()(ids).logits

    capped, uncapped = (
        logits(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=kernel))
        for kernel in ("eager", "sdpa")
    )
    ours = logits(load_base(folder, kind="lora", device="cpu", precision="fp32", attention=attention))
    assert torch.allclose(ours, capped, atol=1e-5) and not torch.allclose(ours, uncapped, atol=1e-3)


def test_weights_that_cannot_be_read_are_to_be_copied_again(tmp_path: Path, tiny_model: Path) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError) as caught:
        load_base(copy, kind="lora", device="cpu", precision="bf16")
    assert "Copy or download the model again" in caught.value.remedy


def test_no_kernel_is_taken_from_the_hub(tiny_model: Path) -> None:
    """transformers would take the one for rotations, whose backward pass is missing, again at each `train()`."""
    assert not load_base(tiny_model, kind="lora", device="cpu", precision="bf16").use_kernels


def changed(model: Path, out: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """A copy of the model with other tensors in its weights file."""
    copy = shutil.copytree(model, out)
    tensors = load_file(copy / "model.safetensors")
    change(tensors)
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    return copy


NORM, GATE = "model.norm.weight", "model.layers.1.mlp.gate_proj.weight"


@pytest.mark.parametrize("kind", ["lora", "qlora"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop(NORM), f"1 are missing ({NORM})"),
        (lambda tensors: tensors.pop(GATE), f"1 are missing ({GATE})"),
        (lambda tensors: tensors.update({NORM: torch.ones(64)}), f"1 have another shape ({NORM})"),
        (lambda tensors: tensors.update({GATE: torch.ones(64, 64)}), f"1 have another shape ({GATE})"),
        (lambda tensors: tensors.update({f"{GATE}_scale": torch.ones(1)}), f"1 have no place in it ({GATE}_scale)"),
        (lambda tensors: [tensors.pop(name) for name in list(tensors) if ".layers.1." in name], "9 are missing ("),
    ],
    ids=["norm-missing", "linear-missing", "norm-shape", "linear-shape", "scale", "layer-missing"],
)
def test_weights_of_another_model_are_named_and_never_drawn_at_random(
    change: Callable, said: str, kind: Kind, tiny_model: Path, tmp_path: Path
) -> None:
    copy = changed(tiny_model, tmp_path / "copy", change)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        load_base(copy, kind=kind, device="cpu", precision="bf16")
    assert "Copy or download the model again" in caught.value.remedy


@pytest.mark.parametrize("kind", ["lora", "qlora"])
@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("name", [NORM, GATE, "model.embed_tokens.weight"])
def test_weights_that_are_no_numbers_are_named_with_their_file(
    name: str, number: float, kind: Kind, tiny_model: Path, tmp_path: Path
) -> None:
    """Not the rows that were trained on, nor the packing; in 4 bits a NaN would become some number."""

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        tensors[name].view(-1)[7] = number

    copy = changed(tiny_model, tmp_path / "copy", spoil)
    with pytest.raises(UserError, match=re.escape(f"hold NaN or infinity, in 1 tensors ({name})")) as caught:
        load_base(copy, kind=kind, device="cpu", precision="bf16")
    assert caught.value.where == str(copy / "model.safetensors")


def test_of_several_files_the_one_with_the_broken_tensor_is_named(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model")
    tensors = load_file(model / "model.safetensors")
    (model / "model.safetensors").unlink()
    places = {name: f"model-0000{1 + (name == GATE)}-of-00002.safetensors" for name in tensors}
    tensors[GATE][0, 0] = float("nan")
    for file in set(places.values()):
        part = {name: tensor for name, tensor in tensors.items() if places[name] == file}
        save_file(part, model / file, metadata={"format": "pt"})
    (model / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    with pytest.raises(UserError) as caught:
        load_base(model, kind="qlora", device="cpu", precision="bf16")
    assert caught.value.where == str(model / "model-00002-of-00002.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_largest_numbers_are_numbers(dtype: torch.dtype) -> None:
    limits = torch.finfo(dtype)
    assert is_finite(torch.tensor([limits.max, limits.min, limits.tiny, 0.0], dtype=dtype))
    assert is_finite(torch.empty(0, dtype=dtype)) and is_finite(torch.tensor([255], dtype=torch.uint8))


def test_layers_whose_weights_lie_transposed_are_refused_in_4_bits_before_training(tmp_path: Path) -> None:
    """They would be trained, and then merged the other way round."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=64, n_layer=1, n_head=2, vocab_size=64, bos_token_id=0, eos_token_id=0)
    GPT2LMHeadModel(config).to(torch.bfloat16).save_pretrained(tmp_path)
    load_base(tmp_path, kind="lora", device="cpu", precision="bf16")
    with pytest.raises(UserError, match=r"transposed \(transformer\.h\.0\.attn\.c_attn\)") as caught:
        load_base(tmp_path, kind="qlora", device="cpu", precision="bf16")
    assert "train.adapter.kind to lora" in caught.value.remedy


def test_a_head_that_is_missing_is_told_where_it_is_not_the_embedding(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", tied=False)
    load_base(model, kind="lora", device="cpu", precision="bf16")
    copy = changed(model, tmp_path / "copy", lambda tensors: tensors.pop("lm_head.weight"))
    with pytest.raises(UserError, match=r"1 are missing \(lm_head\.weight\)"):
        load_base(copy, kind="lora", device="cpu", precision="bf16")


@pytest.mark.parametrize("kind", ["lora", "qlora"])
def test_what_checkpoints_hold_beside_the_weights_does_no_harm(kind: Kind, tiny_model: Path, tmp_path: Path) -> None:
    """A tied head, the rotation's frequencies as older Llamas have them, GPT-2's masks."""

    def add(tensors: dict[str, torch.Tensor]) -> None:
        attention = "model.layers.0.self_attn"
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors[f"{attention}.rotary_emb.inv_freq"] = torch.ones(32)
        tensors["model.layers.0.attn.bias"] = torch.ones(1, 1, 8, 8)
        tensors["model.layers.0.attn.masked_bias"] = torch.tensor(-1e9)

    plain = load_base(tiny_model, kind=kind, device="cpu", precision="bf16").state_dict()
    model = load_base(changed(tiny_model, tmp_path / "copy", add), kind=kind, device="cpu", precision="bf16")
    assert all(torch.equal(value, plain[name]) for name, value in model.state_dict().items())
