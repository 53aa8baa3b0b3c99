"""How many answers are none or were cut off, by arm, and on which comparisons no claim can rest because of it."""

from __future__ import annotations

from tunelift.engines.withheld import WITHHELD
from tunelift.stages.report.evidence import Asked, Json
from tunelift.tasks.thinking import never_began

LEAST_LIMIT = 2048
"""Tokens that are suggested to an arm that thinks before it answers; more where it had that many."""
RAISED = 4


def barred(task: Asked, focus: str, rival: str, *, either: bool = False) -> bool:
    """Whether no claim rests on the comparison, whatever its numbers.

    The rival's answers never began on too many items, or one of the two did not read its prompts. Answers of the focus
    arm that never began are its failures; with `either`, as on a guard, they say nothing of what it knows either.
    """
    silent = (focus, rival) if either else (rival,)
    return any(task.silent[arm] for arm in silent) or any(task.unread.get(arm) for arm in (focus, rival))


def count_withheld(task: Asked, arm: str) -> int:
    """Answers that a filter or the model itself withheld."""
    return sum(bool(WITHHELD.match(str(row.get("error") or ""))) for row in task.samples[arm].values())


def about(task: Asked, arm: str, *, is_focus: bool = False) -> list[str]:
    """Sentences on an arm's answers that never began, were cut off or may begin with thinking; on unread prompts."""
    return [*_unread(task, arm), *_silent(task, arm, is_focus), *_cut_off(task, arm), *_tagged(task, arm)]


def _unread(task: Asked, arm: str) -> list[str]:
    found: Json | None = task.unread.get(arm)
    if not found:
        return []
    prompts = f"a prompt of {found['words']:,} words or more" if found["why"] == "fewer" else "prompts of all lengths"
    says = (
        f"The endpoint of {arm} counts {found['tokens']:,} tokens in {prompts} ({found['items']} of {len(task.ids)} "
        f"prompts of {task.name}): it cuts prompts off or counts wrongly, and no claim rests on it. Raise its context "
        "length (num_ctx of Ollama), or shorten the prompts."
    )
    return [says]


def _silent(task: Asked, arm: str, is_focus: bool) -> list[str]:
    rows = [row for row in task.samples[arm].values() if never_began(row)]
    if not rows:
        return []
    cut = sum(row.get("finish_reason") == "length" for row in rows)
    limit = f"the limit of {task.max_tokens:,} tokens" if task.max_tokens else "the token limit"
    says = f"{len(rows)} of {len(task.ids)} answers of {arm} to {task.name} never began"
    says += f", {'all' if cut == len(rows) else cut} cut off at {limit}" if cut else ", though none was cut off"
    if not task.silent[arm]:
        return [f"{says}."]
    rests = "which count as failures, and in the interval as anything" if is_focus else "so no claim rests on them"
    if not cut:
        return [f"{says}, {rests}: read what {arm} wrote in samples.jsonl."]
    raised = max(LEAST_LIMIT, RAISED * (task.max_tokens or 0))
    where = "in the task's task.yaml, or beside from_split"
    return [f"{says}, {rests}: set max_tokens to {raised} or more ({where}) and evaluate again."]


def _cut_off(task: Asked, arm: str) -> list[str]:
    cut = sum(
        row.get("finish_reason") == "length" and not row.get("error") and not never_began(row)
        for row in task.samples[arm].values()
    )
    at = f"at {task.max_tokens:,} tokens" if task.max_tokens else "at the token limit"
    return [f"{arm} was cut off {at} in {cut} of {len(task.ids)} answers to {task.name}."] if cut else []


def _tagged(task: Asked, arm: str) -> list[str]:
    found = task.tagged.get(arm)
    if not found:
        return []
    block = f"<{found['tag']}>…</{found['tag']}>"
    says = (
        f"{found['items']} of {len(task.ids)} answers of {arm} to {task.name} begin with {block}, which was scored as "
        "a part of the answer: if it is thinking, switch it off, or have the endpoint send it apart."
    )
    return [says]
