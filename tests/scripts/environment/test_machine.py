from __future__ import annotations

import pytest

from environment import gpus, machine, make
from tests.scripts.environment.conftest import Machine

MIG_SLICES = """  MIG 1g.10gb     Device  0: (UUID: MIG-aa)
  MIG 2g.20gb     Device  1: (UUID: MIG-bb)"""


def refusal(capsys: pytest.CaptureFixture[str]) -> str:
    """What setup says, having refused before pip was called."""
    assert make.main() == 2
    said = capsys.readouterr().err
    assert not make.VENV.exists()
    assert said.count("\nerror:") == 1
    return said


@pytest.fixture
def gpu_box(machine: Machine) -> Machine:
    """A box on which all is there."""
    machine.python("python3", "3.12")
    machine.nvidia_smi("NVIDIA H200, 9.0")
    machine.program("gcc", "exit 0")
    machine.program("apt-get", "exit 0")
    return machine


def test_a_box_that_has_all_is_told_of_nothing(gpu_box: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert make.main() == 0
    said = capsys.readouterr().err
    assert "Environment: packages for cuda, since nvidia-smi finds 1 × NVIDIA H200." in said
    assert [line for line in said.splitlines() if "need" in line or "CUDA_VISIBLE_DEVICES" in line] == []


def test_all_that_is_missing_is_told_at_once_with_one_command(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.python("python3", "3.12", ensurepip=False, header=False)
    machine.nvidia_smi("Tesla V100, 7.0", driver="535.183.01")
    machine.program("apt-get", "exit 0")
    machine.free_gib = lambda path: 0.01 if path == "/dev/shm" else 3.0
    said = refusal(capsys)
    for words in (
        "cannot make environments: it has no ensurepip",
        "driver 580 or newer (here: 535.183.01): PyTorch is built for CUDA 13.0",
        "compute capability 7.5 or more (Tesla V100 has 7.0)",
        "a C compiler (none of $CC, gcc and clang is there)",
        "Python.h of",
        "32 MiB of shared memory (10 free in /dev/shm)",
        "GiB of disk for",
        "(3.0 are free)",
        "    apt-get update && apt-get install gcc libc6-dev python3.12-dev python3.12-venv\n",
        "DEVICE=cpu make setup",
        "docker run --shm-size=1g",
        "ANYWAY=1 make setup",
    ):
        assert words in said
    assert "nvcc" not in said
    assert "ninja" not in said


def test_someone_who_knows_better_can_go_on(
    gpu_box: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_box.nvidia_smi("NVIDIA H200, 9.0", driver="570.1")
    monkeypatch.setenv("ANYWAY", "1")
    assert make.main() == 0
    assert "ANYWAY is set, so setup goes on without:\n  - driver 580 or newer (here: 570.1)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch", "restart the machine"),
        ("NVIDIA-SMI has failed because it could not communicate with the NVIDIA driver.", "Make nvidia-smi work"),
        ("No devices were found", "docker run --gpus all"),
    ],
)
def test_an_nvidia_smi_that_fails_is_told_in_its_own_words_and_is_no_cpu(
    gpu_box: Machine, capsys: pytest.CaptureFixture[str], words: str, remedy: str
) -> None:
    gpu_box.program("nvidia-smi", f"echo '{words}'; exit 9")
    said = refusal(capsys)
    assert f"nvidia-smi is there and fails: {words}" in said
    assert remedy in said
    assert "DEVICE=cpu make setup" in said
    assert "packages for cpu" not in said


def test_one_that_lists_nothing_fails_as_well(gpu_box: Machine) -> None:
    gpu_box.program("nvidia-smi", "exit 0")
    assert gpus.ask_driver() == gpus.Driver(failure="it lists no GPU")


def test_without_a_gpu_the_cuda_packages_are_to_be_had_but_not_without_a_compiler(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DEVICE", "cuda")
    machine.python("python3", "3.11", header=False)
    said = refusal(capsys)
    assert "driver and card are not looked at, since there is no nvidia-smi." in said
    assert "a C compiler" in said
    assert "Install with this system's package manager (Debian's names): gcc libc6-dev python3.11-dev" in said
    machine.python("python3", "3.11")
    machine.program("clang", "exit 0")
    machine.program("nvidia-smi", "echo 'No devices were found'; exit 6")
    assert make.main() == 0
    assert "not looked at, since nvidia-smi fails: No devices were found." in capsys.readouterr().err


def test_a_compiler_that_lacks_the_c_library_is_none(gpu_box: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    words = "empty.c:1:10: fatal error: stdlib.h: No such file or directory"
    gpu_box.program("gcc", f"echo '{words}' >&2; echo 'compilation terminated.' >&2; exit 1")
    assert f"gcc: {words})" in refusal(capsys)


def test_triton_takes_cc_whatever_else_is_there(
    gpu_box: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CC", "/opt/none/cc")
    assert "$CC (/opt/none/cc) is not there" in refusal(capsys)


def test_a_driver_too_old_to_know_the_capability_is_told_by_its_version(
    gpu_box: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_box.nvidia_smi("NVIDIA A100", driver="470.256.02")
    said = refusal(capsys)
    assert "driver 580 or newer (here: 470.256.02)" in said
    assert "compute capability" not in said


def test_of_two_cards_the_one_that_serves_is_named(gpu_box: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_box.nvidia_smi("Tesla V100, 7.0", "NVIDIA A100, 8.0")
    assert make.main() == 0
    assert "Tesla V100 is too old for PyTorch; CUDA_VISIBLE_DEVICES=1 takes the NVIDIA A100." in capsys.readouterr().err


def test_of_several_slices_the_one_that_cuda_takes_is_named(
    gpu_box: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu_box.nvidia_smi("NVIDIA A100, 8.0", mig="Enabled", slices=MIG_SLICES)
    assert make.main() == 0
    said = capsys.readouterr().err
    assert "MIG is on: CUDA takes the first slice, 1g.10gb (MIG-aa); 2 are there" in said
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-bb")
    driver = gpus.ask_driver()
    assert driver is not None
    assert machine.notes(driver) == []


def test_mig_without_a_slice_is_no_device(gpu_box: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    gpu_box.nvidia_smi("NVIDIA A100, 8.0", mig="Enabled")
    said = refusal(capsys)
    assert "a MIG slice: MIG is on and nothing is cut" in said
    assert "nvidia-smi mig -cgi" in said


def test_room_is_counted_by_disk(gpu_box: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment, pip's cache and its temporary files share one disk here."""
    gpu_box.free_gib = lambda _: 12.0
    missing = machine.lacking_space("cuda", make.VENV)
    assert [one.what.partition(" GiB")[0] for one in missing] == ["21.0"]
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    assert machine.lacking_space("cuda", make.VENV)[0].what.startswith("16.0 GiB")
    assert machine.lacking_space("cpu", make.VENV) == []


def test_the_library_that_vllm_for_the_cpu_is_linked_with_is_asked_for(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.python("python3", "3.13")
    machine.program("apt-get", "exit 0")
    machine.libraries.clear()
    said = refusal(capsys)
    assert "libnuma.so.1: vLLM for the CPU is linked with it" in said
    assert "apt-get install libnuma1\n" in said


def test_a_library_is_there_if_it_loads() -> None:
    assert machine.can_load("libc.so.6")
    assert not machine.can_load("libnone.so.1")


@pytest.mark.parametrize(("answer", "version"), [("glibc 2.36", "2.36"), (None, "")])
def test_glibc_is_the_one_that_runs(monkeypatch: pytest.MonkeyPatch, answer: str | None, version: str) -> None:
    monkeypatch.setattr("os.confstr", lambda _: answer)
    assert machine.glibc_version() == version


def test_a_driver_whose_version_is_not_told_is_not_blamed_for_it() -> None:
    assert machine.lacking_driver(gpus.Driver(version="[N/A]", cards=(gpus.Card("A100", 8.0, False),))) == []


def test_shared_memory_that_cannot_be_written_is_none() -> None:
    assert "writable" in machine.lacking_shared_memory("/nowhere")[0].what


@pytest.mark.parametrize(
    ("system", "processor", "libc", "words"),
    [
        ("Darwin", "arm64", "", "this is Darwin on arm64"),
        ("Linux", "x86_64", "2.27", "glibc 2.28 or newer (here: 2.27)"),
        ("Linux", "x86_64", "", "here: another C library"),
        ("Linux", "x86_64", "2.36", None),
    ],
)
def test_the_locks_are_for_one_platform(
    monkeypatch: pytest.MonkeyPatch, system: str, processor: str, libc: str, words: str | None
) -> None:
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("platform.machine", lambda: processor)
    monkeypatch.setattr(machine, "glibc_version", lambda: libc)
    told = [one.what for one in machine.wrong_platform()]
    assert (words in told[0]) if words else told == []
