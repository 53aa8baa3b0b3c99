"""Clean rows and held-out items: phrasings, filled and typed, with the call that answers each."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from tool_calls.context import Lists
from tool_calls.dates import today_line
from tool_calls.grammar import TOOLS, Template, load_templates, word_ngrams, words
from tool_calls.noise import finish
from tool_calls.slots import fill

SYSTEM = "Answer with one JSON tool call."
FIRST_DAY, DAYS = date(2025, 1, 1), 3 * 365
ROWS_PER_TOOL, ROWS_WITHOUT_TOOL = 116, 212
ITEMS_PER_TOOL, ITEMS_WITHOUT_TOOL = 10, 20
TOOLS_FILE = Path(__file__).resolve().parents[2] / "evals" / "tool_calls_golden" / "tools.json"


@dataclass(frozen=True)
class Row:
    """One request and the call that answers it."""

    today: str
    request: str
    call: dict[str, Any]
    phrasing: str

    @property
    def user(self) -> str:
        """The user message."""
        return f"Today is {self.today}.\n{self.request}"

    @property
    def reply(self) -> str:
        """The answer as text."""
        return json.dumps(self.call, ensure_ascii=False)


class Maker:
    """Makes rows of `train` or `heldout`; every phrasing is used before any comes twice."""

    def __init__(self, subset: str, seed: int) -> None:
        self.rng = random.Random(f"{subset}-{seed}")
        self.lists = Lists(subset, self.rng)
        self.openers = self.lists.rows["openers"]
        self.templates: dict[str, list[Template]] = {}
        for template in load_templates(subset):
            self.templates.setdefault(template.tool or "none", []).append(template)
        self.order = {
            schema["name"]: list(schema["parameters"]["properties"]) for schema in json.loads(TOOLS_FILE.read_text())
        }

    def cycle(self, tool: str) -> Iterator[Template]:
        """The tool's phrasings in random order, over and over."""
        while True:
            yield from self.rng.sample(self.templates[tool], len(self.templates[tool]))

    def make(self, template: Template) -> Row:
        """A row of this phrasing."""
        today = FIRST_DAY + timedelta(days=self.rng.randrange(DAYS))
        filled = fill(template, self.lists, self.rng, today)
        request = finish(filled, self.openers, self.rng)
        return Row(today_line(today), request, self._call(template.tool, filled.arguments), template.name)

    def _call(self, tool: str | None, arguments: dict[str, Any]) -> dict[str, Any]:
        if tool is None:
            return {"tool": None}
        return {"tool": tool, "arguments": {name: arguments[name] for name in self.order[tool] if name in arguments}}


def training_rows(seed: int, heldout: list[Row], scale: float = 1.0) -> list[Row]:
    """The clean rows: no request twice, and no word 5-gram of a held-out request."""
    maker = Maker("train", seed)
    unseen = {gram for row in heldout for gram in word_ngrams(row.request)}
    taken = {tuple(words(row.request)) for row in heldout}
    rows: list[Row] = []
    for tool in (*TOOLS, "none"):
        wanted = round(scale * (ROWS_WITHOUT_TOOL if tool == "none" else ROWS_PER_TOOL))
        phrasings = maker.cycle(tool)
        while wanted:
            row = _fresh(maker, next(phrasings), taken, unseen)
            if row:
                rows.append(row)
                wanted -= 1
    maker.rng.shuffle(rows)
    return rows


def _fresh(maker: Maker, template: Template, taken: set[tuple[str, ...]], unseen: set[tuple[str, ...]]) -> Row | None:
    """A row that is not there yet; a phrasing without slots is used up after a few tries."""
    for _ in range(8):
        row = maker.make(template)
        key = tuple(words(row.request))
        if key not in taken and not unseen & word_ngrams(row.request):
            taken.add(key)
            return row
    return None


def heldout_rows(seed: int) -> list[Row]:
    """The held-out requests, tool by tool."""
    maker = Maker("heldout", seed)
    taken: set[tuple[str, ...]] = set()
    rows = []
    for tool in (*TOOLS, "none"):
        phrasings, wanted = maker.cycle(tool), ITEMS_WITHOUT_TOOL if tool == "none" else ITEMS_PER_TOOL
        while wanted:
            row = _fresh(maker, next(phrasings), taken, set())
            if row:
                rows.append(row)
                wanted -= 1
    return rows
