"""The machine: what is there, read without importing torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

BF16_COMPUTE_CAPABILITY = 8.0
"""Ampere, NVIDIA's first architecture with bf16 tensor cores (CUDA C++ Programming Guide)."""
BF16_CPU_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""As Linux names the instructions: Intel's matrix unit, AVX-512's dot product, ARMv8.6."""


@dataclass(frozen=True)
class Hardware:
    """What a run has to work with; sizes in GiB."""

    device: Literal["cpu", "cuda"]
    name: str
    memory_gib: float
    """Of the GPU if there is one, of the machine otherwise."""
    cores: int
    native_bf16: bool = True
    """It multiplies bf16 matrices in hardware; emulated, they cost many times what fp32 does."""
    capability: float = 0.0
    """The GPU's compute capability."""

    def to_json(self) -> dict[str, Any]:
        """For manifests and reports."""
        return asdict(self)


@cache
def detect() -> Hardware:
    """The first visible NVIDIA GPU, or the CPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = _first_gpu()
    if gpu is not None:
        return Hardware("cuda", gpu[0], gpu[1], cores, gpu[2] >= BF16_COMPUTE_CAPABILITY, gpu[2])
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    described = _cpu_description()
    name = described.get("model name") or platform.processor() or platform.machine()
    flags = {*described.get("flags", "").split(), *described.get("Features", "").split()}
    return Hardware("cpu", name, round(memory, 1), cores, native_bf16=bool(flags & BF16_CPU_FLAGS))


def _first_gpu() -> tuple[str, float, float] | None:
    """Name, memory in GiB, compute capability."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        return None
    name, memory, capability = lines[0].rsplit(",", 2)
    return name.strip(), round(float(memory) / 1024, 1), float(capability)


def _cpu_description() -> dict[str, str]:
    """What Linux says of the first core; empty elsewhere."""
    try:
        first = Path("/proc/cpuinfo").read_text().partition("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def openmp_environment() -> dict[str, str]:
    """For processes that compute on the CPU: threads that give a core back while they wait.

    Intel's OpenMP, which comes with the CPU packages, does so after a millisecond; GNU's spins, and beside any other
    busy process is ten times slower. Empty where Intel's is not installed.
    """
    library = Path(sys.prefix, "lib", "libiomp5.so")
    if not library.exists():
        return {}
    preloaded = [name for name in os.environ.get("LD_PRELOAD", "").split(":") if name and name != str(library)]
    return {"LD_PRELOAD": ":".join([str(library), *preloaded]), "KMP_BLOCKTIME": "1"}


def free_gib(folder: Path) -> float:
    """Free disk space where `folder` lies or will lie."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30
