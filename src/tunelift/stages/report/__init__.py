"""The report: what the evaluations show, and what the claim rests on. Always rebuilt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tunelift.config.evaluation import EndpointConfig, GateConfig, ReportConfig, Weights
from tunelift.stages.report.comparison import compare_arms
from tunelift.stages.report.evidence import read_evidence
from tunelift.stages.report.gate import check_declared
from tunelift.stages.report.page import write_page, write_pages

VERSION = 5

__all__ = ["VERSION", "check_declared", "report"]


def report(
    config: ReportConfig,
    *,
    name: str,
    focus: str,
    noise_arm: str | None,
    weights: Mapping[str, Weights],
    evaluations: Mapping[str, Path],
    gate: GateConfig | None,
    judge: Path | None,
    dataset: Path | None,
    adapter: Path | None,
    model: Path | None,
    lineage: list[dict[str, Any]],
    environment: dict[str, Any],
    command: str,
    looks: Mapping[str, int],
    training_seconds: float | None,
    prices: Mapping[str, EndpointConfig],
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Compare the arms and write comparison.json, report.html, report.md and gate.md into `out`.

    Args:
        config: How to resample, and what the machine costs.
        name: The run's.
        focus: The arm that claims are about.
        noise_arm: The arm that is the base asked again, if there is one; it is no rival.
        weights: By arm, whose weights answered: claims are against the base model's arms if there are any.
        evaluations: By arm, the folder with samples.jsonl and summary.json.
        gate: The claims that must hold; without any nothing can fail.
        judge: The folder with judge.json and judgements.jsonl, if a model judged the answers.
        dataset: The curated data, if the run made any.
        adapter: The trained adapter, likewise.
        model: The merged model, likewise.
        lineage: One object an artifact: stage, fingerprint, path, seconds, inputs.
        environment: Packages and hardware.
        command: What makes this report again.
        looks: By task, how often tuned models were asked its items.
        training_seconds: What making the tuned model took, if the run made one.
        prices: By arm that an endpoint answered, that endpoint with the price of its tokens.
        seed: Of the bootstrap.
        out: The folder to write into.

    Returns:
        The verdict, the gate and the compared arms.

    Raises:
        UserError: evaluations that cannot be compared, or a file that is missing or torn.
    """
    evidence = read_evidence(evaluations, dataset, adapter, model, judge)
    comparison = compare_arms(
        config,
        evidence,
        focus=focus,
        noise_arm=noise_arm,
        weights=weights,
        gate=gate,
        prices=prices,
        training_seconds=training_seconds,
        seed=seed,
    ) | {"looks": dict(looks)}
    text = json.dumps(comparison, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    # A lone surrogate, which a slice's tag may hold, has no UTF-8.
    (out / "comparison.json").write_bytes(text.encode("utf-8", "backslashreplace"))
    write_pages(
        evidence,
        comparison,
        name=name,
        lineage=lineage,
        environment=environment,
        command=command,
        looks=looks,
        judgements=evidence.judgements,
        out=out,
    )
    write_page("gate.md", {"name": name, "comparison": comparison}, out)
    return {"verdict": comparison["verdict"], "gate": comparison["gate"], "arms": list(evidence.arms)}
