"""The report's pages from the same facts: report.html, which needs no network, and report.md."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from tunelift.config.evaluation import NOISE_ARM
from tunelift.runtime.console import clock
from tunelift.stages.report import background, sections, wording
from tunelift.stages.report.browser import embedded_items
from tunelift.stages.report.evidence import Evidence, Json
from tunelift.stages.report.forest import MARKS

TEMPLATES = Path(__file__).parent / "template"
_HIDDEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    r"\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]+"
)
"""The same characters as in report.js: they show nothing, move the text about, or are no characters at all."""


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
        looks: By task, how often a tuned arm was evaluated on its items.
        judgements: Rows of judgements.jsonl; their reasons stand beside the answers.
        out: The folder to write into.
    """
    items, shown, total = embedded_items(evidence, comparison.get("focus"), judgements)
    context = {
        "name": name,
        "comparison": comparison,
        "focus": comparison.get("focus"),
        "headline": sections.headline(comparison),
        "board": sections.board(comparison),
        "arms": [background.arm_section(arm, evidence, comparison) for arm in evidence.arms if arm != NOISE_ARM],
        "tasks": [sections.task_section(task, evidence, comparison, looks.get(task.name)) for task in evidence.tasks],
        "slices": sections.slice_tables(comparison),
        "judge": sections.judge_section(comparison.get("judge"), comparison),
        "noise": sections.noise_rows(comparison),
        "latencies": background.latencies(evidence, comparison),
        "break_even": background.break_even(comparison),
        "training": background.training(evidence),
        "data": background.data(evidence.stats),
        "lineage": lineage,
        "environment": environment,
        "command": command,
        "items_shown": shown,
        "items_total": total,
        "items": Markup(items),  # Escaped for a script element by safe_json.
    }
    for page in ("report.html", "report.md"):
        write_page(page, context, out)


def write_page(page: str, context: Json, out: Path) -> None:
    """Render `page` from its template into `out`, with our own style and scripts inside."""
    style = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in ("base.css", "report.css"))
    scripts = ("page.js", "fields.js", "report.js") if page == "report.html" else ("page.js",)
    script = "".join((TEMPLATES / name).read_text(encoding="utf-8") for name in scripts)
    ours = {
        "made": datetime.now(UTC).strftime("%d %B %Y, %H:%M UTC").lstrip("0"),
        # Ours, not a model's: the policy lets this one script run, whatever else gets into the page.
        "style": Markup(style),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    text = _environment().get_template(f"{page}.j2").render(context | ours)
    # A lone surrogate, which a model can write, has no UTF-8.
    (out / page).write_bytes(text.encode("utf-8", "backslashreplace"))


def _environment() -> Any:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=lambda template: not (template or "").endswith(".md.j2"),
        undefined=jinja2.StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (
        "label",
        "number",
        "percent",
        "points",
        "interval",
        "probability",
        "fact",
        "score",
        "change",
        "span",
        "unit",
        "amount",
    )
    environment.filters |= {word: getattr(wording, word) for word in words}
    environment.filters |= {"clock": clock, "cell": markdown_cell, "pretty": _pretty}
    environment.globals |= {"MARKS": MARKS}
    return environment


def _visible(value: Any) -> Any:
    """Text from elsewhere with what cannot be seen, or would move other text about, named by its code."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return _HIDDEN.sub(lambda match: " ".join(f"U+{ord(character):04X}" for character in match[0]), value)


def markdown_cell(value: Any) -> str:
    """Text that stays one cell of a Markdown table and holds no markup."""
    line = " ".join(str(value).split())
    return re.sub(r"([\\`*\[\]|]|<(?=\S))", r"\\\1", line)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
