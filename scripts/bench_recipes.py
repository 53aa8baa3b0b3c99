"""Measure training on this machine, recipe by recipe: tokens a second, MFU and peak memory, as a Markdown table.

    python scripts/bench_recipes.py [configs/quickstart.yaml …] [--gpu rtx-4090] [--full-rows] [--set key=value …]

Without a config: the quickstart on a CPU; on a GPU those of the Llama 3.1 8B recipes whose plan fits it, over the
random checkpoint of scripts/make_big_model.py if it is there, since speed and memory do not depend on the weights.

Each recipe's own train stage runs in a process of its own on its own curated data, or with `--full-rows` on rows that
are as long as may be, as the plan has them. With `--gpu` the settings are those that a recipe gets on that card, so
that the plan for a small card can be checked on a large one.

Tokens a second are those from the end of step `--after` on. MFU is model FLOPs (tunelift.runtime.flops) over the
fastest matrix product that was measured here (tunelift.runtime.peak). The plan is tunelift.runtime.memory's for the
longest row and the supervised share of the rows that were seen: its tensors stand beside the peak of PyTorch's
allocator on a GPU. On a CPU the peak is the whole process's, libraries and loading included, which is no part of the
plan.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarks.training import Job, Measured, make_job, tokens, tunelift
from tunelift.config.load import load_config
from tunelift.config.schema import TrainConfig
from tunelift.errors import TuneliftError
from tunelift.pipeline import open_run
from tunelift.planning import settings_on
from tunelift.runtime import chat, memory
from tunelift.runtime.console import say
from tunelift.runtime.flops import training_flops
from tunelift.runtime.hardware import detect
from tunelift.runtime.peak import matmul_flops_per_second
from tunelift.runtime.shape import read_shape

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

REPOSITORY = Path(__file__).resolve().parents[1]
CONFIGS = REPOSITORY / "configs"
BIG_MODEL = REPOSITORY / "runs" / "models" / "llama-3.1-8b-random"
GPU_RECIPES = "llama3.1-8b*.yaml"
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school")


@dataclass(frozen=True)
class Line:
    """What one recipe did."""

    recipe: str
    setting: str
    tokens_per_second: float
    """All tokens but padding."""
    supervised_per_second: float
    mfu: float
    planned_gib: float
    """Tensors, by the plan."""
    peak_memory_gib: float
    first_step_seconds: float


def main() -> int:
    """Measure and write the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure training on this machine, recipe by recipe.")
    parser.add_argument("configs", type=Path, nargs="*", help="recipes; without any, those for this machine")
    parser.add_argument("--gpu", metavar="NAME", help="settings as this card gets them; it runs on this machine's")
    parser.add_argument("--full-rows", action="store_true", help="rows of train.max_length tokens, half a reply")
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", help="config fields to set in all")
    parser.add_argument("--steps", type=int, default=30, help="optimizer steps of each recipe")
    parser.add_argument("--after", type=int, default=5, help="steps that are not timed")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "bench", help="for all that is made")
    arguments = parser.parse_args()
    if not 1 <= arguments.after < arguments.steps:
        parser.error(f"--after={arguments.after} must be at least 1 and less than --steps={arguments.steps}")
    machine, folder = detect(), arguments.folder.resolve()
    try:
        paths = arguments.configs or recipes(machine.device)
        if not arguments.configs:
            paths = [path for path in paths if fits_here(path, arguments.set)]
        lines = [measure(path, arguments, folder) for path in paths]
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    table = as_markdown(lines, f"{machine.name}, {machine.cores} cores, {machine.memory_gib:g} GiB")
    (folder / "training.md").write_text(table, encoding="utf-8")
    print(table)
    return 0


def recipes(device: str) -> list[Path]:
    """What to measure where nobody said."""
    return [CONFIGS / "quickstart.yaml"] if device == "cpu" else sorted(CONFIGS.glob(GPU_RECIPES))


def overrides_of(path: Path, overrides: Sequence[str]) -> list[str]:
    """Config fields to set; the 8B recipes get the random checkpoint if that is there."""
    random_one = path.match(GPU_RECIPES) and BIG_MODEL.exists()
    instead = [f"model.id={BIG_MODEL}", "model.revision=null"] if random_one else []
    return [*instead, *overrides]


def fits_here(path: Path, overrides: Sequence[str]) -> bool:
    """By the plan, with every row as long as may be; says so where not. A CPU's memory is no matter here."""
    machine = detect()
    if machine.device == "cpu":
        return True
    run = open_run(path, overrides_of(path, overrides))
    plan = memory.training(run.config.train, device=machine.device)
    fitting = memory.fits(read_shape(run.base.path), plan, machine.memory_gib)
    if not fitting:
        say(f"{path.name} is left out: its plan does not fit {machine.memory_gib:g} GiB.")
    return fitting


def measure(path: Path, arguments: argparse.Namespace, folder: Path) -> Line:
    """Train for some steps by a recipe."""
    overrides = overrides_of(path, arguments.set)
    run = open_run(path, overrides)
    model, work = run.base.path.resolve(), folder / "recipes" / run.config.name
    config = settings_on(load_config(path, overrides), arguments.gpu) if arguments.gpu else run.config.train
    dataset = write_full_rows(model, config, work / "rows") if arguments.full_rows else run.make_curate().path.resolve()
    job = make_job(config, steps=arguments.steps, model=model, dataset=dataset, seed=run.config.seed, folder=work)
    name = f"{run.config.name} on {arguments.gpu}" if arguments.gpu else run.config.name
    return line(name, job, tunelift(job), arguments.after, matmul_flops_per_second(detect().device))


def write_full_rows(model: Path, config: TrainConfig, folder: Path) -> Path:
    """A data set for two steps, of rows that are all as long as may be, give or take a word."""
    tokenizer, words = chat.load_tokenizer(model), random.Random(0)
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in {"train": 2 * config.global_batch_size, "validation": 2, "test": 2}.items():
        lines = [
            json.dumps(full_row(tokenizer, config.max_length, words) | {"id": f"{split}-{n}"}) for n in range(rows)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def full_row(tokenizer: PreTrainedTokenizerFast, length: int, words: random.Random) -> dict[str, Any]:
    """A conversation of at most so many tokens that one more word each way would exceed."""
    request, reply = (words.choices(WORDS, k=length) for _ in range(2))

    def with_words(count: int) -> dict[str, Any]:
        texts = {"user": " ".join(request[:count]), "assistant": " ".join(reply[:count])}
        return {"messages": [{"role": role, "content": text} for role, text in texts.items()]}

    def fits(count: int) -> bool:
        [row] = chat.supervise(tokenizer, with_words(count)["messages"], None)
        return len(row.input_ids) <= length

    too_many = bisect_left(range(1, length), True, key=lambda count: not fits(count)) + 1
    return with_words(too_many - 1)


def planned_gib(job: Job) -> float:
    """The tensors of the highest moment, for the longest row that was seen."""
    rows = [row for step in job.steps for row in step]
    share = sum(tokens(job)) / sum(map(len, rows))
    plan = memory.training(job.config, device=detect().device, supervised_share=share)
    longest = plan.of_size(plan.rows, max(map(len, rows)))
    return memory.peak(read_shape(job.model), longest).tensors / 2**30


def line(name: str, job: Job, measured: Measured, after: int, peak_flops_per_second: float) -> Line:
    """A run in figures."""
    config, details = job.config, json.loads((measured.adapter.parent / "training.json").read_text())
    shape, recomputed = read_shape(job.model), bool(config.gradient_checkpointing)
    timed, seconds = job.steps[after:], measured.seconds[-1] - measured.seconds[after - 1]
    flops = sum(
        training_flops(
            shape, [len(row) for row in rows], scored, details["trainable_parameters"], checkpointing=recomputed
        ).model
        for rows, scored in zip(timed, tokens(job)[after:], strict=True)
    )
    return Line(
        recipe=name,
        setting=f"{config.adapter.kind}, {config.precision}, {config.attention}, "
        f"{config.micro_batch_size} × {config.global_batch_size // int(config.micro_batch_size)} rows"
        + (", checkpointing" if recomputed else ""),
        tokens_per_second=sum(len(row) for rows in timed for row in rows) / seconds,
        supervised_per_second=measured.rate(tokens(job), after),
        mfu=flops / seconds / peak_flops_per_second,
        planned_gib=planned_gib(job),
        peak_memory_gib=details["peak_memory_gib"],
        first_step_seconds=measured.first_step_seconds,
    )


def as_markdown(lines: Sequence[Line], machine: str) -> str:
    """The table."""
    head = f"Training on {machine}\n\n"
    head += "| recipe | setting | tokens/s | supervised tokens/s | MFU | planned | peak memory | first step after |\n"
    head += "|---|---|---:|---:|---:|---:|---:|---:|\n"
    return head + "".join(
        f"| {row.recipe} | {row.setting} | {row.tokens_per_second:,.0f} | {row.supervised_per_second:,.0f} "
        f"| {row.mfu:.1%} | {row.planned_gib:.1f} GiB | {row.peak_memory_gib:.1f} GiB "
        f"| {row.first_step_seconds:.0f} s |\n"
        for row in lines
    )


if __name__ == "__main__":
    sys.exit(main())
