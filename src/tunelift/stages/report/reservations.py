"""What the comparison of two arms has to say beside its numbers, so that no claim rests on it unsaid."""

from __future__ import annotations

from tunelift.stages.report.answered import about, count_withheld
from tunelift.stages.report.engines import engines_differ
from tunelift.stages.report.evidence import Asked
from tunelift.stages.report.wording import listed


def reservations(task: Asked, focus: str, rival: str) -> list[str]:
    """Sentences; none where both arms read and answered everything to its end, greedily, through one engine."""
    of = f"of {len(task.ids)} items of {task.name}"
    found = []
    if lost := task.failed(focus):
        found.append(
            f"{focus} has no answer to {lost} {of}{_withheld(task, focus)}, which count as failures; "
            "the interval holds whatever they would have been."
        )
    if lost := task.failed(rival):
        found.append(
            f"{rival} has no answer to {lost} {of}{_withheld(task, rival)}; "
            "the interval holds even had it got them all right."
        )
    found += [*about(task, focus, is_focus=True), *about(task, rival)]
    if decoding_differs(task, focus, rival):
        found.append(f"{_sampled(task, focus, rival)}, so that no claim of a gate can rest on this.")
    return found + _engines(task, rival, focus)


def reservations_between(task: Asked, one: str, other: str) -> list[str]:
    """The same where neither of the two has to prove anything."""
    found = [
        f"{run} has no answer to {lost} of {len(task.ids)} items of {task.name}{_withheld(task, run)}; "
        "whatever they would have been, the difference lies in its interval."
        for run in (one, other)
        if (lost := task.failed(run))
    ]
    found += [*about(task, one), *about(task, other)]
    if decoding_differs(task, one, other):
        found.append(f"{_sampled(task, one, other)}: the difference on {task.name} may be the decoding's.")
    return found + _engines(task, other, one)


def _engines(task: Asked, one: str, other: str) -> list[str]:
    differ = engines_differ(task, one, other)
    return [f"{differ}: part of the difference may be the engine's."] if differ else []


def _withheld(task: Asked, arm: str) -> str:
    """How many of the missing answers were there, so to speak, but not given."""
    withheld = count_withheld(task, arm)
    return f" ({withheld} withheld by a filter or refused by the model)" if withheld else ""


def _sampled(task: Asked, one: str, other: str) -> str:
    sampled = listed([arm for arm in (one, other) if task.sampled_by[arm]])
    return f"The decoding differs: {sampled} took no temperature and answered at the endpoint's default"


def decoding_differs(task: Asked, focus: str, rival: str) -> bool:
    """Whether not both answered greedily, nor by one endpoint's default."""
    return task.sampled_by[focus] != task.sampled_by[rival]
