"""Signs that a text tries to call a tool though no call can be read from it: it was cut off, or is malformed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

MARKS = re.compile(r"<\|?(?:\w+:)?tool_calls?(?:_begin)?\|?>|<\|python_tag\|>|\[TOOL_CALLS\]|<function=|<｜tool▁call")
"""What models write before native calls: Hermes, Qwen, Granite, Kimi, Llama 3, Mistral, DeepSeek."""
_QUOTE = "[\"'\u201c\u201d\u2018\u2019]"
"""Also those that are no JSON: `{'tool': 'f'}` is an attempt."""
BEGINNING = re.compile(rf"\s*(?:\[\s*[A-Za-z_][\w.]*\(|\[?\s*\{{\s*{_QUOTE}?(?:tool|tool_calls){_QUOTE}?\s*:)")
"""`[name(` and `{"tool":`."""
NAMED = re.compile(
    rf"[{{,]\s*{_QUOTE}?(?:tool|name){_QUOTE}?\s*:\s*{_QUOTE}([^\"'\u201c\u201d\u2018\u2019\\]*){_QUOTE}"
)
GIVEN = re.compile(rf"[{{,]\s*{_QUOTE}?(?:arguments|parameters){_QUOTE}?\s*:")
VALUE = re.compile(r"[\"']|(?<!\w)\d|(?<!\w)(?:[Tt]rue|[Ff]alse|None|null)(?!\w)")
"""What tells `pay(5)` from `pay(amount)`, by which prose speaks of a function."""
MAX_LOOKED_AT = 200
"""Characters behind `name(` that are searched for a value."""


def attempts_call(text: str, tools: Iterable[Any]) -> bool:
    """Whether a text from which no call can be read plainly tries to make one.

    Signs are a mark of native calls anywhere; at the beginning `[name(`, `{"tool":` or a known tool's `name(`; JSON
    with a name beside arguments, or with a known tool's name; anywhere a known tool's `name(` with a value behind it,
    or cut off. Prose may speak of functions and hold brackets.
    """
    if MARKS.search(text) or BEGINNING.match(text):
        return True
    named = {found[1] for found in NAMED.finditer(text)}
    known = names_of(tools)
    if (named and (named & known or GIVEN.search(text))) or any(_begins_call(text, name) for name in known):
        return True
    return any(_gives_value(text, found.end()) for found in called(known).finditer(text) if found[0][-2] != " ")


@lru_cache(maxsize=256)
def called(names: frozenset[str]) -> re.Pattern[str]:
    """Finds `name(` of these tools: no part of a longer name, no method of another object, no definition."""
    either = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.compile(
        r"(?<![A-Za-z0-9_])(?<![A-Za-z0-9_)\]][.-])(?<!\bdef )(?<!\bwith )(?<!\bfunction )"
        rf"(?:(?:functions|tools|default_api)\.)?(?:{either or '(?!)'}) ?\("
    )


def _gives_value(text: str, start: int) -> bool:
    looked_at = text[start : start + MAX_LOOKED_AT]
    inside, closed, _ = looked_at.partition(")")
    return bool(VALUE.search(inside)) or (not closed and start + len(looked_at) == len(text))


def names_of(tools: Iterable[Any]) -> frozenset[str]:
    """The names of tools, of those that have one."""
    return frozenset(name for name in map(name_of, tools) if name)


def _begins_call(text: str, name: str) -> bool:
    """`name(` from the first character, closed by the last or cut off; what goes on behind it is prose."""
    text = text.strip()
    rest = text.removeprefix(name)
    return rest != text and rest.startswith("(") and (rest.endswith(")") or rest.count("(") > rest.count(")"))


def name_of(tool: Any) -> str | None:
    """The name in a tool's schema, bare or in OpenAI's form; None if it has none."""
    described = tool.get("function", tool) if isinstance(tool, dict) else None
    name = described.get("name") if isinstance(described, dict) else None
    return name if isinstance(name, str) else None
