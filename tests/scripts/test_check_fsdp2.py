from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "check_fsdp2.py"


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
def test_on_a_cpu_sharded_4_bit_weights_compute_the_same(processes: int) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    result = subprocess.run([*command, str(SCRIPT)], capture_output=True, text=True, check=False, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    found = [line.split()[:2] for line in result.stdout.splitlines() if line.startswith(("EQUAL", "DIFFERENT"))]
    assert found == [["EQUAL", "uint8"]] * 2 + [["EQUAL", "bfloat16"]] * 2
