"""Replies that end in the middle. A false alarm costs a good row, so that only what is sure counts."""

from __future__ import annotations

import re
from collections.abc import Callable

import orjson

from tunelift.stages.curate.clean import Fences

FREE_TEXT_WORDS = 40
"""A text with fewer words may end anyhow: a title, a label, a line of verse."""
LAST_LINE_WORDS = 6
SHOWN = 80
"""Characters of the end that are shown."""
JSON_BEGINS = re.compile(r'\{\s*["}]|\{\s*$|\[\s*(?:[\[{"\-\d\]]|true|false|null|$)')
JSON_INSIDE = re.compile(r'\{\s*"[^"\n]*"\s*:')
JSON_ONLY = re.compile(
    r'(?:[\s{}\[\],:\d.eE+-]|"(?:[^"\\]|\\.)*+"|[tT]rue|[fF]alse|null|None)*+'
    r'(?:"(?:[^"\\]|\\.?)*+|[tT]r?u?|[fF]a?l?s?|nu?l?|No?n?|(?<!\.))\Z',
    re.S,
)
"""Nothing but JSON, its last text or word maybe open; a full stop at the end is a sentence's."""
MORE_THAN_NUMBERS = re.compile(r'["{\n]|[,\[]$')
HALF_OPEN = re.compile(r'\[[^\[\]{}"]*\d\s*\[')
"""An interval such as [0, 1[."""
BRACKETS = re.compile(r'["\\{}\[\]]')
BLOCK_LINE = re.compile(r"(?:[-*+•–—#>|$]|\d+[.)]|\w[.)]|[A-Za-z][\w .]{0,24}[:=])(?:\s|$)|```|~~~|\\|\t| {4}")
"""Lines that end anyhow: list items, headings, quotes, tables, formulas, labels, code."""
CODE = re.compile(r"[;{}=<>\\]|\w\(|^\s*(?:def|class|import|from|return|if|for|while|const|let|var|function)\b.*:?$")
LAST_WORD = re.compile(r"(?:^|[\s(\"'“„«])([a-zà-ÿœ]+'?)$")
UNFINISHED = {
    "en": "the a an and or but because of whereas unless until although than into onto between among my your our their "
    "whose every",
    "de": "der dem den des ein eine einen einem einer eines und oder aber weil dass wenn sowie beim zum zur vom im "
    "deren dessen",
    "fr": "le les des du de et ou mais au aux dans ses nos vos leurs un une lorsque afin chez parce puisque",
    "es": "el los las del de y e pero en un una al sus porque aunque cuyo cuya desde según",
    "it": "il lo gli di del della dei delle degli e ma nel nella al alla un una perché sebbene dal dalla sui",
    "pt": "o os do da dos das de e mas em no na nos nas um uma ao pelo pela porque embora seu",
}
"""By language, words with which no sentence ends: articles, conjunctions, prepositions that never stand last."""
_UNFINISHED = {language: frozenset(words.split()) for language, words in UNFINISHED.items()}


def cut_off(reply: str, language: Callable[[str], str | None]) -> str | None:
    """What shows that a reply stops in the middle, in words; None if nothing does.

    Args:
        language: The language of a text as an ISO 639 code, or None where that is not sure. It is asked of few texts.
    """
    text = reply.strip()
    if JSON_BEGINS.match(text):
        return "JSON is not closed" if _json_open(text) else None
    if "```" in text or "~~~" in text:
        fences = Fences()
        for line in text.split("\n"):
            fences.feed(line)
        # An example that shows fences inside of fences is no cut: its lines are even in number.
        if fences.open and fences.lines % 2:
            return "a code block is not closed"
        if text.endswith(("```", "~~~")):
            return None
    inside = JSON_INSIDE.search(text)
    if inside and _json_open(text[inside.start() :]):
        return "JSON is not closed"
    return _text_open(text, language)


def _json_open(text: str) -> bool:
    """Whether the JSON value that the text begins with ends with the text before it is closed.

    Prose that shows the beginning of JSON goes on after it, and a bracket before numbers may open an interval.
    """
    if not JSON_ONLY.match(text) or not MORE_THAN_NUMBERS.search(text) or HALF_OPEN.match(text):
        return False
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        pass
    else:
        return False
    depth, quoted, skip = 0, False, -1
    for match in BRACKETS.finditer(text):
        mark, at = match.group(), match.start()
        if at == skip:
            continue
        if mark == "\\":
            skip = at + 1 if quoted else -1
        elif mark == '"':
            quoted = not quoted
        elif not quoted:
            depth += 1 if mark in "{[" else -1
            if depth == 0:
                return False
    # A quotation mark inside a value that was not escaped looks open to the end, though the value is closed.
    return not (quoted and text[-1] in "}]")


def _text_open(text: str, language: Callable[[str], str | None]) -> str | None:
    last = text.rsplit("\n", 1)[-1].rstrip()
    end = last[-1:]
    if not (end.isalpha() or end in (",", "-", "(")) or len(last.split()) < LAST_LINE_WORDS:
        return None
    if len(text.split()) < FREE_TEXT_WORDS or BLOCK_LINE.match(last) or CODE.search(last):
        return None
    shown = f"ends with {last[-SHOWN:]!r}"
    if not end.isalpha():
        return shown if end != "-" or last[-2:-1].isalpha() else None
    opened = last.rfind("(")
    if opened >= 0 and ")" not in last[opened:] and last[opened - 1 : opened].isspace() and last[opened + 1].isalnum():
        return shown
    word = LAST_WORD.search(last)
    if word and any(word[1] in words for words in _UNFINISHED.values()):
        return shown if word[1] in _UNFINISHED.get(language(text) or "", ()) else None
    return None
