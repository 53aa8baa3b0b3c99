"""What the comparison of two arms has to say beside its numbers, so that no claim rests on it unsaid."""

from __future__ import annotations

from tunelift.stages.report.evidence import Asked
from tunelift.stages.report.wording import listed


def reservations(task: Asked, focus: str, rival: str) -> list[str]:
    """Sentences; none where both arms answered everything, and greedily."""
    of = f"of {len(task.ids)} items of {task.name}"
    found = []
    if lost := task.failed(focus):
        found.append(f"{focus} has no answer to {lost} {of}, which count as failures.")
    if lost := task.failed(rival):
        found.append(f"{rival} has no answer to {lost} {of}; the interval holds even had it got them all right.")
    if decoding_differs(task, focus, rival):
        sampled = listed([arm for arm in (focus, rival) if task.sampled_by[arm]])
        found.append(
            f"The decoding differs: {sampled} took no temperature and answered at the endpoint's default, "
            "so that no claim of a gate can rest on this."
        )
    return found


def decoding_differs(task: Asked, focus: str, rival: str) -> bool:
    """Whether not both answered greedily, nor by one endpoint's default."""
    return task.sampled_by[focus] != task.sampled_by[rival]
