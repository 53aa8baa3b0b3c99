"""Parts of a task by the items' tags, and how much two runs of one arm differ: neither decides a claim."""

from __future__ import annotations

from statistics import fmean

from tunelift.stages.report.answered import barred
from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.pairing import BASE, Pairing
from tunelift.tasks.statistics import benjamini_hochberg

LEAST_ITEMS = 8
"""A slice of fewer items is not shown: its interval would say nothing."""


def compare_slices(pairing: Pairing, task: Asked) -> list[Json]:
    """The primary metric on every slice, with the false discovery rate over the task's slices (Benjamini-Hochberg)."""
    rival = pairing.set_against(task)
    if rival is None or barred(task, pairing.focus, rival):
        return []
    found = [_slice(pairing, task, rival, name, items) for name, items in _slices(task).items()]
    adjusted = benjamini_hochberg([one["p"] for one in found])
    return [one | {"q": q} for one, q in zip(found, adjusted, strict=True)]


def _slices(task: Asked) -> dict[str, list[str]]:
    """Items by tag, where there are enough of them and not all are one slice."""
    slices: dict[str, list[str]] = {}
    for item in task.ids:
        for tag in dict.fromkeys(task.items[item].get("tags") or ()):
            slices.setdefault(str(tag), []).append(item)
    return {name: items for name, items in slices.items() if LEAST_ITEMS <= len(items) < len(task.ids)}


def _slice(pairing: Pairing, task: Asked, rival: str, name: str, items: list[str]) -> Json:
    metric, arms = task.primary, [arm for arm in task.samples if arm != pairing.noise_arm]
    pair = pairing.pair(task, metric, rival, items)
    return {
        "task": task.name,
        "slice": name,
        "metric": metric,
        "n": len(items),
        "arms": {arm: fmean(task.scores(arm, metric, items)) for arm in arms},
        "against": rival,
        **{key: getattr(pair, key) for key in ("difference", "low", "high", "p")},
    }


def noise_floor(pairing: Pairing, evidence: Evidence) -> list[Json] | None:
    """The base against itself, asked again: what two runs of one arm differ in; none if it was asked once."""
    again = pairing.noise_arm
    if again is None:
        return None
    tasks = [task for task in evidence.tasks if {BASE, again} <= task.samples.keys()]
    return [_noise(pairing, task, again) for task in tasks]


def _noise(pairing: Pairing, task: Asked, again: str) -> Json:
    pair = pairing.pair(task, task.primary, BASE, first=again)
    said = [{item: row.get("output") for item, row in task.samples[arm].items()} for arm in (BASE, again)]
    return {
        "task": task.name,
        "metric": task.primary,
        "n": len(task.ids),
        "differing": pair.discordant,
        "differing_outputs": sum(said[0].get(item) != said[1].get(item) for item in task.ids),
        "share": pair.discordant / max(1, len(task.ids)),
        **{key: getattr(pair, key) for key in ("difference", "low", "high")},
    }
