"""The report's pages from the same facts: report.html, which needs no network, and report.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tunelift.config.evaluation import NOISE_ARM
from tunelift.runtime.console import clock
from tunelift.runtime.page import write_page as render_page
from tunelift.stages.report import background, sections, wording
from tunelift.stages.report.browser import embedded_items
from tunelift.stages.report.evidence import Evidence, Json
from tunelift.stages.report.forest import MARKS

TEMPLATES = Path(__file__).parent / "template"


def write_pages(
    evidence: Evidence,
    comparison: Json,
    *,
    name: str,
    lineage: list[Json],
    environment: Json,
    command: str,
    looks: Mapping[str, int],
    judgements: Sequence[Json] = (),
    out: Path,
) -> None:
    """Write report.html and report.md into `out`.

    Args:
        evidence: The answers, and how data and model came to be.
        comparison: What comparison.json holds.
        name: The run's.
        lineage: One object an artifact.
        environment: Packages and hardware.
        command: What makes the report again.
        looks: By task, how often tuned models were asked its items.
        judgements: Rows of judgements.jsonl; their reasons stand beside the answers.
        out: The folder to write into.
    """
    rivals = {claim["task"]: claim["best_untuned"] for claim in comparison["verdicts"]}
    rivals |= {guard["task"]: guard["against"] for guard in comparison["guards"]}
    embedded = embedded_items(evidence, comparison.get("focus"), judgements, rivals)
    context = {
        "name": name,
        "comparison": comparison,
        "focus": comparison.get("focus"),
        "headline": sections.headline(comparison),
        "board": sections.board(comparison),
        "arms": [background.arm_section(arm, evidence, comparison) for arm in evidence.arms if arm != NOISE_ARM],
        "tasks": [sections.task_section(task, evidence, comparison, looks.get(task.name)) for task in evidence.tasks],
        "slices": sections.slice_tables(comparison),
        "guards": sections.guard_sentences(evidence, comparison),
        "num_claims": sections.num_claims(comparison),
        "judge": sections.judge_section(comparison.get("judge")),
        "noise": sections.noise_rows(comparison),
        "latencies": background.latencies(evidence, comparison),
        "break_even": background.break_even(comparison),
        "training": background.training(evidence),
        "data": background.data(evidence.stats),
        "lineage": lineage,
        "environment": environment,
        "command": command,
        "shown": () if embedded.is_whole else embedded.counts,
        "items": Markup(embedded.text),  # Escaped for a script element by safe_json.
    }
    for page in ("report.html", "report.md"):
        write_page(page, context, out)


def write_page(page: str, context: Json, out: Path) -> None:
    """Render `page` from its template into `out`, with our own style and scripts inside."""
    words = {
        name: getattr(wording, name)
        for name in (
            "label",
            "number",
            "percent",
            "points",
            "interval",
            "probability",
            "tested",
            "fact",
            "score",
            "change",
            "span",
            "unit",
            "amount",
            "times",
        )
    }
    made = datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0")
    render_page(
        page,
        context | {"made": made},
        out,
        templates=TEMPLATES,
        styles=("report.css",),
        scripts=("report.js",) if page == "report.html" else (),
        words=words | {"clock": clock, "cell": markdown_cell, "pretty": _pretty, "sign": MARKS.__getitem__},
    )


def markdown_cell(value: Any) -> str:
    """Text that stays one cell of a Markdown table and holds no markup."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]|]|<(?=\S))", r"\\\1", line)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
