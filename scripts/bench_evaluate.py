"""Compare the evaluate stage with lm-eval's HF backend: the same 300 prompts, weights, precision and cores, greedy.

    python scripts/bench_evaluate.py --model runs/store/merge/<fingerprint> [--items 300] [--prompt instructed]

Items per second of both, engine start included: of the evaluate stage from its first line to its last, of lm-eval from
its import to its last answer, with the fastest of the batch sizes given. Each is tried in a process of its own: oneDNN
prepares every new shape once, so that what ran before in a process would change what is measured.

Then the outputs, item by item: where they differ, the difference between the log-probabilities of the first two tokens
that differ, of the same weights in float32. Greedy decoding in bf16 may take either of two tokens that are nearly as
likely.

The prompts are those of evals/tool_calls_heldout and of rows of data/tool_calls. lm-eval gets an environment of its own
in runs/bench, which shares torch and transformers with this one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarks.side import lm_eval
from tunelift.artifacts.jsonl import read_lines
from tunelift.config.evaluation import ArmConfig, EvaluateConfig
from tunelift.config.schema import EngineConfig
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import TuneliftError
from tunelift.runtime import chat, turns
from tunelift.runtime.hardware import detect
from tunelift.stages.evaluate import evaluate
from tunelift.tasks.scorers import score
from tunelift.tasks.task import Task, load_task

REPOSITORY = Path(__file__).resolve().parents[1]
HELDOUT = REPOSITORY / "evals" / "tool_calls_heldout"
ROWS = REPOSITORY / "data" / "tool_calls" / "raw" / "messages.jsonl"
MAX_TOKENS, SEED = 96, 17
DTYPE: Literal["bfloat16", "float32"] = "bfloat16" if detect().native_bf16 else "float32"
"""As a run on this machine has it."""
NEAR_TIE_NATS = 0.25
"""bf16 has 8 significant bits, so logits from 16 to 32 are multiples of 0.125: two of them, for two roundings."""
TASK = """\
name: bench
version: 1
description: Prompts of the tool-call task.
licence: Apache-2.0
items_sha256: {sha256}
prompt:
  system: {system}
  user: "{{text}}"
scorers: [exact_match, valid_json, field_f1]
primary: exact_match
max_tokens: {max_tokens}
"""


@dataclass(frozen=True)
class Timing:
    """Of the evaluate stage, in seconds."""

    whole: float
    """From its first line to its last."""
    asking: float
    """While requests were on their way."""


@dataclass(frozen=True)
class Difference:
    """An item whose outputs differ."""

    id: str
    ours: str
    theirs: str
    gap: float
    """Between the log-probabilities, in nats, of the first tokens that differ."""


def main() -> int:
    """Measure and compare; returns the exit code: 1 when outputs differ that are no near-ties."""
    parser = argparse.ArgumentParser(description="Compare the evaluate stage with lm-eval's HF backend.")
    parser.add_argument("--model", type=Path, required=True, help="a merged model's folder")
    parser.add_argument("--items", type=int, default=300, help="prompts")
    parser.add_argument(
        "--prompt",
        choices=("trained", "instructed"),
        default="trained",
        help="the short prompt of a tuned model, or the whole instruction with all tools that an untuned one needs",
    )
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[16, 32, 64, 128], help="of lm-eval, to try")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "bench", help="for all that is made")
    arguments = parser.parse_args()
    try:
        folder, model = arguments.folder.resolve(), arguments.model.resolve()
        task = load_task(write_task(folder / "task", arguments.items, arguments.prompt))
        samples, timing = ours(task, model, folder / "evaluation")
        prompts = rendered(task, model)
        runs = {size: lm_eval(folder, job(prompts, model, size)) for size in arguments.batch_sizes}
        best = min(runs, key=lambda size: runs[size]["seconds"])
        differences = compare(samples, prompts, runs[best]["answers"], model)
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    report(task, samples, timing, runs, best, differences)
    return 0 if all(difference.gap <= NEAR_TIE_NATS for difference in differences) else 1


def write_task(folder: Path, count: int, prompt: str) -> Path:
    """A task of `count` prompts: half of them held out, the rest from the training rows."""
    held_out = [json.loads(line) for line in read_lines(HELDOUT / "items.jsonl")]
    items = [
        {"id": item["id"], "text": f"Today is {item['today']}.\n{item['request']}", "accepted": item["accepted"]}
        for item in held_out[: (count + 1) // 2]
    ]
    asked = {item["text"] for item in items}
    rows = [row for row in training_items(ROWS.read_text(encoding="utf-8")) if row["text"] not in asked]
    items += rows[: count - len(items)]
    content = "".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "items.jsonl").write_text(content, encoding="utf-8")
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    first = load_task(HELDOUT).items[0]
    system = (first.instructed if prompt == "instructed" else first.prompt)[0]["content"]
    (folder / "task.yaml").write_text(
        TASK.format(sha256=sha256, max_tokens=MAX_TOKENS, system=json.dumps(system)), encoding="utf-8"
    )
    return folder


def training_items(text: str) -> list[dict[str, Any]]:
    """The well-formed rows of a raw file, each request once; its flawed ones have no answer to go by."""
    items: dict[str, dict[str, Any]] = {}
    for number, line in enumerate(text.split("\n"), 1):
        try:
            system, user, reply = json.loads(line)["messages"]
            accepted = json.loads(reply["content"])
            if [system["role"], user["role"], reply["role"]] == ["system", "user", "assistant"] and "tool" in accepted:
                items.setdefault(
                    user["content"], {"id": f"row-{number:04}", "text": user["content"], "accepted": [accepted]}
                )
        except (ValueError, KeyError, TypeError):
            continue
    return list(items.values())


def ours(task: Task, model: Path, out: Path) -> tuple[list[dict[str, Any]], Timing]:
    """The evaluate stage's samples, and what they took."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    started = time.perf_counter()
    with VllmEngine(
        model, EngineConfig(dtype=DTYPE), device=detect().device, seed=SEED, served_name="bench", log=out / "vllm.log"
    ) as engine:
        evaluate(
            EvaluateConfig(),
            arm=ArmConfig(name="tuned", model="tuned", prompt="trained"),
            tasks=[task],
            examples=[],
            engine=engine,
            tokenizer=model,
            model_card={},
            seed=SEED,
            out=out,
        )
        seconds = time.perf_counter() - started
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    samples = [json.loads(line) for line in read_lines(out / "samples.jsonl")]
    return samples, Timing(seconds, summary["tasks"][task.name]["asking"]["seconds"])


def rendered(task: Task, model: Path) -> list[str]:
    """The prompts as text, through the model's chat template."""
    tokenizer = chat.load_tokenizer(model)
    return [turns.render(tokenizer, list(item.prompt), None, generate=True) for item in task.items]


def job(prompts: Sequence[str], model: Path, batch_size: int) -> dict[str, Any]:
    """The same for lm-eval."""
    how = {"until": [], "max_gen_toks": MAX_TOKENS, "do_sample": False}
    return {
        "model": str(model),
        "dtype": DTYPE,
        "kind": "generate_until",
        "requests": [[prompt, how] for prompt in prompts],
        "batch_size": batch_size,
    }


def compare(
    samples: Sequence[dict[str, Any]], prompts: Sequence[str], theirs: Sequence[str], model: Path
) -> list[Difference]:
    """The items whose outputs differ, with how near a tie the first differing token is."""
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = chat.load_tokenizer(model)
    for sample, prompt in zip(samples, prompts, strict=True):
        asked = len(tokenizer.encode(prompt, add_special_tokens=False))
        assert sample["tokens_in"] == asked, f"{sample['id']}: {sample['tokens_in']} tokens here, {asked} for lm-eval"
    differing = [
        (sample, prompt, their)
        for sample, prompt, their in zip(samples, prompts, theirs, strict=True)
        if whole(sample["output"]) != whole(their)
    ]
    if not differing:
        return []
    network = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    differences = []
    for sample, prompt, their in differing:
        ours_ids, their_ids = (
            [*tokenizer.encode(text, add_special_tokens=False), tokenizer.eos_token_id]
            for text in (sample["output"], their)
        )
        shared = first_difference(ours_ids, their_ids)
        context = tokenizer.encode(prompt, add_special_tokens=False) + ours_ids[:shared]
        with torch.no_grad():
            logprobs = torch.log_softmax(network(torch.tensor([context])).logits[0, -1], dim=-1)
        gap = abs(float(logprobs[ours_ids[shared]] - logprobs[their_ids[shared]]))
        differences.append(Difference(sample["id"], sample["output"], their, gap))
    return differences


def whole(text: str) -> str:
    """Less a character that the limit on tokens cut: lm-eval shows its first bytes as U+FFFD, vLLM leaves them out."""
    return text.strip().rstrip("\ufffd")


def first_difference(first: Sequence[int], second: Sequence[int]) -> int:
    """Index of the first tokens that differ; both end with the end token, so there is one unless they are equal."""
    return next(index for index, (one, other) in enumerate(zip(first, second, strict=False)) if one != other)


def report(
    task: Task,
    samples: Sequence[dict[str, Any]],
    timing: Timing,
    runs: Mapping[int, dict[str, Any]],
    best: int,
    differences: Sequence[Difference],
) -> None:
    """Print what was found."""
    theirs = runs[best]
    n, total = len(samples), theirs["start_seconds"] + theirs["seconds"]
    others_tried = ", ".join(f"{size}: {run['seconds']:.1f} s" for size, run in runs.items())
    print(f"{n} items, at most {MAX_TOKENS} tokens each, {detect().cores} cores, {detect().name}, {DTYPE}")
    for what, took in {
        "evaluate stage, with engine start": timing.whole,
        "evaluate stage, asking alone": timing.asking,
        "lm-eval, with import and model load": total,
        "lm-eval, asking alone": theirs["seconds"],
    }.items():
        print(f"{what:36} {took:7.1f} s {n / took:6.2f} items/s")
    print(f"ratio {total / timing.whole:.2f}; asking alone {theirs['seconds'] / timing.asking:.2f}")
    print(f"lm-eval's batch size {best}, the fastest ({others_tried})")
    by_id = {item.id: item for item in task.items}
    others = {
        sample["id"]: score(their, by_id[sample["id"]], task)
        for sample, their in zip(samples, theirs["answers"], strict=True)
    }
    for metric in task.metrics:
        alike = sum(sample["scores"][metric] == others[sample["id"]][metric] for sample in samples)
        mean, other = (sum(values) / n for values in _both(samples, others, metric))
        print(f"{metric:12} {mean:.4f} here, {other:.4f} with lm-eval; the same for {alike} of {n} items")
    ties = sum(difference.gap <= NEAR_TIE_NATS for difference in differences)
    equal, other = n - len(differences), len(differences) - ties
    print(f"{equal} outputs are equal, {ties} differ from a near-tie on, {other} otherwise")
    for difference in sorted(differences, key=lambda difference: difference.gap):
        print(f"  {difference.id}: {difference.gap:.3f} nats")
        print(f"    here    {difference.ours}\n    lm-eval {difference.theirs}")


def _both(
    samples: Sequence[dict[str, Any]], others: dict[str, dict[str, float]], metric: str
) -> tuple[list[float], list[float]]:
    return [sample["scores"][metric] for sample in samples], [scores[metric] for scores in others.values()]


if __name__ == "__main__":
    sys.exit(main())
