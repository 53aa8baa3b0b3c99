"""Items, tasks and scorers for the tests of scorers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tunelift.tasks.scorers import Scorer, build_scorers
from tunelift.tasks.task import Item, Task

TOOLS = (
    {
        "name": "remind",
        "parameters": {
            "type": "object",
            "properties": {
                "text": {"type": "string"},
                "date": {"type": "string", "format": "date"},
                "minutes": {"type": "integer", "minimum": 1},
            },
            "required": ["text"],
            "additionalProperties": False,
        },
    },
    {"type": "function", "function": {"name": "ping", "parameters": {"type": "object", "properties": {}}}},
)
REMIND = {"tool": "remind", "arguments": {"text": "call Anna", "minutes": 30}}


def item(*accepted: object, **more: Any) -> Item:
    return Item(id="1", prompt=(), instructed=(), accepted=accepted, question="", **more)


def task(*scorers: Scorer) -> Task:
    return Task("t", 1, "target", "", "", (), scorers, "exact_match", 8, TOOLS)


def scorer(rule: str, *, folder: Path = Path(), **options: Any) -> Scorer:
    return build_scorers([{"scorer": rule, **options}], folder=folder, has_tools=True)[0]


def one(rule: str, output: str, *accepted: object, **options: Any) -> float:
    return scorer(rule, **options).function(output, item(*accepted), task())


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
anything = st.text(st.characters(exclude_categories=[])) | json_values.map(str)
"""Any text, lone surrogates and control characters included, and Python's spelling of values."""
