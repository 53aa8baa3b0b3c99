"""What made few groups, or a large one, of many different prompts: a split divides groups, not rows."""

from __future__ import annotations

from tunelift.starting.recipe import ENOUGH_GROUPS, group_ratio
from tunelift.starting.survey import SHORT, SHOWN, Survey


def joined(seen: Survey) -> str:
    """The warning, with what to do; empty where different prompts are in groups of their own."""
    largest = max(seen.alike, key=lambda key: (seen.prompts[key], key), default=None)
    if largest is None:
        return ""
    if seen.groups < ENOUGH_GROUPS and 2 * seen.groups <= seen.different:
        what = f"{seen.different:,} different first messages make only {seen.groups:,} groups"
    elif group_ratio(seen) is not None and seen.prompts.most_common(1)[0][0] in seen.alike:
        what = f"One group of rows holds {seen.prompts[largest]:,} of {seen.usable:,}"
    else:
        return ""
    begins = seen.beginnings[largest][:SHORT]
    shared = f" {seen.prompts[largest]:,} rows share the beginning {begins!r}." if len(begins) >= SHOWN // 2 else ""
    return (
        f"{what}, and a group stays in one split. Rows are in one group where their first messages are equal or most "
        f"of their text is, as where many rows share a long instruction and add little of their own.{shared}\n"
        "If they ask different things: put the instruction into the rows' system message, or set "
        "curate.split.alike_prompts: report, which counts prompts that ask the same and does not join them, or raise "
        "curate.duplicates.threshold, so that fewer rows are near duplicates. If a field says what belongs together, "
        "name it as curate.split.group_by."
    )
