"""Numbers, durations, percentages, temperatures and amounts as people write them."""

from __future__ import annotations

import random

ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)  # fmt: skip
TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def in_words(number: int) -> str:
    """Numbers below a hundred: `twenty-one`."""
    if number < 20:
        return ONES[number]
    tens, ones = divmod(number, 10)
    return TENS[tens] + (f"-{ONES[ones]}" if ones else "")


def pick_minutes(rng: random.Random) -> int:
    """A timer's minutes: mostly below an hour, with enough hours to learn the sum."""
    if rng.random() < 0.7:
        return rng.choice(
            (
                1,
                2,
                3,
                4,
                5,
                5,
                6,
                7,
                8,
                9,
                10,
                10,
                11,
                12,
                13,
                14,
                15,
                16,
                17,
                18,
                20,
                20,
                22,
                24,
                25,
                27,
                28,
                30,
                30,
                32,
                35,
                38,
                40,
                45,
                48,
                50,
                55,
            )
        )
    return rng.choice(
        (
            60,
            60,
            65,
            70,
            75,
            80,
            85,
            90,
            90,
            90,
            95,
            100,
            105,
            110,
            120,
            120,
            135,
            140,
            150,
            150,
            180,
            195,
            210,
            240,
            300,
        )
    )


def duration(rng: random.Random, minutes: int) -> str:
    """`ten minutes`, `half an hour`, `an hour and a half`, `1h20`."""
    hours, rest = divmod(minutes, 60)
    unit = rng.choice(("minutes", "minutes", "minutes", "mins", "min"))
    ways = [f"{minutes} {unit}"] if minutes > 1 else ["1 minute", "one minute", "a minute"]
    if 1 < minutes < 60:
        ways += [f"{minutes} {unit}", f"{in_words(minutes)} {unit if unit != 'min' else 'minutes'}"]
    special = {
        15: ["a quarter hour"],
        30: ["half an hour", "half an hour", "a half hour"],
        45: ["three quarters of an hour"],
        60: ["an hour", "one hour", "1 hour", "1h", "a full hour"],
        75: ["one hour and a quarter"],
        90: ["one hour and a half", "one and a half hours", "one and a half hours", "1.5 hours", "1 1/2 hours"],
        105: ["one hour and three quarters"],
        150: ["two and a half hours", "2.5 hours", "2 and a half hours"],
        210: ["three and a half hours", "3.5 hours"],
    }
    ways += special.get(minutes, [])
    if hours > 1 and rest == 0:
        ways += [f"{hours} hours", f"{in_words(hours)} hours", f"{hours}h", f"{hours} hrs"]
    if hours and rest:
        first = "an hour" if hours == 1 and rng.random() < 0.5 else f"{hours} hour{'s' * (hours > 1)}"
        ways += [
            f"{first} and {rest} minutes",
            f"{hours} h {rest} min",
            f"{hours}h{rest:02d}",
            f"{first} {rest} minutes" if first[0].isdigit() else f"{first} and {in_words(rest)} minutes",
        ]
    return rng.choice(ways[1:] if minutes >= 60 and len(ways) > 1 and rng.random() < 0.7 else ways)


def duration_adjective(rng: random.Random, minutes: int) -> str:
    """`10-minute`, `half-hour`, `two-hour`: what stands before a noun."""
    if minutes % 60 == 0:
        hours = minutes // 60
        return rng.choice((f"{in_words(hours)}-hour", f"{hours} hour", f"{hours}h", f"{minutes} minute"))
    if minutes == 30 and rng.random() < 0.5:
        return rng.choice(("half-hour", "half hour"))
    if minutes < 60 and rng.random() < 0.3:
        return rng.choice((f"{in_words(minutes)}-minute", f"{in_words(minutes)} minute"))
    return rng.choice((f"{minutes}-minute", f"{minutes} minute", f"{minutes} min"))


def percent(rng: random.Random, number: int) -> str:
    """`40%`, `forty percent`."""
    return rng.choice(
        (
            f"{number}%",
            f"{number}%",
            f"{number} %",
            f"{number} percent",
            f"{number} per cent",
            f"{in_words(number)} percent",
        )
    )


def degrees(rng: random.Random, celsius: float) -> str:
    """`21 degrees`, `21.5°C`, `twenty-one point five`."""
    whole, half = int(celsius), celsius % 1 == 0.5
    digits = f"{whole}.5" if half else str(whole)
    spoken = in_words(whole) + (" point five" if half else "")
    return rng.choice(
        (
            digits,
            f"{digits} degrees",
            f"{digits} degrees",
            f"{digits}°C",
            f"{digits}°",
            f"{digits} °C",
            f"{digits}C",
            f"{digits} C",
            f"{spoken} degrees",
            spoken,
            f"{digits} degrees celsius",
        )
    )


CURRENCIES = {
    "EUR": ("euros", "euros", "euro"),
    "USD": ("dollars", "dollars", "US dollars", "bucks"),
    "GBP": ("pounds", "pounds", "British pounds", "quid", "pounds sterling"),
    "JPY": ("yen", "Japanese yen"),
    "CHF": ("Swiss francs",),
    "SEK": ("Swedish kronor", "Swedish crowns"),
    "NOK": ("Norwegian kroner", "Norwegian crowns"),
    "DKK": ("Danish kroner", "Danish crowns"),
    "PLN": ("zloty", "Polish zloty", "zlotys"),
    "CZK": ("Czech crowns", "Czech koruna"),
    "HUF": ("forints", "Hungarian forint"),
    "CAD": ("Canadian dollars",),
    "AUD": ("Australian dollars", "Aussie dollars"),
    "NZD": ("New Zealand dollars", "kiwi dollars"),
    "CNY": ("yuan", "Chinese yuan", "renminbi"),
    "INR": ("rupees", "Indian rupees"),
    "KRW": ("won", "Korean won"),
    "TRY": ("Turkish lira",),
    "MXN": ("Mexican pesos",),
    "BRL": ("Brazilian reais", "reais"),
    "ZAR": ("rand", "South African rand"),
    "THB": ("baht", "Thai baht"),
    "SGD": ("Singapore dollars",),
    "HKD": ("Hong Kong dollars",),
    "AED": ("dirhams", "UAE dirhams"),
    "ILS": ("shekels", "Israeli shekels"),
}
WEIGHTS = {"EUR": 5, "USD": 5, "GBP": 4, "JPY": 3, "CHF": 2}
SYMBOLS = {"EUR": "€", "USD": "$", "GBP": "£", "JPY": "¥", "INR": "₹"}


def pick_currencies(rng: random.Random) -> tuple[str, str]:
    """Two different codes, the great currencies more often."""
    codes = sorted(CURRENCIES)
    weights = [WEIGHTS.get(code, 1) for code in codes]
    first = rng.choices(codes, weights)[0]
    second = first
    while second == first:
        second = rng.choices(codes, weights)[0]
    return first, second


def currency(rng: random.Random, code: str) -> str:
    """Its code or one of its names."""
    return code if rng.random() < 0.35 else rng.choice(CURRENCIES[code])


def money(rng: random.Random, code: str) -> tuple[float | int, str]:
    """An amount and its words: `€50`, `1.5k dollars`, `a hundred pounds`."""
    amount, text = _amount(rng)
    if code in SYMBOLS and text[0].isdigit() and rng.random() < 0.35:
        return amount, f"{SYMBOLS[code]}{text}" if code != "EUR" or rng.random() < 0.5 else f"{text}€"
    name = currency(rng, code)
    if name == code and text[0].isdigit() and rng.random() < 0.2:
        return amount, f"{code} {text}"
    return amount, f"{text} {name}"


def _amount(rng: random.Random) -> tuple[float | int, str]:
    kind = rng.choices(
        ("small", "tens", "hundreds", "thousands", "k", "cents", "words"), weights=(12, 24, 20, 14, 10, 10, 10)
    )[0]
    if kind == "small":
        number = rng.randint(2, 20)
        return number, str(number)
    if kind == "tens":
        number = rng.choice((rng.randint(2, 19) * 5, rng.randint(21, 99)))
        return number, str(number)
    if kind == "hundreds":
        number = rng.choice((rng.randint(2, 19) * 50, rng.randint(101, 999)))
        return number, str(number)
    if kind == "thousands":
        number = rng.choice((rng.randint(2, 30) * 500, rng.randint(1001, 9999), rng.randint(10, 90) * 1000))
        return number, rng.choice((f"{number:,}", f"{number:,}", str(number)))
    if kind == "k":
        tenths = rng.choice((10, 12, 15, 18, 20, 24, 25, 30, 35, 40, 50, 75, 80, 100, 120, 150, 200))
        return tenths * 100, f"{tenths // 10}k" if tenths % 10 == 0 else f"{tenths / 10}k"
    if kind == "cents":
        price = rng.randint(1, 400) + rng.choice((0.5, 0.99, 0.95, 0.25, 0.49, 0.9, 0.75))
        return price, f"{price:.2f}"
    number = rng.choice((2, 3, 5, 8, 10, 12, 15, 20, 25, 30, 40, 50, 60, 75, 80, 100, 200, 300, 500, 1000, 2000, 5000))
    if number < 100:
        return number, in_words(number)
    if number == 100:
        return number, rng.choice(("a hundred", "one hundred"))
    if number < 1000:
        return number, f"{in_words(number // 100)} hundred"
    return number, "a thousand" if number == 1000 else f"{in_words(number // 1000)} thousand"
