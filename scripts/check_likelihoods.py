"""Compare log-likelihoods through vLLM with those of lm-eval's HF backend, on 200 MMLU items.

    python scripts/check_likelihoods.py [--model runs/models/smollm2-135m-instruct] [--items 200] [--bf16-items 24]

The evaluate stage measures every choice of every item, lm-eval gets the same contexts and continuations; in float32
and in bf16, the latter on fewer items where `--bf16-items` says so: a CPU that emulates bf16 takes an hour for 200. In
float32 the two compute the same, so any difference is a fault. In bf16 each rounds in its own order, so each is also
compared with float32: what matters is that this side is about as near to it. Exit code 1 when a float32 difference is
beyond 0.01 nats, or the mean bf16 difference of a token is, or this side's bf16 is half as far again from float32 as
lm-eval's.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarks.side import lm_eval
from fetch_benchmarks import ITEMS, chosen, make
from fetch_benchmarks import SEED as FETCH_SEED
from tunelift.artifacts.jsonl import read_lines
from tunelift.config.evaluation import ArmConfig, EvaluateConfig
from tunelift.config.schema import EngineConfig
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import TuneliftError
from tunelift.runtime import chat
from tunelift.runtime.hardware import detect
from tunelift.stages.evaluate import evaluate
from tunelift.stages.evaluate.prompts import as_text
from tunelift.tasks.likelihood import score_likelihood
from tunelift.tasks.task import Task, load_task

REPOSITORY = Path(__file__).resolve().parents[1]
SEED, BATCH_SIZE = 17, 16
WITHIN_NATS = 0.01
FURTHER = 1.5
"""Two roundings of one size differ by a few percent over some hundred choices; a fault is larger."""
Logprobs = Sequence[Sequence[float]]
"""Of each item one for each choice, in nats, summed over the choice's tokens."""


@dataclass(frozen=True)
class Agreement:
    """How two sets of log-probabilities of the same choices compare, in nats."""

    mean: float
    """Of the differences of choices, with their signs: a bias."""
    size: float
    """Mean size of the differences of choices."""
    largest: float
    token: float
    """Sum of the differences over the number of tokens: the bias of a token."""
    token_size: float
    """Mean size of a choice's difference, for each of its tokens."""
    same: int
    """Items with the same scores."""
    items: int
    choices: int


def main() -> int:
    """Measure and compare; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare log-likelihoods with lm-eval's HF backend.")
    usual = REPOSITORY / "runs" / "models" / "smollm2-135m-instruct"
    parser.add_argument("--model", type=Path, default=usual, help="a model's folder")
    parser.add_argument("--items", type=int, default=200, help="MMLU questions")
    parser.add_argument("--bf16-items", type=int, help="so many of them in bf16; all if not said")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "bench", help="for all that is made")
    arguments = parser.parse_args()
    folder, model = arguments.folder.resolve(), arguments.model.resolve()
    try:
        [mmlu] = chosen(["mmlu"])
        made = make(mmlu, folder / "tasks", REPOSITORY / "runs" / "wheels", max(ITEMS, arguments.items), FETCH_SEED)
        task = load_task(made).first(arguments.items)
        tasks = {
            "float32": task,
            "bfloat16": replace(task, items=task.items[: arguments.bf16_items or arguments.items]),
        }
        lengths = choice_tokens(task, model)
        here = {dtype: ours(some, model, dtype, folder / f"likelihoods-{dtype}") for dtype, some in tasks.items()}
        there = {dtype: theirs(some, model, dtype, folder) for dtype, some in tasks.items()}
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    found = {
        "here against lm-eval, float32": agreement(task, lengths, here["float32"], there["float32"]),
        "here against lm-eval, bf16": agreement(task, lengths, here["bfloat16"], there["bfloat16"]),
        "here, bf16 against float32": agreement(task, lengths, here["bfloat16"], here["float32"]),
        "lm-eval, bf16 against float32": agreement(task, lengths, there["bfloat16"], there["float32"]),
    }
    return report(found)


def report(found: Mapping[str, Agreement]) -> int:
    """Print the comparisons; 1 when they are not as they should be."""
    print("differences of log-probabilities in nats")
    heads = f"{'mean':>9} {'size':>8} {'largest':>8} {'a token':>9} {'size':>8}"
    print(f"{'':30} {'choices':>7} {heads} {'same scores':>14}")
    for name, one in found.items():
        figures = f"{one.mean:+9.5f} {one.size:8.5f} {one.largest:8.5f} {one.token:+9.5f} {one.token_size:8.5f}"
        print(f"{name:30} {one.choices:>7} {figures} {one.same:>5} of {one.items}")
    exact, rounded, here, there = found.values()
    is_good = exact.largest <= WITHIN_NATS and abs(rounded.token) <= WITHIN_NATS and here.size <= FURTHER * there.size
    return 0 if is_good else 1


def choice_tokens(task: Task, model: Path) -> list[list[int]]:
    """How many tokens each choice adds to its context."""
    tokenizer = chat.load_tokenizer(model)

    def length(text: str) -> int:
        return len(tokenizer.encode(text))

    return [
        [length(as_text(item.prompt) + choice) - length(as_text(item.prompt)) for choice in item.choices]
        for item in task.items
    ]


def ours(task: Task, model: Path, dtype: str, out: Path) -> list[list[float]]:
    """Each item's log-probabilities, one a choice, by the evaluate stage."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    settings = EngineConfig.model_validate({"dtype": dtype})
    with VllmEngine(
        model, settings, device=detect().device, seed=SEED, served_name="check", log=out / "vllm.log"
    ) as engine:
        evaluate(
            EvaluateConfig(),
            arm=ArmConfig(name="base"),
            tasks=[task],
            examples=[],
            engine=engine,
            tokenizer=model,
            model_card={},
            seed=SEED,
            out=out,
        )
    return [json.loads(line)["logprobs"] for line in read_lines(out / "samples.jsonl")]


def theirs(task: Task, model: Path, dtype: str, folder: Path) -> list[list[float]]:
    """The same by lm-eval."""
    pairs = [[as_text(item.prompt), choice] for item in task.items for choice in item.choices]
    job = {
        "model": str(model),
        "dtype": dtype,
        "kind": "loglikelihood",
        "requests": pairs,
        "batch_size": BATCH_SIZE,
    }
    answers = iter(lm_eval(folder, job)["answers"])
    return [[next(answers)[0] for _ in item.choices] for item in task.items]


def agreement(task: Task, lengths: Sequence[Sequence[int]], first: Logprobs, second: Logprobs) -> Agreement:
    """Compare choice by choice, and the scores that follow, for the items that both have."""
    items = min(len(first), len(second))
    first, second = first[:items], second[:items]
    differences = [
        one - other for ones, others in zip(first, second, strict=True) for one, other in zip(ones, others, strict=True)
    ]
    tokens = [length for of_item in lengths[:items] for length in of_item]
    n = len(differences)
    return Agreement(
        mean=sum(differences) / n,
        size=sum(map(abs, differences)) / n,
        largest=max(map(abs, differences)),
        token=sum(differences) / sum(tokens),
        token_size=sum(abs(one) / length for one, length in zip(differences, tokens, strict=True)) / n,
        same=sum(
            score_likelihood(ones, item, task) == score_likelihood(others, item, task)
            for ones, others, item in zip(first, second, task.items[:items], strict=True)
        ),
        items=items,
        choices=n,
    )


if __name__ == "__main__":
    sys.exit(main())
