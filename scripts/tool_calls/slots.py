"""What fills the slots of a phrasing: words for the request, and the arguments that they mean."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from datetime import date

from tool_calls import dates, numbers, texts
from tool_calls.context import Context, Lists, Slot
from tool_calls.grammar import Filled, Segment, Template, expand, split_slots

ROOMS = ("kitchen", "bedroom", "living room", "bathroom", "office", "garage", "hallway")
DEVICES = {  # words for a device; the first can be the subject of "is"
    "light": ("light", "lights", "lights", "lamp"),
    "fan": ("fan",),
    "heater": ("heater", "heater", "space heater"),
    "tv": ("TV", "tv", "telly", "television"),
    "speaker": ("speaker", "speakers"),
    "blinds": ("blinds", "blinds", "shades"),
}
TOPICS = {
    "billing": ("billing", "payment"),
    "login": ("login", "sign-in"),
    "delivery": ("delivery", "shipping"),
    "app": ("app",),
}
PRIORITIES = {
    "high": ("high priority", "high-priority", "urgent", "top-priority"),
    "low": ("low priority", "low-priority"),
    "normal": ("normal priority", "normal-priority"),
}
CABINS = {
    "economy": ("economy", "economy class"),
    "business": ("business class", "business class", "business"),
    "first": ("first class",),
}


def fill(template: Template, lists: Lists, rng: random.Random, today: date) -> Filled:
    """One request of this phrasing, before any noise."""
    context = Context(rng, lists, today, template)
    segments: list[Segment] = []
    for is_slot, part in split_slots(expand(template.text, rng)):
        if is_slot:
            segments += _SLOTS[part](context)
        else:
            segments.append(Segment(part, "carrier"))
    context.arguments.update(template.fixed)
    return Filled(
        template,
        [Segment(text, kind) for text, kind in _articles(segments)],
        {} if template.tool is None else context.arguments,
    )


def _articles(segments: list[Segment]) -> Iterator[tuple[str, str]]:
    """`a` becomes `an` before a vowel that a slot brought."""
    for index, segment in enumerate(segments):
        following = segments[index + 1].text if index + 1 < len(segments) else ""
        text = segment.text
        if re.search(r"(^|\s)a $", text, re.I) and re.match(r"[aeiou]|8|11\D|18\D", following, re.I):
            text = text[:-1] + "n "
        yield text, segment.kind


# --- dates and times -------------------------------------------------------------------------------------------------


def _when(hours: str, bare: bool) -> Slot:
    def slot(context: Context) -> list[Segment]:
        chosen = hours or {"create_event": "day", "book_table": "meal"}.get(context.template.tool or "", "day")
        day, clock, text = dates.pick_when(context.rng, context.today, chosen, bare)
        context.arguments.update(date=day.date.isoformat(), time=clock.hhmm)
        return [Segment(text, "soft")]

    return slot


def _date(bare: bool) -> Slot:
    def slot(context: Context) -> list[Segment]:
        timed = re.search(r"\{(clock|range|time)\}", context.template.text)
        if timed:
            day = dates.pick_day(context.rng, context.today)
            value, text = day.date, day.noun if bare else day.adverb
        else:
            value, text = dates.pick_date_words(context.rng, context.today, bare)
        context.arguments["date"] = value.isoformat()
        return [Segment(text, "soft")]

    return slot


def _time(preposition: str) -> Slot:
    def slot(context: Context) -> list[Segment]:
        clock = dates.pick_clock(context.rng, "day")
        context.arguments["time"] = clock.hhmm
        return [Segment(f"{preposition}{clock.full}", "soft")]

    return slot


def _range(context: Context) -> list[Segment]:
    start, minutes, text = dates.pick_range(context.rng)
    context.arguments.update(time=start, duration_minutes=minutes)
    return [Segment(text, "soft")]


def _minutes(key: str, adjective: bool, choices: tuple[int, ...] = ()) -> Slot:
    def slot(context: Context) -> list[Segment]:
        minutes = context.rng.choice(choices) if choices else numbers.pick_minutes(context.rng)
        context.arguments[key] = minutes
        write = numbers.duration_adjective if adjective else numbers.duration
        return [Segment(write(context.rng, minutes), "number")]

    return slot


def _bare_minutes(context: Context) -> list[Segment]:
    context.arguments["minutes"] = minutes = context.rng.choice(
        (3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15, 18, 20, 25, 30, 35, 40, 45)
    )
    return [Segment(str(minutes), "number")]


# --- home ------------------------------------------------------------------------------------------------------------


def _room(context: Context) -> list[Segment]:
    context.arguments["room"] = room = context.rng.choice(ROOMS)
    return [Segment(room, "carrier")]


def _device(names: tuple[str, ...], singular: bool = False) -> Slot:
    def slot(context: Context) -> list[Segment]:
        context.arguments["device"] = device = context.rng.choice(names)
        text = DEVICES[device][0] if singular else context.rng.choice(DEVICES[device])
        return [Segment(text, "carrier")]

    return slot


def _word(key: str, words: dict[str, tuple[str, ...]]) -> Slot:
    """A closed choice: one of the enum's values, in one of its wordings."""

    def slot(context: Context) -> list[Segment]:
        context.arguments[key] = value = context.rng.choice(sorted(words))
        return [Segment(context.rng.choice(words[value]), "carrier")]

    return slot


def _level(context: Context) -> list[Segment]:
    if context.rng.random() < 0.08:
        level, text = context.rng.choice(((50, "half"), (100, "full"), (100, "max")))
    else:
        level = context.rng.choice((*range(5, 100, 5), *range(10, 100, 10), 33, 42, 66, 72, 88, 12, 8, 100))
        text = numbers.percent(context.rng, level) if level < 100 else "100%"
    context.arguments["level"] = level
    return [Segment(text, "number")]


def _temperature(context: Context) -> list[Segment]:
    whole = context.rng.randint(14, 26)
    celsius: float | int = whole + 0.5 if context.rng.random() < 0.3 else whole
    context.arguments["celsius"] = celsius
    return [Segment(numbers.degrees(context.rng, celsius), "number")]


# --- tables, flights, money ------------------------------------------------------------------------------------------


def _people(counted: bool, key: str = "people") -> Slot:
    def slot(context: Context) -> list[Segment]:
        count = context.rng.choice((2, 2, 2, 3, 3, 4, 4, 4, 5, 5, 6, 6, 7, 8, 9, 10, 12))
        context.arguments[key] = count
        number = context.rng.choice((str(count), numbers.in_words(count)))
        nouns = (
            ("people", "people", "people", "", "guests", "persons")
            if key == "people"
            else ("people", "passengers", "adults", "travellers")
        )
        noun = context.rng.choice(nouns) if counted else ""
        return [Segment(number, "number"), Segment(f" {noun}", "carrier")] if noun else [Segment(number, "number")]

    return slot


def _money(context: Context) -> list[Segment]:
    context.arguments["from"], other = numbers.pick_currencies(context.rng)
    context.arguments.setdefault("to", other)
    while context.arguments["from"] == context.arguments["to"]:
        context.arguments["from"] = numbers.pick_currencies(context.rng)[0]
    context.arguments["amount"], text = numbers.money(context.rng, context.arguments["from"])
    return [Segment(text, "number")]


def _currency(code_only: bool) -> Slot:
    def slot(context: Context) -> list[Segment]:
        code = context.arguments.setdefault("to", numbers.pick_currencies(context.rng)[1])
        text = code if code_only else numbers.currency(context.rng, code)
        return [Segment(text, "free")]

    return slot


_SWITCHED = ("light", "light", "fan", "heater", "tv", "speaker")
_DURATIONS = (15, 20, 30, 30, 45, 45, 60, 60, 60, 75, 90, 90, 120, 120, 150, 180)
_SLOTS: dict[str, Slot] = {
    "when": _when("", bare=False),
    "whenbare": _when("", bare=True),
    "dinner": _when("dinner", bare=False),
    "lunch": _when("lunch", bare=False),
    "date": _date(bare=False),
    "day": _date(bare=True),
    "time": _time("at "),
    "clock": _time(""),
    "range": _range,
    "mins": _minutes("minutes", adjective=False),
    "minsadj": _minutes(
        "minutes",
        adjective=True,
        choices=(1, 2, 3, 4, 5, 7, 8, 10, 12, 15, 18, 20, 25, 30, 30, 35, 40, 45, 60, 60, 80, 90, 120, 180),
    ),
    "n": _bare_minutes,
    "dur": _minutes("duration_minutes", adjective=False, choices=_DURATIONS),
    "duradj": _minutes("duration_minutes", adjective=True, choices=(15, 20, 30, 30, 45, 60, 60, 90, 120, 180)),
    "title": texts.title("without"),
    "atitle": texts.title("with"),
    "ctitle": texts.title("countable"),
    "task": texts.task,
    "label": texts.label("fao"),
    "food": texts.label("f"),
    "activity": texts.label("a"),
    "person": texts.person(asked=False),
    "him": texts.person(asked=True),
    "say": texts.say("s"),
    "quote": texts.say("sq"),
    "order": texts.order_to,
    "ask": texts.ask,
    "city": texts.city("city"),
    "origin": texts.city("origin"),
    "dest": texts.city("destination"),
    "restaurant": texts.restaurant,
    "room": _room,
    "dev": _device(_SWITCHED),
    "dev1": _device(_SWITCHED, singular=True),
    "light": _device(("light",)),
    "light1": _device(("light",), singular=True),
    "fan": _device(("fan",)),
    "heater": _device(("heater",)),
    "tv": _device(("tv",)),
    "speaker": _device(("speaker",)),
    "blinds": _device(("blinds",)),
    "onoff": _word("action", {"on": ("on",), "off": ("off",)}),
    "openclose": _word("action", {"open": ("open",), "close": ("close",)}),
    "openshut": _word("action", {"open": ("open", "up"), "close": ("closed", "down", "shut")}),
    "level": _level,
    "temp": _temperature,
    "oid": texts.order_id,
    "why": texts.why,
    "problem": texts.problem("s"),
    "issue": texts.problem("n"),
    "topicname": _word("topic", TOPICS),
    "prio": _word("priority", PRIORITIES),
    "prioname": _word("priority", {"low": ("low",), "normal": ("normal",), "high": ("high",)}),
    "cabin": _word("cabin", CABINS),
    "pax": _people(counted=True, key="passengers"),
    "party": _people(counted=False),
    "people": _people(counted=True),
    "money": _money,
    "cur": _currency(code_only=False),
    "curcode": _currency(code_only=True),
}
