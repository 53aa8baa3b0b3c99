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
DEVICES = ("cpu", "cuda")
LINUX = {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64", "os_name": "posix"}
lock = load_script("lock")


def text_of(device: str) -> str:
    return (ROOT / "requirements" / f"{device}.txt").read_text()


def pinned(device: str, python: str) -> dict[str, str]:
    """Version by canonical name, for x86-64 Linux."""
    found = {}
    for key, version in lock.pins(text_of(device)).items():
        requirement = Requirement(key)
        environment = {**LINUX, "python_version": python, "python_full_version": f"{python}.9"}
        if requirement.marker is None or requirement.marker.evaluate(environment):
            assert canonicalize_name(requirement.name) not in found, f"{requirement.name} is pinned twice"
            found[canonicalize_name(requirement.name)] = version
    return found


@pytest.mark.parametrize(("device", "python"), [("cpu", "3.11"), ("cuda", "3.11"), ("cuda", "3.12"), ("cuda", "3.13")])
def test_the_lock_satisfies_pyproject(device: str, python: str) -> None:
    project = PROJECT["project"]
    wanted = [
        *project["dependencies"],
        *project["optional-dependencies"][f"serve-{device}"],
        *PROJECT["dependency-groups"]["dev"],
        *PROJECT["build-system"]["requires"],
    ]
    found = pinned(device, python)
    for requirement in map(Requirement, wanted):
        version = found[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement} but {version} is locked"


@pytest.mark.parametrize("device", DEVICES)
def test_every_locked_package_has_a_hash_and_nothing_names_a_place(device: str) -> None:
    text = text_of(device)
    entries = re.split(r"\n(?=[A-Za-z0-9])", text)[1:]
    assert len(entries) == len(lock.pins(text)) > 200
    assert [entry.split("==")[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert re.findall(r"https?://|--index|--find-links|--extra|file:|^ *#.*(?<!\w)/\w", text, re.MULTILINE) == []


def test_the_cpu_lock_takes_the_cpu_build_and_leaves_out_what_clashes_with_it() -> None:
    found = pinned("cpu", "3.11")
    assert found["torch"].endswith("+cpu")
    assert {"torchvision", "torchaudio", "torchcodec", "vllm"} & found.keys() == set()
    assert not [name for name in found if name.startswith("nvidia-")]


def test_both_locks_train_with_the_same_releases() -> None:
    cpu, cuda = pinned("cpu", "3.11"), pinned("cuda", "3.11")
    for name in ("trl", "peft", "bitsandbytes", "datasets", "accelerate", "safetensors", "scipy"):
        assert cpu[name] == cuda[name], name


def test_the_version_is_said_once_and_the_same() -> None:
    assert PROJECT["project"]["version"] == tunelift.__version__


def test_a_pin_that_differs_is_listed_with_both_versions() -> None:
    before, after = lock.pins("a==1 \\\n    --hash=x\nb==2 ; python_version < '3.12' \\\n"), lock.pins("a==1.1 \\\n")
    assert before == {"a": "1", "b ; python_version < '3.12'": "2"}
    assert lock.differences(before, after) == ["a: 1 -> 1.1", "b ; python_version < '3.12': 2 -> absent"]
