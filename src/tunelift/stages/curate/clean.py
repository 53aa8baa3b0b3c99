"""What is mended in a conversation: text that was decoded wrongly, control characters, white space.

Nothing that has a meaning is touched: quotes, ligatures, widths, HTML entities and the Unicode form stay as they are,
and so does what stands in code, and broken text that a row quotes or talks about.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tunelift.config.curation import CleanConfig
from tunelift.stages.curate.order import in_order

Message = dict[str, Any]

CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\u206a-\u206f\ufff9-\ufffc\ufeff\ud800-\udfff]")
"""What ftfy takes out or repairs, wherever it stands; joiners and marks of direction are no such characters."""
FOREIGN = re.compile(r"[^\x00-\x7f]+")
FOLLOWING = "\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸЂЃѓЉЊЌЋЏђљњќћџЎўЈҐЁЄЇІіґё№єјЅѕї"
"""The bytes 80 to BF as Windows code pages show them: in UTF-8 they follow the first byte of a character."""
UNUSUAL = re.compile(
    "[^\x00-\x7f](?:(?<=[^\xa0-\xffœŒ‘’“”„…–—•€™А-яЁё\u0590-\u0eff\u3000-\u30ff\u3400-\u9fff\uac00-\ud7a3\uff00-\uffdc"
    f"\u2600-\u27bf\ufe0f\u200d\U0001f000-\U0001faff])|(?<=[Â-ôРСВГв])[{FOLLOWING}]|(?<=[ÂÃ])(?![A-Za-zÀ-ÿ])|(?<=ï)»¿)"
)
"""Mojibake has one of these: a character met in few texts, or the two that one was taken for."""
NEAR = 3
"""Characters beside one that is not ASCII that can tell whether it is mojibake."""
LOOSE = re.compile(r"\n(?:(?<=[^\S\n]\n)|\n\n)")
"""White space at the end of a line, or two blank lines: without one there is nothing to do inside a text."""
PROSE = re.compile(r"[^\W\d_a-z][^=(){}\[\];<>_]*")
"""A line that begins as sentences do, and has no sign of code."""
ONE_BLANK = re.compile(r"\n \S")
CODE = r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`"
"""Fenced or inline."""
_CODE = re.compile(f"({CODE})", re.S)
_CODE_OR_QUOTE = re.compile(rf"({CODE}|\"[^\"\n]{{1,60}}\"|(?<!\w)'[^'\n]{{1,60}}'(?!\w))", re.S)
"""Longer quotations are what people say."""
_SURROGATE = re.compile("[\ud800-\udfff]")
ABOUT = re.compile(
    r"\b(?:en|de)cod|mojibake|utf[- ]?(?:8|16)|unicode|latin[- ]?1\b|windows-125|cp125\d|iso[- ]8859|charset"
    r"|character set|code ?page|garbled|gibberish|(?:weird|strange|odd|wrong|funny) (?:characters|letters|symbols)"
    r"|escape (?:code|seq)|\bansi\b|(?:wrong (?:in|with) th(?:is|e)|broken|corrupt(?:ed)?) text"
    r"|zeichensatz|zeichensalat|kodier|encodage|codifica",
    re.IGNORECASE,
)
"""Who talks so of broken text or of escapes means them as they stand."""
SHOWN_CHANGES, SHOWN_AROUND, SHOWN_CHARACTERS = 3, 30, 200
FENCE = re.compile(r"[ \t>]*(`{3,}|~{3,})(.*)")


def mend(messages: Sequence[Message], config: CleanConfig) -> tuple[list[Message], tuple[str, ...]]:
    """The messages with their texts mended, and what was done: `turn_order`, `unicode`, `whitespace`, or nothing.

    Unicode is repaired in everything that a message says, the arguments of tool calls included; white space in its
    text and thinking. Mending twice is mending once. Messages that need nothing come back as they are.
    """
    edits: dict[str, None] = {}
    mended, before = list(messages), None
    if config.turn_order == "mend" and (mended := in_order(messages)) != messages:
        edits["turn_order"] = None
    while mended != before:  # Again, since mojibake can come to light at the beginning of a line.
        before = mended
        if config.unicode:
            mended = _repaired_where_meant(before)
            edits |= {"unicode": None} if mended != before else {}
        if config.whitespace:
            loose, mended = mended, [_with_texts(message, tidied) for message in mended]
            edits |= {"whitespace": None} if mended != loose else {}
    return mended, tuple(sorted(edits))


def _repaired_where_meant(messages: list[Message]) -> list[Message]:
    mended = [_with_strings(message, repaired) for message in messages]
    if mended == messages:
        return messages
    texts = [text for message in messages for text in _texts(message)]
    # Where nothing else is broken, what stands between quotation marks is meant.
    meant = not any(map(_broken_outside_quotes, texts)) or any(map(ABOUT.search, texts))
    return messages if meant else mended


def changes(messages: Sequence[Message], mended: Sequence[Message]) -> list[dict[str, Any]]:
    """The first places where other than white space was mended: `message`, and the text `before` and `after`."""
    found = []
    for index, (old, new) in enumerate(zip(messages, mended, strict=True)):
        for before, after in zip(map(str.strip, _texts(old)), map(str.strip, _texts(new)), strict=True):
            if "".join(before.split()) == "".join(after.split()):
                continue
            start = max(0, _alike(before, after) - SHOWN_AROUND)
            tail = max(0, _alike(before[start:][::-1], after[start:][::-1]) - SHOWN_AROUND)
            shown = [text[start : len(text) - tail][:SHOWN_CHARACTERS] for text in (before, after)]
            found.append({"message": index, "before": shown[0], "after": shown[1]})
    return found[:SHOWN_CHANGES]


def _alike(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    both = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(both) if a != b), min(len(one), len(other)))


def _texts(message: Message) -> Iterator[str]:
    """All that a message says: `_with_strings` edits the same."""
    yield from (message[key] for key in ("content", "reasoning_content") if isinstance(message.get(key), str))
    said: list[str] = []

    def note(text: str) -> str:
        said.append(text)
        return text

    map_strings(message.get("tool_calls"), note)
    yield from said


def _with_texts(message: Message, edit: Callable[[str], str]) -> Message:
    texts = {key: message[key] for key in ("content", "reasoning_content") if isinstance(message.get(key), str)}
    changed = {key: new for key, old in texts.items() if (new := edit(old)) != old}
    return {**message, **changed} if changed else message


def _with_strings(message: Message, edit: Callable[[str], str]) -> Message:
    message = _with_texts(message, edit)
    calls = message.get("tool_calls")
    return {**message, "tool_calls": map_strings(calls, edit)} if calls else message


def map_strings(value: Any, edit: Callable[[str], str]) -> Any:
    """A JSON value with each of its strings edited; the keys of objects stay."""
    if isinstance(value, str):
        return edit(value)
    if isinstance(value, list):
        return [map_strings(entry, edit) for entry in value]
    if isinstance(value, dict):
        return {key: map_strings(entry, edit) for key, entry in value.items()}
    return value


def repaired(text: str) -> str:
    """Text without control characters and terminal escapes, and with mojibake undone; code stays as it is."""
    # ftfy costs half a millisecond for a page, so that what cannot need it is found first.
    if not _broken(text):
        return text
    pieces = _CODE.split(text)  # What is spared is every second one.
    if len(pieces) == 1:
        return _fixed(text)
    pieces[::2] = [_fixed(piece) if _broken(piece) else piece for piece in pieces[::2]]
    pieces[1::2] = [_SURROGATE.sub("\ufffd", piece) for piece in pieces[1::2]]
    return "".join(pieces)


def _broken_outside_quotes(text: str) -> bool:
    """Whether more is broken than code and what stands between quotation marks; those of JSON are no quotations."""
    spared = _CODE if text.lstrip()[:1] in ("{", "[") else _CODE_OR_QUOTE
    return _broken(text) and any(map(_broken, spared.split(text)[::2]))


def _broken(text: str) -> bool:
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return False
    return CONTROL.search(text) is not None or _looks_bad(text)


def _looks_bad(text: str) -> bool:
    if not UNUSUAL.search(text):
        return False
    from ftfy.badness import is_bad

    spans = (match.span() for match in FOREIGN.finditer(text))
    return is_bad("\n".join(text[max(0, start - NEAR) : end + NEAR] for start, end in spans))


def _fixed(text: str) -> str:
    from ftfy import fix_text

    return fix_text(
        text,
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        normalization=None,
    )


def tidied(text: str) -> str:
    """Text without white space at its ends and at the ends of its lines, and with one blank line where there are more.

    Code fences keep theirs. Of several lines the first keeps its indentation, unless it is prose: code would mean
    something else without it.
    """
    text = text.replace("\r\n", "\n") if "\r" in text else text
    if text[:1].isspace():
        text = _without_blank_start(text)
    text = text.rstrip()
    return text if LOOSE.search(text) is None else _tidied_lines(text)


def _without_blank_start(text: str) -> str:
    indent, first = first_line(text)
    line, *others = first.split("\n")
    loose = PROSE.fullmatch(line) is not None and not any(other[:1].isspace() for other in others if other.strip())
    return first if loose or "\n" not in first.rstrip() or is_glue(indent, first) else indent + first


def first_line(text: str) -> tuple[str, str]:
    """The white space before the first line that is not blank, and the text from there."""
    first = text.lstrip()
    return text[text.rfind("\n", 0, len(text) - len(first)) + 1 : len(text) - len(first)], first


def is_glue(indent: str, first: str) -> bool:
    """Whether a first line's indentation only parts it from a prompt: one blank, where no other line has one."""
    return not indent or (indent == " " and ONE_BLANK.search(first) is None)


def _tidied_lines(text: str) -> str:
    lines: list[str] = []
    fences = Fences()
    for line in text.split("\n"):
        inside = fences.open
        fences.feed(line)
        if inside and fences.open:
            lines.append(line)
            continue
        line = line.rstrip()
        if line or not lines or lines[-1] or inside:
            lines.append(line)
    return "\n".join(lines)


class Fences:
    """Follows code fences from line to line, as CommonMark 4.5 has them."""

    def __init__(self) -> None:
        self.open = ""
        """The fence that is open, empty if none is."""
        self.lines = 0
        """Lines that could open or close a fence so far."""

    def feed(self, line: str) -> None:
        """Take in the next line."""
        match = FENCE.match(line) if "```" in line or "~~~" in line else None
        if match is None or "`" in match[2]:
            return
        self.lines += 1
        if not self.open:
            self.open = match[1]
        elif match[1].startswith(self.open) and not match[2].strip():
            self.open = ""
