"""What the machine is, from what it says of itself."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunelift.runtime import hardware


@pytest.fixture(autouse=True)
def asked_anew() -> Iterator[None]:
    hardware.detect.cache_clear()
    yield
    hardware.detect.cache_clear()


@pytest.mark.parametrize(
    ("flags", "native"),
    [
        ("flags\t\t: fpu sse2 avx2 fma", False),
        ("flags\t\t: fpu avx2 avx512f avx512_bf16", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd i8mm bf16", True),
        ("Features\t: fp asimd", False),
    ],
)
def test_a_cpu_says_by_its_flags_whether_it_multiplies_bf16(
    flags: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "_first_gpu", lambda: None)
    described = f"processor\t: 0\nmodel name\t: A CPU\n{flags}\n\nprocessor\t: 1\nmodel name\t: B\nflags\t: amx_bf16\n"
    monkeypatch.setattr(Path, "read_text", lambda _: described)
    found = hardware.detect()
    assert (found.device, found.name, found.native_bf16) == ("cpu", "A CPU", native)


@pytest.mark.parametrize(("capability", "native"), [("7.5", False), ("8.0", True), ("10.0", True)])
def test_a_gpu_says_it_by_its_compute_capability(
    capability: str, native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = subprocess.CompletedProcess([], 0, stdout=f"NVIDIA X, 24564, {capability}\nNVIDIA Y, 81559, 9.0\n")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(hardware.shutil, "which", lambda _: "/usr/bin/nvidia-smi")
    monkeypatch.setattr(hardware.subprocess, "run", lambda *_, **__: answer)
    found = hardware.detect()
    assert (found.device, found.name, found.memory_gib, found.native_bf16) == ("cuda", "NVIDIA X", 24.0, native)
