"""Dates, times and durations as people write them, with what they mean.

A weekday is the next such day after today, "the 14th" and "June 5" the next such date.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, timedelta

from tool_calls.numbers import in_words

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
HOLIDAYS = {
    "Christmas Eve": (12, 24),
    "Christmas Day": (12, 25),
    "St Patrick's Day": (3, 17),
    "Valentine's Day": (2, 14),
    "Halloween": (10, 31),
}


@dataclass(frozen=True)
class Day:
    """A date as words: `adverb` stands in a sentence ("on Friday"), `noun` after "for" ("Friday")."""

    date: date
    adverb: str
    noun: str
    part: bool
    """Whether a part of the day may follow the adverb ("on Friday" + "evening")."""


@dataclass(frozen=True)
class Clock:
    """A time of day as words: `full` is unambiguous alone, `short` only beside a part of the day."""

    hhmm: str
    full: str
    short: str
    part: str


def today_line(today: date) -> str:
    """`Friday 2026-06-05`."""
    return f"{WEEKDAYS[today.weekday()]} {today.isoformat()}"


def pick_day(rng: random.Random, today: date) -> Day:
    """A date from today on."""
    kind = rng.choices(
        ("today", "tomorrow", "after", "weekday", "month_day", "full", "nth", "in_days", "holiday"),
        weights=(11, 23, 5, 27, 16, 5, 6, 6, 1),
    )[0]
    return _DAYS[kind](rng, today)


def _today(rng: random.Random, today: date) -> Day:
    return Day(today, "today", "today", False)


def _tomorrow(rng: random.Random, today: date) -> Day:
    return Day(today + timedelta(days=1), "tomorrow", "tomorrow", True)


def _after_tomorrow(rng: random.Random, today: date) -> Day:
    return Day(today + timedelta(days=2), "the day after tomorrow", "day after tomorrow", False)


def _weekday(rng: random.Random, today: date) -> Day:
    day = today + timedelta(days=rng.randint(1, 7))
    name = WEEKDAYS[day.weekday()]
    if rng.random() < 0.12:
        name = name[:3]
    days_left = 6 - today.weekday()
    form = rng.choices(("on", "this", "coming", "bare", "next"), weights=(60, 14, 5, 14, 7))[0]
    if form == "this" and not 0 < (day - today).days <= days_left:
        form = "on"  # "this Monday", said on a Saturday, is anyone's guess
    if form == "next" and (day - today).days <= days_left:
        form = "on"  # "next Friday", said on a Tuesday, means ten days on to many
    adverb = {
        "on": f"on {name}",
        "this": f"this {name}",
        "coming": f"this coming {name}",
        "bare": name,
        "next": f"next {name}",
    }[form]
    noun = name if form in ("on", "bare") else adverb
    return Day(day, adverb, noun, form != "coming")


def _ordinal(day: int) -> str:
    suffix = "th" if 10 <= day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{suffix}"


def _future(rng: random.Random, today: date) -> date:
    return today + timedelta(days=rng.randint(1, 60) if rng.random() < 0.65 else rng.randint(60, 330))


def _month_day(rng: random.Random, today: date) -> Day:
    day = _future(rng, today)
    month = MONTHS[day.month - 1]
    if rng.random() < 0.2:
        month = month[:3]
    nth, weekday = _ordinal(day.day), WEEKDAYS[day.weekday()]
    noun = rng.choice(
        (
            f"{month} {day.day}",
            f"{month} {nth}",
            f"{day.day} {month}",
            f"{nth} of {month}",
            f"{weekday}, {month} {day.day}",
            f"{weekday} {day.day} {month}",
        )
    )
    the = "the " if noun.startswith(nth) else ""
    return Day(day, f"on {the}{noun}", f"{the}{noun}", False)


def _full(rng: random.Random, today: date) -> Day:
    day = _future(rng, today)
    month = MONTHS[day.month - 1]
    noun = rng.choice(
        (f"{day.day} {month} {day.year}", f"{month} {day.day}, {day.year}", day.isoformat(), day.isoformat())
    )
    return Day(day, f"on {noun}", noun, False)


def _nth(rng: random.Random, today: date) -> Day:
    number = rng.choice([n for n in range(1, 29) if n != today.day])
    day = today
    while day.day != number:
        day += timedelta(days=1)
    return Day(day, f"on the {_ordinal(number)}", f"the {_ordinal(number)}", False)


def _in_days(rng: random.Random, today: date) -> Day:
    count = rng.choice((2, 2, 3, 3, 4, 5, 6, 7, 7, 8, 9, 10, 14, 14, 21))
    if count % 7 == 0 and rng.random() < 0.9:
        weeks = (
            rng.choice((f"{count // 7} weeks", f"{in_words(count // 7)} weeks"))
            if count > 7
            else rng.choice(("a week", "one week"))
        )
        span, start = weeks, rng.choice(("today", "now"))
    else:
        span, start = f"{rng.choice((str(count), in_words(count)))} days", "now"
    later = f"{span} from {start}"
    return Day(today + timedelta(days=count), later if rng.random() < 0.25 else f"in {span}", later, False)


def _holiday(rng: random.Random, today: date) -> Day:
    name = rng.choice(sorted(HOLIDAYS))
    month, number = HOLIDAYS[name]
    day = date(today.year, month, number)
    if day <= today:
        day = date(today.year + 1, month, number)
    return Day(day, f"on {name}", name, False)


_DAYS = {
    "today": _today,
    "tomorrow": _tomorrow,
    "after": _after_tomorrow,
    "weekday": _weekday,
    "month_day": _month_day,
    "full": _full,
    "nth": _nth,
    "in_days": _in_days,
    "holiday": _holiday,
}

HOURS = {
    "day": range(7, 22),
    "work": range(8, 20),
    "dinner": range(18, 22),
    "lunch": range(12, 15),
    "meal": range(11, 22),
}


def pick_clock(rng: random.Random, hours: str) -> Clock:
    """A time within the named hours."""
    hour = rng.choice(HOURS[hours])
    minute = rng.choices((0, 30, 15, 45, rng.choice((5, 10, 20, 25, 35, 40, 50, 55))), weights=(50, 22, 8, 8, 6))[0]
    return clock(rng, hour, minute)


def clock(rng: random.Random, hour: int, minute: int) -> Clock:
    """Some way to write a time."""
    part = "morning" if hour < 12 else "afternoon" if hour < 18 else "evening"
    half = "am" if hour < 12 else "pm"
    hour12 = hour % 12 or 12
    spoken = _spoken(hour12, minute)
    digits = str(hour12) if minute == 0 else f"{hour12}:{minute:02d}"
    short = rng.choice((digits, digits, spoken, f"{hour}:{minute:02d}"))
    dotted = digits.replace(":", ".")
    ways = [
        f"{digits}{half}",
        f"{digits} {half}",
        f"{digits} {half[0]}.{half[1]}.",
        f"{dotted}{half}",
        f"{hour}:{minute:02d}",
        f"{hour}:{minute:02d}",
        f"{hour:02d}:{minute:02d}",
        f"{spoken} in the {part}",
        f"{hour12} o'clock in the {part}" if minute == 0 else f"{hour}.{minute:02d}",
    ]
    full = rng.choice(ways)
    if (hour, minute) == (12, 0):
        full = short = rng.choice(("noon", "noon", "midday", "12:00", "12 pm"))
    return Clock(f"{hour:02d}:{minute:02d}", full, short, part)


def _spoken(hour12: int, minute: int) -> str:
    """`half past six`, `quarter to nine`, `ten past four`."""
    this, following = in_words(hour12), in_words(hour12 % 12 + 1)
    if minute == 0:
        return this
    if minute in (15, 30):
        return f"{'half' if minute == 30 else 'quarter'} past {this}"
    if minute == 45:
        return f"quarter to {following}"
    return f"{in_words(minute)} past {this}" if minute < 30 else f"{in_words(60 - minute)} to {following}"


def pick_when(rng: random.Random, today: date, hours: str, bare: bool) -> tuple[Day, Clock, str]:
    """A date and a time together. `bare`: as it stands after "for" or a comma."""
    day, time = pick_day(rng, today), pick_clock(rng, hours)
    if hours in ("dinner", "lunch") and rng.random() < 0.4:
        time = Clock(time.hhmm, time.short, time.short, time.part)  # the meal says which half of the day
    if day.date == today:
        return day, time, _when_today(rng, time)
    at = time.full if time.full.startswith(("noon", "midday")) and rng.random() < 0.2 else f"at {time.full}"
    if bare:
        ways = [
            f"{day.noun} {at}",
            f"{day.noun}, {time.full}",
            f"{day.noun} {time.full}",
            f"{day.noun} {at}",
            f"{time.full} {day.adverb}",
        ]
        if day.noun[0].isdigit() or day.noun[-1].isdigit():
            ways = ways[:2]  # "June 5 3pm" is hard to read
    else:
        ways = [f"{day.adverb} {at}", f"{day.adverb} {at}", f"at {time.full} {day.adverb}"]
    if day.part and time.short not in ("noon", "midday"):
        stem = day.noun if bare else day.adverb
        ways += [f"{stem} {time.part} at {time.short}", f"at {time.short} {day.adverb} {time.part}"]
        if bare:
            ways.pop()
    return day, time, rng.choice(ways)


def _when_today(rng: random.Random, time: Clock) -> str:
    if time.part == "evening":
        stem = rng.choice(("tonight", "tonight", "this evening"))
        return rng.choice(
            (
                f"{stem} at {time.short}",
                f"at {time.short} {stem}",
                f"{stem} at {time.full}" if "in the" not in time.full else f"{stem} at {time.short}",
            )
        )
    ways = [f"today at {time.full}", f"at {time.full} today"]
    if time.short not in ("noon", "midday"):
        ways.append(f"this {time.part} at {time.short}")
    return rng.choice(ways)


def pick_date_words(rng: random.Random, today: date, bare: bool) -> tuple[date, str]:
    """A date alone; now and then with a part of the day that says no time."""
    day = pick_day(rng, today)
    if day.date == today and rng.random() < 0.5:
        return today, rng.choice(("tonight", "this evening", "this afternoon", "this evening"))
    text = day.noun if bare else day.adverb
    if day.part and rng.random() < 0.12:
        text += " " + rng.choice(("morning", "afternoon", "evening"))
    return day.date, text


def pick_range(rng: random.Random) -> tuple[str, int, str]:
    """A span of time: its start, its minutes and its words."""
    hour, minute = rng.randint(8, 18), rng.choice((0, 0, 0, 30))
    minutes = rng.choice((30, 45, 60, 60, 60, 90, 90, 120, 120, 180))
    end = hour * 60 + minute + minutes
    start24, end24 = f"{hour}:{minute:02d}", f"{end // 60}:{end % 60:02d}"
    ways = [
        f"from {start24} to {end24}",
        f"from {start24} until {end24}",
        f"between {start24} and {end24}",
        f"{start24}-{end24}",
    ]
    if (hour < 12) == (end // 60 < 12):
        half = "am" if hour < 12 else "pm"
        a, b = _short(hour, minute), _short(end // 60, end % 60)
        ways += [
            f"from {a} to {b}{half}",
            f"from {a} to {b} {half}",
            f"{a}-{b}{half}",
            f"between {a} and {b} {half}",
            f"from {a}{half} until {b}{half}",
        ]
    return f"{hour:02d}:{minute:02d}", minutes, rng.choice(ways)


def _short(hour: int, minute: int) -> str:
    return str(hour % 12 or 12) if minute == 0 else f"{hour % 12 or 12}:{minute:02d}"
