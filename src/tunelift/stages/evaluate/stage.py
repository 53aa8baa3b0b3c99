"""One arm's evaluation: prompts, answers, scores, and a summary with intervals. Resumable by item."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import digest
from tunelift.artifacts.store import write_durably
from tunelift.config.evaluation import NOISE_ARM, ArmConfig, EvaluateConfig
from tunelift.engines.protocol import Engine
from tunelift.errors import UserError
from tunelift.runtime import chat, console
from tunelift.stages.evaluate.asking import Asker, Stopwatch, Substitutions
from tunelift.stages.evaluate.prompts import Prompting, Row, choose_examples, shortened, showable
from tunelift.stages.evaluate.samples import Journal, Question
from tunelift.stages.evaluate.search import choose_prompt, without_items_of
from tunelift.stages.evaluate.summary import summarise, template_sha256
from tunelift.tasks.task import DECODING, Task, distinct

SAID = ("task", "id", "arm", "output", "answer", "scores")
"""Of a sample, what the evaluation's content is known by."""


def evaluate(
    config: EvaluateConfig,
    *,
    arm: ArmConfig,
    tasks: Sequence[Task],
    examples: Sequence[Row],
    engine: Engine,
    tokenizer: Path | None,
    template: str | None = None,
    model_card: Mapping[str, Any],
    seed: int,
    out: Path,
    selection: Task | None = None,
    note_look: Callable[[Task], None] | None = None,
) -> dict[str, Any]:
    """Ask every item that has no answer yet, and write samples.jsonl and summary.json into `out`.

    Args:
        arm: How it is asked; the weights are the engine's.
        examples: Training rows, for arms that show some.
        tokenizer: The folder with the model's tokenizer; None where it is not known.
        template: The chat template that the engine was started with, if it is another than the folder's.
        model_card: Put into the summary.
        selection: The task on which the arm's prompt is chosen, if it searches for one.
        note_look: Told of a task, with the items that are asked of it, before its first answer is kept.

    Raises:
        UserError: tasks that the arm cannot be asked, or questions that the template or the engine refuses.
        MachineError: the engine ended, or requests failed through no fault of their own; what was answered is kept.
    """
    check_askable(arm, tasks, selection, has_tokenizer=tokenizer is not None)
    asked = [task.first(config.max_items) for task in distinct(tasks) if is_asked(arm, task)]
    stopwatch, substitutions = Stopwatch(out / "asking.json"), Substitutions(out / "dialect.json")
    asker = Asker(config, engine, tokenizer, seed, stopwatch, substitutions, template, note_look)
    shown = showable(examples, partial(chat.load_tokenizer, tokenizer, template) if tokenizer else None)
    prompting, search = _prompting(arm, tasks, shown, selection, asker, seed, out)
    questions = [Question(arm.name, task, item, prompting.build(task, item)) for task in asked for item in task.items]
    with Journal(out / "samples.jsonl", questions) as journal:
        asker.ask(_order(questions, arm, seed), journal, f"evaluate {arm.name}")
        samples = journal.finish(questions)
    described = prompting.describe()
    if search:
        search["asking"] = stopwatch.of("selection.jsonl", search["on"])
        described += f", the best of {len(search['candidates'])} prompts on {search['on']}"
    results = {
        task.name: summarise(
            task,
            [sample for sample in samples if sample["task"] == task.name],
            stopwatch.of("samples.jsonl", task.name),
            seed,
            by_endpoint=engine.description.get("kind") == "endpoint",
        )
        for task in asked
    }
    _warn(arm.name, results)
    summary = {
        "arm": arm.name,
        "model": dict(model_card),
        "prompt": described,
        "prompt_example": _example(questions),
        "prompt_search": search,
        "template": template_sha256(tokenizer, template),
        "tasks": results,
        "decoding": _decoding(seed, substitutions.names),
        "engine": substitutions.describe(engine),
    }
    write_durably(out / "summary.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    return {
        # What was said and how it was judged; a rerun differs in its latencies.
        "content": digest([[sample.get(key) for key in SAID] for sample in samples]),
        "prompt": described,
        "prompt_search": search,
        "examples": [str(shot["id"]) for shot in prompting.shots],
        "failed_requests": sum(1 for sample in samples if sample["error"]),
        "primary": {name: task["metrics"][task["primary"]] for name, task in results.items()},
    }


def _warn(arm: str, results: Mapping[str, Mapping[str, Any]]) -> None:
    """Of answers that are none, on which no claim can rest, or that may begin with thinking; of unread prompts."""
    for name, found in results.items():
        if found["no_answer"]:
            console.warn(
                f"{found['no_answer']} of {found['n']} answers of {arm} to {name} never began: they are empty, or "
                f"ended within their thinking; max_tokens is {found['max_tokens']}"
            )
        if tagged := found["unknown_tag"]:
            tag = tagged["tag"]
            console.warn(
                f"{tagged['items']} of {found['n']} answers of {arm} to {name} begin with <{tag}>…</{tag}>, which is "
                "scored as a part of the answer; if it is thinking, switch it off, or have the endpoint send it apart"
            )
        if unread := found["unread_prompts"]:
            console.warn(
                f"the endpoint of {arm} cuts prompts off or counts wrongly: {unread['tokens']} tokens in a prompt of "
                f"{unread['words']} words or more ({unread['items']} of {found['n']} prompts of {name})"
            )


def check_askable(arm: ArmConfig, tasks: Sequence[Task], selection: Task | None, *, has_tokenizer: bool) -> None:
    """Refuse what would otherwise be found out only after training.

    Args:
        has_tokenizer: The arm's model lies here, so its chat template is known.

    Raises:
        UserError: no task is left for the arm, one needs a chat template that is not here, or the task on which a
            prompt is chosen has no prompts, or too few items that nothing is claimed on.
    """
    asked = [task for task in tasks if is_asked(arm, task)]
    if not asked:
        raise UserError(
            f"Arm {arm.name} has a prompt made for target tasks, and evaluate.tasks has only guards.",
            remedy=f"Take {arm.name} out of evaluate.arms, or add a target task.",
        )
    if selection and selection.kind == "perplexity":
        raise UserError(
            f"The prompt of arm {arm.name} would be chosen on {selection.name}, which measures texts without a prompt.",
            remedy="Search on a task that asks something.",
        )
    if selection:
        without_items_of(tasks, selection)
    needed = [*asked, *([selection] if selection else [])]
    rendered = next((task.name for task in needed if task.kind == "choice" and task.rendering == "chat"), None)
    if rendered and not has_tokenizer:
        raise UserError(
            f"Task {rendered} compares likelihoods after the model's chat template, and the template of arm "
            f"{arm.name}'s endpoint is not known here.",
            remedy=f"Set `rendering: plain` in {rendered}'s task.yaml, or leave the task or the arm out.",
        )


def is_asked(arm: ArmConfig, task: Task) -> bool:
    """A prompt made for the target tasks says nothing about guards."""
    return task.role == "target" or not arm.has_own_prompt


def _prompting(
    arm: ArmConfig,
    tasks: Sequence[Task],
    examples: Sequence[Row],
    selection: Task | None,
    asker: Asker,
    seed: int,
    out: Path,
) -> tuple[Prompting, dict[str, Any] | None]:
    """The arm's prompt, and how it was chosen if it was not declared."""
    if arm.search is None:
        shots = choose_examples(examples, arm.few_shot or 0, seed)
        if len(shots) < (arm.few_shot or 0):
            console.warn(
                f"arm {arm.name} has few_shot={arm.few_shot}, but the training split has {len(shots)} rows to show"
            )
        return Prompting.of(arm, shots), None
    assert selection is not None, "an arm that searches brings the task to search on"
    return choose_prompt(
        arm.search,
        arm=arm.name,
        selection=selection,
        tasks=tasks,
        examples=examples,
        asker=asker,
        seed=seed,
        out=out,
    )


def _order(questions: Sequence[Question], arm: ArmConfig, seed: int) -> list[Question]:
    """The order of asking. Asked again for the noise, items meet other ones in the engine's batches."""
    if arm.name != NOISE_ARM:
        return list(questions)
    shuffled = random.Random(seed).sample(list(questions), len(questions))
    places = {question.task.name: place for place, question in reversed(list(enumerate(questions)))}
    return sorted(shuffled, key=lambda question: places[question.task.name])  # Stable: shuffled within a task.


def _decoding(seed: int, substituted: Set[str]) -> dict[str, Any]:
    """How the arm was asked to answer, and which of the parameters its endpoint set as it pleased."""
    wanted = DECODING | {"seed": seed}
    left = sorted(wanted.keys() & substituted)
    sent = {name: value for name, value in wanted.items() if name not in left}
    return sent | ({"left_to_the_endpoint": left} if left else {})


def _example(questions: Sequence[Question]) -> list[dict[str, Any]]:
    """What the arm was asked: the first item of a target task, or of any."""
    first = next((question for question in questions if question.task.role == "target"), questions[0])
    return shortened(first.prompt)
