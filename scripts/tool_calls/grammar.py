"""Phrasing files: one request template a line, with alternatives and slots.

    ! set [a|the] timer for {mins}        an imperative: may be wrapped as in "could you ~?"
    ? how much is {money} in {cur}?       a question
    . {room} {light} off :: action=off    a statement or fragment, with a fixed argument

`[a|b|]` picks one of the alternatives (the last here is nothing), `{slot}` is filled by `slots.py`. A line's place in its
file is its name: `set_timer-017`.
"""

from __future__ import annotations

import random
import re
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
TOOLS = (
    "create_event",
    "set_reminder",
    "set_timer",
    "send_message",
    "control_device",
    "set_thermostat",
    "get_weather",
    "track_order",
    "return_order",
    "open_ticket",
    "search_flights",
    "book_table",
    "convert_currency",
)
KINDS = {"!": "imperative", "?": "question", ".": "statement"}


@dataclass(frozen=True)
class Template:
    """One phrasing. `tool` is None when no tool serves it."""

    name: str
    tool: str | None
    kind: str
    text: str
    fixed: dict[str, Any]


@dataclass(frozen=True)
class Segment:
    """A piece of a request. `kind` says what noise may do to it.

    carrier: anything; soft (dates, times): lower case, abbreviations, typos; free (texts): lower case, dropped apostrophes;
    name (people, restaurants), number (with unit): lower case; city: lower case, typos; id (order ids): nothing.
    """

    text: str
    kind: str


@dataclass
class Filled:
    """A template with its slots filled: the pieces of the request and the call that answers it."""

    template: Template
    segments: list[Segment]
    arguments: dict[str, Any] = field(default_factory=dict)


def load_templates(subset: str) -> list[Template]:
    """All templates of `train` or `heldout`, in file order."""
    templates = []
    for tool in (*TOOLS, "none"):
        path = FOLDER / "phrasings" / subset / f"{tool}.txt"
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
        templates += [_parse(line, tool, number) for number, line in enumerate(lines, start=1)]
    return templates


def _parse(line: str, tool: str, number: int) -> Template:
    text, _, constants = line[2:].partition(" :: ")
    fixed = dict(_constant(part) for part in re.findall(r"\w+=[^=]+(?= \w+=|$)", constants))
    return Template(f"{tool}-{number:03d}", None if tool == "none" else tool, KINDS[line[0]], text.strip(), fixed)


def _constant(part: str) -> tuple[str, Any]:
    name, value = part.split("=")
    return name, int(value) if value.isdigit() else value


def expand(text: str, rng: random.Random) -> str:
    """Pick one of each `[a|b]`."""
    return re.sub(r"\[([^\]]*)\]", lambda match: rng.choice(match[1].split("|")), text).replace("  ", " ").strip()


def split_slots(text: str) -> list[tuple[bool, str]]:
    """(is it a slot, its name or the plain text) in order."""
    parts = re.split(r"\{(\w+)\}", text)
    return [(index % 2 == 1, part) for index, part in enumerate(parts) if part]


def sentence_case(text: str) -> str:
    """The text with a capital first letter."""
    return text[:1].upper() + text[1:]


def words(text: str) -> list[str]:
    """Words for comparing phrasings: runs of letters and digits, without case (so "I'm" is two)."""
    return re.findall(r"[^\W_]+", unicodedata.normalize("NFKC", text).casefold())


def word_ngrams(text: str, n: int = 5) -> set[tuple[str, ...]]:
    """The word n-grams of a text."""
    tokens = words(text)
    return {tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)}
