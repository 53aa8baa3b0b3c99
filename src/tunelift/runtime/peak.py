"""The device's matrix multiplication peak, measured: what model FLOPs utilisation (MFU) is a share of.

A data sheet's figure is no use on a CPU, and on a GPU not what power and clocks allow. So MFU here is the share of the
fastest matrix product that this very device was seen to do.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from tunelift.runtime.weights import Device

SMALLEST, LARGEST = 256, {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the square factors: doubled as long as products are quick, since small ones do not fill a GPU."""
QUICK_SECONDS = 0.005
REPEATS = 3


def matmul_flops_per_second(device: Device) -> float:
    """Floating-point operations a second of the fastest of some matrix products; takes a fraction of a second.

    A product of [n, n] by [n, n] counts 2 n³. In bf16 and in fp32, since not every CPU or GPU has units for bf16.
    """
    import torch

    return max(_fastest(device, dtype) for dtype in (torch.bfloat16, torch.float32))


def _fastest(device: Device, dtype: torch.dtype) -> float:
    import torch

    best, size, seconds = 0.0, SMALLEST, 0.0
    while size <= LARGEST[device] and seconds < QUICK_SECONDS:
        # Random factors, since a GPU draws less power, and clocks higher, on zeros; from a generator of their own, so
        # that the run's random state does not move.
        factor = torch.randn(size, size, generator=torch.Generator().manual_seed(0)).to(device, dtype)
        _product(factor)  # The first one chooses kernels.
        seconds = min(_product(factor) for _ in range(REPEATS))
        best = max(best, 2 * size**3 / seconds)
        size *= 2
    return best


def _product(factor: torch.Tensor) -> float:
    """Seconds of one product, in the layout of a linear layer: on some CPUs the other one is ten times slower."""
    import torch

    started = time.perf_counter()
    torch.nn.functional.linear(factor, factor)
    if factor.is_cuda:
        torch.cuda.synchronize()
    return time.perf_counter() - started
