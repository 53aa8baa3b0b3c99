"""Training runs that can be killed, forked from a process that has imported everything: imports take longest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]

SERVER = """
import json, os, sys, traceback
from pathlib import Path
import bitsandbytes, datasets, peft, trl, tunelift.stages.train.fit, tunelift.stages.train.trainer
import tunelift.stages.train.samples
from tests.stages.conversations import train_config
from tunelift.stages.train import train
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            out = Path(job["out"])
            out.mkdir(parents=True, exist_ok=True)
            train(train_config(**job["config"]), model=Path(job["model"]), dataset=Path(job["dataset"]), seed=1,
                  device="cpu", out=out)
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    print(child, flush=True)
    print(os.waitpid(child, 0)[1], flush=True)
"""


class Runs:
    """Starts runs one after another."""

    def __init__(self, server: subprocess.Popen[str], log: Path) -> None:
        self.server, self.log = server, log

    def run(
        self, out: Path, model: Path, dataset: Path, config: dict, blow: Callable[[int], None] | None = None
    ) -> int:
        """Train in `out`; `blow` is given the process id. Returns 0, or minus the signal that ended it."""
        job = {"out": str(out), "model": str(model), "dataset": str(dataset), "config": config}
        self.server.stdin.write(json.dumps(job) + "\n")
        self.server.stdin.flush()
        child = int(self.server.stdout.readline())
        if blow:
            blow(child)
        code = os.waitstatus_to_exitcode(int(self.server.stdout.readline()))
        assert code <= 0, self.log.read_text()[-3000:]
        return code


@contextmanager
def running(log: Path) -> Iterator[Runs]:
    """The process that runs are forked from."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "OMP_NUM_THREADS": "1"}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as server,
    ):
        assert server.stdout.readline() == "ready\n", log.read_text()[-3000:]
        yield Runs(server, log)
        server.stdin.close()
        server.wait(timeout=30)


def steps_taken(out: Path) -> int:
    """As its metrics tell."""
    path = out / "metrics.jsonl"
    return path.read_text().count('"loss"') if path.exists() else 0


def kill_after(
    out: Path, step: int, seconds: float = 0.0, blow: signal.Signals = signal.SIGKILL
) -> Callable[[int], None]:
    """Sends the signal so long after the step is in the metrics; nothing if the run ends before."""

    def strike(child: int) -> None:
        while steps_taken(out) < step:
            time.sleep(0.003)
            try:
                os.kill(child, 0)
            except ProcessLookupError:
                return
            if (out / "training.json").exists():
                return
        time.sleep(seconds)
        try:
            os.kill(child, blow)
        except ProcessLookupError:
            return

    return strike
