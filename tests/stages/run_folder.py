"""A finished run's folder, as comparisons of runs and the notebooks find it."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tests.stages.report_fixture import add_guards, build, make_artifacts, make_evaluations

CONFIG: dict[str, Any] = {
    "name": "quickstart",
    "seed": 17,
    "report": {"bootstrap_samples": 200, "usd_per_hour": None},
    "train": {"learning_rate": 2e-4, "lora": {"rank": 16}},
    "curate": {"sources": [{"path": "a.jsonl"}]},
}


def make_run_folder(root: Path, name: str, seed: int = 5, *, items: int = 40, **train: Any) -> Path:
    """A finished run's folder: config, report, and links to its evaluations of the arms base and tuned."""
    folder, store = root / name, root / "store" / name
    (folder / "stages").mkdir(parents=True)
    evaluations = make_evaluations(store, items, seed, arms=("base", "tuned"))
    for arm, evaluation in evaluations.items():
        add_guards(evaluation, arm, items)
        (folder / "stages" / f"evaluate-{arm}").symlink_to(os.path.relpath(evaluation, folder / "stages"))
    artifacts = make_artifacts(store)
    (folder / "stages" / "curate").symlink_to(os.path.relpath(artifacts["dataset"], folder / "stages"))
    (artifacts["adapter"] / "manifest.json").write_text('{"seconds": 371.0}')
    (folder / "stages" / "train").symlink_to(os.path.relpath(artifacts["adapter"], folder / "stages"))
    out, _ = build(store, evaluations, training_seconds=371.0)
    for file in ("comparison.json", "report.html"):
        shutil.copy(out / file, folder / file)
    config = CONFIG | {"name": name, "train": {**CONFIG["train"], **train}}
    (folder / "resolved.json").write_text(json.dumps(config))
    return folder


def evaluation_of(run: Path, arm: str = "tuned") -> Path:
    return (run / "stages" / f"evaluate-{arm}").resolve()
