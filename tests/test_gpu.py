"""What only a GPU shows: the same pipeline with a GPU's settings. Run `make test-gpu` where there is one."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import make_project
from tunelift.runtime import hardware

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(hardware.detect().device != "cuda", reason="no NVIDIA GPU is visible here"),
]


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_the_whole_pipeline_runs_on_the_gpu(kind: str, tmp_path: Path) -> None:
    make_project(tmp_path, engine={"gpu_memory_utilization": 0.3})
    command = [sys.executable, "-m", "tunelift.cli", "run", "config.yaml", f"train.adapter.kind={kind}"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    (run,) = (path for path in (tmp_path / "runs").glob("tiny-*") if path.is_dir())
    manifest = json.loads((run / "stages/train/manifest.json").read_text())
    assert manifest["environment"]["hardware"]["device"] == "cuda"
    assert json.loads((run / "stages/merge/parity.json").read_text())["kl_mean"] <= 0.02
