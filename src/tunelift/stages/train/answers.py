"""Validation rows that are answered while training: to choose a step by a scorer, and to look at.

A row is asked as in an evaluation: its conversation without the last reply, through the chat template. Which rows are
asked is a pure function of the seed and their ids, so that it changes with neither their order nor a resume.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.artifacts.jsonl import read_lines
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.config.schema import TrainConfig
from tunelift.errors import UserError
from tunelift.runtime.drawing import place_in_draw
from tunelift.runtime.generation import greedy
from tunelift.runtime.turns import render
from tunelift.stages.train.best import Measure
from tunelift.tasks.scorers import build_scorers, score
from tunelift.tasks.statistics import LEAST_TO_CHOOSE_BY
from tunelift.tasks.task import Task, task_from_split
from tunelift.tasks.thinking import opening_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

    from tunelift.stages.train.trainer import SupervisedTrainer


@dataclass(frozen=True)
class Asked:
    """Rows as a task, with their prompts' token ids."""

    task: Task
    prompts: list[list[int]]
    openings: list[str]
    """The mark with which a prompt opens the model's thinking; empty for none."""
    tokenizer: PreTrainedTokenizerFast
    stops: tuple[int, ...]

    def answers(self, trainer: SupervisedTrainer) -> list[str]:
        """The greedy answers of the model as it now is, in the items' order."""
        return greedy(
            trainer.model,
            self.tokenizer,
            self.prompts,
            max_tokens=self.task.max_tokens,
            stops=self.stops,
            rows_at_once=trainer.args.per_device_train_batch_size,
            bf16=trainer.args.bf16,
        )

    def mean_score(self, trainer: SupervisedTrainer) -> float:
        """Mean of the task's primary metric."""
        outputs = self.answers(trainer)
        scores = [
            score(opening + output, item, self.task)[self.task.primary]
            for opening, output, item in zip(self.openings, outputs, self.task.items, strict=True)
        ]
        return sum(scores) / len(scores)


def ask(
    tokenizer: PreTrainedTokenizerFast,
    dataset: Path,
    *,
    rows: int,
    max_tokens: int,
    scorer: str | None,
    seed: int,
    stops: Sequence[int],
) -> Asked:
    """Choose so many validation rows.

    Raises:
        UserError: there is no validation row, or no such scorer.
    """
    task = _task(dataset, rows=rows, max_tokens=max_tokens, scorer=scorer, seed=seed)
    texts = [render(tokenizer, item.prompt, item.tools, generate=True) for item in task.items]
    prompts = [list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    return Asked(task, prompts, list(map(opening_in, texts)), tokenizer, tuple(stops))


def _task(dataset: Path, *, rows: int, max_tokens: int, scorer: str | None, seed: int) -> Task:
    found = sorted(_validation(dataset), key=lambda row: place_in_draw(seed, row["id"]))[:rows]
    config = SplitTaskConfig(
        from_split="validation", scorers=(scorer,) if scorer else "auto", primary=scorer, max_tokens=max_tokens
    )
    with _as_choice(scorer):
        return task_from_split(found, config)


def _validation(dataset: Path) -> list[dict[str, Any]]:
    path = dataset / "validation.jsonl"
    return [json.loads(line) for line in read_lines(path)] if path.exists() else []


@contextmanager
def _as_choice(scorer: str | None) -> Iterator[None]:
    """What is wrong with a scorer that steps are chosen by is told of the field that names it."""
    try:
        yield
    except UserError as error:
        if scorer is None:
            raise
        raise UserError(
            f"train.best.by={scorer}: {error.message}",
            remedy=error.remedy or "Set it to last, eval_loss, or a scorer that needs no options.",
        ) from error


def check_choice(config: TrainConfig, dataset: Path | None, seed: int) -> None:
    """Hold before training what it would refuse of `train.best` and `train.samples`.

    Args:
        dataset: None as long as it is not made; then only the scorer's name is looked at.

    Raises:
        UserError: a scorer that does not exist or fits no validation row, or too few of these.
    """
    scorer = None if config.best.by in {"last", "eval_loss"} else config.best.by
    if scorer:
        with _as_choice(scorer):
            build_scorers((scorer,), has_tools=True)
    if dataset:
        refuse_too_few_rows(config, dataset)
    if dataset and scorer:
        _task(dataset, rows=config.best.rows, max_tokens=config.best.max_tokens, scorer=scorer, seed=seed)


def refuse_too_few_rows(config: TrainConfig, dataset: Path) -> None:
    """Nothing is chosen by so few rows that luck would choose, and no answer is given to rows that are not there.

    Raises:
        UserError: the config asks for it.
    """
    chooses = config.best.by != "last"
    if not chooses and config.samples.every is None:
        return
    rows = _validation(dataset)
    wants = [
        (chooses, f"train.best.by={config.best.by} chooses by", "train.best.by to last"),
        (config.samples.every, f"train.samples.every={config.samples.every} answers", "train.samples.every to null"),
    ]
    for wanted, what, otherwise in wants:
        if wanted and not rows:
            raise UserError(
                f"{what} the validation split, and that is empty.",
                remedy=f"Raise curate.split.validation, or set {otherwise}.",
            )
    if not chooses:
        return
    # Rows of one group are alike, and count once.
    apart = len({row.get("cluster") or row.get("group") or row["id"] for row in rows})
    field, limit = (
        ("train.eval_rows", config.eval_rows)
        if config.best.by == "eval_loss"
        else ("train.best.rows", config.best.rows)
    )
    if min(apart, limit) < LEAST_TO_CHOOSE_BY:
        few = f"{field}={limit}" if limit <= apart else f"{apart} validation rows, where rows of one group count once"
        raise UserError(
            f"train.best.by={config.best.by} would choose the step by {few}. It takes {LEAST_TO_CHOOSE_BY}: with "
            "fewer, luck chooses.",
            remedy="Set train.best.by to last, or "
            + (f"raise {field}." if limit <= apart else "raise curate.split.validation, or add rows."),
        )


def ask_for_choice(
    config: TrainConfig, tokenizer: PreTrainedTokenizerFast, dataset: Path, seed: int, stops: Sequence[int]
) -> tuple[Measure | None, Asked | None]:
    """What `train.best` chooses steps by: nothing, the validation loss, or a scorer with the rows that it is given.

    Raises:
        UserError: a scorer that does not exist or fits no validation row.
    """
    best = config.best
    if best.by in {"last", "eval_loss"}:
        return (Measure("eval_loss", lower_is_better=True) if best.by == "eval_loss" else None), None
    asked = ask(tokenizer, dataset, rows=best.rows, max_tokens=best.max_tokens, scorer=best.by, seed=seed, stops=stops)
    primary = asked.task.scorer(asked.task.primary)
    return Measure(f"eval_{primary.name}", lower_is_better=primary.lower_is_better), asked


def ask_for_samples(
    config: TrainConfig, tokenizer: PreTrainedTokenizerFast, dataset: Path, seed: int, stops: Sequence[int]
) -> Asked | None:
    """The rows of `train.samples`; none if it is off."""
    samples = config.samples
    if samples.every is None:
        return None
    return ask(
        tokenizer, dataset, rows=samples.rows, max_tokens=samples.max_tokens, scorer=None, seed=seed, stops=stops
    )
