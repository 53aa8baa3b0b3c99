"""Signs that a text tries to call a tool though no call can be read from it: it was cut off, or is malformed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

MARKS = re.compile(r"<\|?(?:\w+:)?tool_calls?(?:_begin)?\|?>|<\|python_tag\|>|\[TOOL_CALLS\]|<function=|<｜tool▁call")
"""What models write before native calls: Hermes, Qwen, Granite, Kimi, Llama 3, Mistral, DeepSeek."""
BEGINNING = re.compile(r'\s*(?:\[\s*[A-Za-z_][\w.]*\(|\[?\s*\{\s*"(?:tool|tool_calls)"\s*:)')
"""`[name(` and `{"tool":`."""
NAMED = re.compile(r'[{,]\s*"(?:tool|name)"\s*:\s*"([^"\\]*)"')
GIVEN = re.compile(r'[{,]\s*"(?:arguments|parameters)"\s*:')


def attempts_call(text: str, tools: Iterable[Any]) -> bool:
    """Whether a text from which no call can be read plainly tries to make one.

    Signs are a mark of native calls anywhere; at the beginning `[name(`, `{"tool":` or a known tool's `name(`; JSON
    with a name beside arguments, or with a known tool's name. Prose may speak of functions and hold brackets.
    """
    if MARKS.search(text) or BEGINNING.match(text):
        return True
    named = {found[1] for found in NAMED.finditer(text)}
    known = names_of(tools)
    return bool(named and (named & known or GIVEN.search(text))) or any(_begins_call(text, name) for name in known)


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
