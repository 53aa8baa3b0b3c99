"""Rows as a reader sees them: turns with a name and a text, cut to a length; two of them side by side."""

from __future__ import annotations

import difflib
import re
from typing import Any

import orjson
from markupsafe import Markup, escape

from tunelift.runtime.page import visible
from tunelift.stages.curate.pii import covered

Json = dict[str, Any]
Turn = tuple[str, str]
"""Who says it, or the name of its field; and what."""

LONGEST = 600
"""Of a row that is shown, in characters."""
LONGEST_FACT = 300
MOST_TURNS = 12
COMPARED_WORDS = 600
"""Of each of two rows: comparing takes time by the square of it."""
CONTEXT_WORDS = 12
"""Shown at either end of a long run of words that two rows share."""
ROLES = {"human": "user", "gpt": "assistant", "instruction": "user", "output": "assistant", "prompt": "user"}
ROLES |= {"completion": "assistant", "response": "assistant"}
"""What other formats call the same."""
_WORDS = re.compile(r"\s*\S+|\s+$")


def turns(row: Any) -> list[Turn]:
    """The messages of a row in any format; where it has none, its fields."""
    if not isinstance(row, dict):
        return [("", plain(row))]
    for key in ("messages", "conversations"):
        if isinstance(row.get(key), list):
            return [_turn(message) for message in row[key]]
    return [(ROLES.get(str(key), str(key)), plain(value)) for key, value in row.items() if value not in ("", None)]


def _turn(message: Any) -> Turn:
    if not isinstance(message, dict):
        return ("", plain(message))
    role = str(message.get("role") or message.get("from") or "")
    said = message.get("content", message.get("value", ""))
    calls = message.get("tool_calls")
    return (ROLES.get(role, role), plain(said) + (f" {plain(calls)}" if calls else ""))


def plain(value: Any) -> str:
    """A value as text: itself, or as JSON; personal data and secrets in it are masked."""
    text = value if isinstance(value, str) else "" if value is None else orjson.dumps(value, default=str).decode()
    return covered(text)


def cut(text: str, longest: int = LONGEST) -> str:
    """No longer than this; what is left out is said."""
    left = len(text) - longest
    return text if left <= 0 else f"{text[:longest]} … {left:,} more characters"


def shown(found: list[Turn], longest: int = LONGEST) -> list[Turn]:
    """Turns of no more than so many characters in all, and the first 12; a long one leaves the others their share."""
    first, allowed = found[:MOST_TURNS], {}
    for done, index in enumerate(sorted(range(len(first)), key=lambda index: len(first[index][1]))):
        allowed[index] = min(len(first[index][1]), longest // (len(first) - done))
        longest -= allowed[index]
    told = [(cut(name, 40), cut(text, allowed[index])) for index, (name, text) in enumerate(first)]
    left = len(found) - len(first)
    return [*told, ("", f"… {left:,} more")] if left else told


def side_by_side(kept: Any, other: Any) -> tuple[Markup, Markup]:
    """Two rows as markup, without system messages; words that only one of them has stand in <mark>."""
    left, right = (_words(turns(row)) for row in (kept, other))
    matcher = difflib.SequenceMatcher(None, [word.strip() for word in left], [word.strip() for word in right], False)
    ours, theirs = Markup(), Markup()
    for kind, start, end, begin, stop in matcher.get_opcodes():
        ours += _run(left[start:end], kind == "equal")
        theirs += _run(right[begin:stop], kind == "equal")
    return ours, theirs


def _words(found: list[Turn]) -> list[str]:
    """Each with the white space before it; the first words alone."""
    text = "\n".join(text[: 20 * COMPARED_WORDS] for name, text in found[:MOST_TURNS] if name != "system")
    words: list[str] = _WORDS.findall(text)
    return [word[:200] for word in words[:COMPARED_WORDS]]


def _run(words: list[str], shared: bool) -> Markup:
    if not words:
        return Markup()
    if not shared:
        lead = words[0][: len(words[0]) - len(words[0].lstrip())]
        text = "".join(words)[len(lead) :]
        return escape(visible(lead)) + Markup("<mark>{}</mark>").format(visible(cut(text)))
    if len(words) > 3 * CONTEXT_WORDS:
        words = [*words[:CONTEXT_WORDS], " …", *words[-CONTEXT_WORDS:]]
    return escape(visible("".join(words)))


def spanned(row: Any, span: str, longest: int = LONGEST) -> Markup:
    """A row's text around `span`, which stands in <mark>; only the span where the row has it in another form."""
    text = "\n".join(text for _, text in turns(row))
    at = text.find(span) if span else -1
    marked = Markup("<mark>{}</mark>").format(visible(cut(span, LONGEST_FACT)))
    if at < 0:
        return marked
    around = max(0, longest - len(span)) // 2
    before, after = text[max(0, at - around) : at], text[at + len(span) : at + len(span) + around]
    return escape(visible("… " * (at > around) + before)) + marked + escape(visible(after))


def facts(evidence: Json) -> list[Turn]:
    """What shows that a reason holds, as names and values; a remedy is advice and no evidence."""
    return [
        (key.replace("_", " "), cut(plain(value), LONGEST_FACT)) for key, value in evidence.items() if key != "remedy"
    ]
