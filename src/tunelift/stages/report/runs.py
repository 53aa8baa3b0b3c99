"""Many runs compared: what each run's arm scores on the tasks they share, paired item by item against the first run."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any
from urllib.parse import quote

from tunelift.artifacts.store import writing
from tunelift.errors import UserError
from tunelift.stages.report.answered import barred
from tunelift.stages.report.claims import NO_CLAIM
from tunelift.stages.report.evidence import COMPARED, Asked, Json, Missing, asked, read_object, read_rows
from tunelift.stages.report.forest import Measure, Row, forests
from tunelift.stages.report.page import write_page
from tunelift.stages.report.pairing import compare_scores
from tunelift.stages.report.reservations import reservations_between
from tunelift.stages.report.wording import amount, label, listed
from tunelift.tasks.statistics import (
    PairedDifference,
    holm,
    mean_interval,
    minimum_detectable_effect,
    needed_items,
    verdict,
    whichever,
)

Key = tuple[str, str]
"""Task, and the run that is set against the first."""
COSTS = ("tokens_in_mean", "tokens_out_mean", "seconds_p50", "seconds_p95", "requests_per_hour", "usd_per_1000")


@dataclass(frozen=True)
class Run:
    """A run's folder, read: what compares it with others."""

    name: str
    folder: Path
    config: Json
    comparison: Json
    arm: str
    """The arm that the run's claims are about."""
    summary: Json
    samples: list[Json]


def compare_runs(runs: Sequence[Path], out: Path) -> Json:
    """Compare every run's focus arm with the first run's, and write compare.html, compare.json and compare.md.

    Args:
        runs: Folders of finished runs; the first is the reference.
        out: The folder to write into; made if it is not there.

    Returns:
        What compare.json holds.

    Raises:
        UserError: fewer than two runs, a folder that is no run or has no report, or runs that share no task.
    """
    found = [_read(folder, name) for folder, name in zip(runs, _names(runs), strict=True)]
    tasks, left_out = _shared(found)
    config = found[0].config
    samples, seed = int(config["report"]["bootstrap_samples"]), int(config["seed"])
    pairs = {
        (task.name, other.name): _pair(task, other.name, found[0].name, samples, seed)
        for task in tasks
        for other in found[1:]
    }
    adjusted = _adjusted(tasks, pairs)
    compared = {task.name: _compared(task, found, pairs, adjusted, samples, seed) for task in tasks}
    result: Json = {
        "reference": found[0].name,
        "verdict": _verdict(found, compared),
        "runs": [_about(run, out) for run in found],
        "tasks": compared,
        "left_out": left_out,
        "config": _differing(found),
    }
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
        (out / "compare.json").write_bytes(text.encode("utf-8", "backslashreplace"))
        context = {"result": result, "tasks": [_shown(task, result) for task in tasks], "costs": COSTS}
        context["command"] = shlex.join(["tunelift", "compare", *(str(run.folder) for run in found), "--out", str(out)])
        for page in ("compare.html", "compare.md"):
            write_page(page, context, out)
    return result


# --- Reading the runs -----------------------------------------------------------------------------------------------


def _names(runs: Sequence[Path]) -> list[str]:
    """The folders' names; whole paths where two folders have one name."""
    if len(runs) < 2:
        raise UserError(
            f"It takes two runs to compare, {len(runs)} was named.", remedy="Name the folders of two runs or more."
        )
    resolved = [run.resolve() for run in runs]
    twice = next((run for run, whole in zip(runs, resolved, strict=True) if resolved.count(whole) > 1), None)
    if twice is not None:
        raise UserError(
            "A run was named twice; it would be compared with itself.", where=str(twice), remedy="Name each run once."
        )
    names = [whole.name for whole in resolved]
    return names if len(set(names)) == len(names) else [str(run) for run in runs]


def _read(folder: Path, name: str) -> Run:
    if not (folder / "resolved.json").is_file():
        raise UserError(
            "This is no run's folder: it has no resolved.json.",
            where=str(folder),
            remedy="Name a folder that `tunelift run CONFIG` made, such as runs/quickstart-1a2b3c4d.",
        )
    if not (folder / "comparison.json").is_file():
        raise UserError(
            "This run has no report yet: it has no comparison.json.",
            where=str(folder),
            remedy=f"Make it: tunelift report {folder / 'config.yaml'}",
        )
    comparison = read_object(folder / "comparison.json")
    arm = comparison.get("focus")
    evaluation = folder / "stages" / f"evaluate-{arm}"
    if arm is None or not (evaluation / "summary.json").is_file():
        lacks = "its report names no arm" if arm is None else f"the evaluation of its arm {arm} is not there"
        raise UserError(
            f"This run cannot be compared: {lacks}.",
            where=str(folder),
            remedy=f"Make its report again: tunelift report {folder / 'config.yaml'}",
        )
    return Run(
        name=name,
        folder=folder,
        config=read_object(folder / "resolved.json"),
        comparison=comparison,
        arm=arm,
        summary=read_object(evaluation / "summary.json"),
        samples=read_rows(evaluation / "samples.jsonl"),
    )


def _shared(runs: Sequence[Run]) -> tuple[list[Asked], list[Json]]:
    """The tasks that every run asked alike, and the others with the reason why not."""
    names = dict.fromkeys(task for run in runs for task in run.summary["tasks"])
    reasons = {task: _unlike(task, runs) for task in names}
    shared = [task for task, reason in reasons.items() if not reason]
    left_out = [{"task": task, "why": reason} for task, reason in reasons.items() if reason]
    if not shared:
        raise UserError(
            "These runs share no task, so no item can be paired: "
            + "; ".join(f"{one['task']}: {one['why']}" for one in left_out[:3])
            + ".",
            remedy="Evaluate the runs on the same version of a task, then make their reports again.",
        )
    # The primary metric may differ, since the scorers' digest tells; equal digests make it the same.
    summaries, samples = {run.name: run.summary for run in runs}, {run.name: run.samples for run in runs}
    return [asked(task, summaries, samples) for task in shared], left_out


def _unlike(task: str, runs: Sequence[Run]) -> str:
    """Why a task cannot be compared; empty if it can."""
    lacking = [run.name for run in runs if task not in run.summary["tasks"]]
    if lacking:
        return f"not asked in {listed(lacking)}"
    first = runs[0].summary["tasks"][task]
    for run in runs[1:]:
        other = run.summary["tasks"][task]
        pairs = {"version": (first["version"], other["version"])}
        pairs |= {key: (first["digests"].get(key), other["digests"].get(key)) for key in COMPARED}
        for key, (left, right) in pairs.items():
            if left != right:
                return f"unlike {key}: {str(left)[:12]} in {runs[0].name}, {str(right)[:12]} in {run.name}"
    return ""


# --- Comparing ------------------------------------------------------------------------------------------------------


def _adjusted(tasks: Sequence[Asked], pairs: Mapping[Key, PairedDifference]) -> dict[Key, tuple[float, int]]:
    """p and the size of its family: Holm over every run on every target task, since each may make the headline, and
    over those on guards."""
    guards = {task.name for task in tasks if task.role == "guard"}
    families = [[key for key in pairs if (key[0] in guards) == guarded] for guarded in (False, True)]
    return {
        key: (p, len(family))
        for family in families
        for key, p in zip(family, holm([pairs[key].p for key in family]), strict=True)
    }


def _compared(
    task: Asked,
    runs: Sequence[Run],
    pairs: Mapping[Key, PairedDifference],
    adjusted: Mapping[Key, tuple[float, int]],
    samples: int,
    seed: int,
) -> Json:
    """The primary metric of one task: each run's mean, and its paired difference from the first run's."""
    about = task.metrics[task.primary]
    keys = [key for key in pairs if key[0] == task.name]
    return {
        "metric": task.primary,
        "role": task.role,
        "version": task.version,
        "n": len(task.ids),
        "kind": about.kind,
        "lower_is_better": about.lower_is_better,
        "bounded": about.bounded,
        "runs": {run.name: _mean(task, run.name, samples, seed) for run in runs},
        "pairs": [_told(task, key[1], runs[0].name, pairs[key], *adjusted[key]) for key in keys],
    }


def _mean(task: Asked, run: str, samples: int, seed: int) -> Json:
    about, values = task.metrics[task.primary], task.scores(run, task.primary)
    low, high = mean_interval(
        values, about.kind, clusters=task.clusters_of(task.ids), samples=samples, seed=seed, bounded=about.bounded
    )
    mean = fmean(values) if values else 0.0
    return {"n": len(values), "mean": mean, "low": low, "high": high, "failed": task.failed(run)}


def _told(task: Asked, name: str, reference: str, pair: PairedDifference, p_adjusted: float, tests: int) -> Json:
    """One run less the reference, with what may be said of it."""
    says_nothing = barred(task, name, reference, either=True)
    mde, lower = minimum_detectable_effect(pair.n, pair.spread, tests), task.metrics[task.primary].lower_is_better
    return {
        "a": name,
        "b": reference,
        **{key: getattr(pair, key) for key in ("difference", "low", "high", "p", "discordant", "method", "clusters")},
        "p_adjusted": p_adjusted,
        "verdict": NO_CLAIM
        if says_nothing
        else verdict(pair, p_adjusted=p_adjusted, effect=task.effect, mde=mde, lower_is_better=lower),
        "mde": mde,
        "needed_n": needed_items(task.effect, pair.spread, tests),
        "reservations": reservations_between(task, name, reference),
    }


def _pair(task: Asked, name: str, reference: str, samples: int, seed: int) -> PairedDifference:
    """One run less the reference. What either has no answer to may have been anything: the interval spans it all."""

    def missing(one: Missing, other: Missing) -> PairedDifference:
        first = task.scores(name, task.primary, missing=one)
        second = task.scores(reference, task.primary, missing=other)
        return compare_scores(task, task.primary, first, second, task.ids, samples=samples, seed=seed)

    failed = missing("worst", "worst")
    if not any(task.failed(run) or task.silent[run] for run in (name, reference)):
        return failed
    return whichever(failed, whichever(missing("worst", "best"), missing("best", "worst")))


def _verdict(runs: Sequence[Run], compared: Mapping[str, Json]) -> str:
    """The runs that are shown to differ from the first, in words."""
    reference, *others = [run.name for run in runs]
    doubts = dict.fromkeys(
        doubt for shown in compared.values() for pair in shown["pairs"] for doubt in pair["reservations"]
    )
    return " ".join((_differing_ones(reference, others, compared), *doubts))


def _differing_ones(reference: str, others: Sequence[str], compared: Mapping[str, Json]) -> str:
    told = [sentence for name in others if (sentence := _sentence(name, reference, compared))]
    alike = f"is shown to differ from {reference}."
    if not told:
        return f"No run {alike}" if len(others) > 1 else f"{others[0]} is not shown to differ from {reference}."
    return " ".join(told) + (f" None of the others {alike}" if len(told) < len(others) else "")


def _sentence(name: str, reference: str, compared: Mapping[str, Json]) -> str:
    """What one run is shown to do better or worse than the first; empty for nothing."""
    told: dict[str, list[str]] = {"improved": [], "regressed": []}
    for task, shown in compared.items():
        pair = next(pair for pair in shown["pairs"] if pair["a"] == name)
        if pair["verdict"] in told:
            size = amount(pair["difference"], shown["metric"], shown["bounded"])
            told[pair["verdict"]].append(f"{task} by {size}")
    better, worse = (listed(tasks) for tasks in told.values())
    if better and worse:
        return f"{name} is better than {reference} on {better}, but worse on {worse}."
    return (
        f"{name} is {'better' if better else 'worse'} than {reference} on {better or worse}." if better or worse else ""
    )


# --- Around the comparison ------------------------------------------------------------------------------------------


def _about(run: Run, out: Path) -> Json:
    """What stands beside a run's scores: its own verdict, its cost, and where its report lies."""
    report = run.folder / "report.html"
    stats = _optional(run.folder / "stages" / "curate" / "stats.json")
    cost = run.comparison.get("cost", {}).get(run.arm, {})
    return {
        "name": run.name,
        "folder": str(run.folder),
        "arm": run.arm,
        "report": quote(os.path.relpath(report.resolve(), out.resolve())) if report.exists() else None,
        "verdict": run.comparison.get("verdict"),
        "gate": {key: run.comparison.get("gate", {}).get(key) for key in ("declared", "passed")},
        "cost": {key: cost.get(key) for key in COSTS},
        "training_rows": stats.get("splits", {}).get("train", {}).get("training_rows"),
        "training_seconds": _optional(run.folder / "stages" / "train" / "manifest.json").get("seconds"),
    }


def _optional(path: Path) -> Json:
    return read_object(path) if path.is_file() else {}


def _differing(runs: Sequence[Run]) -> dict[str, Json]:
    """By config key, each run's value, of the keys whose values are not all alike."""
    flat = [dict(_leaves(run.config)) for run in runs]
    keys = dict.fromkeys(key for one in flat for key in one)
    return {
        key: {run.name: one.get(key) for run, one in zip(runs, flat, strict=True)}
        for key in keys
        if key != "name" and any(one.get(key) != flat[0].get(key) for one in flat)
    }


def _leaves(config: Json, path: str = "") -> list[tuple[str, Any]]:
    """(dotted key, value) pairs; a list is one value."""
    found: list[tuple[str, Any]] = []
    for key, value in config.items():
        whole = f"{path}.{key}" if path else key
        found += _leaves(value, whole) if isinstance(value, dict) and value else [(whole, value)]
    return found


def _shown(task: Asked, result: Json) -> Json:
    """A task's forest, and its means in words."""
    shown = result["tasks"][task.name]
    measure = Measure(shown["bounded"], shown["lower_is_better"])
    rows = [Row(pair["a"], "", shown["metric"], pair, measure, strong=True) for pair in shown["pairs"]]
    means = {
        run: {"mean": measure.mean(one["mean"]), "interval": measure.interval(one["low"], one["high"])}
        for run, one in shown["runs"].items()
    }
    differences = {
        pair["a"]: f"{measure.difference(pair['difference'])} ({measure.interval(pair['low'], pair['high'])})"
        for pair in shown["pairs"]
    }
    return {
        "name": task.name,
        "metric": label(shown["metric"]),
        "forests": forests(rows),
        "means": means,
        "differences": differences,
        "verdicts": {pair["a"]: pair["verdict"] for pair in shown["pairs"]},
        **{key: shown[key] for key in ("n", "role", "version", "lower_is_better")},
    }
