"""What a machine lacks, looked at before anything is downloaded and told in one message."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from environment.gpus import Driver
from environment.python import VERSIONS, Interpreter, accepted, can_fetch, dotted
from environment.words import SetupError, last_line, say

CUDA = "13.0"
"""Of the lock's PyTorch: `cuda` in torch/version.py."""
OLDEST_DRIVER = 580
"""For CUDA 13.x: table 1 of docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html."""
LOWEST_CAPABILITY = 7.5
"""PYTORCH_RELEASES_CODE_CC of that CUDA on x86-64, in torch/cuda/__init__.py; vLLM's kernels begin there too."""
SHARED_MEMORY_MIB = 32
"""One GPU needs little there, semaphores above all; Docker gives 64."""
NEWEST_GLIBC_NEEDED = (2, 28)
"""PyTorch's and vLLM's wheels are manylinux_2_28."""

GIB_INSTALLED = {"cpu": 4.5, "cpu-pypi": 7.5, "cuda": 11.0}
GIB_DOWNLOADED = {"cpu": 1.5, "cpu-pypi": 3.5, "cuda": 5.0}
"""Of each lock. pip holds downloads twice until all is installed: in its cache, and unpacked from there."""

PACKAGES = {
    "apt-get": {
        "command": "apt-get update && {sudo}apt-get install",
        "compiler": "gcc libc6-dev",
        "headers": "python{python}-dev",
        "libnuma": "libnuma1",
        "python": "python{python} python{python}-venv",
        "venv": "python{python}-venv",
    },
    "dnf": {
        "command": "dnf install",
        "compiler": "gcc",
        "headers": "python{python}-devel",
        "libnuma": "numactl-libs",
        "python": "python{python}",
        "venv": "python{python}",
    },
}
"""What the two big families of distributions call what may be missing."""


class Missing(NamedTuple):
    """Something that the environment needs."""

    what: str
    packages: tuple[str, ...] = ()
    """Keys of PACKAGES that bring it."""
    remedy: str = ""
    """What else brings it."""


def refuse_what_is_missing(
    lock: str, folder: Path, driver: Driver | None, python: Interpreter | None, seen: str, update: bool
) -> None:
    """Tell all that the machine lacks for `lock` in `folder`, in one message; with ANYWAY=1 as a warning.

    Args:
        driver: nothing where the card is not asked about.
        seen: which interpreters there are, for when none fits.
        update: the environment is there and changes little.

    Raises:
        SetupError: something is missing.
    """
    missing = [*wrong_platform(), *lacking_python(python, seen)]
    if lock == "cuda":
        missing += [*lacking_driver(driver), *lacking_compiler(python), *lacking_shared_memory()]
    elif not can_load("libnuma.so.1"):
        missing.append(Missing("libnuma.so.1: vLLM for the CPU is linked with it", ("libnuma",)))
    missing += [] if update else lacking_space(lock, folder)
    if not missing:
        return
    listed = "".join(f"\n  - {one.what}" for one in missing)
    keys = {key for one in missing for key in one.packages}
    remedies = [*install_command(keys, python), *(one.remedy for one in missing if one.remedy)]
    if os.environ.get("ANYWAY"):
        say(f"Environment: ANYWAY is set, so setup goes on without:{listed}")
        return
    steps = "\n    ".join(dict.fromkeys(remedies))
    raise SetupError(
        f"The packages of requirements/{lock}.txt need, beside what is here (nothing was downloaded):{listed}",
        f"\n    {steps}\n  Then run make setup again. If this is mistaken: ANYWAY=1 make setup goes on all the same.",
    )


def wrong_platform() -> list[Missing]:
    """The locks have files for one platform."""
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        remedy = "Use an x86-64 machine with Linux (on Windows: WSL 2); the locks have no files for others."
        return [Missing(f"this is {system} on {machine}, and the packages are for Linux on x86-64", remedy=remedy)]
    version = glibc_version()
    numbers = tuple(int(word) for word in version.split(".")[:2] if word.isdigit())
    if numbers >= NEWEST_GLIBC_NEEDED:
        return []
    needed = ".".join(map(str, NEWEST_GLIBC_NEEDED))
    remedy = "Use a newer distribution, such as Debian 12 or Ubuntu 24.04 (a container of it will do)."
    return [Missing(f"glibc {needed} or newer (here: {version or 'another C library'})", remedy=remedy)]


def glibc_version() -> str:
    """The system's, where platform.libc_ver may give the one that Python was built for; empty of another C library."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")[2]
    except (AttributeError, OSError, ValueError):
        return ""


def lacking_python(python: Interpreter | None, seen: str) -> list[Missing]:
    """An interpreter that the locks have files for, able to make environments."""
    if python is None:
        if can_fetch():
            return []
        offered = next((version for version in VERSIONS if offers_python(version)), None)
        anywhere = (
            "Anywhere: install uv (docs.astral.sh/uv); make setup then fetches a Python through it. "
            "A Python that is not on PATH: PYTHON=/its/path make setup"
        )
        return [Missing(f"Python {accepted()} ({seen})", ("python",) if offered else (), anywhere)]
    if not python.makes_environments:
        elsewhere = "" if package_manager() else "Install the part of Python that holds its module ensurepip."
        return [Missing(f"{python.path} cannot make environments: it has no ensurepip", ("venv",), elsewhere)]
    return []


def lacking_driver(driver: Driver | None) -> list[Missing]:
    """A driver and a card that the lock's PyTorch can use."""
    if driver is None:
        return []
    on_the_cpu = "or take the CPU's packages: DEVICE=cpu make setup"
    if driver.failure:
        if "mismatch" in driver.failure:
            first = "The driver was updated while its old modules are loaded: restart the machine"
        else:
            first = "Make nvidia-smi work (in a container: docker run --gpus all; otherwise install the driver anew)"
        remedy = f"{first}, {on_the_cpu}. To install now and mend it later: DEVICE=cuda make setup"
        return [Missing(f"a working driver: nvidia-smi is there and fails: {driver.failure}", remedy=remedy)]
    missing = []
    major = driver.version.partition(".")[0]
    if major.isdigit() and int(major) < OLDEST_DRIVER:
        remedy = (
            f"Update the NVIDIA driver (Ubuntu: apt-get install nvidia-driver-{OLDEST_DRIVER}; in a container it is "
            f"the host's), {on_the_cpu}"
        )
        needed = f"driver {OLDEST_DRIVER} or newer (here: {driver.version}): PyTorch is built for CUDA {CUDA}"
        missing.append(Missing(needed, remedy=remedy))
    old = [card for card in driver.cards if 0 < card.capability < LOWEST_CAPABILITY]
    if old and len(old) == len(driver.cards):
        needed = f"compute capability {LOWEST_CAPABILITY} or more ({old[0].name} has {old[0].capability})"
        missing.append(Missing(needed, remedy=f"Use a newer card (T4, RTX 20 and later), {on_the_cpu}"))
    if not driver.slices and all(card.mig for card in driver.cards):
        remedy = "Make a slice (nvidia-smi mig -cgi 0 -C) or switch MIG off (nvidia-smi -mig 0), both as root."
        missing.append(Missing("a MIG slice: MIG is on and nothing is cut, so CUDA finds no device", remedy=remedy))
    return missing


def lacking_compiler(python: Interpreter | None) -> list[Missing]:
    """What Triton builds its interface to the driver with, when it first meets a GPU: triton/runtime/build.py."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or ""
    why = "Triton compiles its interface to the driver at vLLM's start"
    header = []
    if python is None and not can_fetch():
        header = [Missing("Python.h of that Python: it is included there", ("headers",))]
    elif python is not None and not (Path(python.include) / "Python.h").exists():
        header = [Missing(f"Python.h of {python.path}: it is included there", ("headers",))]
    if not shutil.which(compiler):
        told = f"$CC ({compiler}) is not there" if compiler else "none of $CC, gcc and clang is there"
        return [Missing(f"a C compiler ({told}): {why}", ("compiler",)), *header]
    words = compile_words(compiler)
    if words:
        header.insert(0, Missing(f"a C compiler that works ({compiler}: {words}): {why}", ("compiler",)))
    return header


def compile_words(compiler: str) -> str:
    """What a compiler says that cannot make a shared library; nothing if it can."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "empty.c"
        source.write_text("#include <stdlib.h>\n")
        command = [compiler, str(source), "-shared", "-fPIC", "-o", str(source.with_suffix(".so"))]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.SubprocessError) as error:
            return str(error)
    if answer.returncode == 0:
        return ""
    errors = [line for line in answer.stderr.splitlines() if "error" in line]
    return errors[0].strip() if errors else last_line(answer.stderr)


def can_load(library: str) -> bool:
    """Whether the system has a shared library."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def lacking_shared_memory(folder: str = "/dev/shm") -> list[Missing]:
    """What processes share memory through; containers may have too little."""
    remedy = "In a container: docker run --shm-size=1g (or --ipc=host); elsewhere: mount -o remount,size=1g /dev/shm"
    if not os.access(folder, os.W_OK):
        return [Missing(f"{folder}, writable: vLLM's and PyTorch's processes share memory there", remedy=remedy)]
    free = shutil.disk_usage(folder).free / 2**20
    if free >= SHARED_MEMORY_MIB:
        return []
    return [Missing(f"{SHARED_MEMORY_MIB} MiB of shared memory ({free:.0f} free in {folder})", remedy=remedy)]


def lacking_space(lock: str, folder: Path) -> list[Missing]:
    """Disk for the environment, pip's cache and pip's temporary files, which may lie on one disk or on several."""
    cache = os.environ.get("PIP_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    wanted = [(folder, GIB_INSTALLED[lock]), (Path(tempfile.gettempdir()), GIB_DOWNLOADED[lock])]
    if not os.environ.get("PIP_NO_CACHE_DIR"):
        wanted.append((Path(cache), GIB_DOWNLOADED[lock]))
    disks: dict[int, tuple[list[str], float]] = {}
    for place, gib in wanted:
        there = next(path for path in (place, *place.parents) if path.exists())
        places, sum_gib = disks.get(there.stat().st_dev, ([], 0.0))
        disks[there.stat().st_dev] = ([*places, str(there)], sum_gib + gib)
    missing = []
    for places, gib in disks.values():
        free = shutil.disk_usage(places[0]).free / 2**30
        if free < gib:
            named = " and ".join(dict.fromkeys(places))
            remedy = "Free some space, or use other disks: TMPDIR and PIP_CACHE_DIR move pip's own files."
            missing.append(Missing(f"{gib:.1f} GiB of disk for {named} ({free:.1f} are free)", remedy=remedy))
    return missing


def package_manager() -> str:
    """The one whose package names are known, if it is here."""
    return next((name for name in PACKAGES if shutil.which(name)), "")


def offers_python(version: tuple[int, int]) -> bool:
    """Whether the distribution has this Python, as far as its package lists tell."""
    tool = {"apt-get": ["apt-cache", "show"], "dnf": ["dnf", "-C", "info"]}.get(package_manager())
    if not tool or not shutil.which(tool[0]):
        return False
    command = [*tool, f"python{dotted(version)}"]
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False).returncode == 0


def install_command(keys: set[str], python: Interpreter | None) -> list[str]:
    """The one command that installs these, if the package manager is known."""
    if not keys:
        return []
    manager = package_manager()
    if not manager:
        return [f"Install with this system's package manager (Debian's names): {names('apt-get', keys, python)}"]
    sudo = "" if os.geteuid() == 0 else "sudo "
    command = PACKAGES[manager]["command"].format(sudo=sudo)
    return [f"{sudo}{command} {names(manager, keys, python)}"]


def names(manager: str, keys: set[str], python: Interpreter | None) -> str:
    """Package names."""
    version = python.version if python else next((one for one in VERSIONS if offers_python(one)), VERSIONS[0])
    return " ".join(PACKAGES[manager][key].format(python=dotted(version)) for key in sorted(keys))


def notes(driver: Driver) -> list[str]:
    """What holds nobody up and is worth knowing."""
    lines = []
    too_old = [card.name for card in driver.cards if 0 < card.capability < LOWEST_CAPABILITY]
    good = [number for number, card in enumerate(driver.cards) if card.capability >= LOWEST_CAPABILITY]
    if too_old and good:
        better = driver.cards[good[0]].name
        lines.append(f"{too_old[0]} is too old for PyTorch; CUDA_VISIBLE_DEVICES={good[0]} takes the {better}")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if driver.slices and not visible.startswith("MIG-"):
        profile, uuid = driver.slices[0]
        choice = f"; {len(driver.slices)} are there, and CUDA_VISIBLE_DEVICES=MIG-... names another"
        lines.append(f"MIG is on: CUDA takes the first slice, {profile} ({uuid})" + choice * (len(driver.slices) > 1))
    return lines
