"""Choosing an arm's prompt among declared candidates, by measurement on data that no claim rests on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunelift.config.evaluation import PromptSearchConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.stages.evaluate.asking import Asker
from tunelift.stages.evaluate.prompts import Prompting, Row, choose_examples
from tunelift.stages.evaluate.samples import Journal, Question, Sample, scores_of
from tunelift.tasks.statistics import LEAST_TO_CHOOSE_BY
from tunelift.tasks.task import Task

MIN_ITEMS = LEAST_TO_CHOOSE_BY
SHOWN_INSTRUCTION = 60
"""Characters of an instruction in the table on the console."""


@dataclass(frozen=True)
class Candidate:
    """A prompt and how well it did."""

    prompting: Prompting
    mean: float
    n: int
    failed: int

    def to_json(self) -> dict[str, Any]:
        """For the summary."""
        return {
            "instruction": self.prompting.instruction,
            "few_shot": len(self.prompting.shots),
            "mean": self.mean,
            "n": self.n,
            "failed_requests": self.failed,
        }


def choose_prompt(
    config: PromptSearchConfig,
    *,
    arm: str,
    selection: Task,
    tasks: Sequence[Task],
    examples: Sequence[Row],
    asker: Asker,
    seed: int,
    out: Path,
) -> tuple[Prompting, dict[str, Any]]:
    """Ask every candidate the same items of `selection`, in selection.jsonl, and take the one with the best mean.

    Where there are more than `max_items`, the seed draws them.

    Among equals the one with fewer failed requests wins, then fewer examples, then the one declared first.

    Returns:
        The chosen prompt; and for the summary `candidates`, and `chosen`, the place of the chosen one among them.

    Raises:
        UserError: too few items are left once those that also stand in `tasks` are taken out.
    """
    unclaimed = without_items_of(tasks, selection)
    if left_out := len(selection.items) - len(unclaimed.items):
        console.warn(f"{left_out} items of {selection.name} also stand in evaluate.tasks; no prompt is chosen on them")
    task = unclaimed.first(config.max_items, seed)
    promptings = _candidates(config, examples, seed)
    names = [f"{arm} candidate {number}" for number, _ in enumerate(promptings, 1)]
    questions = [
        Question(name, task, item, prompting.build(task, item))
        for name, prompting in zip(names, promptings, strict=True)
        for item in task.items
    ]
    with Journal(out / "selection.jsonl", questions) as journal:
        asker.ask(questions, journal, f"choose the prompt of {arm}")
        samples = journal.finish(questions)
    candidates = [
        _judge(task, prompting, [sample for sample in samples if sample["arm"] == name], among=samples)
        for name, prompting in zip(names, promptings, strict=True)
    ]
    sign = 1 if task.scorer(task.primary).lower_is_better else -1

    def rank(place: int) -> tuple[float, int, int, int]:
        one = candidates[place]
        return sign * round(one.mean, 9), one.failed, len(one.prompting.shots), place

    chosen = min(range(len(candidates)), key=rank)
    _tell(arm, task, candidates, chosen)
    return candidates[chosen].prompting, {
        "on": task.name,
        "metric": task.primary,
        "candidates": [candidate.to_json() for candidate in candidates],
        "chosen": chosen,
    }


def _candidates(config: PromptSearchConfig, examples: Sequence[Row], seed: int) -> list[Prompting]:
    """Each instruction, the task's own first, with each number of examples there are enough rows for."""
    shots = choose_examples(examples, max(config.few_shot), seed)
    if len(shots) < max(config.few_shot):
        console.warn(f"search tries {max(config.few_shot)} examples, but the training split has {len(shots)} to show")
    numbers = dict.fromkeys(min(number, len(shots)) for number in config.few_shot)
    instructions = dict.fromkeys((None, *config.instructions))
    return [
        Prompting(trained=False, instruction=instruction, shots=tuple(shots[:number]))
        for instruction in instructions
        for number in numbers
    ]


def without_items_of(tasks: Sequence[Task], selection: Task) -> Task:
    """The task to choose on, asked like a target.

    What is chosen on the very items that are claimed on proves nothing, under whatever name, path or template they
    stand there.

    Raises:
        UserError: too few items are left.
    """
    claimed = {item.question_digest for task in tasks for item in task.items}
    items = tuple(item for item in selection.items if item.question_digest not in claimed)
    if len(items) < MIN_ITEMS:
        raise UserError(
            f"{selection.name} has {len(items)} items that no task of evaluate.tasks has; "
            f"choosing a prompt takes {MIN_ITEMS}.",
            remedy="Search on another task, raise curate.split.validation, or declare the arm's few_shot instead.",
        )
    return replace(selection, items=items, role="target")


def _judge(task: Task, prompting: Prompting, samples: Sequence[Sample], among: Sequence[Sample]) -> Candidate:
    """A request that failed counts as the worst answer to any candidate, so that failing is never of use."""
    scores = scores_of(task.scorer(task.primary), samples, among)
    failed = sum(1 for sample in samples if sample["error"])
    return Candidate(prompting, sum(scores) / len(scores), len(scores), failed)


def _tell(arm: str, task: Task, candidates: Sequence[Candidate], chosen: int) -> None:
    console.say(f"{arm}: prompts tried on {candidates[0].n} items of {task.name}, by {task.primary}")
    for place, candidate in enumerate(candidates):
        instruction = " ".join((candidate.prompting.instruction or "the task's own instruction").split())
        if len(instruction) > SHOWN_INSTRUCTION:
            instruction = instruction[: SHOWN_INSTRUCTION - 1] + "…"
        mark = "*" if place == chosen else " "
        console.say(f"  {mark} {candidate.mean:8.3f}  {len(candidate.prompting.shots):3d} examples  {instruction}")
