"""samples.jsonl while it grows: one line an answer, written as soon as it came, so that no item is asked twice."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from tunelift.artifacts.store import write_durably
from tunelift.engines.answers import Reply
from tunelift.engines.likelihood import Likelihood
from tunelift.tasks.likelihood import likeliest, score_likelihood
from tunelift.tasks.scorers import Scorer, score
from tunelift.tasks.task import Item, Task
from tunelift.tasks.thinking import begun_by_prompt, part, scored

PROMPTED_SHARE = 0.05
"""Of an arm's finished answers to a task; where more of them end a block of thinking that they did not begin, the
prompt begins it in all."""

Sample = dict[str, Any]
Key = tuple[str, str, str]
"""Arm, task and item."""


@dataclass(frozen=True)
class Question:
    """An item of a task as an arm sees it."""

    arm: str
    task: Task
    item: Item
    prompt: list[dict[str, Any]]

    @property
    def key(self) -> Key:
        """What no other question has."""
        return self.arm, self.task.name, self.item.id

    def answered(self, reply: Reply, opening: str = "") -> Sample:
        """The answer with its scores; a failed request scores worst, which without a bound is not known here.

        `output` is what the model wrote, `answer` what scorers are given of it, and `thinking` what it thought before.

        Args:
            opening: The mark that the prompt ended with, if it opened the thinking.
        """
        text = opening + reply.text
        thoughts = [thought for thought in (reply.thinking, part(text).thinking) if thought is not None]
        worst = {scorer.name: float(scorer.lower_is_better) if scorer.bounded else None for scorer in self.task.scorers}
        return self._sample(
            output=reply.text,
            answer="" if reply.error else scored(text, self.item.accepted),
            thinking="\n\n".join(filter(None, thoughts)) if thoughts else None,
            scores=worst if reply.error else score(text, self.item, self.task),
            tokens_in=reply.tokens_in,
            tokens_out=reply.tokens_out,
            seconds=reply.seconds,
            finish_reason=reply.finish_reason,
            error=reply.error,
        )

    def all_thinking(self, sample: Sample) -> Sample:
        """The same answer where it is known by now that its prompt had begun the thinking, and that it did not end."""
        text = f"<think>{sample['output']}"
        scores = score(text, self.item, self.task)
        answer = scored(text, self.item.accepted)
        return sample | {"answer": answer, "thinking": part(text).thinking, "scores": scores}

    def measured(self, likelihoods: Sequence[Likelihood]) -> Sample:
        """The item's choices, or its text, with their log-probabilities.

        `tokens_in` counts the tokens whose probability was asked, not those before them; `seconds` is the longest of
        the requests, which are on their way together.
        """
        logprobs = [likelihood.logprob for likelihood in likelihoods]
        chosen = likeliest(logprobs, self.item) if self.task.kind == "choice" else ""
        choices = {"choices": list(self.item.choices)} if self.item.choices else {}
        answer = self._sample(
            output=chosen,
            scores=score_likelihood(logprobs, self.item, self.task),
            tokens_in=sum(likelihood.tokens for likelihood in likelihoods),
            tokens_out=0,
            seconds=max(likelihood.seconds for likelihood in likelihoods),
            finish_reason=None,
            error=None,
        )
        return answer | choices | {"logprobs": logprobs}

    def _sample(self, *, seconds: float, error: str | None, **answer: Any) -> Sample:
        return {
            "id": self.item.id,
            "task": self.task.name,
            "kind": self.task.kind,
            "arm": self.arm,
            "prompt": self.prompt,
            "expected": list(self.item.accepted),
            **answer,
            "seconds": round(seconds, 4),
            "cluster": self.item.cluster,
            "tags": list(self.item.tags),
            "error": error,
        }


def scores_of(scorer: Scorer, samples: Iterable[Sample], among: Iterable[Sample]) -> list[float]:
    """One score a sample; where a failed request has none, the worst that any sample of `among` has."""
    known = [score for sample in among if (score := sample["scores"][scorer.name]) is not None]
    worst = (max if scorer.lower_is_better else min)(known, default=0.0)
    scores = [sample["scores"][scorer.name] for sample in samples]
    return [worst if score is None else score for score in scores]


def settle(questions: Sequence[Question], samples: Sequence[Sample]) -> list[Sample]:
    """The samples, those of arms that think where an endpoint's own template begins it read anew.

    Their answers hold no mark before the thinking ends, so that one which the limit cut off looks like an answer. The
    arm's finished answers to the task tell.
    """
    groups: dict[tuple[str, str], list[Sample]] = {}
    for sample in samples:
        if sample["kind"] == "generate" and not sample["error"]:
            groups.setdefault((sample["arm"], sample["task"]), []).append(sample)
    thinking = set()
    for key, group in groups.items():
        finished = [sample["output"] for sample in group if sample["finish_reason"] != "length"]
        if sum(map(begun_by_prompt, finished)) > PROMPTED_SHARE * len(finished):
            thinking.add(key)
    return [
        question.all_thinking(sample) if question.key[:2] in thinking and _may_be_thinking(sample) else sample
        for question, sample in zip(questions, samples, strict=True)
    ]


def _may_be_thinking(sample: Sample) -> bool:
    return not sample["error"] and sample["finish_reason"] == "length" and sample.get("thinking") is None


class Journal:
    """The answers so far; those of a killed run are read back.

    Answers to other questions than `questions` are dropped, and so are failed requests, which are worth another try.
    """

    def __init__(self, path: Path, questions: Iterable[Question]) -> None:
        self._path = path
        self.samples: dict[Key, Sample] = {}
        prompts = {question.key: question.prompt for question in questions}
        for sample in _read(path):
            key = sample["arm"], sample["task"], sample["id"]
            if sample["error"] is None and prompts.get(key) == sample["prompt"]:
                self.samples[key] = sample
        # Written anew: a line that a kill has torn must not run into the next one.
        write_durably(path, "".join(map(_line, self.samples.values())))
        self._file = path.open("a", encoding="utf-8")

    @property
    def name(self) -> str:
        """The file's name."""
        return self._path.name

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, question: Question, sample: Sample) -> None:
        """Keep an answer; when this returns, killing the process no longer loses it."""
        self.samples[question.key] = sample
        self._file.write(_line(sample))
        self._file.flush()

    def finish(self, questions: Sequence[Question]) -> list[Sample]:
        """Write the file in the order of the questions, in place of the order in which answers came; return it."""
        samples = settle(questions, [self.samples[question.key] for question in questions])
        self._file.close()
        write_durably(self._path, "".join(map(_line, samples)))
        return samples


def _read(path: Path) -> list[Sample]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    samples = []
    for line in lines:
        try:
            sample = json.loads(line)
        except ValueError:
            continue  # Torn by a kill; the item is asked again.
        samples.append(sample)
    return samples


def _line(sample: Mapping[str, Any]) -> str:
    return json.dumps(sample, ensure_ascii=False) + "\n"
