"""Do two texts say the same of other things? Rows that differ only in values teach more than one of them would.

Values are numbers (in digits or spelled), dates, times, addresses, order ids, short quoted texts and names: words
with a capital where no sentence begins. A run of them counts as one, so "New York" stands where "Paris" does. Where the
words are the same, signs that mean something are values too: emoji, operators.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from typing import Literal, NamedTuple

from tunelift.stages.curate.similarity import words_of

Difference = Literal["none", "values", "words"]

_SPELLED = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion half quarter dozen
first second third fourth fifth sixth seventh eighth ninth tenth
monday tuesday wednesday thursday friday saturday sunday
january february march april june july august september october november december
today tomorrow yesterday tonight morning noon afternoon evening midnight
"""
SPELLED = frozenset(_SPELLED.split())
"""Numbers and times in words."""
ID_SHARE = 1 / 3
ID_LEAST_WORDS = 20
"""In a text this long with more than a third of ids, such as log lines or code, ids are its words and no values."""

_TOKEN = re.compile(
    r"""
    (?P<address> (?:https?://|www\.)\S+ | [\w.+-]{1,64}@[\w-]{1,64}(?:\.[\w-]+)+ )
  | (?P<quoted> "[^"\n]{1,60}" | “[^”\n]{1,60}” | «[^»\n]{1,60}» | `[^`\n]{1,60}` | (?<!\w)'[^'\n]{1,60}'(?!\w) )
  | (?P<sign> [-+*/=<>^×÷]+(?=\s*\d) )
  | (?P<number> (?=[^\W_]*\d)[^\W_]+(?:[.,:/-][^\W_]+)*(?:\s?[ap]\.?m\b)? )
  | (?P<word> [^\W_]+(?:['’][^\W_]+)* )
  | (?P<end> [.!?:;\n…•|]+ )
    """,
    re.VERBOSE | re.IGNORECASE,
)
MOST_VALUE_WORDS = 3
"""A longer run of names, or a longer quoted text, is what is asked about and not a value in it."""
LEAST_FORM_WORDS = 3
"""Fewer words beside the values tell no template."""
_LOOKS = re.compile("[\ufe0e\ufe0f\u200d\U0001f3fb-\U0001f3ff]")
"""How an emoji is drawn: as text or in colour, joined, its skin. None of these makes another sign of it."""
_MARKUP = re.compile(r"^[ \t]*(?:[#>*+-]+[ \t])+|\*\*|(?<!\w)\*(?=\w)|(?<=\w)\*(?!\w)", re.M)
"""Of Markdown: marks at the beginning of lines, and emphasis."""
_SIGN = re.compile(
    r"!?=+|!(?=\w)|[<>+^%&~/*$€£¥°]+|\|\||(?<=\w)#|[:;]-?[()]"
    "|[\u2190-\u23ff\u25a0-\u27bf\u2900-\u297f\u2b00-\u2bff\U0001f000-\U0001faff]"
)
"""What tells "a == b" from "a != b", C from C++, dollars from euros: operators, units, emoji; no punctuation."""
_APOSTROPHE = re.compile(r"(?<!\w)'")
_AROUND = ".,;:!?()"
_VALUE, _FIRST = "\0value", "\0first"
"""In the place of values, and of a capitalised word that begins a sentence."""


class _Values(NamedTuple):
    """A text as the comparison sees it."""

    masked: list[str]
    """Its words, with one mark for a run of values."""
    values: list[str]
    exact: Counter[str]
    """The values with digits, and addresses."""

    def plain(self) -> list[str]:
        """The words that are no values."""
        return [word for word in self.masked if word not in (_VALUE, _FIRST)]


class Said:
    """A text, read once however often it is compared."""

    def __init__(self, text: str) -> None:
        self.text = text

    @cached_property
    def words(self) -> list[bytes]:
        """As `words_of`."""
        return words_of(self.text)

    @cached_property
    def spaced(self) -> Counter[str]:
        """What stands between spaces, without the punctuation around it."""
        return Counter([part.strip(_AROUND) for part in self.text.split()])

    @cached_property
    def quotes(self) -> bool:
        """Whether it may hold a quoted text."""
        return any(mark in self.text for mark in '"“«`') or ("'" in self.text and bool(_APOSTROPHE.search(self.text)))

    @cached_property
    def signs(self) -> list[str]:
        """Operators, emoji and the like, in their order; of a text without words, all of it."""
        text = _LOOKS.sub("", self.text)
        return _SIGN.findall(_MARKUP.sub("", text)) if self.words else text.split()

    @cached_property
    def values(self) -> _Values:
        return _read(self.text)


def same_words(one: Said, other: Said) -> bool:
    """Whether two texts say the same but for case and punctuation; texts without words are the same if equal."""
    return one.words == other.words and (bool(one.words) or one.signs == other.signs)


def difference(one: Said, other: Said) -> Difference:
    """What tells two texts apart: nothing but case and punctuation, only values, or words.

    A number or address in the place of another makes it values, whatever else differs: "Please send 100" does not
    repeat "Send 500". A name more is a word more; a number more is a value.
    """
    if one.text == other.text:
        return "none"
    if _plainly_other_words(one, other):
        return _apart_in_signs(one, other) or "words"
    first, second = one.values, other.values
    if first.exact == second.exact:
        if said := _apart_in_signs(one, other):
            return said
        if first.masked != second.masked or first.values == second.values:
            return "words"
        fewer, more = sorted((Counter(first.values), Counter(second.values)), key=Counter.total)
        return "words" if fewer < more else "values"
    if first.exact - second.exact and second.exact - first.exact:
        return "values"
    return "values" if first.plain() == second.plain() else "words"


def _apart_in_signs(one: Said, other: Said) -> Difference | None:
    """Of texts with the same words: a sign in the place of another is a value. None where words differ."""
    if one.words != other.words:
        return None
    return "none" if one.signs == other.signs else "values"


def _plainly_other_words(one: Said, other: Said) -> bool:
    """Whether only words of letters differ, and one of them is no value: that is seen without reading all."""
    if one.quotes or other.quotes:
        return False
    differing = {word for word, _ in one.spaced.items() ^ other.spaced.items() if word}
    return all(map(str.isalpha, differing)) and any(
        word.islower() and word not in SPELLED and word not in ("am", "pm") for word in differing
    )


def has_digit(word: bytes) -> bool:
    """Whether a word of `words_of` holds a digit: it is a number or an id."""
    return any(character.isdigit() for character in word.decode("utf-8", "surrogatepass"))


def _read(text: str) -> _Values:
    found = list(_tokens(text))
    spoken = sum(kind in ("word", "number") for kind, _, _ in found)
    ids = sum(kind == "number" and _is_id(value) for kind, value, _ in found)
    plain_ids = spoken >= ID_LEAST_WORDS and ids > ID_SHARE * spoken
    capitals_tell = any(character.islower() for character in text)
    read = _Values([], [], Counter())
    for kind, value, begins in found:
        key = value.casefold()
        named = kind == "word" and capitals_tell and value[0].isupper()
        if (kind == "word" and not named and key not in SPELLED) or (plain_ids and kind == "number" and _is_id(value)):
            read.masked.append(key)
        else:
            read.values.append(key)
            if kind in ("number", "address", "sign"):
                read.exact[key] += 1
            if named and begins:
                # Perhaps a name, perhaps not: it may differ, but it stands for one word.
                read.masked.append(_FIRST)
            elif not read.masked or read.masked[-1] not in (_VALUE, _FIRST):
                read.masked.append(_VALUE)
    return read


def _tokens(text: str) -> Iterator[tuple[str, str, bool]]:
    """The kind of each token but the ends, the token, and whether a sentence begins with it."""
    begins = True
    for match in _TOKEN.finditer(text):
        if not (ends := match.lastgroup == "end"):
            yield match.lastgroup or "", match.group(), begins
        begins = ends


def _is_id(value: str) -> bool:
    return value.isalnum() and not value.isdigit()


def form(text: str) -> str:
    """The words of a text with a mark for each run of values: equal for texts of one template that differ in values.

    Empty where no value is in it, or too few words are left to tell a template.
    """
    words: list[str] = []
    run: list[str] = []
    capitals_tell, plain, values = any(map(str.islower, text)), 0, 0

    def close() -> None:
        nonlocal plain, values
        few = 0 < sum(len(value.split()) for value in run) <= MOST_VALUE_WORDS
        words.extend([_VALUE] if few else run)
        values, plain = values + few, plain + (0 if few else len(run))
        run.clear()

    for kind, value, begins in _tokens(text):
        key = value.casefold()
        named = kind == "word" and capitals_tell and value[0].isupper() and not begins
        if kind == "word" and not named and key not in SPELLED:
            close()
            words.append(key)
            plain += 1
        else:
            run.append(key)
    close()
    return " ".join(words) if values and plain >= LEAST_FORM_WORDS else ""
