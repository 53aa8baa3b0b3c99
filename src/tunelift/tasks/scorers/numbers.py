"""Numbers as people write them. What cannot be read for sure is no number, never another one."""

from __future__ import annotations

import math
import re
from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from tunelift.tasks.scorers.json_values import CLOSING

Decimals = Literal["auto", "point", "comma"]
"""`auto`: 1,234 is 1234, 1.234 is 1.234, and any other number has the mark that makes it one."""

MAX_DIGITS = 400
"""Characters; a longer number is none: nothing that a double can hold needs more."""
SPACES = "\u00a0\u202f\u2009\u2007\u200a"
"""Blanks that do not break: they stand between groups of digits, or before a unit."""
MONEY = "$\u20ac\u00a3\u00a5\u20b9\u20a9\u20bd\u20ba\u20b4\u20ab\u20b1\u20a6\u20a1\u20aa\u0e3f\u00a2"
MINUS = "-\u2212\u2013"

# First the spellings that mean the same, so that one pattern reads them all.
SAME = (
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d)"), ","),  # LaTeX: 9{,}500 and 9,\!500.
    (re.compile(rf"(?<=\d)(?:\\[,;: ]|[{SPACES}])(?=\d)"), "\u00a0"),
    (re.compile(r"(?<=\d)\s*\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r"\1/\2"),
    (re.compile(r"\\(?:times|cdot|div)\b"), "\u00d7"),
)
WIDTH = (
    {0xFEE0 + code: code for code in (*range(0x30, 0x3A), *b"%+-./:$")}
    | {0x2044: "/", 0x2019: "'", 0xFE63: "-"}
    | dict.fromkeys((0x066B, 0x066C, *b"\r"))
)
"""Full-width forms as usual ones. Without Arabic separators: such a number is one thing, which is not read."""

_D = r"[\d\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u2079\u2080-\u2089\u2150-\u215e\u2189\u2460-\u249b]"
"""Signs for numbers; only 0 to 9 are read."""
_OPERATOR = r"[-+*/:^~\u00d7\u00f7\u00b7\u2212\u2013\u2014]"
_JOINT = rf"(?:[.,\uff0c'_\u00a0]|\.\.+|\u2026|\*\*|\^\{{|[eE][-+]?|{_OPERATOR}| {_OPERATOR} )"
"""What makes one thing of the digits around it: a number, a date, a range, a time, an unfinished sum."""
_BLANKS = r"[0-9]{1,3} [0-9]+/[0-9]+|[1-9][0-9]{0,2}(?: [0-9]{3}(?!\d))+"
"""What a usual blank joins: 2 1/2, and groups of three digits."""
NUMBER_LIKE = re.compile(rf"(?:(?<![\w).])\.)?(?:{_BLANKS}|{_D}+)(?:{_JOINT}{_D}+)*")
_SIGN = "[-+\u2212\u2013]?"
BEFORE = re.compile(rf"(?P<outer>{_SIGN})(?P<money>(?:[A-Z]{{1,3}})?[{MONEY}] ?)?(?P<inner>{_SIGN})$")
"""A sign and a currency's sign, in either order."""
BEHIND = re.compile(rf"[ \u00a0]?[%{MONEY}]")
_MANY = (
    r"hundred|thousand|million|billion|trillion|dozen|milli?ard|mio\b|mrd\b|mill\u00f3n|"
    r"\u0442\u044b\u0441|\u043c\u043b\u043d|\u043c\u043b\u0440\u0434|\u043c\u0438\u043b\u043b\u0438|"  # Russian.
    r"[\u4e07\u842c\u4ebf\u5104]|\u5343(?![\u514b\u7c73\u74e6\u5361])|\u767e(?!\u5206)"  # Chinese; not kilo-, nor %.
)
SPOILT = re.compile(rf"(?:[kKMB]|bn|mn|tn)(?![^\W\d_])|\u2030|\u03c0|\\pi\b|\^(?!\{{?\\circ)|[ \u00a0]?(?i:{_MANY})")
"""What makes another number of the digits before it: 5k, 3 million, 2π, in the commonest languages."""
_ROOT = (
    r"\\[cdt]?frac *\{|\\sqrt(?:\[[^\]]*\])? *\{?|\u221a\(?|\} *\{|[\^_] *\{|\^|\u00b1|\u2212|[=:(<>\u2248] ?[-\u2013]"
)
SPOILING = re.compile(rf"(?:(?:{_ROOT}) *|\w[._])$")
"""The same before the digits: a root, an index, a fraction's part, a sign that stands apart."""
OPENING = " \t\n([{=:,;<>|\"'*_#~\u2248\u201c\u201e\u00ab\\"
"""What may stand before a sign; behind anything else, - is a hyphen or a minus between two numbers."""
WINDOW = 24
"""Characters around a number that may belong to it."""

_GROUPED = r"[1-9][0-9]{0,2}(?:%s[0-9]{3})+"
_WHOLE = "|".join(["[0-9]+", *(_GROUPED % mark for mark in (" ", "\u00a0", "'", "_"))])
_POINT = re.compile(rf"({_WHOLE}|{_GROUPED % ','}|[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}})?(?:\.([0-9]+))?")
"""1,234.5, and as in India 12,34,567.8."""
_COMMA = re.compile(rf"({_WHOLE}|{_GROUPED % '[.]'})(?:,([0-9]+))?")
"""1.234,5."""
READINGS = {"auto": (_POINT, _COMMA), "point": (_POINT,), "comma": (_COMMA,)}
FRACTION = re.compile(r"(?:([0-9]{1,3}) )?([0-9]{1,15})/([0-9]{1,15})")
EXPONENT = re.compile(r"(.+?)[eE]([-+]?[0-9]{1,5})")


@dataclass(frozen=True)
class Found:
    """Something like a number in a text, and what it means."""

    value: Fraction | None
    """None if that is not sure."""
    alone: bool
    """Nothing else stands in the text."""


def only_number(text: str, decimals: Decimals = "auto") -> Fraction | None:
    """The number that the text is: with a sign, a currency's sign or %, which counts for nothing, if it has one."""
    found = _last(text, decimals)
    return found.value if found and found.alone else None


def last_number(text: str, decimals: Decimals = "auto") -> Fraction | None:
    """The last number in the text; None if the last thing like a number cannot be read for sure."""
    found = _last(text, decimals)
    return found.value if found else None


def _last(text: str, decimals: Decimals) -> Found | None:
    plain = text.translate(WIDTH)
    for pattern, instead in SAME:
        plain = pattern.sub(instead, plain)
    plain = plain.strip()
    matches = deque(NUMBER_LIKE.finditer(plain), maxlen=1)
    if not matches:
        return None
    match = matches.pop()
    left, right = plain[max(0, match.start() - WINDOW) : match.start()], plain[match.end() : match.end() + WINDOW]
    before = BEFORE.search(left)
    assert before is not None, "it matches the empty text"
    behind = BEHIND.match(right)
    alone = match.start() == len(before[0]) and not plain[match.end() + (behind.end() if behind else 0) :].strip(
        CLOSING
    )
    sign = before["outer"] + before["inner"]
    belongs = _begins(left[: before.start()], sign, before["money"]) and not SPOILT.match(right)
    value = _value(match[0], decimals) if belongs else None
    return Found(-value if value is not None and sign and sign in MINUS else value, alone)


def _begins(left: str, sign: str, money: str | None) -> bool:
    """Whether a number may begin behind that text: A5 and x_1 are names, and 5-7 is no -7."""
    before = left[-1:]
    if sign:
        return len(sign) == 1 and (not before or before in OPENING or before in SPACES)
    if money:
        return not before.isdigit()
    # Scripts without capitals write no blank before a number either.
    return not SPOILING.search(left) and before.lower() == before.upper()


def _value(text: str, decimals: Decimals) -> Fraction | None:
    if len(text) > MAX_DIGITS:
        return None
    if ratio := FRACTION.fullmatch(text):
        whole, over, under = int(ratio[1] or 0), int(ratio[2]), int(ratio[3])
        sound = under and (ratio[1] is None or over < under)
        return whole + Fraction(over, under) if sound else None
    power = EXPONENT.fullmatch(text)
    mantissa, exponent = (power[1], power[2]) if power else (text, "0")
    read = next((found for one in READINGS[decimals] if (found := one.fullmatch(mantissa))), None)
    if read is None:
        return None
    plain = f"{re.sub('[^0-9]', '', read[1] or '0')}.{read[2] or '0'}e{exponent}"
    if not math.isfinite(float(plain)):
        return None
    return Fraction(Decimal(plain)) if float(plain) else Fraction(0)
