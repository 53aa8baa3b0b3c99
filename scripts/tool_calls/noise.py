"""From a filled phrasing to the line somebody typed: wrapping, register, abbreviations, typos.

Noise never touches what the answer must copy exactly (order ids, numbers), and in free text it only lowers case and drops
apostrophes.
"""

from __future__ import annotations

import random
import re
from dataclasses import replace

from tool_calls.grammar import Filled, Segment

ABBREVIATIONS = {
    "please": ("pls", "plz"),
    "tomorrow": ("tmrw", "tmr", "tomoz"),
    "you": ("u",),
    "your": ("ur",),
    "thanks": ("thx", "tnx"),
    "thank you": ("ty",),
    "because": ("cuz", "cos"),
    "tonight": ("2nite", "tonite"),
    "minutes": ("mins",),
    "people": ("ppl",),
    "are": ("r",),
    "with": ("w/",),
    "message": ("msg",),
    "temperature": ("temp",),
    "appointment": ("appt",),
}
NEIGHBOURS = {
    "a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk", "k": "jl", "l": "k",
    "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc",
    "y": "tu", "z": "x",
}  # fmt: skip


def finish(filled: Filled, openers: list[tuple[str, ...]], rng: random.Random) -> str:
    """The request as typed."""
    register = rng.choices(("proper", "plain", "lower"), weights=(42, 26, 32))[0]
    segments = list(filled.segments)
    if rng.random() < (0.5 if filled.template.kind == "imperative" else 0.24):
        segments = _wrap(segments, filled.template.kind, openers, rng)
    segments = _end(segments, filled.template.kind, register, rng)
    if rng.random() < (0.22 if register == "lower" else 0.05):
        segments = [replace(s, text=_abbreviate(s.text, rng)) if s.kind in ("carrier", "soft") else s for s in segments]
    if rng.random() < (0.5 if register == "lower" else 0.06):
        segments = [
            replace(s, text=_no_apostrophes(s.text)) if s.kind in ("carrier", "free", "soft") else s for s in segments
        ]
    if rng.random() < (0.2 if register == "lower" else 0.07):
        segments = _typo(segments, rng)
    text = (
        "".join(s.text if s.kind == "id" else s.text.lower() for s in segments)
        if register == "lower"
        else _capitals(segments)
    )
    return re.sub(r"\b([ap]\.m\.)\.", r"\1", text)  # an abbreviation's full stop ends the sentence too


def _wrap(segments: list[Segment], kind: str, openers: list[tuple[str, ...]], rng: random.Random) -> list[Segment]:
    fitting = {"imperative": ("i", "any"), "question": ("q", "any"), "statement": ("any",)}[kind]
    wrapper = rng.choice([text for mark, text in openers if mark in fitting])
    before, _, after = wrapper.partition("~")
    whole = "".join(s.text for s in segments)
    if whole.endswith("?") and after.strip() == "?":
        after = ""
    if after.startswith(" ") and after != " :)" and kind != "imperative" and not whole.endswith((".", "?", "!")):
        after = rng.choice((",", ".", " -")) + after
    if (
        after.startswith(" ")
        and kind == "imperative"
        and rng.random() < 0.6
        and not after.startswith((" pl", " for", " thx", " :"))
    ):
        after = rng.choice((",", ".")) + after
    first = segments[0]
    if (
        before
        and first.kind == "carrier"
        and re.match(r"[A-Z][a-z]", first.text)
        and not re.match(r"(I|[A-Z]+)\b", first.text)
    ):
        first = replace(first, text=first.text[0].lower() + first.text[1:])
    return [Segment(before, "carrier"), first, *segments[1:], Segment(after, "carrier")]


def _end(segments: list[Segment], kind: str, register: str, rng: random.Random) -> list[Segment]:
    last = "".join(s.text for s in segments).rstrip()
    share = {"proper": 0.75, "plain": 0.12, "lower": 0.08}[register]
    if last.endswith("?"):
        if register != "proper" and rng.random() < (0.3 if register == "plain" else 0.55):
            tail = next(i for i in range(len(segments) - 1, -1, -1) if segments[i].text.strip())
            return [*segments[:tail], replace(segments[tail], text=segments[tail].text.rstrip("? "))]
        return segments
    if last.endswith((".", "!", ")", '"')) or rng.random() >= share:
        return segments
    return [*segments, Segment("!" if rng.random() < 0.06 else ".", "carrier")]


def _abbreviate(text: str, rng: random.Random) -> str:
    for word, forms in ABBREVIATIONS.items():
        if re.search(rf"\b{word}\b", text, flags=re.I):
            text = re.sub(rf"\b{word}\b", rng.choice(forms), text, flags=re.I)
    return text


def _no_apostrophes(text: str) -> str:
    return re.sub(r"(?<=\w)['’](?=\w)", "", text)


def _typo(segments: list[Segment], rng: random.Random) -> list[Segment]:
    """One or two slips in words of four letters and more; the first letter stays."""
    for _ in range(rng.choice((1, 1, 1, 2))):
        places = [
            (index, match.start(), match.end())
            for index, segment in enumerate(segments)
            if segment.kind in ("carrier", "soft", "city")
            for match in re.finditer(r"[A-Za-z]{4,}" if segment.kind != "city" else r"[A-Za-z]{6,}", segment.text)
        ]
        if not places:
            return segments
        index, start, end = rng.choice(places)
        text = segments[index].text
        segments = list(segments)
        segments[index] = replace(segments[index], text=text[:start] + _slip(text[start:end], rng) + text[end:])
    return segments


def _slip(word: str, rng: random.Random) -> str:
    place = rng.randrange(1, len(word) - 1)
    kind = rng.choices(("swap", "drop", "double", "neighbour"), weights=(4, 3, 2, 2))[0]
    if kind == "swap":
        return word[:place] + word[place + 1] + word[place] + word[place + 2 :]
    if kind == "drop":
        return word[:place] + word[place + 1 :]
    if kind == "double":
        return word[: place + 1] + word[place:]
    near = NEIGHBOURS.get(word[place].lower(), word[place])
    return word[:place] + rng.choice(near) + word[place + 1 :]


def _capitals(segments: list[Segment]) -> str:
    """A capital at the start of each sentence, unless an order id or an amount stands there."""
    out, start = "", True
    for segment in segments:
        text = segment.text
        if segment.kind != "id":
            text = re.sub(r"(?<!\b[ap]\.m)(?<!\bno)([.?!] )([a-z])", lambda match: match[1] + match[2].upper(), text)
        if start and text:
            if segment.kind != "id":
                text = text[0].upper() + text[1:]
            start = False
        out += text
        if text:
            start = bool(re.search(r"(?<!\b[ap]\.m)(?<!\bno)[.?!] $", out))
    return out
