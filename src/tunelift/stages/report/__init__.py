"""The report: what the evaluations show, and what the claim rests on. Always rebuilt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunelift.config.schema import ReportConfig
from tunelift.stages.report.comparison import compare_arms
from tunelift.stages.report.evidence import read_evidence
from tunelift.stages.report.page import write_pages

VERSION = 1


def report(
    config: ReportConfig,
    *,
    name: str,
    evaluations: Mapping[str, Path],
    dataset: Path | None,
    adapter: Path | None,
    model: Path | None,
    lineage: list[dict[str, Any]],
    environment: dict[str, Any],
    command: str,
    looks: Mapping[str, int],
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Compare the arms and write comparison.json, report.html and report.md into `out`.

    Args:
        config: How to resample, and what the machine costs.
        name: The run's.
        evaluations: By arm, the folder with samples.jsonl and summary.json.
        dataset: The curated data, if the run made any.
        adapter: The trained adapter, likewise.
        model: The merged model, likewise.
        lineage: One object an artifact: stage, fingerprint, path, seconds, inputs.
        environment: Packages and hardware.
        command: What makes this report again.
        looks: By task, how often a tuned arm was evaluated on its items.
        seed: Of the bootstrap.
        out: The folder to write into.

    Returns:
        The verdict, the gate and the compared arms.

    Raises:
        UserError: evaluations that cannot be compared, or a file that is missing or torn.
    """
    evidence = read_evidence(evaluations, dataset, adapter, model)
    comparison = compare_arms(config, evidence, seed)
    text = json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (out / "comparison.json").write_text(text, encoding="utf-8")
    write_pages(
        evidence, comparison, name=name, lineage=lineage, environment=environment, command=command, looks=looks, out=out
    )
    return {"verdict": comparison["verdict"], "gate": comparison["gate"], "arms": list(evidence.arms)}
