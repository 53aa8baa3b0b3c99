"""What the report stands on, read from the artifacts: answers per arm, and how data and model came to be."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from tunelift.errors import UserError
from tunelift.tasks.statistics import Kind
from tunelift.tasks.thinking import never_began

Json = dict[str, Any]
Missing = Literal["worst", "best"]
"""The score that stands in for one that is missing."""
SILENT_SHARE = 0.05
"""Of a task's items; an arm whose answers never began on more of them shows nothing of what it knows."""
COMPARED = ("items", "scorers", "decoding")
"""Digests that must be equal before two evaluations are compared."""


@dataclass(frozen=True)
class Metric:
    """How a metric's scores are to be read."""

    kind: Kind
    lower_is_better: bool
    bounded: bool
    """Scores lie in [0, 1]: they are shown as percent, differences in points."""
    scorer: str = ""
    """The kind of scorer, such as `tool_call`; empty where it is not recorded."""
    options: Json = field(default_factory=dict)
    """Its options that are not the defaults."""
    strict: bool = False
    """Answers are right only character by character."""

    def better(self, difference: float) -> float:
        """A difference with its sign turned so that more is better."""
        return -difference if self.lower_is_better else difference


@dataclass(frozen=True)
class Asked:
    """One task, as the arms answered it that were asked."""

    name: str
    version: Any
    role: str
    kind: str
    """generate, choice or perplexity."""
    margin: float
    """Of a guard: how much worse is still no harm."""
    effect: float
    """Smallest difference worth finding."""
    primary: str
    metrics: dict[str, Metric]
    """The primary one first."""
    ids: tuple[str, ...]
    """Every item that any arm was asked."""
    samples: dict[str, dict[str, Json]]
    """By arm and item id; an item without an answer is missing here, and so is an arm that was not asked."""

    sampled_by: dict[str, str]
    """By arm, whose own default its answers were sampled by; empty where they were decoded greedily."""
    answered_by: dict[str, tuple[Json, ...]]
    """By arm, what is known of the engines that answered."""
    max_tokens: int | None = None
    """Of an answer; None where it is not known or none is generated."""
    unread: dict[str, Json] = field(default_factory=dict)
    """By arm that an endpoint answers, what tells that it did not read its prompts whole; of the others nothing."""

    tagged: dict[str, Json] = field(default_factory=dict)
    """By arm, the unknown tag that most of its answers begin with, and how many; of the others nothing."""

    @cached_property
    def silent(self) -> dict[str, frozenset[str]]:
        """By arm, the items on which its answer never began, where these are more than `SILENT_SHARE`."""
        found = {
            arm: frozenset(item for item in self.ids if item in answers and never_began(answers[item]))
            for arm, answers in self.samples.items()
        }
        return {
            arm: items if len(items) > SILENT_SHARE * len(self.ids) else frozenset() for arm, items in found.items()
        }

    def scores(
        self, arm: str, metric: str, items: Sequence[str] | None = None, missing: Missing = "worst"
    ) -> list[float]:
        """One score per item, in the order of `ids`; a missing answer or score is a failure, unless told otherwise."""
        found = [self._score(arm, metric, item) for item in items or self.ids]
        filled = self.worst[metric] if missing == "worst" else self._extreme(metric, "best")
        return [filled if score is None else score for score in found]

    def _score(self, arm: str, metric: str, item: str) -> float | None:
        row = self.samples[arm].get(item, {})
        lacks = row.get("error") or item in self.silent[arm]
        score = None if lacks else row.get("scores", {}).get(metric)
        return None if score is None else float(score)

    @cached_property
    def worst(self) -> dict[str, float]:
        """By metric, what a failure scores: the bound, or without one the worst score that any arm has."""
        return {name: self._extreme(name, "worst") for name in self.metrics}

    def _extreme(self, name: str, which: Missing) -> float:
        metric = self.metrics[name]
        high = metric.lower_is_better == (which == "worst")
        if metric.bounded:
            return float(high)
        known = [
            score for arm in self.samples for item in self.ids if (score := self._score(arm, name, item)) is not None
        ]
        return (max if high else min)(known, default=0.0)

    def failed(self, arm: str) -> int:
        """Items without an answer: never asked, or the request failed."""
        answers = self.samples[arm]
        return sum(item not in answers or bool(answers[item].get("error")) for item in self.ids)

    @cached_property
    def items(self) -> dict[str, Json]:
        """By id, an item as the first arm that answered it has it: its cluster and tags are every arm's."""
        first: dict[str, Json] = {}
        for answers in self.samples.values():
            first = answers | first
        return first

    def clusters_of(self, items: Sequence[str]) -> list[str | None]:
        """Each item's cluster; None for one that stands alone."""
        return [self.items[item].get("cluster") or None for item in items]

    @property
    def clusters(self) -> int:
        """Number of distinct clusters; items without one stand alone."""
        return len({sample.get("cluster") or ("alone", item) for item, sample in self.items.items()})


@dataclass(frozen=True)
class Evidence:
    """The arms' evaluations, and the facts around them; a fact that no artifact holds is empty."""

    arms: tuple[str, ...]
    tasks: tuple[Asked, ...]
    summaries: dict[str, Json]
    stats: Json
    metrics: list[Json]
    training: Json
    """What the train stage said at its end."""
    answers: list[Json]
    """Validation rows that were answered while training."""
    preflight: Json
    parity: Json
    judge: Json
    judgements: list[Json]


def read_evidence(
    evaluations: Mapping[str, Path],
    dataset: Path | None,
    adapter: Path | None,
    model: Path | None,
    judge: Path | None = None,
) -> Evidence:
    """Read everything the report shows.

    Raises:
        UserError: evaluations that cannot be compared, or a file that is missing or torn.
    """
    if not evaluations:
        raise UserError("There is no evaluation to report on.", remedy="Name one arm or more in evaluate.arms.")
    summaries = {arm: read_object(folder / "summary.json") for arm, folder in evaluations.items()}
    _refuse_unlike(summaries, evaluations)
    samples = {arm: read_rows(folder / "samples.jsonl") for arm, folder in evaluations.items()}
    names = dict.fromkeys(task for summary in summaries.values() for task in summary["tasks"])
    return Evidence(
        arms=tuple(evaluations),
        tasks=tuple(asked(task, summaries, samples) for task in names),
        summaries=summaries,
        stats=_optional(dataset, "stats.json"),
        metrics=read_rows(adapter / "metrics.jsonl") if adapter and (adapter / "metrics.jsonl").exists() else [],
        training=_optional(adapter, "training.json"),
        answers=read_rows(adapter / "samples.jsonl") if adapter and (adapter / "samples.jsonl").exists() else [],
        preflight=_optional(adapter, "preflight.json"),
        parity=_optional(model, "parity.json"),
        judge=read_object(judge / "judge.json") if judge else {},
        judgements=read_rows(judge / "judgements.jsonl") if judge else [],
    )


def _refuse_unlike(summaries: dict[str, Json], folders: Mapping[str, Path]) -> None:
    """Evaluations compare with equal tasks, items, scorers and decoding, or not at all.

    Only a guard task may be missing: an arm whose prompt is made for the target tasks is not asked it.
    """
    names = dict.fromkeys(task for summary in summaries.values() for task in summary["tasks"])
    for task in names:
        about = {arm: summary["tasks"][task] for arm, summary in summaries.items() if task in summary["tasks"]}
        (first, one), *others = about.items()
        spared = next((arm for arm in summaries if arm not in about), None)
        if spared and one.get("role") != "guard":
            raise _unlike(f"{task} was asked of {first} but not of {spared}", folders[spared])
        for arm, other in others:
            pairs = {"version": (one["version"], other["version"])}
            pairs |= {key: (one["digests"].get(key), other["digests"].get(key)) for key in COMPARED}
            for key, (left, right) in pairs.items():
                if left != right:
                    raise _unlike(
                        f"the {key} of {task}: {_short(left)} for {first}, {_short(right)} for {arm}", folders[arm]
                    )


def _unlike(difference: str, folder: Path) -> UserError:
    return UserError(
        f"These evaluations cannot be compared, they differ in {difference}.",
        remedy="Evaluate all arms again with the same task and settings.",
        where=str(folder / "summary.json"),
    )


def _short(value: Any) -> str:
    return str(value)[:12]


def asked(task: str, summaries: Mapping[str, Json], samples: Mapping[str, list[Json]]) -> Asked:
    """One task out of the arms' evaluations, which are alike in it."""
    about = {arm: summary["tasks"][task] for arm, summary in summaries.items() if task in summary["tasks"]}
    answers = {arm: {str(row["id"]): row for row in samples[arm] if row["task"] == task} for arm in about}
    first = next(iter(about.values()))
    primary, kind = str(first["primary"]), str(first.get("kind", "generate"))
    names = dict.fromkeys([primary, *(metric for one in about.values() for metric in one["metrics"])])
    return Asked(
        name=task,
        version=first["version"],
        role=str(first.get("role", "target")),
        kind=kind,
        margin=float(first.get("margin") or 0),
        effect=float(first.get("effect") or 0.05),
        primary=primary,
        metrics={
            name: _metric(name, [one["metrics"].get(name, {}) for one in about.values()], answers) for name in names
        },
        ids=tuple(dict.fromkeys(item for by_item in answers.values() for item in by_item)),
        samples=answers,
        sampled_by={arm: sampled_by(summaries[arm]) if kind == "generate" else "" for arm in about},
        answered_by={arm: answered_by(summaries[arm]) for arm in about},
        max_tokens=first.get("max_tokens"),
        unread={arm: found for arm, one in about.items() if (found := one.get("unread_prompts"))},
        tagged={arm: found for arm, one in about.items() if (found := one.get("unknown_tag"))},
    )


def sampled_by(summary: Json) -> str:
    """Whose own default an arm was sampled by: an endpoint that takes no temperature. Empty for greedy decoding.

    One that takes no seed or top_p decodes greedily all the same.
    """
    if "temperature" not in summary.get("decoding", {}).get("left_to_the_endpoint", ()):
        return ""
    model = summary.get("model", {})
    return f"{model.get('id')} at {model.get('endpoint')}"


def answered_by(summary: Json) -> tuple[Json, ...]:
    """What is known of the engines that gave an arm's answers: several, where it was upgraded between two parts.

    Empty for an endpoint, and where nothing is recorded.
    """
    engine = summary.get("engine") or {}
    if not engine or engine.get("kind") == "endpoint" or summary.get("model", {}).get("endpoint"):
        return ()
    parts = engine.get("answered_by") or [{}]
    return tuple({key: value for key, value in (engine | part).items() if value is not None} for part in parts)


def _metric(name: str, declared: list[Json], answers: dict[str, dict[str, Json]]) -> Metric:
    """Binary only if every arm says so and every score is 0 or 1."""
    kinds = {one.get("kind", "binary") for one in declared}
    scores = (row["scores"].get(name) or 0 for by_item in answers.values() for row in by_item.values())
    kind: Kind = "binary" if kinds == {"binary"} and all(score in (0, 1) for score in scores) else "graded"
    return Metric(
        kind=kind,
        lower_is_better=any(one.get("lower_is_better", False) for one in declared),
        bounded=all(one.get("bounded", True) for one in declared),
        scorer=next((str(one["scorer"]) for one in declared if one.get("scorer")), ""),
        options=next((one["options"] for one in declared if one.get("options")), {}),
        strict=bool(declared) and all(one.get("strict") is True for one in declared),
    )


def _optional(folder: Path | None, name: str) -> Json:
    return read_object(folder / name) if folder and (folder / name).exists() else {}


def read_object(path: Path) -> Json:
    """A file with one JSON object.

    Raises:
        UserError: it is missing, or something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(value, dict):
        raise _unreadable(path, "it holds no JSON object")
    return value


def read_rows(path: Path) -> list[Json]:
    """A file with one JSON object a line.

    Raises:
        UserError: it is missing, or a line is something else.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    return [_row(line, number, path) for number, line in enumerate(lines, 1) if line]


def _row(line: str, number: int, path: Path) -> Json:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise _unreadable(path, f"line {number}: {error}") from error
    if not isinstance(value, dict):
        raise _unreadable(path, f"line {number} holds no JSON object")
    return value


def _unreadable(path: Path, why: object) -> UserError:
    return UserError(
        f"The file cannot be read: {why}.", where=str(path), remedy="Make the artifact again with --force."
    )
