"""What the comparison of two arms has to say beside its numbers, so that no claim rests on it unsaid."""

from __future__ import annotations

from tunelift.stages.report.evidence import Asked


def reservations(task: Asked, focus: str, rival: str) -> list[str]:
    """Sentences, none where both arms answered everything."""
    of = f"of {len(task.ids)} items of {task.name}"
    found = []
    if lost := task.failed(focus):
        found.append(f"{focus} has no answer to {lost} {of}, which count as failures.")
    if lost := task.failed(rival):
        found.append(f"{rival} has no answer to {lost} {of}; the interval holds even had it got them all right.")
    return found
