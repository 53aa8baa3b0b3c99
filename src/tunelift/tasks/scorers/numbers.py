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

CURRENCIES = (
    "USD|EUR|GBP|JPY|CNY|RMB|CHF|CAD|AUD|NZD|INR|KRW|RUB|UAH|TRY|PLN|CZK|HUF|RON|SEK|NOK|DKK|BRL|MXN|ARS|CLP|COP|"
    "ZAR|NGN|KES|EGP|AED|SAR|ILS|THB|VND|IDR|MYR|PHP|SGD|HKD|TWD|PKR|BTC|ETH|Rs"
)
_TIME = "[mn\u00b5\u03bc]?s|secs?|seconds?|mins?|minutes?|h|hrs?|hours?|days?|weeks?|months?|yrs?|years?"
_LENGTH = "[kcdmn\u00b5\u03bc]?m|in|ft|yd|mi|[kcm]?met(?:er|re)s?|inch(?:es)?|feet|yards?|miles?"
_UNIT = (
    rf"{_TIME}|{_LENGTH}|[km\u00b5\u03bc]?g|lbs?|oz|t|[mcdh]?[lL]|[Ll]it(?:er|re)s?|ha|[kMG]?Hz|[kMGm]?W|[kMG]?Wh|[km]?V|m?Ah?|"
    r"[kM]?J|k?[cC]al|[kMh]?Pa|bar|k?N|mol|[kMGT]i?B|[kMG]?bit|bits|bytes?|[kMG]bps|mph|kph|rpm|dB|px|pts?|points?|"
    r"[\u00b0\u00ba] ?[CF]?|[\u2103\u2109]|\^\{?\\circ\}? ?[CF]?|percent|degrees?|dollars?|euros?|pounds?|cents?"
)
"""The commonest; that of a longer word is no number's for sure."""
UNIT = rf"(?:{_UNIT}|{CURRENCIES})(?:/(?:{_UNIT}))?(?![^\W_])"
UNIT_SIGN = "mm"
"""Stands for a unit with an exponent."""
_BASE = rf"(?:{_LENGTH}|s|h|k?g|L|N|W|J|mol|K)"
"""What stands with others; alone, only a length has an exponent, and 5 s^2 could be a term."""
_POWER = r"(?:\^ ?\{? ?[-\u2212]?[1-4]|\*\*[23]|\u207b?[\u00b9\u00b2\u00b3]|(?<=m)[23])"
"""An exponent, and its sign."""

# First the spellings that mean the same, so that one pattern reads them all.
SAME = (
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<=\d)(?:\{,\}|,\\!)(?=\d)"), ","),  # LaTeX: 9{,}500 and 9,\!500.
    (re.compile(rf"(?<=\d)(?:\\[,;: ]|[{SPACES}])(?=\d)"), "\u00a0"),
    (re.compile(r"(?<=\d)\s*\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r" \1/\2"),
    (re.compile(r"\\[dt]?frac\{(\d+)\}\{(\d+)\}"), r"\1/\2"),
    (re.compile(r"\\(?:times|cdot|div)\b"), "\u00d7"),
    # The exponent of a unit is no number: 25 cm^2, 9.8 m/s^{2}, 25 \text{ m}^3.
    (
        re.compile(
            rf"(?<=\d)(?:\\[,;: ]|[ ~{SPACES}]){{0,3}}"
            rf"(?:\\(?:text|textrm|mathrm|mbox|rm|operatorname) ?\{{[\s~]{{0,3}})?"
            rf"(?:(?:{_BASE}[/ \u00b7]){{1,2}}(?:{_BASE})|{_LENGTH})(?:\}} ?)?{_POWER}\}}?"
            rf"(?![\w/^]| ?[-+*=\u2212\u2013])"
        ),
        f" {UNIT_SIGN}",
    ),
    (
        re.compile(
            r"((?:\A|\b(?:is|are|was|be) |[=:] ?)\W{0,2})(?:minus|negative) (?=[$\u20ac\u00a3]?\d)", re.IGNORECASE
        ),
        r"\1-",
    ),
)
WIDTH = (
    {0xFEE0 + code: code for code in (*range(0x30, 0x3A), *b"%+-./:$")}
    | {0x2044: "/", 0x2019: "'"}
    | dict.fromkeys((0xFE63, 0x2010, 0x2011, 0x2012), "-")
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
BEFORE = re.compile(
    rf"(?P<outer>{_SIGN})(?P<money>(?:[A-Z]{{1,3}})?[{MONEY}] ?|(?<![A-Za-z])(?:{CURRENCIES})[ \u00a0]?)?"
    rf"(?P<inner>{_SIGN})$"
)
"""A sign and a currency's sign, in either order."""
BEHIND = re.compile(rf"[ \u00a0]?(?:[%{MONEY}]|{UNIT})")
MONEY_BEHIND = re.compile(rf"[ \u00a0]?(?:[{MONEY}]|(?:{CURRENCIES})\b)")
SIGN_BEHIND = re.compile(rf"[ \u00a0]?[%{MONEY}]")
_MANY = (
    r"hundred|hundert|thousand|tausend|duizend|dozen|dutzend|mill?i(?:on|ard)|mill[\u00f3o]n|milli?ard|miljo|"
    r"mil[iy][oa]|milh(?:\u00e3o|\u00f5es|ares?)|"
    r"(?:b|tr)il(?:l?i[o\u00f3]n|l[o\u00f3]n|joe?n|h(?:\u00e3o|\u00f5es))|lakh|crore|"
    r"ribu\b|juta\b|ngh\u00ecn|tri\u1ec7u|t\u1ef7|"
    r"(?:mil|mila|mille|mio|mrd|mld|mln|mlrd|bln|tsd|tys|tis|lacs?|cr|bn|mn|tn)\b|"
    r"\u0442\u044b\u0441|\u043c\u043b\u043d|\u043c\u043b\u0440\u0434|\u043c\u0438\u043b\u043b\u0438|"  # Russian.
    # Chinese; not kilo-, nor %.
    r"[\u4e07\u842c\u4ebf\u5104\u5146]|\u5343(?![\u514b\u7c73\u74e6\u5361])|\u767e(?!\u5206)|"
    r"[\ub9cc\uc5b5]|"  # Korean.
    r"\u0932\u093e\u0916|\u0915\u0930\u094b\u0921\u093c|\u0939\u091c\u093c?\u093e\u0930|"  # Hindi.
    # Arabic.
    r"\u0623\u0644\u0641|\u0622\u0644\u0627\u0641|\u0645\u0644\u064a\u0627\u0631|"
    r"\u0645\u0644\u064a\u0648\u0646|\u0645\u0644\u0627\u064a\u064a\u0646"
)
_NO_MORE = r"(?![^\W\d_])"
SPOILT = re.compile(
    rf"(?:[kKMB]|bn|mn|tn){_NO_MORE}|[ \u00a0]k{_NO_MORE}|[ \u00a0][KMB](?= ?(?:[{MONEY}]|(?:{CURRENCIES})\b))|"
    rf"[\uc870\ucc9c\ubc31]|\u2030|\u03c0|\\pi\b|\^(?!\{{?\\circ)|[ \u00a0]?(?i:{_MANY})"
)
"""What makes another number of the digits before it: 5k, 3 million, 2π, in the commonest languages."""
_ROOT = (
    r"\\[cdt]?frac *\{|\\sqrt(?:\[[^\]]*\])? *\{?|\u221a\(?|\} *\{|[\^_] *\{|\^|\u00b1|\u2212|[=:(<>\u2248] ?[-\u2013]"
)
SPOILING = re.compile(rf"(?:(?:{_ROOT}) *|\w[._]|(?:^|\s)\u2014)$")
"""The same before the digits: a root, an index, a fraction's part, a sign that stands apart."""
MONEY_SPOILT = re.compile(r"[ \u00a0]?[kKmMbBtT](?![^\W\d_]|\$)")
"""Behind money, these are no units: $5 m is five millions."""
NEGATED = re.compile(
    # Not au moins, al menos: at least.
    rf"(?:\b(?:minus|negative|(?<!au )moins|(?<!al )(?<!lo )(?<!ao )menos|meno)|"
    rf"[\u8d1f\u8ca0]|\u30de\u30a4\u30ca\u30b9|\u043c\u0438\u043d\u0443\u0441|"
    rf"\b(?:is|are|was|be|equals?|gives?|ist|est|es)\s+[{MINUS}])\s*$",
    re.IGNORECASE,
)
"""Before a number, it may make a negative one, or a difference."""
PLAIN_GROUPS = re.compile(r"\d+(?: \d{3}){2,}")
"""Plain blanks also stand between numbers in a row: The sizes are 10 200 300."""
ONE = re.compile(r"(?:[=*#{$]|\b(?:is|was|equals|ist|est|est de|es|es de|war)) ?$", re.IGNORECASE)
"""What stands before one number and not before a row of them."""
SEVERAL = re.compile(r"\b(?:are|were|sind|sont|son) ?$", re.IGNORECASE)
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
    unit: bool
    """A unit or currency in letters stands beside it."""


def only_number(text: str, decimals: Decimals = "auto", *, units: bool = True) -> Fraction | None:
    """The number that the text is, if one with a sign, and one thing that counts for nothing: money, %, a usual unit.

    Without `units`, a text with a unit in letters is no number.
    """
    found = _last(text, decimals)
    return found.value if found and found.alone and (units or not found.unit) else None


def last_number(text: str, decimals: Decimals = "auto") -> Fraction | None:
    """The last number in the text; None if the last thing like a number cannot be read for sure."""
    found = _last(text, decimals)
    return found.value if found else None


def _last(text: str, decimals: Decimals) -> Found | None:
    plain = text.translate(WIDTH).strip()
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
    ahead = left[: before.start()]
    belongs = _begins(ahead, sign, before["money"]) and not SPOILT.match(right) and not NEGATED.search(ahead)
    if before["money"] and MONEY_SPOILT.match(right):
        belongs = False
    if PLAIN_GROUPS.match(match[0]):
        one = before["money"] or (MONEY_BEHIND.match(right) and not SEVERAL.search(ahead)) or ONE.search(ahead)
        belongs = belongs and bool(alone or one)
    value = _value(match[0], decimals) if belongs else None
    unit = bool(behind and not SIGN_BEHIND.match(right)) or (before["money"] or "")[:1].isalpha()
    return Found(-value if value is not None and sign and sign in MINUS else value, alone, unit)


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
