"""Personal data and secrets in a conversation: redacted, dropped with the row, or listed."""

from __future__ import annotations

import re
from bisect import bisect, bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import orjson

from tunelift.config.curation import PiiConfig
from tunelift.runtime.supervision import is_supervised
from tunelift.stages.curate.number_names import is_named_card, is_named_id
from tunelift.stages.curate.pii_shapes import DIGIT, FINDERS, WITHOUT_DIGITS
from tunelift.stages.curate.rows import Fault

Message = dict[str, Any]

ESCAPE = re.compile(r'(?P<json>\\(?:u[0-9a-fA-F]{4}|["\\/bfnrt]))|\\(?=[!-/:-@\[-`{-~])')
"""Of JSON, or a backslash before punctuation, as Markdown has it."""
JSON_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.S)
BY_CONTEXT = ("secret", "phone")
"""Kinds whose values may be known by what stands before them, and so must be looked for where nothing does."""
TOOL_TEXTS = 4096
"""Remembered at a time, out of the tools' definitions."""
LONG_NUMBER = 10**11
"""Whole numbers as large may be card numbers; smaller ones among a tool's arguments are none."""


@dataclass(frozen=True)
class Finding:
    """A value found in a message; the value itself is not in it."""

    kind: str
    """`secret`, `email`, `iban`, `card`, `ip` or `phone`."""
    action: str
    """`redact`, `drop` or `report`."""
    message: int | None
    """Index among the messages, from 0; none where it stands in the tools' definitions."""
    masked: str
    """What may be shown: `a…@example.com`."""


@dataclass(frozen=True)
class PiiResult:
    """What was found in a conversation, and what became of it."""

    messages: list[Message]
    """With placeholders where values were redacted."""
    tools: list[Message] | None
    """Likewise; none where there are no tools."""
    findings: tuple[Finding, ...]
    """One for each value and message, in the order of the text."""
    fault: Fault | None
    """`pii_<kind>` where the row is to be dropped."""

    @property
    def edits(self) -> tuple[str, ...]:
        """The kinds that were redacted, sorted."""
        return tuple(sorted({found.kind for found in self.findings if found.action == "redact"}))


@dataclass(frozen=True, order=True)
class Hit:
    """A value where it stands in a text."""

    start: int
    end: int
    kind: str
    value: str


def _take(taken: list[Hit], hit: Hit) -> None:
    """Add it in its place, unless it overlaps another."""
    at = bisect(taken, hit)
    if (at == 0 or taken[at - 1].end <= hit.start) and (at == len(taken) or hit.end <= taken[at].start):
        taken.insert(at, hit)


class Pii:
    """Finds personal data and secrets, and does with them what `curate.pii` says."""

    def __init__(self, config: PiiConfig) -> None:
        self._actions = {kind: getattr(config, kind) for kind in FINDERS}
        self._finders = {kind: find for kind, find in FINDERS.items() if self._actions[kind] != "off"}
        self._without_digits = {kind: find for kind, find in self._finders.items() if kind in WITHOUT_DIGITS}
        # Many rows have the same tools.
        self._hits_in_tools = lru_cache(TOOL_TEXTS)(self.hits)

    def apply(self, messages: Sequence[Message], tools: Sequence[Message] | None = None) -> PiiResult:
        """Look through everything that the row says: content, thinking, names and arguments of tool calls, tools.

        Equal values get equal placeholders throughout the row: `[EMAIL_1]`. A message that is JSON stays JSON.
        """
        findings: dict[tuple[int | None, str, str], Finding] = {}
        found: list[tuple[int | None, str, str, Hit]] = [
            (index, name, text, hit)
            for index, message in enumerate(messages)
            for name, text in _strings(message)
            for hit in self.hits(text)
        ]
        found += [(None, name, text, hit) for name, text in _strings_in(tools) for hit in self._hits_in_tools(text)]
        ids = _ids([(name, text, hit) for _, name, text, hit in found if hit.kind == "card"])
        hits = [(index, hit) for index, _, _, hit in found if not _is_id(hit, ids)]
        for index, hit in hits:
            entry = Finding(hit.kind, self._actions[hit.kind], index, masked(hit.kind, hit.value))
            findings.setdefault((index, hit.kind, key(hit.kind, hit.value)), entry)
        listed, fault = tuple(findings.values()), None
        worst = next((found for found in listed if found.action == "drop"), None)
        if worst:
            place = {"in": "tools"} if worst.message is None else {"message": worst.message}
            fault = Fault(f"pii_{worst.kind}", {**place, "masked": worst.masked})
        elif any(found.action == "redact" for found in listed):
            redaction = _Redaction(self, messages, tools, ids)
            return PiiResult(redaction.messages(), redaction.tools(), listed, None)
        return PiiResult(list(messages), list(tools) if tools else None, listed, fault)

    def hits(self, text: str) -> list[Hit]:
        """The values in a text in their order; none overlaps another."""
        seen, gone = _unescaped(text) if "\\" in text else (text, [])
        taken: list[Hit] = []  # In order, so that only neighbours can overlap.
        kinds = self._finders if DIGIT.search(text) else self._without_digits
        for kind, find in kinds.items():
            for start, end in sorted(find(seen), key=lambda span: (span[0] - span[1], span[0])):
                start, end = start + bisect_left(gone, start), end + bisect_left(gone, end)
                value = text[start:end]
                _take(taken, Hit(start, end, kind, ESCAPE.sub(_of_json, value) if gone else value))
        return taken

    def redacts(self, kind: str) -> bool:
        """Whether values of a kind give way to placeholders."""
        return bool(self._actions[kind] == "redact")


PLACEHOLDER = re.compile(rf"\[(?:{'|'.join(FINDERS).upper()})_\d+\]")


def redacted_replies(before: Sequence[Message], after: Sequence[Message]) -> tuple[str, ...]:
    """Of each supervised reply, the first placeholder that redaction put into it; "" where there is none."""
    return tuple(
        "" if new == old else next(iter(PLACEHOLDER.findall(orjson.dumps(new, default=str).decode())), "")
        for old, new in zip(before, after, strict=True)
        if is_supervised(new)
    )


class _Redaction:
    """Puts placeholders into a row."""

    def __init__(
        self, pii: Pii, messages: Sequence[Message], tools: Sequence[Message] | None, ids: frozenset[str]
    ) -> None:
        self._pii, self._messages, self._tools, self._ids = pii, messages, tools, ids
        self._names: dict[tuple[str, str], str] = {}
        """By kind and value, the placeholder."""
        self._values: dict[str, str] = {}
        """By a value whose surroundings gave it away, its kind."""
        self._count: Counter[str] = Counter()
        texts = [text for message in messages for _, text in _strings(message)]
        texts += [text for _, text in _strings_in(tools)]
        for text in texts:
            for hit in self._hits(text):
                self._name(hit.kind, hit.value, texts)
                if hit.kind in BY_CONTEXT:
                    self._values.setdefault(hit.value, hit.kind)
        parts = (rf"(?<!\w){re.escape(value)}(?!\w)" for value in sorted(self._values, key=len, reverse=True))
        self._known = re.compile("|".join(parts)) if self._values else None

    def messages(self) -> list[Message]:
        """The conversation with its placeholders."""
        return [_edited(message, self._redacted) for message in self._messages]

    def tools(self) -> list[Message] | None:
        """The tools' definitions with theirs."""
        return [_edited_in(tool, self._redacted) for tool in self._tools] if self._tools else None

    def _name(self, kind: str, value: str, texts: Sequence[str]) -> str:
        place = (kind, key(kind, value))
        if place not in self._names:
            self._count[kind] += 1
            while any(f"[{kind.upper()}_{self._count[kind]}]" in text for text in texts):
                self._count[kind] += 1
            self._names[place] = f"[{kind.upper()}_{self._count[kind]}]"
        return self._names[place]

    def _hits(self, text: str) -> list[Hit]:
        return [hit for hit in self._pii.hits(text) if self._pii.redacts(hit.kind) and not _is_id(hit, self._ids)]

    def _redacted(self, text: str) -> str:
        hits = self._hits(text)
        for match in self._known.finditer(text) if self._known else ():
            _take(hits, Hit(*match.span(), self._values[match.group()], match.group()))
        if not hits:
            return text
        quoted = _json_strings(text)
        pieces, position = [], 0
        for hit in hits:
            name = self._names[hit.kind, key(hit.kind, hit.value)]
            bare = quoted is not None and not any(start < hit.start < end for start, end in quoted)
            pieces += [text[position : hit.start], f'"{name}"' if bare else name]
            position = hit.end
        return "".join([*pieces, text[position:]])


def _ids(cards: Sequence[tuple[str, str, Hit]]) -> frozenset[str]:
    """Of the numbers that look like cards' those that the row calls ids or orders somewhere, and cards nowhere.

    Args:
        cards: The key that each stands under, if any, its text, and where it stands there.
    """
    named = {key("card", hit.value) for name, text, hit in cards if is_named_id(text, hit.start, name)}
    if not named:
        return frozenset()
    called = {key("card", hit.value) for name, text, hit in cards if is_named_card(text, hit.start, name)}
    return frozenset(named - called)


def _is_id(hit: Hit, ids: frozenset[str]) -> bool:
    return hit.kind == "card" and bool(ids) and key("card", hit.value) in ids


def _unescaped(text: str) -> tuple[str, list[int]]:
    """The text with blanks for JSON's escapes and without other backslashes; the places where those were taken out."""
    gone: list[int] = []

    def blank(match: re.Match[str]) -> str:
        if match["json"]:
            return " " * len(match["json"])
        gone.append(match.start() - len(gone))
        return ""

    return ESCAPE.sub(blank, text), gone


def _of_json(match: re.Match[str]) -> str:
    return match["json"] or ""


def _json_strings(text: str) -> list[tuple[int, int]] | None:
    """Where the strings of a text stand that is JSON; None where it is none."""
    if text.lstrip()[:1] not in ("{", "[") and not text.strip().isdigit():
        return None
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return [match.span() for match in JSON_STRING.finditer(text)] if isinstance(value, dict | list) else None


def _strings(message: Message) -> Iterator[tuple[str, str]]:
    """The texts of a message, each with the key that it stands under in JSON, if any."""
    for name in ("content", "reasoning_content", "name"):
        if isinstance(message.get(name), str):
            yield "", message[name]
    for call in message.get("tool_calls") or ():
        yield from _strings_in(call)


def _strings_in(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, int) and not isinstance(value, bool) and value >= LONG_NUMBER:
        yield key, str(value)
    elif isinstance(value, list):
        for entry in value:
            yield from _strings_in(entry, key)
    elif isinstance(value, dict):
        for name, entry in value.items():
            yield "", str(name)
            yield from _strings_in(entry, str(name))


def _edited(message: Message, edit: Callable[[str], str]) -> Message:
    names = [name for name in ("content", "reasoning_content", "name") if isinstance(message.get(name), str)]
    made = {**message, **{name: edit(message[name]) for name in names}}
    if message.get("tool_calls"):
        made["tool_calls"] = _edited_in(message["tool_calls"], edit)
    return made


def _edited_in(value: Any, edit: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return edit(value)
    if isinstance(value, int) and not isinstance(value, bool) and value >= LONG_NUMBER:
        return edited if (edited := edit(str(value))) != str(value) else value
    if isinstance(value, list):
        return [_edited_in(entry, edit) for entry in value]
    if isinstance(value, dict):
        return {edit(str(name)): _edited_in(entry, edit) for name, entry in value.items()}
    return value


def key(kind: str, value: str) -> str:
    """Equal for one value in several spellings: blanks, hyphens and 00 or + of a number, case of an address."""
    if kind in ("phone", "card"):
        digits = "".join(letter for letter in value.replace("(0)", "") if letter.isdigit() or letter == "+")
        # 00 is what is dialled for the + of a number with its country's code.
        return f"+{digits[2:]}" if kind == "phone" and digits.startswith("00") else digits
    if kind == "iban":
        return value.replace(" ", "")
    return value.casefold() if kind in ("email", "ip") else value


def masked(kind: str, value: str) -> str:
    """What may be shown of a value: enough to recognise it beside the row, too little to use it."""
    if kind == "email":
        return f"{value[0]}…@{value.rpartition('@')[2]}"
    if kind == "secret":
        return "private key" if value.startswith("-----") else f"{value[:4]}…" if len(value) >= 12 else "…"
    if kind == "ip":
        return f"{re.split('[.:]', value)[0]}.…"
    return f"{value[:2] if kind == 'iban' else ''}…{value[-4:] if kind == 'card' else value[-2:]}"


def covered(text: str) -> str:
    """The text with every value of any kind masked, for pages that people pass on."""
    pieces, done = [], 0
    for hit in _every_kind().hits(text):
        pieces += [text[done : hit.start], masked(hit.kind, hit.value)]
        done = hit.end
    return "".join([*pieces, text[done:]])


@cache
def _every_kind() -> Pii:
    return Pii(PiiConfig.model_validate(dict.fromkeys(PiiConfig.model_fields, "report")))
