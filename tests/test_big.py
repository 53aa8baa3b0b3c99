"""The real size: a random Llama 3.1 8B is loaded in 4-bit, trained, killed, gone on with and saved, on any machine.

Run `make test-big`. The checkpoint takes 16 GB of disk; one that is there already is used and kept.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.loading import load_script
from tunelift.runtime.hardware import detect, openmp_environment
from tunelift.stages.train import checkpoints

pytestmark = [pytest.mark.big, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "runs" / "models" / "llama-3.1-8b-random"
PRECISION = "bf16" if detect().native_bf16 else "fp32"
# In fp32, embeddings and head (128,256 × 4,096 each), which stay unquantized, take two bytes more for each weight.
MOST_ANONYMOUS_GB = 9.0 + (0.0 if PRECISION == "bf16" else 2 * 2 * 128_256 * 4_096 / 1e9)
SETTINGS: dict[str, Any] = {
    "adapter": {"kind": "qlora", "rank": 16, "alpha": 32},
    "learning_rate": 1e-4,
    "max_steps": 2,
    "global_batch_size": 1,
    "micro_batch_size": 1,
    "max_length": 64,
    "save_steps": 1,
    "precision": PRECISION,
}
CHILD = """
import json, sys
from pathlib import Path
from tests.stages.conversations import train_config
from tunelift.stages.train import train
model, dataset, out = map(Path, sys.argv[1:4])
train(train_config(**json.loads(sys.argv[4])), model=model, dataset=dataset, seed=1, device="cpu", out=out)
"""


@pytest.fixture(scope="module")
def big_model() -> Iterator[Path]:
    """The checkpoint; removed afterwards if it was made here."""
    big = load_script("make_big_model")
    there, started = FOLDER.exists(), time.monotonic()
    big.make(FOLDER, big.LLAMA_31_8B, seed=0)
    print(f"\ncheckpoint {'found' if there else 'made'} in {time.monotonic() - started:.0f} s")
    yield FOLDER
    if not there:
        big.remove(FOLDER)


def write_rows(folder: Path) -> Path:
    """Rows of exactly 64 tokens: the tokenizer has one for each byte, and 24 of each row are the template's."""
    folder.mkdir()
    rows = [
        {
            "id": f"row-{number}",
            "messages": [
                {"role": "user", "content": f"Ask {number:016}"},
                {"role": "assistant", "content": f"Reply {number:014}"},
            ],
        }
        for number in range(4)
    ]
    for split, part in {"train": rows, "validation": [], "test": []}.items():
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder


@dataclass
class Training:
    """The train stage in a process of its own, with its memory watched."""

    model: Path
    dataset: Path
    out: Path
    anonymous_gb: float = 0.0
    """The most that the process's anonymous memory has come to."""
    seconds: float = 0.0
    log: str = field(default="", repr=False)

    def run(self, kill_at_step: int | None = None) -> int:
        """Train to the end, or kill -9 once that step's checkpoint is whole; returns the exit code."""
        self.out.mkdir(exist_ok=True)
        arguments = [sys.executable, "-c", CHILD, str(self.model), str(self.dataset), str(self.out)]
        environ = {**os.environ, **openmp_environment(), "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
        started = time.monotonic()
        with (self.out.parent / "log.txt").open("w+") as log:
            child = subprocess.Popen([*arguments, json.dumps(SETTINGS)], stdout=log, stderr=log, env=environ)
            try:
                while child.poll() is None:
                    self.anonymous_gb = max(self.anonymous_gb, anonymous_gb(child.pid))
                    if kill_at_step and self.reached(kill_at_step):
                        child.send_signal(signal.SIGKILL)
                        child.wait()
                    time.sleep(0.1)
            finally:
                child.kill()
            log.seek(0)
            self.log = log.read()
        self.seconds += time.monotonic() - started
        return child.returncode

    def reached(self, step: int) -> bool:
        """That step's checkpoint is whole."""
        return checkpoints.is_complete(self.out / "checkpoints" / f"checkpoint-{step}")


def anonymous_gb(pid: int) -> float:
    """A process's anonymous resident memory; without the mapped checkpoint, which the kernel may drop at any time."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    kib = next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon:")), 0)
    return kib * 1024 / 1e9


def test_the_real_size_trains_in_4_bit_is_killed_goes_on_and_is_saved(big_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    training = Training(big_model, write_rows(tmp_path / "data"), tmp_path / "out")
    assert training.run(kill_at_step=1) == -signal.SIGKILL, training.log[-3000:]
    assert training.run() == 0, training.log[-3000:]
    assert "goes on after step 1 of 2" in training.log
    steps = [json.loads(line) for line in (training.out / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    details = json.loads((training.out / "training.json").read_text())
    preflight = json.loads((training.out / "preflight.json").read_text())
    print(
        f"\n{details['trainable_parameters']:,} trained parameters over 8B, {preflight['longest_row']} tokens: "
        f"first step after {details['first_step_seconds']:.0f} s, "
        f"{training.seconds:.0f} s for both runs, at most {training.anonymous_gb:.2f} GB of anonymous memory"
    )
    assert preflight["longest_row"] == 64
    assert details["trainable_parameters"] == 41_943_040  # Rank 16 on the seven linear layers of 32 blocks.
    tensors = load_file(training.out / "adapter" / "adapter_model.safetensors")
    assert len(tensors) == 32 * 7 * 2
    assert all(tensor.abs().sum() > 0 for tensor in tensors.values()), "some adapter has not moved"
    assert training.anonymous_gb <= MOST_ANONYMOUS_GB
