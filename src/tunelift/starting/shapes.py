"""What replies are made of: JSON's keys, kinds of values, and values where they are few; the kind of short texts."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tunelift.tasks.scorers.json_values import NotJsonError, parse_json
from tunelift.tasks.scorers.numbers import only_number
from tunelift.tasks.scorers.tool_calls import parse_calls

MOST_VALUES = 50
"""Different texts of a field that are named; each must stand for several rows."""
MOST_FIELDS = 20
"""Keys of an object that are named; one with more is a map, whose keys are values."""
LONGEST_VALUE = 40
"""Characters of a text that may be one of few."""
ALWAYS = 0.95
"""A key in a smaller share of the objects may be left out."""

_DAY = r"\d{4}-\d\d?-\d\d?|\d\d?([./-])\d\d?\1(?:\d{4}|\d\d)|\d{4}/\d\d?/\d\d?|\d{4}年\d\d?月\d\d?日"
_MONTH = r"(?:jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*\.?"
_WORDED = rf"{_MONTH} \d\d?(?:st|nd|rd|th)?(?:,? \d{{4}})?|\d\d?(?:st|nd|rd|th)?\.? {_MONTH}(?:,? \d{{4}})?"
_TIME = r"\d\d?:\d\d(?::\d\d(?:\.\d+)?)?(?: ?[ap]\.?m\.?)?"
KINDS = {
    "a date": re.compile(rf"{_DAY}|{_WORDED}", re.IGNORECASE),
    "a time": re.compile(_TIME, re.IGNORECASE),
    "a date and a time": re.compile(rf"(?:{_DAY})[T ]{_TIME}(?:Z| ?[+-]\d\d:?\d\d)?", re.IGNORECASE),
    "a number and its unit": re.compile(r"[-+]?\d[\d.,]* ?[^\W\d_]{1,12}[²³]?(?:/[^\W\d_]{1,4})?"),
}
"""Kinds of short texts that can be told for sure."""


def kind_of(texts: Sequence[str]) -> str | None:
    """The kind in `KINDS` that nearly all of the texts have."""
    for name, pattern in KINDS.items():
        if texts and sum(bool(pattern.fullmatch(text)) for text in texts) >= ALWAYS * len(texts):
            return name
    return None


def typical(texts: Sequence[str]) -> str | None:
    """One of the texts: of those that are built like most, the first of middle length; None where there is none."""
    built = [re.sub(r"[^\W\d_]+", "a", re.sub(r"\d+", "0", text)) for text in texts]
    ((most, _),) = Counter(built).most_common(1) or [("", 0)]
    like = [text for text, one in zip(texts, built, strict=True) if one == most]
    return sorted(like, key=len)[len(like) // 2] if like else None


@dataclass
class JsonShape:
    """What the values in one place of many JSON documents have in common."""

    count: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    """text, number, true or false, null, object, list."""
    texts: Counter[str] = field(default_factory=Counter)
    """The texts, as long as they are few."""
    fields: dict[str, JsonShape] = field(default_factory=dict)
    """Of the objects; some more than are named."""
    entries: JsonShape | None = None
    """Of the lists."""
    sizes: set[int] = field(default_factory=set)
    """How many entries the lists have."""

    def add(self, value: Any) -> None:
        """Take one more value in."""
        self.count += 1
        self.kinds[kind(value)] += 1
        if isinstance(value, str) and len(self.texts) <= MOST_VALUES:
            self.texts[value] += 1
        elif isinstance(value, dict):
            for key, inner in value.items():
                if key in self.fields or len(self.fields) <= MOST_FIELDS:
                    self.fields.setdefault(key, JsonShape()).add(inner)
        elif isinstance(value, list):
            self.entries = self.entries or JsonShape()
            self.sizes.add(len(value))
            for inner in value:
                self.entries.add(inner)

    @property
    def optional(self) -> bool:
        """Whether keys are left out in some of the objects, here or further in."""
        objects = self.kinds["object"]
        inner = [*self.fields.values(), *([self.entries] if self.entries else [])]
        named = self.fields.values() if len(self.fields) <= MOST_FIELDS else ()
        return any(one.count < ALWAYS * objects for one in named) or any(one.optional for one in inner)

    def written(self, most: int = MOST_VALUES) -> str:
        """In one line: `{"town": "Bonn" | "Oslo", "basket": number, "notes": [text]}`.

        Args:
            most: Texts of a field that are named.
        """
        return " | ".join(self._alternatives(most)) or "anything"

    def _alternatives(self, most: int) -> list[str]:
        found = []
        if self.kinds["object"]:
            few = 0 < len(self.fields) <= MOST_FIELDS
            inside = ", ".join(f"{_text(key)}: {inner.written(most)}" for key, inner in self.fields.items())
            found.append(f"{{{inside}}}" if few else "{…}")
        if self.kinds["list"]:
            found.append(f"[{self.entries.written(most) if self.entries and self.entries.count else '…'}]")
        if self.kinds["text"]:
            few = len(self.texts) <= most and len(self.texts) * 3 <= self.kinds["text"]
            named = few and all(len(text) <= LONGEST_VALUE for text in self.texts)
            found += [_text(text) for text in sorted(self.texts)] if named else ["text"]
        return found + [name for name in ("number", "true or false", "null") if self.kinds[name]]


def kind(value: Any) -> str:
    """Of a JSON value, in words."""
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "object" if isinstance(value, dict) else "list" if isinstance(value, list) else "null"


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def reply_kind(reply: str) -> tuple[str, Any]:
    """The kind of a reply (calls_in_text, json, number, text), and the JSON that it is."""
    text = reply.strip()
    if text.startswith("<tool_call>"):
        found = [{"name": call.name, "arguments": call.arguments} for call in parse_calls(text) or ()]
        return ("calls_in_text" if found else "text"), found[0] if len(found) == 1 else found or None
    try:
        value = parse_json(text)
    except NotJsonError:
        return ("number" if _is_number(text) else "text"), None
    if isinstance(value, list) and value and all(_is_call(entry) for entry in value):
        return "calls_in_text", value
    if isinstance(value, (dict, list)):
        return ("calls_in_text" if _is_call(value) else "json"), value
    return ("number" if _is_number(text) else "text"), value


def _is_call(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    return "tool" in value or ("name" in value and bool({"arguments", "parameters"} & value.keys()))


def _is_number(text: str) -> bool:
    return only_number(text, units=False) is not None  # A number with another unit is another answer.
