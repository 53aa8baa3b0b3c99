"""Guard tasks: is the focus arm shown to be no worse, by more than the task's margin, than the arm it came from?"""

from __future__ import annotations

from tunelift.stages.report.answered import barred
from tunelift.stages.report.claims import pair_with
from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.pairing import Pairing
from tunelift.stages.report.wording import amount, change, rounded, span, unit
from tunelift.tasks.statistics import needed_for_margin, non_inferiority


def guards_of(pairing: Pairing, evidence: Evidence, tasks: Json) -> list[Json]:
    """Every guard task that the focus arm and a rival were asked, by its primary metric.

    Non-inferior: the whole 95% interval lies above minus the margin. An interval that holds minus the margin is
    inconclusive, which is no pass: too few items prove nothing.
    """
    found = [(task, pairing.harmed(task)) for task in evidence.tasks if task.role == "guard"]
    return [_guard(pairing, task, rival, tasks[task.name][task.primary]) for task, rival in found if rival]


def _guard(pairing: Pairing, task: Asked, rival: str, shown: Json) -> Json:
    metric, means = task.metrics[task.primary], shown["arms"]
    no_claim = barred(task, pairing.focus, rival, either=True)
    pair = pairing.pair(task, task.primary, rival)
    guard: Json = {
        "task": task.name,
        "metric": task.primary,
        "arm": pairing.focus,
        "against": rival,
        "margin": task.margin,
        **{
            key: pair_with(shown, rival)[key]
            for key in ("difference", "low", "high", "clusters", "method", "decoding_differs", "reservations")
        },
        "verdict": "inconclusive" if no_claim else non_inferiority(pair, task.margin, metric.lower_is_better),
        "needed_n": needed_for_margin(task.margin, pair.spread) if task.margin and not no_claim else None,
        "lower_is_better": metric.lower_is_better,
        "bounded": metric.bounded,
        "n": len(task.ids),
        "means": {arm: values["mean"] for arm, values in means.items()},
    }
    return guard | {"sentence": " ".join((_sentence(guard), *guard["reservations"]))}


def _sentence(guard: Json) -> str:
    arm, against, task = guard["arm"], guard["against"], guard["task"]
    margin = amount(guard["margin"], guard["metric"], guard["bounded"])
    numbers = guard_numbers(guard)
    if guard["verdict"] == "non-inferior":
        return f"{arm} is shown to be no worse than {against} on {task} within the margin of {margin} ({numbers})."
    if guard["verdict"] == "inferior":
        return f"{arm} got worse than {against} on {task} by more than the margin of {margin} ({numbers})."
    more = ""
    if guard["needed_n"] and guard["needed_n"] > guard["n"]:
        more = f"; if it is no worse at all, about {rounded(guard['needed_n'])} items would show it"
    return (
        f"{arm} is not shown to be no worse than {against} on {task}: a loss of {margin} is not ruled out"
        f"{more} ({numbers})."
    )


def guard_numbers(guard: Json) -> str:
    """`difference −0.7 points, 95% interval −2.1 to 0.8`."""
    bounded = guard["bounded"]
    counted = f"{change(guard['difference'], bounded)} {unit(guard['metric'], bounded)}".rstrip()
    lower = ", lower is better" if guard["lower_is_better"] else ""
    return f"difference {counted}, 95% interval {span(guard['low'], guard['high'], bounded)}{lower}"
