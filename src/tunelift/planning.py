"""What a run would do, before it does it: nothing here makes or changes an artifact."""

from __future__ import annotations

import os
from pathlib import Path

from tunelift.artifacts.records import Artifact
from tunelift.config.evaluation import NOISE_ARM
from tunelift.pipeline import REPORT_FILES, STAGES, Pipeline
from tunelift.runs import RUNS
from tunelift.runtime import hardware
from tunelift.runtime.template import template_note
from tunelift.tasks.statistics import Spread, minimum_detectable_effect, needed_items
from tunelift.tasks.task import Task

BYTES_BF16, BYTES_FP32 = 2, 4
ADAM_COPIES = 3
"""A checkpoint holds the fp32 adapter and Adam's two moments."""


def describe(run: Pipeline) -> str:
    """The resolved run as text: model, machine, choices with reasons, state of each stage, disk."""
    machine = hardware.detect()
    lines = [
        f"run      {run.folder}",
        f"model    {run.base.id}: {run.base.architecture}, {run.base.parameters:,} parameters, {run.base.dtype}"
        + (f", {run.base.note}" if run.base.note else ""),
        f"template {template_note(run.base.path, run.config.model)}",
        f"machine  {machine.name}, {machine.memory_gib:g} GiB, {machine.cores} cores ({machine.device})",
        "",
        "chosen for you",
        *(f"  {choice.field} = {choice.value}: {choice.why}" for choice in run.choices),
        "",
        "stages",
        *(
            f"  {name:18} {'found ' + os.path.relpath(found.path) if found else 'to be made'}"
            for name, found in stages(run).items()
        ),
        f"  {'report':18} always made again",
        "",
        "what the evaluation can show",
        *(f"  {line}" for line in power(run)),
        "",
        f"disk     {disk_needed_gib(run):.2f} GiB needed at most, {hardware.free_gib(RUNS):.1f} GiB free",
    ]
    return "\n".join(lines)


def power(run: Pipeline) -> list[str]:
    """For each task: the smallest difference that its items show in 80% of runs, and what it would take to see less."""
    dataset = run.store.find(run.curate_plan())
    tasks = run.tasks(dataset) if dataset else run.folder_tasks
    lines = [_power_of(task.first(run.config.evaluate.max_items)) for task in tasks]
    if not dataset and any(not isinstance(task, str) for task in run.config.evaluate.tasks):
        lines.append("tasks from a split: known once the data set is made (tunelift curate)")
    return lines


def _power_of(task: Task) -> str:
    scorer = task.scorer(task.primary)
    n, groups = len(task.items), [item.cluster for item in task.items]
    distinct_groups = len(set(groups) - {None})
    about = f"{task.name:20} {task.role}, {n} items" + (f" in {distinct_groups} clusters" if distinct_groups else "")
    if not scorer.bounded:
        return f"{about}: {task.primary} has no usual spread, so what it can show is known after the run"
    spread = Spread.assumed(scorer.kind, clusters=groups if distinct_groups else None)
    assumed = f"{spread.value:.0%} of the items differ" if scorer.kind == "binary" else f"deviation {spread.value}"
    smallest = minimum_detectable_effect(n, spread)
    wanted = task.margin if task.role == "guard" and task.margin else task.effect
    if smallest is None:
        return f"{about}: too few to show any difference in {task.primary}"
    text = f"{about}: {task.primary} ± {100 * smallest:.1f} points (if {assumed})"
    if smallest <= wanted:
        return text
    return f"{text}; {100 * wanted:g} points, as the task wants, take {needed_items(wanted, spread):,} items"


def stages(run: Pipeline) -> dict[str, Artifact | None]:
    """Each cached stage's artifact; none where it, or what it is made from, has to be made."""
    dataset = run.store.find(run.curate_plan())
    adapter = run.store.find(run.train_plan(dataset)) if dataset else None
    model = run.store.find(run.merge_plan(dataset, adapter)) if dataset and adapter else None
    found: dict[str, Artifact | None] = {"curate": dataset, "train": adapter, "merge": model}
    for arm in run.arms:
        weights = run.answering(arm, model)[0] if model or arm.model != "tuned" else None
        found[f"evaluate-{arm.name}"] = (
            run.store.find(run.evaluate_plan(arm, weights, dataset)) if dataset and weights else None
        )
    if run.config.judge:
        evaluations = {arm.name: found[f"evaluate-{arm.name}"] for arm in run.arms if arm.name != NOISE_ARM}
        there = {name: made for name, made in evaluations.items() if made}
        found["judge"] = (
            run.store.find(run.judge_plan(run.config.judge, dataset, there))
            if dataset and len(there) == len(evaluations)
            else None
        )
    return found


def disk_needed_gib(run: Pipeline) -> float:
    """Upper bound of what the stages write: the merged model, the adapter, and the checkpoints on the way."""
    train = run.config.train
    adapter_bytes = run.base.linear_dims * train.adapter.rank * BYTES_FP32
    # One more is written before the oldest is deleted; the best one is kept beside the newest.
    checkpoints = train.keep_checkpoints + 1 + (train.best.by != "last")
    return (run.base.parameters * BYTES_BF16 + adapter_bytes * (1 + ADAM_COPIES * checkpoints)) / 2**30


def locations(run: Pipeline) -> dict[str, str | None]:
    """Where the run's folder, its artifacts and its report lie; none for what is not there."""

    def there(path: Path) -> str | None:
        return str(path.resolve()) if path.exists() else None

    names = [
        name
        for stage in STAGES
        for name in ([f"evaluate-{arm.name}" for arm in run.arms] if stage == "evaluate" else [stage])
        if name != "judge" or run.config.judge
    ]
    found = {"run": there(run.folder), **{name: there(run.folder / "stages" / name) for name in names}}
    return found | {name: there(run.folder / name) for name in (*REPORT_FILES, "metrics.jsonl")}
