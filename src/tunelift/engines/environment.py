"""What vLLM's process finds in its environment, and what it needs there."""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path
from typing import Literal

from tunelift.config.schema import EngineConfig
from tunelift.engines.guard import KEY_VARIABLE
from tunelift.errors import MachineError
from tunelift.runtime.hardware import DEVICE_ORDER, detect, openmp_environment

Device = Literal["cpu", "cuda"]

SMALL_MACHINE_CORES = 8


def vllm_environment(
    engine: EngineConfig, *, device: Device, api_key: str | None = None, in_4_bits: bool = False
) -> dict[str, str]:
    """This process's environment and what vLLM reads: offline, no usage statistics, the key, and on the CPU threads."""
    environment = {name: value for name, value in os.environ.items() if name != KEY_VARIABLE}
    environment |= {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "PYTHONUNBUFFERED": "1"}
    # Of what else is installed as a plugin nothing is loaded unasked.
    environment.setdefault("VLLM_PLUGINS", "bitsandbytes" if in_4_bits else "")
    environment["VLLM_KEEP_ALIVE_ON_ENGINE_DEATH"] = "0"  # A server that cannot answer any more has to end.
    if api_key:
        environment[KEY_VARIABLE] = api_key
    return environment | (_cpu_environment(engine) if device == "cpu" else _cuda_environment())


def _cuda_environment() -> dict[str, str]:
    """No kernel that is compiled at the start: that would take nvcc and ninja, which a box with a driver lacks.

    FlashInfer's sampler is (vllm/v1/sample/ops/topk_topp_sampler.py); greedy requests do not use it.
    """
    return DEVICE_ORDER | {"VLLM_USE_FLASHINFER_SAMPLER": os.environ.get("VLLM_USE_FLASHINFER_SAMPLER", "0")}


def refuse_without_compiler(device: Device) -> None:
    """Hold that Triton, which vLLM runs on a GPU, finds the C compiler that it builds its launcher with.

    It looks for $CC, gcc and clang (triton/runtime/build.py), and for Python.h.

    Raises:
        MachineError: none is there.
    """
    built = Path(os.environ.get("TRITON_CACHE_DIR") or Path.home() / ".triton" / "cache")
    if device == "cpu" or (built.is_dir() and any(built.iterdir())):
        return  # What was built once is kept there.
    missing = []
    if not any(shutil.which(name) for name in (os.environ.get("CC") or "gcc", "gcc", "clang")):
        missing.append(("a C compiler (gcc)", "gcc"))
    if not Path(sysconfig.get_paths()["include"], "Python.h").exists():
        missing.append(("Python.h", f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"))
    if missing:
        raise MachineError(
            f"vLLM needs {' and '.join(what for what, _ in missing)} on a GPU.",
            remedy=f"On Debian and Ubuntu: apt-get install {' '.join(package for _, package in missing)}.",
        )


def _cpu_environment(engine: EngineConfig) -> dict[str, str]:
    """On a small machine: two processes instead of three, and every core at work.

    By default the CPU build starts a worker of its own, which costs the time of one more import, binds its threads to
    cores, and keeps a core free for the scheduler: right for a server, half of a small machine.
    """
    environment = {"VLLM_CPU_KVCACHE_SPACE": str(engine.cpu_kv_cache_gib)}
    if not shutil.which(os.environ.get("CXX") or "g++"):
        # What vLLM compiles with it, even in eager mode, runs as it is written: vllm/v1/sample/ops/logprobs.py.
        environment["TORCHDYNAMO_DISABLE"] = "1"
    cores = detect().cores
    if cores > SMALL_MACHINE_CORES:
        return environment
    environment["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    environment["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(cores))
    return environment | openmp_environment()
