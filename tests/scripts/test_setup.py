from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from tests.scripts.loading import load_script

setup = load_script("setup")


def program(folder: Path, name: str, body: str) -> None:
    """An executable shell script first on the path."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on PATH, empty."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("DEVICE", raising=False)
    monkeypatch.delenv("PYTHON", raising=False)
    return folder


def test_without_a_driver_the_cpu_lock_is_taken(path: Path) -> None:
    assert setup.choose_device() == ("cpu", "there is no nvidia-smi, so no NVIDIA driver")


def test_a_gpu_is_named(path: Path) -> None:
    program(path, "nvidia-smi", "echo 'GPU 0: NVIDIA H200 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H200 (UUID: GPU-2)'")
    assert setup.choose_device() == ("cuda", "nvidia-smi finds 2 × NVIDIA H200")


def test_a_driver_that_fails_means_cpu(path: Path) -> None:
    program(path, "nvidia-smi", "echo 'GPU 0: dead'; exit 9")
    assert setup.choose_device() == ("cpu", "nvidia-smi finds no GPU")


def test_the_user_may_decide(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "CUDA")
    assert setup.choose_device() == ("cuda", "DEVICE=CUDA is set".replace("CUDA", "cuda"))
    monkeypatch.setenv("DEVICE", "tpu")
    with pytest.raises(setup.SetupError, match="DEVICE=tpu is not a device"):
        setup.choose_device()


def test_the_interpreter_must_be_one_that_the_lock_has_files_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(path, "python3.11", "echo 3 11")
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert setup.find_python("cpu") == str(path / "python3.11")
    program(path, "python3.11", "echo 3 14")
    with pytest.raises(setup.SetupError) as caught:
        setup.find_python("cpu")
    assert "The cpu lock needs Python 3.11" in str(caught.value)
    assert "python3.11 is 3.14" in str(caught.value)
    assert "PYTHON=python3.11 make setup" in str(caught.value)


@pytest.fixture
def venv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment whose pip is a shell script."""
    folder = tmp_path / ".venv"
    (folder / "bin").mkdir(parents=True)
    monkeypatch.setattr(setup, "REPOSITORY", tmp_path)
    monkeypatch.setattr(setup, "VENV", folder)
    monkeypatch.setattr(setup, "LOG", folder / "setup.log")
    monkeypatch.setattr(setup, "STAMP", folder / "stamp.json")
    return folder


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("ERROR: No matching distribution found for torch==2.13.0+cpu", "pytorch.org/get-started"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "Free some space"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "pip cache purge"),
        ("WARNING: Retrying after NewConnectionError\nERROR: No matching distribution found for x==1", "HTTPS_PROXY"),
        ("ERROR: No matching distribution found for x==1", "PIP_INDEX_URL"),
        ("Segmentation fault", "Read the end of .venv/setup.log"),
    ],
)
def test_what_pip_says_becomes_a_remedy(venv: Path, words: str, remedy: str) -> None:
    program(venv / "bin", "python", f"printf '%s\\n' '{words}' 'WARNING: Location /x is ignored'; exit 1")
    with pytest.raises(setup.SetupError) as caught:
        setup.run_pip([], 3)
    assert words.splitlines()[-1] in str(caught.value)
    assert remedy in str(caught.value)
    assert "Location" not in str(caught.value)
    assert "Location" in setup.LOG.read_text()


def test_a_changed_lock_is_installed_and_an_unchanged_one_is_not(
    venv: Path, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = venv.parent / "requirements" / "cpu.txt"
    lock.parent.mkdir()
    lock.write_text("a==1 \\\n    --hash=sha256:0\n")
    (venv.parent / "pyproject.toml").write_text("")
    monkeypatch.setattr(sys, "executable", str(venv / "bin" / "python"))
    monkeypatch.setenv("PATH", f"{path}:/usr/bin:/bin")
    program(
        venv / "bin", "python", 'case "$1" in -c) echo 3 11;; *) echo "Collecting a"; echo "$@" >>"$0.calls";; esac'
    )
    calls = venv / "bin" / "python.calls"

    assert setup.main() == 0
    assert calls.read_text().count("-m pip install") == 2
    assert "Environment: the cpu lock, since there is no nvidia-smi" in capsys.readouterr().err
    assert setup.main() == 0
    assert calls.read_text().count("-m pip install") == 2
    assert "Environment: .venv is ready (cpu:" in capsys.readouterr().err
    lock.write_text("a==2 \\\n    --hash=sha256:1\n")
    assert setup.main() == 0
    assert calls.read_text().count("-m pip install") == 4
