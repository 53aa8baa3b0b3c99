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


@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_packed_rows_stay_apart_on_the_gpu(attention: str, tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from tests.stages.conversations import write_dataset
    from tunelift.runtime.chat import load_tokenizer
    from tunelift.runtime.encoded import read_encoded
    from tunelift.runtime.weights import load_base
    from tunelift.stages.train.packing import pack, refuse_leaks

    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn", reason="FlashAttention is not installed")
    rows = read_encoded(load_tokenizer(tiny_model), write_dataset(tmp_path), "train", 5)
    model = load_base(tiny_model, kind="lora", device="cuda", precision="bf16", attention=attention)
    refuse_leaks(model, rows)
    batch = pack([{"input_ids": row.rendered.input_ids, "labels": row.labels} for row in rows])
    inputs = {name: batch[name].cuda() for name in ("input_ids", "position_ids")}
    with torch.no_grad():
        together = model(**inputs, use_cache=False).logits[0].float()
        alone = [
            model(input_ids=torch.tensor([row.rendered.input_ids]).cuda(), use_cache=False).logits[0].float()
            for row in rows
        ]
    assert (together - torch.cat(alone)).abs().max() < 0.03
