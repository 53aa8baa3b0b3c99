"""The report's two pages from the same facts: report.html, which needs no network, and report.md."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tunelift.runtime.console import clock
from tunelift.stages.report import figures, wording
from tunelift.stages.report.browser import embedded_items
from tunelift.stages.report.comparison import FOCUS
from tunelift.stages.report.evidence import Asked, Evidence, Json

TEMPLATES = Path(__file__).parent / "template"
TRAIN_FACTS = ("loss", "eval_loss", "grad_norm", "learning_rate", "tokens_per_second")
"""Shown beside the loss curve, as logged last."""


def write_pages(
    evidence: Evidence,
    comparison: Json,
    *,
    name: str,
    lineage: list[Json],
    environment: Json,
    command: str,
    looks: Mapping[str, int],
    out: Path,
) -> None:
    """Write report.html and report.md into `out`."""
    items, shown, total = embedded_items(evidence)
    pairs = [
        pair for metrics in comparison["tasks"].values() for metric in metrics.values() for pair in metric["pairs"]
    ]
    scale = figures.axis(100 * pair[end] for pair in pairs for end in ("low", "high"))
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    context = {
        "name": name,
        "made": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        "comparison": comparison,
        "focus": FOCUS,
        "arms": [_arm(arm, evidence, comparison) for arm in evidence.arms],
        "tasks": [_task(task, evidence, comparison, looks.get(task.name)) for task in evidence.tasks],
        "scale": scale,
        "training": _training(evidence),
        "data": _data(evidence.stats),
        "lineage": lineage,
        "environment": environment,
        "command": command,
        "items_shown": shown,
        "items_total": total,
        # Ours, not the model's: `items` is escaped for a script element, and the policy lets this one script run.
        "style": Markup((TEMPLATES / "report.css").read_text(encoding="utf-8")),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "items": Markup(items),
    }
    for page in ("report.html", "report.md"):
        text = _environment().get_template(f"{page}.j2").render(context)
        # A lone surrogate, which a model can write, has no UTF-8.
        (out / page).write_bytes(text.encode("utf-8", "backslashreplace"))


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda template: template != "report.md.j2",
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = ("label", "number", "percent", "points", "interval", "probability", "fact")
    environment.filters |= {word: getattr(wording, word) for word in words}
    drawn = {"strip": figures.strip, "meter": figures.meter}
    environment.filters |= {"clock": clock, "cell": markdown_cell, "pretty": _pretty, **drawn}
    return environment


def markdown_cell(value: Any) -> str:
    """Text that stays one cell of a Markdown table and holds no markup."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]|]|<(?=\S))", r"\\\1", line)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _arm(arm: str, evidence: Evidence, comparison: Json) -> Json:
    summary = evidence.summaries[arm]
    model = summary.get("model", {})
    return {
        "name": arm,
        "model": _scalars({"prompt": summary.get("prompt"), **model}),
        "prompt": summary.get("prompt", ""),
        "decoding": _scalars(summary.get("decoding", {})),
        "engine": _scalars(summary.get("engine", {})),
        "cost": comparison["cost"][arm],
    }


def _task(task: Asked, evidence: Evidence, comparison: Json, looks: int | None) -> Json:
    about = {arm: summary["tasks"][task.name] for arm, summary in evidence.summaries.items()}
    return {
        "name": task.name,
        "version": task.version,
        "role": task.role,
        "description": about[evidence.arms[0]].get("description", ""),
        "n": len(task.ids),
        "looks": looks,
        "primary": task.primary,
        "claim": next((claim for claim in comparison["verdicts"] if claim["task"] == task.name), None),
        "metrics": comparison["tasks"][task.name],
        "clusters": task.clusters,
        "cut_off": {arm: cut for arm, one in about.items() if (cut := one.get("cut_off"))},
        "failed": {arm: failed for arm in task.samples if (failed := task.failed(arm))},
    }


def _training(evidence: Evidence) -> Json:
    training, evaluation = (figures.loss_points(evidence.metrics, key) for key in ("loss", "eval_loss"))
    last: Json = {}
    for row in evidence.metrics:
        last |= {key: value for key, value in row.items() if value is not None}
    facts = {"steps": last["step"]} if "step" in last else {}
    return {
        "curve": figures.loss_curve(training, evaluation) if len(training) + len(evaluation) > 1 else None,
        "facts": facts | {key: last[key] for key in TRAIN_FACTS if key in last},
        "preflight": _scalars(evidence.preflight),
        "preflight_more": {key: value for key, value in evidence.preflight.items() if not _is_scalar(value) and value},
        "parity": _scalars(evidence.parity),
    }


def _data(stats: Json) -> Json:
    rows = stats.get("rows", {})
    read = rows.get("read", 0)
    steps = [("read", "", read)]
    steps += [
        (kind, reason, count) for kind in ("dropped", "quarantined") for reason, count in rows.get(kind, {}).items()
    ]
    steps += [("kept", "", rows.get("kept", 0))]
    funnel = [
        {"kind": kind, "reason": reason, "count": count, "share": count / max(read, 1)} for kind, reason, count in steps
    ]
    return {
        "funnel": funnel if read else [],
        "splits": stats.get("splits", {}),
        "contamination": stats.get("contamination", {}),
    }


def _scalars(facts: Json) -> dict[str, Any]:
    """The short facts that are known, those of an inner object under both names."""
    flat: dict[str, Any] = {}
    for key, value in facts.items():
        if isinstance(value, dict) and all(_is_scalar(inner) for inner in value.values()):
            flat |= {f"{key}: {inner}": shown for inner, shown in value.items()}
        elif value is not None and _is_scalar(value):
            flat[key] = value
    return flat


def _is_scalar(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 12 and all(isinstance(item, int | float | str) and len(str(item)) <= 60 for item in value)
    return value is None or (isinstance(value, int | float | str) and len(str(value)) <= 400)
