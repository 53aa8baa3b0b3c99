"""The machine: what is there, read without importing torch."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from tunelift.errors import MachineError


@dataclass(frozen=True)
class Hardware:
    """What a run has to work with; sizes in GiB."""

    device: Literal["cpu", "cuda"]
    name: str
    memory_gib: float
    """Of the GPU if there is one, of the machine otherwise."""
    cores: int

    def to_json(self) -> dict[str, Any]:
        """For manifests and reports."""
        return asdict(self)


@cache
def detect() -> Hardware:
    """The first visible NVIDIA GPU, or the CPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = _first_gpu()
    if gpu is not None:
        return Hardware("cuda", gpu[0], gpu[1], cores)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return Hardware("cpu", _cpu_name(), round(memory, 1), cores)


def _first_gpu() -> tuple[str, float] | None:
    if os.environ.get("CUDA_VISIBLE_DEVICES") in {"", "-1"} or not shutil.which("nvidia-smi"):
        return None
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = result.stdout.strip().splitlines()
    if result.returncode or not lines:
        return None
    name, memory = lines[0].rsplit(",", 1)
    return name.strip(), round(float(memory) / 1024, 1)


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def require_disk(folder: Path, needed_gib: float, what: str) -> None:
    """Refuse before work is lost.

    Raises:
        MachineError: less than `needed_gib` is free where `folder` lies.
    """
    free = free_gib(folder)
    if free < needed_gib:
        raise MachineError(
            f"{what} needs about {needed_gib:.1f} GiB of disk and {free:.1f} GiB are free.",
            where=str(folder),
            remedy="Free some space, or run from a larger disk; what was finished is kept.",
        )


def free_gib(folder: Path) -> float:
    """Free disk space where `folder` lies or will lie."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free / 2**30
