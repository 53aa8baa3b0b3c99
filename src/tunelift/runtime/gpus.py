"""NVIDIA cards by name: what they hold and how fast they multiply, from their makers' data sheets."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

from tunelift.errors import UserError
from tunelift.runtime.hardware import BF16_COMPUTE_CAPABILITY, Hardware


@dataclass(frozen=True)
class Gpu:
    """A card. Speeds are peaks of dense matrix products, accumulated in fp32."""

    name: str
    product: str
    """What `nvidia-smi` calls it, or the part of that which is its own."""
    memory_mib: int
    """`memory.total` of `nvidia-smi`: what is sold as 24 GB is often less."""
    bf16_tflops: float | None
    """None: no bf16 tensor cores, which came with compute capability 8.0."""
    fp32_tflops: float
    """Without tensor cores, what fp32 computes with."""
    capability: float
    """Compute capability (CUDA C++ Programming Guide)."""
    source: str

    @property
    def memory_gib(self) -> float:
        """Memory in GiB."""
        return self.memory_mib / 1024

    @property
    def native_bf16(self) -> bool:
        """It multiplies bf16 matrices in hardware."""
        return self.capability >= BF16_COMPUTE_CAPABILITY

    @property
    def tflops(self) -> float:
        """Peak in the precision that training computes in on this card."""
        return self.bf16_tflops or self.fp32_tflops


ADA = "NVIDIA Ada GPU Architecture white paper, appendix A"
AMPERE = "NVIDIA Ampere GA102 GPU Architecture white paper"
SHEET = "NVIDIA data sheet; its figure with sparsity halved"
CARDS = (
    Gpu("t4", "T4", 15360, None, 8.1, 7.5, "NVIDIA T4 data sheet"),
    Gpu("rtx-4060-ti-16gb", "RTX 4060 Ti", 16380, 44.1, 22.1, 8.9, ADA),
    Gpu("rtx-4080", "RTX 4080", 16376, 97.5, 48.7, 8.9, ADA),
    Gpu("rtx-3090", "RTX 3090", 24576, 71.0, 35.6, 8.6, AMPERE),
    Gpu("rtx-4090", "RTX 4090", 24564, 165.2, 82.6, 8.9, ADA),
    Gpu("a10", "A10", 23028, 125.0, 31.2, 8.6, SHEET),
    Gpu("a10g", "A10G", 23028, 70.0, 31.5, 8.6, "NVIDIA A10G data sheet"),
    Gpu("l4", "L4", 23034, 121.0, 30.3, 8.9, SHEET),
    Gpu("rtx-5090", "RTX 5090", 32607, 209.5, 104.8, 12.0, "NVIDIA RTX Blackwell GPU Architecture white paper"),
    Gpu("a100-40", "A100-SXM4-40GB", 40960, 312.0, 19.5, 8.0, "NVIDIA A100 data sheet"),
    Gpu("a6000", "RTX A6000", 49140, 154.8, 38.7, 8.6, SHEET),
    Gpu("rtx-6000-ada", "RTX 6000 Ada", 49140, 364.2, 91.1, 8.9, SHEET),
    Gpu("l40s", "L40S", 46068, 362.05, 91.6, 8.9, "NVIDIA L40S data sheet"),
    Gpu("a100-80", "A100-SXM4-80GB", 81920, 312.0, 19.5, 8.0, "NVIDIA A100 data sheet"),
    Gpu("h100", "H100 80GB HBM3", 81559, 989.4, 66.9, 9.0, "NVIDIA H100 data sheet (SXM)"),
    Gpu("h100-pcie", "H100 PCIe", 81559, 756.0, 51.2, 9.0, "NVIDIA H100 data sheet (PCIe)"),
    Gpu("h200", "H200", 143771, 989.4, 66.9, 9.0, "NVIDIA H200 data sheet"),
    Gpu("b200", "B200", 183359, 2250.0, 80.0, 10.0, "NVIDIA DGX B200 data sheet; its figure with sparsity halved"),
)
BY_NAME = {card.name: card for card in CARDS}


def find(name: str) -> Gpu:
    """The card of this name; upper case, blanks and underscores do not matter.

    Raises:
        UserError: no such card, with the nearest name.
    """
    wanted = re.sub(r"[\s_]+", "-", name.strip().lower()).removeprefix("nvidia-").removeprefix("geforce-")
    if wanted in BY_NAME:
        return BY_NAME[wanted]
    near = difflib.get_close_matches(wanted, BY_NAME, n=1, cutoff=0.5)
    raise UserError(
        f"--gpu {name} is no card that is known here." + (f" Did you mean {near[0]}?" if near else ""),
        remedy=f"Take one of {', '.join(BY_NAME)}; choose one with as much memory if yours is not among them.",
    )


def recognize(machine: Hardware) -> Gpu | None:
    """The card that this machine has, if it is known: the one whose product name is the longest part of its name."""
    if machine.device != "cuda":
        return None
    words = f"{machine.name} "
    matching = [card for card in CARDS if f"{card.product} " in words]
    return max(matching, key=lambda card: len(card.product), default=None)
