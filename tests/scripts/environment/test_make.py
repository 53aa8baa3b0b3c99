from __future__ import annotations

from pathlib import Path

import pytest

from environment import make
from environment.words import SetupError
from tests.scripts.environment.conftest import Machine


def test_without_a_driver_the_cpu_lock_is_taken_and_an_unchanged_one_is_not_installed_again(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.python("python3", "3.11", torch="2.14.0, 2.13.0+cpu, 2.13.0")
    assert make.main() == 0
    assert machine.calls.read_text().count("-m pip install") == 2
    assert "requirements/cpu.txt" in machine.calls.read_text()
    assert "packages for cpu, since there is no nvidia-smi, so no NVIDIA driver." in capsys.readouterr().err
    assert make.main() == 0
    assert machine.calls.read_text().count("-m pip install") == 2
    assert "Environment: .venv is ready (cpu:" in capsys.readouterr().err
    make.lock_file("cpu").write_text("torch==2.13.1+cpu \\\n    --hash=sha256:1\n")
    assert make.main() == 0
    assert machine.calls.read_text().count("-m pip install") == 4


def test_an_index_without_the_cpu_build_gives_the_build_that_it_has(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.python("python3", "3.11", torch="2.14.0, 2.13.0, 2.12.1")
    assert make.main() == 0
    said = capsys.readouterr().err
    assert "comes with CUDA (some 3 GB more) and runs on the CPU, since pip's index has no CPU build of it." in said
    assert said.index("some 3 GB more") < said.index("Installing")
    assert "requirements/cpu-pypi.txt" in machine.calls.read_text()
    assert make.installed() == make.fingerprint("cpu", "cpu-pypi")


def test_that_choice_stays(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.python("python3", "3.11", torch="2.13.0")
    assert make.main() == 0
    (make.VENV / "bin/python").write_bytes(machine.python("python3", "3.11", torch="2.13.0+cpu").read_bytes())
    assert make.main() == 0
    assert "Environment: .venv is ready (cpu:" in capsys.readouterr().err
    make.lock_file("cpu-pypi").write_text("torch==2.13.1 \\\n    --hash=sha256:1\n")
    assert make.main() == 0
    assert machine.calls.read_text().count("probe") == 1
    assert machine.calls.read_text().count("requirements/cpu-pypi.txt") == 2


def test_a_python_that_the_cpu_build_is_not_locked_for_does_without_asking(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.python("python3.12", "3.12", torch="2.13.0+cpu")
    assert make.main() == 0
    assert "since its CPU build is locked for Python 3.11, and this is 3.12." in capsys.readouterr().err
    assert "probe" not in machine.calls.read_text()
    assert make.installed()["lock"] == "cpu-pypi"


def test_the_room_for_the_bigger_build_is_asked_for_before_it_is_downloaded(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.python("python3", "3.11", torch="2.13.0")
    machine.free_gib = lambda _: 9.0
    assert make.main() == 2
    assert "14.5 GiB of disk" in capsys.readouterr().err
    assert "pip install" not in machine.calls.read_text()


def test_an_index_that_does_not_answer_is_no_index_without_the_build(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    stub = machine.python("python3", "3.11")
    words = "ERROR: HTTPSConnectionPool: Max retries exceeded"
    stub.write_text(stub.read_text().replace('echo "Available versions: "', f'echo "{words}"; exit 1'))
    assert make.main() == 3
    said = capsys.readouterr().err
    assert words in said
    assert "Check the network" in said


def test_a_linked_environment_is_left_alone(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    """python -m venv --clear empties what a link points to."""
    machine.python("python3", "3.11", torch="2.13.0")
    foreign = make.REPOSITORY.parent / "foreign"
    (foreign / "bin").mkdir(parents=True)
    (foreign / "bin/precious").touch()
    make.VENV.symlink_to(foreign)
    assert make.main() == 2
    assert f".venv is a link to {foreign}." in capsys.readouterr().err
    assert (foreign / "bin/precious").exists()


def test_the_user_may_decide(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEVICE", "CUDA")
    assert make.choose_device(None) == ("cuda", "DEVICE=cuda is set")
    monkeypatch.setenv("DEVICE", "tpu")
    with pytest.raises(SetupError, match="DEVICE=tpu is not a device"):
        make.choose_device(None)


def test_a_change_of_device_starts_afresh(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.python("python3", "3.11", torch="2.13.0+cpu")
    machine.program("gcc", "exit 0")
    assert make.main() == 0
    (make.VENV / "kept").touch()
    monkeypatch.setenv("DEVICE", "cuda")
    assert make.main() == 0
    assert make.installed() == make.fingerprint("cuda", "cuda")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "Free some space"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "pip cache purge"),
        ("WARNING: Retrying after NewConnectionError\nERROR: No matching distribution found for x==1", "HTTPS_PROXY"),
        ("ERROR: No matching distribution found for torch==2.14.0", "PIP_INDEX_URL"),
        ("Segmentation fault", "Read the end of .venv/tunelift-setup.log"),
    ],
)
def test_what_pip_says_becomes_a_remedy(machine: Machine, words: str, remedy: str) -> None:
    (make.VENV / "bin").mkdir(parents=True)
    stub = machine.program("pip", f"printf '%s\\n' '{words}' 'WARNING: Location /x is ignored'; exit 1")
    stub.rename(make.VENV / "bin/python")
    with pytest.raises(SetupError) as caught:
        make.run_pip(make.VENV, make.LOG, [], 3)
    assert words.splitlines()[-1] in str(caught.value)
    assert remedy in str(caught.value)
    assert "Location" not in str(caught.value)
    assert "Location" in Path(make.LOG).read_text()
