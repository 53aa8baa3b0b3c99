"""Slots that are filled from the value lists: texts, names, order ids, reasons and problems."""

from __future__ import annotations

import re

from tool_calls.context import Context, Slot
from tool_calls.grammar import Segment, sentence_case

PRONOUNS = {
    "m": {"HES": "he's", "HE": "he", "HIS": "his", "HIM": "him"},
    "f": {"HES": "she's", "HE": "she", "HIS": "her", "HIM": "her"},
}


def _with_person(context: Context, text: str) -> tuple[list[Segment], str]:
    """The text with `{person}` filled in, as pieces and as the answer says it."""
    before, slot, after = text.partition("{person}")
    if not slot:
        return [Segment(text, "free")], text
    name = context.lists.draw("people", lambda row: row[0][0].isupper() and row[0] not in context.used)[0]
    context.used.add(name)
    pieces = [Segment(before, "free"), Segment(name, "name"), Segment(after, "free")]
    return [piece for piece in pieces if piece.text], f"{before}{name}{after}"


def title(article: str) -> Slot:
    def slot(context: Context) -> list[Segment]:
        fits = (lambda row: row[0] in ("a", "an")) if article == "countable" else (lambda row: True)
        row = context.lists.draw("titles", fits)
        segments, context.arguments["title"] = _with_person(context, row[1])
        if article == "with" and row[0] != "-":
            segments.insert(0, Segment(f"{row[0]} ", "carrier"))
        return segments

    return slot


def task(context: Context) -> list[Segment]:
    segments, context.arguments["text"] = _with_person(context, context.lists.draw("tasks")[0])
    return segments


def label(kinds: str) -> Slot:
    def slot(context: Context) -> list[Segment]:
        label = context.lists.draw("labels", lambda row: row[0] in kinds)[1]
        context.arguments["label"] = label
        return [Segment(label, "free")]

    return slot


def person(asked: bool) -> Slot:
    def slot(context: Context) -> list[Segment]:
        if context.person is None:
            context.person = context.lists.draw("people", lambda row: row[1] in "mf" if asked else True)
        context.arguments["to"] = context.person[0]
        return [Segment(context.person[0], "name")]

    return slot


def say(kinds: str) -> Slot:
    def slot(context: Context) -> list[Segment]:
        text = context.lists.draw("says", lambda row: row[0] in kinds)[1]
        context.arguments["text"] = sentence_case(text)
        return [Segment(text, "free")]

    return slot


def order_to(context: Context) -> list[Segment]:
    text = context.lists.draw("orders")[0]
    context.arguments["text"] = sentence_case(text)
    return [Segment(text, "free")]


def ask(context: Context) -> list[Segment]:
    text, question = context.lists.draw("asks")
    if context.person is None:  # "I'd like to know {ask}, ask {him}": the pronoun comes before the name
        context.person = context.lists.draw("people", lambda row: row[1] in "mf")
    for token, pronoun in PRONOUNS[context.person[1]].items():
        text = re.sub(rf"\b{token}\b", pronoun, text)
    context.arguments["text"] = question
    return [Segment(text, "free")]


def city(key: str) -> Slot:
    def slot(context: Context) -> list[Segment]:
        row = context.lists.draw("cities", lambda row: row[0] not in context.used)
        context.used.add(row[0])
        context.arguments[key] = row[0]
        text = context.rng.choice(row[1:]) if len(row) > 1 and context.rng.random() < 0.35 else row[0]
        return [Segment(text, "city")]

    return slot


def restaurant(context: Context) -> list[Segment]:
    name = context.lists.draw("restaurants", lambda row: row[0] not in context.used)[0]
    context.used.add(name)
    context.arguments["restaurant"] = name
    return [Segment(name, "name")]


def order_id(context: Context) -> list[Segment]:
    rng = context.rng
    shape = context.lists.draw("order_shapes")[0]
    letters, digits = "ABCDEFGHJKLMNPQRSTUVWXYZ", "0123456789"
    pools = {"9": digits, "?": letters, "%": letters.lower(), "*": letters + digits}
    text = "".join(rng.choice(pools[sign]) if sign in pools else sign for sign in shape)
    if text[0] == "0":
        text = rng.choice("123456789") + text[1:]
    if rng.random() < 0.1:
        text = text.lower()
    context.arguments["order_id"] = text
    return [Segment(("#" if rng.random() < 0.18 else "") + text, "id")]


def why(context: Context) -> list[Segment]:
    reason, text = context.lists.draw("return_reasons")
    context.arguments["reason"] = reason
    return [Segment(text, "free")]


def problem(form: str) -> Slot:
    def slot(context: Context) -> list[Segment]:
        topics = (
            ("billing", "delivery")
            if "{oid}" in context.template.text
            else ("billing", "login", "delivery", "app", "other")
        )
        topic = context.rng.choice(topics)
        text = context.lists.draw("problems", lambda row: row[:2] == (topic, form))[2]
        context.arguments["topic"] = topic
        return [Segment(text, "free")]

    return slot
