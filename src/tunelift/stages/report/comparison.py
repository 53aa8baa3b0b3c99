"""The arms compared: every metric with its interval, every difference paired, and what may be claimed from it."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import fmean

from tunelift.config.evaluation import BEST_UNTUNED, EndpointConfig, GateConfig, ReportConfig, Weights
from tunelift.stages.report.answered import barred
from tunelift.stages.report.claims import NO_CLAIM, claims_of, verdict_of, verdict_on_guards
from tunelift.stages.report.cost import break_even, cost_of
from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.gate import hold_to
from tunelift.stages.report.guards import guards_of
from tunelift.stages.report.judged import judged
from tunelift.stages.report.pairing import Pairing
from tunelift.stages.report.reservations import decoding_differs, reservations
from tunelift.stages.report.slices import compare_slices, noise_floor
from tunelift.tasks.statistics import (
    PairedDifference,
    holm,
    mean_interval,
    minimum_detectable_effect,
    needed_items,
    verdict,
)

Key = tuple[str, str, str]
"""Task, metric and the arm that the focus arm is compared with."""


def compare_arms(
    config: ReportConfig,
    evidence: Evidence,
    *,
    focus: str,
    noise_arm: str | None,
    weights: Mapping[str, Weights],
    gate: GateConfig | None,
    prices: Mapping[str, EndpointConfig],
    training_seconds: float | None,
    seed: int,
) -> Json:
    """What comparison.json holds: numbers for every metric and pair of arms, and verdicts where a claim is made.

    Args:
        focus: The arm that claims are about.
        noise_arm: The base asked again, which is no rival.
        weights: By arm, whose weights answered.
        gate: What must hold; without it nothing can fail.
        prices: The arms that endpoints answer, with what their tokens cost.
        training_seconds: What making the focus arm took.
        seed: Of the bootstrap.
    """
    pairing = Pairing(focus, noise_arm, weights, config.bootstrap_samples, seed)
    pairs = {
        (task.name, metric, rival): pairing.pair(task, metric, rival)
        for task in evidence.tasks
        for metric in (task.metrics if task.ids else ())
        for rival in pairing.rivals(task)
    }
    named = [key for key in _confirmatory(pairing, evidence, gate) if key in pairs]
    adjusted = dict(zip(named, holm([pairs[key].p for key in named]), strict=True))
    tasks = {
        task.name: {metric: _metric(pairing, task, metric, pairs, adjusted) for metric in task.metrics}
        for task in evidence.tasks
    }
    claims = claims_of(pairing, evidence, tasks)
    guards = guards_of(pairing, evidence, tasks)
    on_guards = verdict_on_guards(pairing, claims, guards)
    costs = {arm: cost_of(config, arm, evidence, prices) for arm in evidence.arms}
    return {
        "focus": focus,
        "verdict": verdict_of(pairing, evidence, claims, on_guards),
        "verdicts": claims,
        "gate": hold_to(gate, pairing, evidence, tasks, guards),
        "tasks": tasks,
        "guards": guards,
        "verdict_on_guards": on_guards,
        "slices": [part for task in evidence.tasks for part in compare_slices(pairing, task)],
        "noise_floor": noise_floor(pairing, evidence),
        "judge": judged(pairing, evidence),
        "cost": costs,
        "break_even": break_even(config, costs, claims, training_seconds),
    }


def _confirmatory(pairing: Pairing, evidence: Evidence, gate: GateConfig | None) -> list[Key]:
    """What was named before the numbers were seen, and is therefore tested with Holm's correction.

    Each target task's primary metric against the best of those to beat, and what else the gate claims.
    """
    tasks = {task.name: task for task in evidence.tasks}
    named = [(task.name, task.primary, BEST_UNTUNED) for task in evidence.tasks if task.role != "guard"]
    named += [
        (claim.task, claim.metric or tasks[claim.task].primary, claim.against)
        for claim in (gate.improved if gate else ())
        if claim.task in tasks
    ]
    resolved = [
        (name, metric, pairing.best_untuned(tasks[name], metric) if against == BEST_UNTUNED else against)
        for name, metric, against in named
        if metric in tasks[name].metrics
    ]
    return list(dict.fromkeys((name, metric, rival) for name, metric, rival in resolved if rival))


def _metric(
    pairing: Pairing,
    task: Asked,
    metric: str,
    pairs: Mapping[Key, PairedDifference],
    adjusted: Mapping[Key, float],
) -> Json:
    """One metric of one task: the arms, and the focus arm less every rival."""
    about, clusters = task.metrics[metric], task.clusters_of(task.ids)
    arms = {}
    for arm in task.samples:
        values = task.scores(arm, metric)
        low, high = mean_interval(
            values, about.kind, clusters=clusters, samples=pairing.samples, seed=pairing.seed, bounded=about.bounded
        )
        mean = fmean(values) if values else 0.0
        arms[arm] = {"n": len(values), "mean": mean, "low": low, "high": high, "failed": task.failed(arm)}
    keys = [(task.name, metric, rival) for rival in pairing.rivals(task)]
    return {
        "kind": about.kind,
        "primary": metric == task.primary,
        "lower_is_better": about.lower_is_better,
        "bounded": about.bounded,
        "arms": arms,
        "pairs": [_pair(pairing, task, key, pairs[key], adjusted) for key in keys if key in pairs],
    }


def _pair(pairing: Pairing, task: Asked, key: Key, pair: PairedDifference, adjusted: Mapping[Key, float]) -> Json:
    p_adjusted = adjusted.get(key)
    # What could be found is told after the correction that the verdict is made with.
    tests = 1 if p_adjusted is None else len(adjusted)
    mde = minimum_detectable_effect(pair.n, pair.spread, tests)
    return {
        "a": pairing.focus,
        "b": key[2],
        "difference": pair.difference,
        "low": pair.low,
        "high": pair.high,
        "p": pair.p,
        "p_adjusted": p_adjusted,
        "discordant": pair.discordant,
        "method": pair.method,
        "clusters": pair.clusters,
        "verdict": NO_CLAIM
        if barred(task, pairing.focus, key[2])
        else verdict(
            pair,
            p_adjusted=p_adjusted,
            effect=task.effect,
            mde=mde,
            lower_is_better=task.metrics[key[1]].lower_is_better,
        ),
        "mde": mde,
        "needed_n": needed_items(task.effect, pair.spread, tests),
        "decoding_differs": decoding_differs(task, pairing.focus, key[2]),
        "reservations": reservations(task, pairing.focus, key[2]),
    }
