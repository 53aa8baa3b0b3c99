"""What only a GPU shows: the same pipeline with a GPU's settings. Run `make test-gpu` where there is one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.project import make_project
from tests.scripts.loading import load_script
from tests.stages.conversations import train_config, write_dataset
from tests.tiny import make_tiny_model
from tunelift.errors import MachineError
from tunelift.runtime import hardware
from tunelift.runtime.weights import load_base, machine_trouble
from tunelift.runtime.worker import run_isolated

write_full_rows = load_script("bench_recipes").write_full_rows

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(hardware.detect().device != "cuda", reason="no NVIDIA GPU is visible here"),
]


def tunelift(folder: Path, verb: str, kind: str) -> Path:
    """A command on a small project; returns the run's folder."""
    make_project(folder, engine={"gpu_memory_utilization": 0.3})
    command = [sys.executable, "-m", "tunelift.cli", verb, "config.yaml", f"train.adapter.kind={kind}"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=900)
    assert result.returncode == 0, result.stderr
    (run,) = (path for path in (folder / "runs").glob("tiny-*") if path.is_dir())
    return run


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_a_model_is_trained_and_merged_on_the_gpu(kind: str, tmp_path: Path) -> None:
    run = tunelift(tmp_path, "merge", kind)
    manifest = json.loads((run / "stages/train/manifest.json").read_text())
    assert manifest["environment"]["hardware"]["device"] == "cuda"
    assert json.loads((run / "stages/merge/parity.json").read_text())["kl_mean"] <= 0.02


def test_the_whole_pipeline_runs_on_the_gpu(tmp_path: Path) -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed")
    assert (tunelift(tmp_path, "run", "qlora") / "report.html").is_file()


@pytest.mark.parametrize("attention", ["sdpa", "flash_attention_2"])
def test_packed_rows_stay_apart_on_the_gpu(attention: str, tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from tests.stages.conversations import write_dataset
    from tunelift.runtime.chat import load_tokenizer
    from tunelift.runtime.encoded import read_encoded
    from tunelift.runtime.weights import load_base
    from tunelift.stages.train.packing import pack, rows_stay_apart

    if attention == "flash_attention_2":
        pytest.importorskip("flash_attn", reason="FlashAttention is not installed")
    rows = read_encoded(load_tokenizer(tiny_model), write_dataset(tmp_path), "train", 5)
    model = load_base(tiny_model, kind="lora", device="cuda", precision="bf16", attention=attention)
    assert rows_stay_apart(model, rows)
    batch = pack([{"input_ids": row.rendered.input_ids, "labels": row.labels} for row in rows])
    inputs = {name: batch[name].cuda() for name in ("input_ids", "position_ids")}
    with torch.no_grad():
        together = model(**inputs, use_cache=False).logits[0].float()
        alone = [
            model(input_ids=torch.tensor([row.rendered.input_ids]).cuda(), use_cache=False).logits[0].float()
            for row in rows
        ]
    assert (together - torch.cat(alone)).abs().max() < 0.03


def train_on_gpu(model: Path, folder: Path, **changes: Any) -> dict[str, Any]:
    """The train stage on the tiny model, in a process of its own so that its peak memory is its own."""
    folder.mkdir()
    arguments = {
        "config": train_config(**changes).model_dump(mode="json"),
        "model": str(model),
        "dataset": str(write_dataset(folder / "data")),
        "seed": 1,
        "device": "cuda",
        "out": str(folder),
    }
    return run_isolated("tunelift.stages.train:train", arguments, folder / "log.txt")


def test_the_paged_8_bit_optimizer_learns_as_the_plain_one_does(tiny_model: Path, tmp_path: Path) -> None:
    losses = {
        name: train_on_gpu(tiny_model, tmp_path / name, optimizer=name, max_steps=8)["train_loss"]
        for name in ("adamw_torch", "paged_adamw_8bit")
    }
    assert losses["paged_adamw_8bit"] == pytest.approx(losses["adamw_torch"], rel=0.05), losses


def test_the_micro_batch_does_not_change_the_losses_on_a_gpu(tiny_model: Path, tmp_path: Path) -> None:
    losses = [
        train_on_gpu(tiny_model, tmp_path / str(micro), micro_batch_size=micro, max_steps=4)["train_loss"]
        for micro in (1, 2, 8)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=5e-3)


def test_recomputed_activations_give_the_same_losses_in_less_memory(tiny_model: Path, tmp_path: Path) -> None:
    kept, recomputed = (
        train_on_gpu(tiny_model, tmp_path / str(choice), gradient_checkpointing=choice, max_steps=4, memory_probe=True)
        for choice in (False, True)
    )
    assert recomputed["train_loss"] == pytest.approx(kept["train_loss"], rel=5e-3)
    assert recomputed["peak_memory_gib"] <= kept["peak_memory_gib"]


def test_flash_attention_gives_the_logits_of_sdpa(tiny_model: Path) -> None:
    pytest.importorskip("flash_attn", reason="flash-attn is not installed")
    import torch

    ids = torch.arange(3, 67, device="cuda").view(2, 32)
    logits = [
        load_base(tiny_model, kind="lora", device="cuda", precision="bf16", attention=attention)(ids).logits.float()
        for attention in ("sdpa", "flash_attention_2")
    ]
    assert (logits[0] - logits[1]).abs().max().item() < 0.1


def test_flash_attention_keeps_packed_rows_apart(tiny_model: Path) -> None:
    """Two rows in one, told apart by position ids alone, get the logits that each gets by itself."""
    pytest.importorskip("flash_attn", reason="flash-attn is not installed")
    import torch

    model = load_base(tiny_model, kind="lora", device="cuda", precision="bf16", attention="flash_attention_2")
    first, second = torch.arange(3, 23, device="cuda"), torch.arange(40, 52, device="cuda")
    positions = torch.cat([torch.arange(len(row), device="cuda") for row in (first, second)])
    packed = model(torch.cat([first, second])[None], position_ids=positions[None], use_cache=False).logits[0]
    alone = torch.cat([model(row[None], use_cache=False).logits[0] for row in (first, second)])
    assert (packed.float() - alone.float()).abs().max().item() < 0.1


def test_parity_keeps_one_batch_of_distributions_on_the_gpu(tiny_model: Path, tmp_path: Path) -> None:
    import torch

    from tunelift.runtime.chat import load_tokenizer
    from tunelift.runtime.encoded import read_encoded
    from tunelift.stages.merge.parity import ROWS_AT_ONCE, compare, reference

    (row,) = read_encoded(load_tokenizer(tiny_model), write_dataset(tmp_path, validation=1), "validation")
    model = load_base(tiny_model, kind="lora", device="cuda", precision="bf16")
    peaks = []
    for rows in ([row] * ROWS_AT_ONCE, [row] * ROWS_AT_ONCE * 64):
        torch.cuda.reset_peak_memory_stats()
        compare(model, reference(model, rows, 0, "cuda", "bf16"), rows, 0, "cuda", "bf16")
        peaks.append(torch.cuda.max_memory_allocated())
    per_batch = ROWS_AT_ONCE * sum(row.rendered.mask) * model.config.vocab_size * 2
    assert peaks[1] - peaks[0] < 8 * per_batch, "64 batches take little more than one"


def test_memory_that_runs_out_on_the_gpu_ends_as_the_machines_trouble(tmp_path: Path) -> None:
    import torch

    with pytest.raises(MachineError, match="The GPU ran out of memory"), machine_trouble(tmp_path):
        torch.empty(2**45, dtype=torch.uint8, device="cuda")


CAPPED = """
import json, sys, torch
from pathlib import Path
from tests.stages.conversations import train_config
from tunelift.stages.train import train
model, dataset, out = map(Path, sys.argv[1:4])
total = torch.cuda.get_device_properties(0).total_memory
if float(sys.argv[5]):
    torch.cuda.set_per_process_memory_fraction(float(sys.argv[5]) / total)
settings = train_config(**json.loads(sys.argv[4]))
made = train(settings, model=model, dataset=dataset, seed=1, device="cuda", out=out)
found = {"micro": made["micro_batch_size"], "loss": made["train_loss"]}
print(json.dumps(found | {"reserved": torch.cuda.max_memory_reserved()}))
"""


def capped(model: Path, folder: Path, most_bytes: float, micro: int) -> dict[str, Any]:
    """Train in a process that gets no more of the GPU's memory than this (0: all); 64 rows of 500 tokens a step."""
    folder.mkdir()
    settings = {
        "global_batch_size": 64,
        "micro_batch_size": micro,
        "max_steps": 2,
        "max_length": 512,
        "memory_probe": True,
    }
    (folder / "out").mkdir()
    dataset = write_full_rows(model, train_config(**settings), folder / "data")
    arguments = [str(model), str(dataset), str(folder / "out"), json.dumps(settings)]
    root = Path(__file__).parents[1]
    paths = [str(root / "src"), str(root), os.environ.get("PYTHONPATH")]
    result = subprocess.run(
        [sys.executable, "-c", CAPPED, *arguments, str(most_bytes)],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
    )
    assert result.returncode == 0, result.stderr[-3000:]
    answer: dict[str, Any] = json.loads(result.stdout.strip().splitlines()[-1])
    return answer


def test_a_batch_that_does_not_fit_is_halved_and_learns_the_same(tmp_path: Path) -> None:
    model = make_tiny_model(tmp_path / "model", layers=8)
    whole, single = (capped(model, tmp_path / str(micro), 0, micro) for micro in (64, 1))
    assert whole["micro"] == 64
    assert whole["reserved"] > 2 * single["reserved"], (whole, single)
    halved = capped(model, tmp_path / "halved", (whole["reserved"] + single["reserved"]) / 2, 64)
    assert 1 <= halved["micro"] < 64
    assert halved["loss"] == pytest.approx(whole["loss"], rel=5e-3)
