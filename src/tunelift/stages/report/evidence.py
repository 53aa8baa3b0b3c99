"""What the report stands on, read from the artifacts: answers per arm, and how data and model came to be."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunelift.errors import UserError
from tunelift.tasks.statistics import Kind

Json = dict[str, Any]
COMPARED = ("items", "scorers", "decoding")
"""Digests that must be equal before two evaluations are compared."""


@dataclass(frozen=True)
class Asked:
    """One task, as every arm answered it."""

    name: str
    version: Any
    role: str
    primary: str
    kinds: dict[str, Kind]
    """By metric, the primary one first."""
    ids: tuple[str, ...]
    """Every item that any arm was asked."""
    samples: dict[str, dict[str, Json]]
    """By arm and item id; an item without an answer is missing here."""

    def scores(self, arm: str, metric: str) -> list[float]:
        """One score per item, in the order of `ids`; a missing answer or score is a failure, 0."""
        answers = self.samples[arm]
        return [float(answers.get(item, {}).get("scores", {}).get(metric) or 0.0) for item in self.ids]

    def failed(self, arm: str) -> int:
        """Items without an answer: never asked, or the request failed."""
        answers = self.samples[arm]
        return sum(item not in answers or bool(answers[item].get("error")) for item in self.ids)

    @property
    def clusters(self) -> int:
        """Number of distinct clusters; items without one stand alone."""
        first: dict[str, Json] = {}
        for answers in self.samples.values():
            first = answers | first
        return len({sample.get("cluster") or ("alone", item) for item, sample in first.items()})


@dataclass(frozen=True)
class Evidence:
    """The arms' evaluations, and the facts around them; a fact that no artifact holds is empty."""

    arms: tuple[str, ...]
    tasks: tuple[Asked, ...]
    summaries: dict[str, Json]
    stats: Json
    metrics: list[Json]
    preflight: Json
    parity: Json


def read_evidence(
    evaluations: Mapping[str, Path], dataset: Path | None, adapter: Path | None, model: Path | None
) -> Evidence:
    """Read everything the report shows.

    Raises:
        UserError: evaluations that cannot be compared, or a file that is missing or torn.
    """
    if not evaluations:
        raise UserError("There is no evaluation to report on.", remedy="Name one arm or more in evaluate.arms.")
    summaries = {arm: _object(folder / "summary.json") for arm, folder in evaluations.items()}
    _refuse_unlike(summaries, evaluations)
    samples = {arm: _rows(folder / "samples.jsonl") for arm, folder in evaluations.items()}
    first = next(iter(summaries.values()))
    return Evidence(
        arms=tuple(evaluations),
        tasks=tuple(_asked(task, summaries, samples) for task in first["tasks"]),
        summaries=summaries,
        stats=_optional(dataset, "stats.json"),
        metrics=_rows(adapter / "metrics.jsonl") if adapter and (adapter / "metrics.jsonl").exists() else [],
        preflight=_optional(adapter, "preflight.json"),
        parity=_optional(model, "parity.json"),
    )


def _refuse_unlike(summaries: dict[str, Json], folders: Mapping[str, Path]) -> None:
    """Evaluations compare with equal tasks, items, scorers and decoding, or not at all."""
    (first, reference), *others = summaries.items()
    for arm, summary in others:
        for task in sorted(reference["tasks"].keys() ^ summary["tasks"].keys()):
            asked, spared = (first, arm) if task in reference["tasks"] else (arm, first)
            raise _unlike(f"{task} was asked of {asked} but not of {spared}", folders[arm])
        for task, one in reference["tasks"].items():
            other = summary["tasks"][task]
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


def _asked(task: str, summaries: dict[str, Json], samples: dict[str, list[Json]]) -> Asked:
    answers = {arm: {str(row["id"]): row for row in rows if row["task"] == task} for arm, rows in samples.items()}
    ids = tuple(dict.fromkeys(item for by_item in answers.values() for item in by_item))
    about = [summary["tasks"][task] for summary in summaries.values()]
    primary = str(about[0]["primary"])
    metrics = dict.fromkeys([primary, *(metric for one in about for metric in one["metrics"])])
    return Asked(
        name=task,
        version=about[0]["version"],
        role=str(about[0].get("role", "target")),
        primary=primary,
        kinds={metric: _kind(metric, about, answers) for metric in metrics},
        ids=ids,
        samples=answers,
    )


def _kind(metric: str, about: list[Json], answers: dict[str, dict[str, Json]]) -> Kind:
    """Binary only if every arm says so and every score is 0 or 1."""
    declared = {one["metrics"].get(metric, {}).get("kind", "binary") for one in about}
    scores = (row["scores"].get(metric) or 0 for by_item in answers.values() for row in by_item.values())
    return "binary" if declared == {"binary"} and all(score in (0, 1) for score in scores) else "graded"


def _optional(folder: Path | None, name: str) -> Json:
    return _object(folder / name) if folder and (folder / name).exists() else {}


def _object(path: Path) -> Json:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(value, dict):
        raise _unreadable(path, "it holds no JSON object")
    return value


def _rows(path: Path) -> list[Json]:
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
