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
from tests.stages.forked import stop_in
from tunelift.stages.train import train
print("ready", flush=True)
for line in sys.stdin:
    job = json.loads(line)
    child = os.fork()
    if child == 0:
        try:
            out = Path(job["out"])
            out.mkdir(parents=True, exist_ok=True)
            if job["stop_in"]:
                stop_in(*job["stop_in"])
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
        self,
        out: Path,
        model: Path,
        dataset: Path,
        config: dict,
        blow: Callable[[int], None] | None = None,
        stopped_in: tuple[str, int] | None = None,
    ) -> int:
        """Train in `out`. Returns 0, or minus the signal that ended it.

        `blow` is given the process id; `stopped_in` are arguments of `stop_in`.
        """
        job = {"out": str(out), "model": str(model), "dataset": str(dataset), "config": config, "stop_in": stopped_in}
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


def stop_in(what: str, step: int) -> None:
    """Send this process SIGTERM as it begins to evaluate, to answer for a scorer, or to sample, after a step."""
    from tunelift.stages.train.answers import Asked
    from tunelift.stages.train.samples import Samples
    from tunelift.stages.train.trainer import SupervisedTrainer

    owner, name = {
        "evaluation": (SupervisedTrainer, "_measured"),
        "scorer": (Asked, "mean_score"),
        "samples": (Samples, "take"),
    }[what]
    original = getattr(owner, name)

    def struck(self, *arguments):
        trainer = next(one for one in (self, *arguments, getattr(self, "trainer", None)) if hasattr(one, "state"))
        if trainer.state.global_step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, *arguments)

    setattr(owner, name, struck)


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
