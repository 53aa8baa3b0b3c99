"""Compare training with `trl sft` and LLaMA-Factory: the same model, rows, order, adapter, batch, precision and cores.

    python scripts/bench_train.py [configs/quickstart.yaml] [key=value …] [--against trl llamafactory] [--rounds 2]

Supervised tokens a second from the end of step `--after` to the end of the last step, so that neither loading nor what
a first step compiles counts; the time from the start of the command to the first step stands beside it. The sides take
turns, each in a process of its own, with as many OpenMP threads as there are cores and the same OpenMP library: `trl
sft` alone would take one thread, since its launcher sets OMP_NUM_THREADS=1 where nobody else has set it.

All sides get the rows of the train stage in its order, as token ids with labels, so that they learn the very same
tokens: the losses of the first step, which an untrained adapter does not change, must agree. What each side has learnt
is then measured by one function, this project's, on the validation rows. Each round has a seed of its own.

Per second of CPU time the sides are compared as well: on a busy machine that says more than the clock.

LLaMA-Factory gets an environment of its own in runs/bench. The machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarks.training import SIDES, Job, Measured, Side, make_job, tokens, tunelift
from benchmarks.training_quality import validation_loss
from tunelift.config.schema import TrainConfig
from tunelift.errors import TuneliftError, UserError
from tunelift.pipeline import open_run
from tunelift.runtime.console import say
from tunelift.runtime.hardware import detect

REPOSITORY = Path(__file__).resolve().parents[1]
SAME_LOSS = 0.02
"""Relative difference of the first step's losses that rounding may explain; another mask or template gives far more."""
NO_WORSE = 0.01
"""Relative difference of validation losses that is no loss of quality."""


@dataclass(frozen=True)
class Run:
    """One side's run in one round."""

    round: int
    side: str
    kind: str
    rate: float
    """Supervised tokens a second."""
    cpu_rate: float
    """Supervised tokens a second of CPU time."""
    first_step_seconds: float
    first_loss: float
    adapter: Path
    validation_loss: float | None = None


def main() -> int:
    """Measure and compare; returns the exit code: 1 when the sides did not train the same thing."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # So that a side that is running ends as well.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ["OMP_NUM_THREADS"] = str(detect().cores)
    sides = [side for side in SIDES if side.name in arguments.against]
    try:
        instead = [f"model.id={arguments.model.resolve()}"] if arguments.model else []
        run = open_run(arguments.config, [*arguments.overrides, *instead])
        if detect().device != "cpu":
            raise UserError("This comparison is for the CPU.", remedy="Set CUDA_VISIBLE_DEVICES= for this command.")
        dataset = arguments.dataset or run.make_curate().path
        runs = measure(arguments, run.config.train, sides, run.base.path.resolve(), dataset.resolve(), run.config.seed)
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    (arguments.folder / "results.json").write_text(
        json.dumps([vars(run) for run in runs], indent=2, default=str) + "\n"
    )
    print(f"{run.config.train.precision}, {arguments.steps} steps, those after step {arguments.after} are timed")
    return report(runs, sides)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare training with trl sft and LLaMA-Factory.")
    parser.add_argument("config", type=Path, nargs="?", default=REPOSITORY / "configs" / "quickstart.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="config fields to set")
    names = [side.name for side in SIDES]
    parser.add_argument("--against", nargs="+", choices=names, default=names, help="what to compare with")
    parser.add_argument("--rounds", type=int, default=2, help="times that each side is run, by turns")
    parser.add_argument("--steps", type=int, default=40, help="optimizer steps of each run")
    parser.add_argument("--after", type=int, default=5, help="steps that are not timed")
    parser.add_argument("--model", type=Path, help="a model's folder, instead of the config's")
    parser.add_argument("--dataset", type=Path, help="a curated data set's folder, instead of the config's")
    parser.add_argument("--smoke", action="store_true", help="3 steps, 1 round: does it run at all?")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "bench", help="for all that is made")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.rounds, arguments.steps, arguments.after = 1, 3, 1
    if not 1 <= arguments.after < arguments.steps:
        parser.error(f"--after={arguments.after} must be at least 1 and less than --steps={arguments.steps}")
    arguments.folder = arguments.folder.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return arguments


def measure(
    arguments: argparse.Namespace, config: TrainConfig, sides: Sequence[Side], model: Path, dataset: Path, seed: int
) -> list[Run]:
    """Every side, by turns: this project with the adapter of the sides that follow, then they."""
    runs: list[Run] = []
    for number in range(1, arguments.rounds + 1):
        for kind in dict.fromkeys(side.kind for side in sides):
            adapter = config.adapter.model_copy(update={"kind": kind})
            job = make_job(
                config.model_copy(update={"adapter": adapter}),
                steps=arguments.steps,
                model=model,
                dataset=dataset,
                seed=seed + number,
                folder=arguments.folder / f"round-{number}",
            )
            runs.append(_run(number, "tunelift", kind, tunelift(job), job, arguments.after))
            runs += [
                _run(number, side.name, kind, side.run(job), job, arguments.after)
                for side in sides
                if side.kind == kind
            ]
    say("Measuring what each has learnt on the validation rows")
    limit = config.eval_rows
    return [
        Run(**vars(run) | {"validation_loss": validation_loss(model, config, run.kind, run.adapter, dataset, limit)})
        for run in runs
    ]


def _run(number: int, side: str, kind: str, measured: Measured, job: Job, after: int) -> Run:
    rate, cpu_rate = measured.rate(tokens(job), after), measured.rate_per_cpu_second(tokens(job), after)
    say(
        f"round {number}: {side:12} {kind:5} {rate:8.1f} supervised tokens/s, {cpu_rate:.1f} per second of CPU time; "
        f"first step after {measured.first_step_seconds:.1f} s, its loss {measured.losses[0]:.4f}"
    )
    return Run(number, side, kind, rate, cpu_rate, measured.first_step_seconds, measured.losses[0], measured.adapter)


@dataclass(frozen=True)
class Against:
    """This project against one side; the rounds in order."""

    speed: tuple[float, ...]
    """Our rate over theirs."""
    cpu_speed: tuple[float, ...]
    """The same per second of CPU time."""
    first_loss: tuple[float, ...]
    """Relative difference of the first step's loss, ours less theirs."""
    quality: tuple[float, ...]
    """Relative difference of the validation loss, ours less theirs: below zero ours is better."""


def against(runs: Sequence[Run], side: Side) -> Against:
    """Round by round; a run is compared with the one of the same round and adapter."""
    ours = {run.round: run for run in runs if run.side == "tunelift" and run.kind == side.kind}
    pairs = [(ours[run.round], run) for run in runs if run.side == side.name]

    def relative(field: str) -> tuple[float, ...]:
        return tuple(getattr(one, field) / getattr(other, field) - 1 for one, other in pairs)

    return Against(
        tuple(one.rate / other.rate for one, other in pairs),
        tuple(one.cpu_rate / other.cpu_rate for one, other in pairs),
        relative("first_loss"),
        relative("validation_loss"),
    )


def report(runs: Sequence[Run], sides: Sequence[Side]) -> int:
    """Print what was found; returns the exit code."""
    print(f"{detect().cores} cores, {detect().name}")
    print(
        f"{'round':>5} {'':12} {'kind':5} {'tokens/s':>9} {'per CPU s':>11} "
        f"{'to 1st step':>11} {'1st loss':>8} {'validation':>10}"
    )
    for run in runs:
        print(
            f"{run.round:>5} {run.side:12} {run.kind:5} {run.rate:>9.1f} {run.cpu_rate:>11.1f} "
            f"{run.first_step_seconds:>9.1f} s {run.first_loss:>8.4f} {run.validation_loss:>10.4f}"
        )
    agree = True
    for side in sides:
        found = against(runs, side)
        same = all(abs(difference) <= SAME_LOSS for difference in found.first_loss)
        agree = agree and same
        print(f"against {side.name} ({side.note}):")
        print(
            f"  speed {statistics.geometric_mean(found.speed):.2f}x, {_met(found, side)}; {_each(found.speed, '.2f')}"
        )
        per_cpu = f"  per second of CPU time {statistics.geometric_mean(found.cpu_speed):.2f}x"
        print(f"{per_cpu}; {_each(found.cpu_speed, '.2f')}")
        print(f"  validation loss {statistics.mean(found.quality):+.1%}; {_each(found.quality, '+.1%')}")
        what = "the same tokens are learnt" if same else "NOT THE SAME ROWS OR TOKENS"
        print(f"  loss of the first step {_each(found.first_loss, '+.2%')}: {what}")
    return 0 if agree else 1


def _met(found: Against, side: Side) -> str:
    speed = statistics.geometric_mean(found.speed)
    enough = speed >= side.at_least and statistics.mean(found.quality) <= NO_WORSE
    return f"{'as' if enough else 'NOT as'} promised (at least {side.at_least:.1f}x, loss at most {NO_WORSE:.0%} worse)"


def _each(values: Sequence[float], form: str) -> str:
    return "by round " + ", ".join(format(value, form) for value in values)


if __name__ == "__main__":
    sys.exit(main())
