"""Where in a text personal data stands: e-mail and IP addresses, telephone, card and account numbers.

Each finder gives what is surely one; dates, times, prices, versions and plain long numbers are none of them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator

from tunelift.stages.curate.secret_shapes import Span, find_secrets

EMAIL = re.compile(
    r"(?<![A-Za-z0-9À-ɏ_.+%-])[A-Za-z0-9À-ɏ_](?:[A-Za-z0-9À-ɏ._%+'-]{0,62}[A-Za-z0-9À-ɏ_+-])?"
    r"@(?:[A-Za-z0-9À-ɏ](?:[A-Za-z0-9À-ɏ-]{0,61}[A-Za-z0-9À-ɏ])?\.)+(?P<top>[A-Za-z]{2,24})(?!_*[A-Za-z0-9(]|-\w|:[\w~/])"
)
FILES = frozenset({"png", "jpg", "jpeg", "gif", "svg", "webp", "pdf", "css", "js", "jsx", "tsx", "json", "html", "xml"})
"""`icon@2x.png` is a file."""

DIGIT = re.compile(r"\d")
RUN = re.compile(r"[+(]{0,2}\d(?:[ ()./-]{0,2}\d){6,}")
"""Seven digits or more, with what may stand between them; telephone numbers lie inside of such a run."""
COUNTRY = (
    r"(?:1|7|2(?:0|7|[1-689]\d)|3(?:[0-469]|[578]\d)|4(?:[013-9]|2\d)|5(?:[1-8]|[09]\d)|6(?:[0-6]|[7-9]\d)|"
    r"8(?:[1246]|[0578]\d)|9(?:[0-58]|[679]\d))"
)
_BEFORE = r"(?<![\w.,:;#@=+/$€£¥%-])(?<![$€£¥#\d] )"
_AFTER = r"(?![\w%€£$]|[-/:.,]\d|-\w)"
PHONES = (
    # +49 30 1234567, +1 (555) 123-4567, 0049 30 1234567
    re.compile(
        rf"(?<![\w+.-])(?:\+{COUNTRY}|\(\+{COUNTRY}\)|(?<!\d )00{COUNTRY}(?=[ ./-]))[ ./-]{{0,2}}\(?\d{{1,12}}\)?"
        rf"(?:(?:[ ./-]{{1,2}}\(?|\(|(?<=\)))\d{{1,12}}\)?){{0,6}}{_AFTER}"
    ),
    # (555) 123-4567, (555)-123-4567, (555) 123 4567, 555-123-4567, 1-555-123-4567
    re.compile(rf"{_BEFORE}(?:1[-. ])?(?:\([2-9]\d\d\)[ -]?[2-9]\d\d[-. ]|[2-9]\d\d[-.][2-9]\d\d[-.])\d{{4}}{_AFTER}"),
    # 030 1234567, 0171/1234567, 020 7946 0958, 090-1234-5678
    re.compile(rf"{_BEFORE}(?:\(0[1-9]\d{{1,4}}\) ?|0[1-9]\d{{1,4}}[ /-])\d{{3,8}}(?:[ -]\d{{2,5}}){{0,2}}{_AFTER}"),
    # 01 23 45 67 89
    re.compile(rf"{_BEFORE}0[1-9](?:([ .-])\d\d)(?:\1\d\d){{3}}(?![ .-]?\d){_AFTER}"),
)
SAYING = (
    "tel",
    "tél",
    "phone",
    "call",
    "fon",
    "mobil",
    "cel",
    "handy",
    "fax",
    "whatsapp",
    "portable",
    "rufnummer",
    "sms",
    "dial",
)
"""A text without any of these holds none of `SAID`."""
SAID = re.compile(
    r"(?:(?:\b|_(?=phone|mobile|tel))(?:tel|tele(?:phone|fon|fono|fone)|phone|fon|mobile?|handy|fax|whatsapp)"
    r"(?:_?(?:number|nummer|num|no|nr))?|\b(?:teléfono|tél|téléphone|call|cell(?:ulare|ular)?|celular|portable|rufnummer|"
    r"telemóvel|sms|dial))\b(?:\W{0,3}|[^\w\n.!?]{4,5})(?:(?:number|no|nr|num|nummer|número|numero|numéro|is|me|us|him|"
    r"her|them|at|on|my|the|ist|lautet|unter|est|au|es|al|anytime|under)\b(?:\W{1,3}|[^\w\n.!?]{4,5})){0,4}$",
    re.I,
)
"""What stands before a number that may then have any shape, with the marks of JSON or Markdown between."""
ANY_PHONE = re.compile(rf"(?<![\w.,$€£#])\(?\d{{2,12}}\)?(?:[ ./-]\(?\d{{2,8}}\)?){{0,5}}{_AFTER}")
DATE = re.compile(r"(?:19|20)\d\d[-/.](?:0?[1-9]|1[0-2])[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:19|20)?\d\d")
DATED = re.compile(rf"(?:{DATE.pattern})(?![-/.]?\d)")
"""A date, and what may follow it: a time."""
NAMED_OTHERWISE = re.compile(
    r"(?:order|id|ids|no|nr|number|ref(?:erence)?|invoice|sku|isbn|issn|ticket|tracking|serial|part|model|version|case|"
    r"bestellung|bestellnummer|rechnung|commande|pedido|fattura|ordine|account|konto|art|#|№)"
    r"[.:#]? ?(?:is |number |nr\.? |no\.? )?$",
    re.I,
)
"""What a number is called, when it is none to be called at."""
PHONE_DIGITS = range(8, 16)

_GAP = "[ .\u00a0\u2009\u2010-\u2013\u202f-]"
"""What stands between the groups of a card number: blanks, dots, hyphens and dashes."""
CARD = re.compile(
    rf"\d(?<![\w.+-].)(?:\d{{13,18}}|\d{{3}}({_GAP})\d{{4}}\1\d{{4}}\1\d{{1,4}}(?:\1\d{{1,3}})?"
    rf"|(?<=3)\d{{3}}({_GAP})\d{{6}}\2\d{{4,5}})(?![\w-]|\.\d)"
)
ISSUERS = (
    (re.compile("4"), (16, 19)),  # Visa
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),  # Mastercard
    (re.compile("3[47]"), (15,)),  # American Express
    (re.compile("30[0-5]|36|3[89]"), (14,)),  # Diners Club
    (re.compile("6011|65|64[4-9]"), (16, 19)),  # Discover
    (re.compile("35(?:2[89]|[3-8])"), (16, 19)),  # JCB
    (re.compile("62"), (16, 17, 18, 19)),  # UnionPay
    (re.compile("50[0-9]|5[6-8]|63|67"), (16, 18, 19)),  # Maestro
)
"""First digits and lengths of the card issuers' numbers (ISO/IEC 7812)."""

IBAN = re.compile(r"[A-Z]{2}(?<![A-Za-z0-9]..)\d{2}(?=[ A-Z0-9])")
IBAN_LENGTHS = {
    code: length
    for length, codes in (
        (15, "NO"),
        (16, "BE"),
        (18, "DK FI FK FO GL NL SD"),
        (19, "MK SI"),
        (20, "AT BA EE KZ LT LU MN XK"),
        (21, "CH HR LI LV"),
        (22, "BG BH CR DE GB GE IE ME RS VA"),
        (23, "AE GI IL IQ OM SO TL"),
        (24, "AD CZ ES MD PK RO SA SE SK TN VG"),
        (25, "LY PT ST"),
        (26, "IS TR"),
        (27, "BI DJ FR GR IT MC MR SM"),
        (28, "AL AZ BY CY DO GT HU LB NI PL SV"),
        (29, "BR EG PS QA UA"),
        (30, "JO KW MU YE"),
        (31, "MT SC"),
        (32, "LC"),
        (33, "RU"),
    )
    for code in codes.split()
}
"""Characters of an account number by country (SWIFT's IBAN registry)."""

IPV4 = re.compile(r"\d(?<![\w.-].)(?<![A-Za-z]/.)(?<![=~<>!^]=.)\d{0,2}\.\d{1,3}\.\d{1,3}\.\d{1,3}(?![\w-]|\.\w)")
IPV6 = re.compile(r"[23](?<![\w:.].)[0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![\w:])")
VERSION = re.compile(
    r"(?:version|ver|v|release|build|firmware|driver|section|chapter|clause|rev|§|update|upgrade|patch)\.?:? ?$", re.I
)


def emails(text: str) -> Iterator[Span]:
    """E-mail addresses; no files, no SSH remotes, no code."""
    if "@" in text:
        for match in EMAIL.finditer(text):
            if match["top"].lower() not in FILES:
                start, end = match.span()
                marks = 0  # Of Markdown's emphasis, as in _ann@example.com_.
                while text[start + marks] == "_" and text.startswith("_", end + marks):
                    marks += 1
                yield start + marks, end


def phones(text: str) -> Iterator[Span]:
    """Telephone numbers, international or in a common national shape, or of any shape after a word such as `phone`."""
    runs = list(RUN.finditer(text))
    lowered = text.lower() if runs else ""
    said = any(word in lowered for word in SAYING)
    for run in runs:
        number = run.group().strip()
        if DATE.fullmatch(number):
            continue
        # Digits alone are a telephone number only where they are called one.
        for pattern in PHONES if not number.isdigit() else ():
            for match in _inside(pattern, text, run):
                number, before = match.group().rstrip(" ("), text[max(0, match.start() - 24) : match.start()]
                if number.count(")") > number.count("("):
                    number = number.removesuffix(")")
                if _dialled(number) and not NAMED_OTHERWISE.search(before):
                    yield match.start(), match.start() + len(number)
        if said and SAID.search(text[max(0, run.start() - 50) : run.start()]):
            named = ANY_PHONE.match(text, run.start())
            if named and 7 <= _digits(named.group()) <= 13 and not DATED.match(named.group()):
                yield named.span()


def _inside(pattern: re.Pattern[str], text: str, run: re.Match[str]) -> Iterator[re.Match[str]]:
    # A few characters more, so that the pattern sees what follows.
    return pattern.finditer(text, run.start(), run.end() + 3)


def _digits(text: str) -> int:
    return sum(map(str.isdigit, text))


def _dialled(number: str) -> bool:
    pairs = [number[at : at + 2] for at in range(0, 14, 3)]
    counting = len(number) == 14 and pairs == sorted(pairs) and len(set(pairs)) == 5
    return _digits(number) in PHONE_DIGITS and not counting and number.count("(") == number.count(")")


def cards(text: str) -> Iterator[Span]:
    """Payment card numbers: an issuer's first digits and length, and a valid check digit (Luhn)."""
    at = 0
    while match := CARD.search(text, at):
        start, written = match.start(), match.group()
        # The last group may be the expiry date or the code after the number, and the first what stands before it.
        ends = [len(written), *(gap.start() for gap in re.finditer(_GAP, written))]
        end = next((end for end in sorted(ends, reverse=True) if _is_card(written[:end])), None)
        if end is not None:
            yield start, start + end
        at = start + (end or 1)


def _is_card(written: str) -> bool:
    number = "".join(filter(str.isdigit, written))
    return luhn(number) and any(prefix.match(number) and len(number) in lengths for prefix, lengths in ISSUERS)


def luhn(number: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    total = 0
    for place, digit in enumerate(reversed(number)):
        doubled = int(digit) * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0


def ibans(text: str) -> Iterator[Span]:
    """Account numbers with their country's length and valid check digits (ISO 13616: modulo 97 is 1)."""
    for match in IBAN.finditer(text):
        length = IBAN_LENGTHS.get(match.group()[:2])
        if length is None:
            continue
        found = re.compile(r"[A-Z0-9]" + rf"(?: ?[A-Z0-9]){{{length - 1}}}(?![A-Za-z0-9])").match(text, match.start())
        if found:
            compact = found.group().replace(" ", "")
            if int("".join(str(int(letter, 36)) for letter in compact[4:] + compact[:4])) % 97 == 1:
                yield found.span()


def ips(text: str) -> Iterator[Span]:
    """Public IP addresses; no versions of software."""
    for match in IPV4.finditer(text) if "." in text else ():
        before = text[max(0, match.start() - 12) : match.start()]
        if _public(match.group()) and not match.group().endswith(".0.0.0") and not VERSION.search(before):
            yield match.span()
    for match in IPV6.finditer(text) if ":" in text else ():
        if _public(match.group()):
            yield match.span()


def _public(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_global
    except ValueError:
        return False


FINDERS: dict[str, Callable[[str], Iterator[Span]]] = {
    "secret": find_secrets,
    "email": emails,
    "iban": ibans,
    "card": cards,
    "ip": ips,
    "phone": phones,
}
"""In order of precedence: of matches that overlap, that of the first kind counts, and of one kind the longest."""
WITHOUT_DIGITS = ("secret", "email")
"""Kinds whose values may hold no digit."""
