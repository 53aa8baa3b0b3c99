"""What a run would do, before it does it: nothing here makes or changes an artifact."""

from __future__ import annotations

import os
from pathlib import Path

from tunelift.artifacts.records import Artifact
from tunelift.pipeline import RUNS, STAGES, Run
from tunelift.runtime import hardware

BYTES_BF16, BYTES_FP32 = 2, 4
ADAM_COPIES = 3
"""A checkpoint holds the fp32 adapter and Adam's two moments."""
KEPT_CHECKPOINTS = 2


def describe(run: Run) -> str:
    """The resolved run as text: model, machine, choices with reasons, state of each stage, disk."""
    machine = hardware.detect()
    lines = [
        f"run      {run.folder}",
        f"model    {run.base.id}: {run.base.architecture}, {run.base.parameters:,} parameters, {run.base.dtype}"
        + (f", {run.base.note}" if run.base.note else ""),
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
        f"disk     {disk_needed_gib(run):.2f} GiB needed at most, {hardware.free_gib(RUNS):.1f} GiB free",
    ]
    return "\n".join(lines)


def stages(run: Run) -> dict[str, Artifact | None]:
    """Each cached stage's artifact; none where it, or what it is made from, has to be made."""
    dataset = run.store.find(run.curate_plan())
    adapter = run.store.find(run.train_plan(dataset)) if dataset else None
    model = run.store.find(run.merge_plan(dataset, adapter)) if dataset and adapter else None
    found: dict[str, Artifact | None] = {"curate": dataset, "train": adapter, "merge": model}
    for arm in run.config.evaluate.arms:
        weights = (model.content if model else None) if arm == "tuned" else run.base.fingerprint
        found[f"evaluate-{arm}"] = (
            run.store.find(run.evaluate_plan(arm, weights, dataset)) if dataset and weights else None
        )
    return found


def disk_needed_gib(run: Run) -> float:
    """Upper bound of what the stages write: the merged model, the adapter, and the checkpoints on the way."""
    adapter_bytes = run.base.linear_dims * run.config.train.adapter.rank * BYTES_FP32
    return (run.base.parameters * BYTES_BF16 + adapter_bytes * (1 + ADAM_COPIES * (KEPT_CHECKPOINTS + 1))) / 2**30


def locations(run: Run) -> dict[str, str | None]:
    """Where the run's folder, its artifacts and its report lie; none for what is not there."""

    def there(path: Path) -> str | None:
        return str(path.resolve()) if path.exists() else None

    names = [
        name
        for stage in STAGES
        for name in ([f"evaluate-{arm}" for arm in run.config.evaluate.arms] if stage == "evaluate" else [stage])
    ]
    found = {"run": there(run.folder), **{name: there(run.folder / "stages" / name) for name in names}}
    return found | {
        name: there(run.folder / name) for name in ("report.html", "report.md", "comparison.json", "metrics.jsonl")
    }
