"""One arm's evaluation: prompts, answers, scores, and a summary with intervals. Resumable by item."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tunelift.artifacts.records import digest
from tunelift.config.schema import Arm, EvaluateConfig
from tunelift.engines.client import Client, Reply, Request
from tunelift.errors import MachineError, UserError
from tunelift.runtime import console
from tunelift.stages.evaluate import prompts, summary
from tunelift.stages.evaluate.samples import Journal, Key, Sample
from tunelift.tasks.scorers import score
from tunelift.tasks.task import DECODING, Item, Task, distinct

REFUSED = re.compile(r"HTTP 4(?!08|09|29)\d\d")
"""How the error of a request begins that is wrong in itself, whatever the engine's state."""


class Engine(Protocol):
    """An OpenAI-compatible endpoint that starts when it is needed."""

    served_name: str

    @property
    def url(self) -> str:
        """Base of the endpoint, ending in `/v1`; valid once started."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """What answers, as JSON."""
        ...

    def start(self) -> None:
        """Be ready for requests."""
        ...

    def check(self) -> None:
        """Raise MachineError, with the reason, if it was started and has ended."""
        ...


def evaluate(
    config: EvaluateConfig,
    *,
    arm: Arm,
    tasks: Sequence[Task],
    examples: Sequence[Mapping[str, Any]],
    engine: Engine,
    model_card: dict[str, Any],
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Ask every item that has no answer yet, and write samples.jsonl and summary.json into `out`.

    Args:
        arm: Which prompt is used; the weights are the engine's.
        examples: Training rows, for the `prompted` arm.
        model_card: Put into the summary.

    Raises:
        UserError: two tasks have one name, or the engine refused every request.
        MachineError: the engine ended, or no request at all succeeded.
    """
    tasks = distinct(task.first(config.max_items) for task in tasks)
    shots = prompts.choose_examples(examples, config.few_shot, seed) if arm == "prompted" else []
    if arm == "prompted" and len(shots) < config.few_shot:
        console.warn(f"evaluate.few_shot={config.few_shot}, but the training split has {len(shots)} rows to show")
    asked = {
        (task.name, item.id): _Asked(task, item, prompts.build(item, arm, shots))
        for task in tasks
        for item in task.items
    }
    with Journal(out / "samples.jsonl", {key: question.prompt for key, question in asked.items()}) as journal:
        missing = {key: question for key, question in asked.items() if key not in journal.samples}
        resumed = len(asked) - len(missing)
        if missing:
            _ask(config, arm, missing, journal, engine, seed, resumed)
        samples = [journal.samples[key] for key in asked]
        _check_failures(samples)
        journal.finish(samples)
    description = prompts.describe(arm, len(shots))
    results = summary.write(
        out / "summary.json",
        arm=arm,
        model=model_card,
        prompt=description,
        tasks=tasks,
        samples=samples,
        decoding=DECODING | {"seed": seed},
        engine=dict(engine.description),
        seed=seed,
    )
    return {
        # What was said and how it was judged; a rerun differs in its latencies.
        "content": digest([[sample[key] for key in ("task", "id", "arm", "output", "scores")] for sample in samples]),
        "prompt": description,
        "examples": [str(shot["id"]) for shot in shots],
        "failed_requests": sum(1 for sample in samples if sample["error"]),
        "primary": {task.name: results["tasks"][task.name]["metrics"][task.primary] for task in tasks},
    }


class _Asked:
    """An item of a task as this arm sees it."""

    def __init__(self, task: Task, item: Item, prompt: list[dict[str, Any]]) -> None:
        self.task, self.item, self.prompt = task, item, prompt

    def sample(self, arm: Arm, reply: Reply) -> Sample:
        """The answer with its scores; a failed request scores 0 everywhere."""
        scores = dict.fromkeys(self.task.scorers, 0.0) if reply.error else score(reply.text, self.item, self.task)
        return {
            "id": self.item.id,
            "task": self.task.name,
            "arm": arm,
            "prompt": self.prompt,
            "expected": list(self.item.accepted),
            "output": reply.text,
            "scores": scores,
            "tokens_in": reply.tokens_in,
            "tokens_out": reply.tokens_out,
            "seconds": round(reply.seconds, 4),
            "finish_reason": reply.finish_reason,
            "cluster": self.item.cluster,
            "tags": list(self.item.tags),
            "error": reply.error,
        }


def _ask(
    config: EvaluateConfig,
    arm: Arm,
    missing: Mapping[Key, _Asked],
    journal: Journal,
    engine: Engine,
    seed: int,
    resumed: int,
) -> None:
    engine.start()
    client = Client(
        engine.url,
        engine.served_name,
        concurrency=config.concurrency,
        timeout_seconds=config.request_timeout_seconds,
        decoding=DECODING,
        seed=seed,
    )
    keys = {str(number): key for number, key in enumerate(missing)}
    requests = [
        Request(number, missing[key].prompt, missing[key].task.max_tokens, missing[key].item.tools)
        for number, key in keys.items()
    ]
    with console.progress(f"evaluate {arm}", total=resumed + len(missing), unit="items", done=resumed) as bar:

        def on_reply(reply: Reply) -> None:
            journal.add(missing[keys[reply.id]].sample(arm, reply))
            bar.advance()

        try:
            client.generate(requests, on_reply)
        except MachineError:
            engine.check()  # Raises with the engine's own last words, if it has ended.
            raise


def _check_failures(samples: Sequence[Sample]) -> None:
    failures = [sample for sample in samples if sample["error"]]
    if failures and len(failures) == len(samples):
        first = f"the first with: {failures[0]['error']}"
        if all(REFUSED.match(sample["error"]) for sample in failures):
            raise UserError(
                f"The engine refused all {len(samples)} requests, {first}",
                remedy="If the prompts are too long, lower evaluate.few_shot or raise engine.max_model_len.",
            )
        raise MachineError(
            f"None of {len(samples)} requests succeeded; they failed, {first}",
            remedy="If requests timed out, lower evaluate.concurrency or raise evaluate.request_timeout_seconds.",
        )
    if failures:
        console.warn(
            f"{len(failures)} of {len(samples)} requests failed and score 0; the first with: {failures[0]['error']}"
        )
