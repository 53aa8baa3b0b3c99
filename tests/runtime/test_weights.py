"""The machine's trouble with models in memory, told by the words of whoever ran out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tunelift.errors import MachineError, UserError
from tunelift.runtime.weights import is_out_of_memory, load_base, machine_trouble

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


def test_weights_that_cannot_be_read_are_to_be_copied_again(tmp_path: Path, tiny_model: Path) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    (copy / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError) as caught:
        load_base(copy, kind="lora", device="cpu", precision="bf16")
    assert "Copy or download the model again" in caught.value.remedy


def test_no_kernel_is_taken_from_the_hub(tiny_model: Path) -> None:
    """transformers would take the one for rotations, whose backward pass is missing, again at each `train()`."""
    assert not load_base(tiny_model, kind="lora", device="cpu", precision="bf16").use_kernels
