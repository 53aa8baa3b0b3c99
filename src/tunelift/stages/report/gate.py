"""The gate: the claims that the config declares, checked before anything runs and held to the evidence after."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from tunelift.config.evaluation import BEST_UNTUNED, NOISE_ARM, ArmConfig, ClaimConfig, GateConfig
from tunelift.errors import UserError
from tunelift.stages.report.claims import NO_CLAIM, difference_of, pair_with, proof_of
from tunelift.stages.report.evidence import Evidence, Json
from tunelift.stages.report.guards import guard_numbers
from tunelift.stages.report.pairing import Pairing
from tunelift.stages.report.wording import amount, label

if TYPE_CHECKING:
    from tunelift.tasks.task import Task


def check_declared(gate: GateConfig | None, tasks: Sequence[Task], arms: Sequence[ArmConfig]) -> None:
    """Refuse, before hours of training, claims that no evidence of this run could support.

    Raises:
        UserError: a task, metric or arm that does not exist, a target where a guard belongs or the other way round,
            a guard without a margin, or nothing to compare with.
    """
    if gate is None:
        return
    known = {task.name: task for task in tasks}
    rivals = [arm for arm in arms if arm.name != NOISE_ARM]
    focus = next((arm for arm in rivals if arm.model == "tuned"), rivals[-1])
    rivals.remove(focus)
    for claim in gate.improved:
        _check_claim(claim, _named(claim.task, known, "gate.improved"), focus, rivals)
    for name in gate.not_worse:
        _check_guard(_named(name, known, "gate.not_worse"), focus, rivals)


def _named(name: str, known: dict[str, Task], where: str) -> Task:
    if name not in known:
        raise UserError(f"{where} claims something of {name!r}, which is no task.", remedy=_nearest(name, known))
    return known[name]


def _nearest(name: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"There is {', '.join(names) or 'none'}."


def _check_claim(claim: ClaimConfig, task: Task, focus: ArmConfig, rivals: Sequence[ArmConfig]) -> None:
    if task.role == "guard":
        raise UserError(
            f"gate.improved claims {task.name}, which is a guard task.",
            remedy=f"Put it under gate.not_worse, or write `role: target` in the task.yaml of {task.name}.",
        )
    if claim.metric is not None and claim.metric not in task.metrics:
        raise UserError(
            f"gate.improved claims {claim.metric!r} of {task.name}, which has no such metric.",
            remedy=_nearest(claim.metric, task.metrics),
        )
    names = [arm.name for arm in rivals]
    if not names:
        raise UserError(
            f"gate.improved claims {task.name}, but {focus.name} is the only arm.",
            remedy="Add `base` to evaluate.arms.",
        )
    if claim.against == BEST_UNTUNED and all(arm.weights == "tuned" for arm in rivals):
        raise UserError(
            f"gate.improved claims {task.name} against the best untuned arm, but all arms ask the tuned model.",
            remedy="Add `base` to evaluate.arms; or name the arm to beat with `against`.",
        )
    if claim.against not in {BEST_UNTUNED, *names}:
        raise UserError(
            f"gate.improved compares {focus.name} with {claim.against!r} on {task.name}, which is no other arm.",
            remedy=_nearest(claim.against, [BEST_UNTUNED, *names]),
        )


def _check_guard(task: Task, focus: ArmConfig, rivals: Sequence[ArmConfig]) -> None:
    if task.role != "guard":
        raise UserError(
            f"gate.not_worse claims {task.name}, which is a target task.",
            remedy=f"Put it under gate.improved, or write `role: guard` and a margin in the task.yaml of {task.name}.",
        )
    if task.margin is None:
        raise UserError(
            f"gate.not_worse claims {task.name}, which has no margin: how much worse would still be no harm?",
            remedy=f"Write `margin: 0.02`, say, in the task.yaml of {task.name}.",
        )
    if focus.has_own_prompt or all(arm.has_own_prompt or arm.weights == "tuned" for arm in rivals):
        raise UserError(
            f"gate.not_worse claims {task.name}, but {focus.name} and an untuned arm must both be asked it, and an arm "
            "with few_shot, instruction or search is not asked guard tasks.",
            remedy="Add `base` to evaluate.arms; or remove the claim.",
        )


def hold_to(gate: GateConfig | None, pairing: Pairing, evidence: Evidence, tasks: Json, guards: Sequence[Json]) -> Json:
    """Each declared claim with whether it held and why; the gate passes when all did, or none was declared."""
    if gate is None:
        return {"declared": False, "passed": True, "reasons": [], "claims": []}
    claims = [_held(claim, pairing, evidence, tasks) for claim in gate.improved]
    claims += [_guarded(name, pairing, guards) for name in gate.not_worse]
    reasons = [f"Not held: {claim['text']}. {claim['reason']}" for claim in claims if not claim["held"]]
    return {"declared": True, "passed": not reasons, "reasons": reasons, "claims": claims}


def _held(claim: ClaimConfig, pairing: Pairing, evidence: Evidence, tasks: Json) -> Json:
    task = next((task for task in evidence.tasks if task.name == claim.task), None)
    metric = claim.metric or (task.primary if task else "")
    against = claim.against
    if against == BEST_UNTUNED:
        against = pairing.best_of(task) if task else "the best untuned arm"
    text = f"{pairing.focus} is better than {against} on {claim.task}"
    if task is None or metric not in task.metrics:
        return {"text": text, "held": False, "reason": "It was not measured."}
    shown = tasks[task.name][metric] | {"metric": metric}
    text += f" ({label(metric)})"
    if claim.at_least:
        text += f" by more than {amount(claim.at_least, metric, shown['bounded'])}"
    rival = pairing.best_untuned(task, metric) if claim.against == BEST_UNTUNED else claim.against
    if rival not in pairing.rivals(task) or not task.ids:
        return {
            "text": text,
            "held": False,
            "reason": f"There is no answer of {rival or 'another arm'} to compare with.",
        }
    pair = shown | pair_with(shown, rival)
    surely = -pair["high"] if shown["lower_is_better"] else pair["low"]
    numbers = "" if pair["verdict"] == NO_CLAIM else f", {difference_of(pair)} {rival}: {proof_of(pair)}"
    return {
        "text": text,
        "held": pair["verdict"] == "improved" and surely > claim.at_least and not pair["decoding_differs"],
        "reason": " ".join((f"{OUTCOMES[pair['verdict']]}{numbers}.", *pair["reservations"])),
    }


OUTCOMES = {
    "improved": "Improved",
    "not shown": "No difference is shown",
    "regressed": "It got worse",
    "underpowered": "Too few items to tell",
    NO_CLAIM: "No claim is made",
}


def _guarded(name: str, pairing: Pairing, guards: Sequence[Json]) -> Json:
    guard = next((guard for guard in guards if guard["task"] == name), None)
    text = f"{pairing.focus} is no worse on {name}"
    if guard is None:
        return {"text": text, "held": False, "reason": "It was not measured."}
    margin = amount(guard["margin"], guard["metric"], guard["bounded"])
    outcome = {"non-inferior": "Shown", "inferior": "It got worse"}.get(guard["verdict"], "Not shown")
    return {
        "text": f"{pairing.focus} is no worse than {guard['against']} on {name}, within {margin}",
        "held": guard["verdict"] == "non-inferior" and not guard["decoding_differs"],
        "reason": " ".join((f"{outcome}: {guard_numbers(guard)}.", *guard["reservations"])),
    }
