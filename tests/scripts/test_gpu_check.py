"""scripts/gpu_check.sh with programs that stand in for the card and for the steps."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "gpu_check.sh"
STEPS = r"""
case "$*" in
  *make_big_model*) echo "made" ;;
  *halved\ or*) echo "2 passed in 3.00s" ;;
  *"-m pytest"*) echo "FAILED tests/test_gpu.py::a | b"; echo "1 failed, 9 passed in 60.00s"; exit 1 ;;
  *bench_recipes*) echo "| a recipe | 8,000 tokens/s |" > "${@: -1}/training.md" ;;
  *"tunelift.cli merge"*) echo "runs/store/merge/ab" ;;
  -c*) echo "figure: 61 s, peak 15.9 GiB, KL 0.00031" ;;
  *check_fsdp2*) echo "EQUAL uint8"; echo "DIFFERENT bfloat16 storage" ;;
esac
"""


def program(folder: Path, name: str, body: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{body}\n")
    path.chmod(0o755)


def check(folder: Path) -> subprocess.CompletedProcess[str]:
    programs, out = folder / "bin", folder / "out"
    programs.mkdir(exist_ok=True)
    (out / "recipes").mkdir(parents=True, exist_ok=True)
    program(programs, "python", STEPS)
    return subprocess.run(
        ["bash", str(SCRIPT), str(out)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PATH": f"{programs}:/usr/bin:/bin", "PYTHON": str(programs / "python")},
    )


def test_each_step_is_a_row_and_a_failure_stops_none(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "nvidia-smi", "echo 'NVIDIA L4, 23034 MiB, 580.95.05'; echo 'NVIDIA L4, 23034 MiB, 580'")
    result = check(tmp_path)
    table = (tmp_path / "out" / "table.md").read_text()
    assert result.returncode == 1 and table == result.stdout
    assert table.startswith("GPU check on NVIDIA L4, 23034 MiB, 580.95.05: 0 min ")
    rows = {row.split(" | ")[0].strip("| "): row.split(" | ")[1:3] for row in table.splitlines() if row[:2] == "| "}
    assert rows["probe and out of memory"] == ["ok", "2 passed in 3.00s"]
    assert rows["tests marked gpu"] == ["failed", "1 failed, 9 passed in 60.00s"]
    assert rows["merge"] == ["ok", "61 s, peak 15.9 GiB, KL 0.00031"]
    assert rows["FSDP2 with 4-bit weights"] == ["ok", "DIFFERENT bfloat16 storage"]
    assert "| a recipe | 8,000 tokens/s |" in table
    assert "FAILED tests/test_gpu.py::a | b" in (tmp_path / "out" / "tests-marked-gpu.log").read_text()


@pytest.mark.parametrize("words", [None, "Failed to initialize NVML: Driver/library version mismatch"])
def test_without_a_card_it_says_so_at_once(tmp_path: Path, words: str | None) -> None:
    (tmp_path / "bin").mkdir()
    if words:
        program(tmp_path / "bin", "nvidia-smi", f"echo '{words}'; exit 18")
    result = check(tmp_path)
    assert result.returncode == 2 and "no NVIDIA GPU answers here" in result.stderr
    assert "tunelift doctor" in result.stderr and (words or "nvidia-smi") in result.stderr
    assert not (tmp_path / "out" / "table.md").exists()
