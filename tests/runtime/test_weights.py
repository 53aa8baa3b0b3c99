"""The machine's trouble with models in memory, told by the words of whoever ran out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tunelift.errors import MachineError
from tunelift.runtime.weights import is_out_of_memory, machine_trouble

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
