"""Rules on text: what counts as right."""

from __future__ import annotations

import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.tasks.scorers.making import REMIND, anything, item, one, scorer, task
from tunelift.errors import UserError
from tunelift.tasks.scorers.numbers import last_number, only_number


@pytest.mark.parametrize(
    ("output", "accepted", "expected"),
    [
        ('{"arguments": {"minutes": 30.0, "text": " Call  anna! "}, "tool": "remind"}', REMIND, 1),
        ('  {"tool":"remind","arguments":{"text":"call Anna","minutes":30}}\n', REMIND, 1),
        ('{"tool":"remind","arguments":{"text":"call Anna"}}', REMIND, 0),
        ('{"tool":"remind","arguments":{"text":"call Anna","minutes":"30"}}', REMIND, 0),
        ('{"tool":"remind","tool":"remind","arguments":{"text":"call Anna","minutes":30}}', REMIND, 0),
        ('```json\n{"tool": null}\n```', {"tool": None}, 0),
        ('{"tool": null} ', {"tool": None}, 1),
        ("{}", {"tool": None}, 0),
        ('{"a": true}', {"a": 1}, 0),
        ('{"a": 1}', {"a": True}, 0),
        ('{"a": 0}', {"a": False}, 0),
        ('{"a": null}', {}, 0),
        ('{"a": -0.0}', {"a": 0}, 1),
        ('{"a": 1e2}', {"a": 100}, 1),
        ("[1, 2]", [2, 1], 0),
        ('{"a": "Cafe\u0301"}', {"a": "café"}, 1),
        ("  It is  PARIS. ", "it is Paris", 1),
        ("42", "42", 1),
        ('"Paris"', "Paris", 0),
        ("...", "", 0),
    ],
)
def test_exact_match(output: str, accepted: object, expected: float) -> None:
    assert one("exact_match", output, accepted) == expected


def test_any_accepted_answer_is_right() -> None:
    assert one("exact_match", '{"a": 2}', {"a": 1}, {"a": 2}) == 1
    assert one("exact_match", "two", {"a": 1}, "two") == 1


@pytest.mark.parametrize(
    ("options", "output", "accepted", "expected"),
    [
        ({"pattern": "[0-9]{4}-[0-9]{2}"}, "on 2026-03-11", "", 1),
        ({"pattern": "^[0-9]{4}$"}, "on 2026", "", 0),
        ({"pattern": "paris"}, "Paris", "", 0),
        ({"pattern": "paris", "ignore_case": True}, "Paris", "", 1),
        ({"pattern": "#### (.+)", "group": 1}, "2+2\n#### 4.", "4", 1),
        ({"pattern": "#### (.+)", "group": 1}, "#### 5", "4", 0),
        ({"pattern": "#### (.+)", "group": 1}, "5", "5", 0),
        ({"pattern": "[0-9]+", "group": 0, "last": True}, "first 1, then 42", "42", 1),
        ({"pattern": "[0-9]+", "group": 0}, "first 1, then 42", "42", 0),
        ({"pattern": "(a)|b", "group": 1}, "b", "a", 0),
    ],
)
def test_regex(options: dict[str, object], output: str, accepted: str, expected: float) -> None:
    assert one("regex", output, accepted, **options) == expected


@pytest.mark.parametrize("options", [{"pattern": "("}, {"pattern": "a", "group": 1}, {"pattern": "a{99999999999}"}])
def test_a_pattern_that_cannot_work_is_refused_at_load(options: dict[str, object]) -> None:
    with pytest.raises(UserError, match="pattern="):
        scorer("regex", **options)


@pytest.mark.parametrize(
    ("options", "output", "expected"),
    [
        ({"texts": ["kind  regards", "yours"]}, "… Kind\nRegards, A.", 1),
        ({"texts": ["kind regards", "yours"], "every": True}, "Kind regards, A.", 0),
        ({"texts": ["no"]}, "I know", 1),
        ({"texts": ["no"], "whole_words": True}, "I know", 0),
        ({"texts": ["C++"], "whole_words": True}, "I like C++!", 1),
        ({}, "It is Paris, in France", 1),
        ({}, "It is Lyon", 0),
    ],
)
def test_contains(options: dict[str, object], output: str, expected: float) -> None:
    assert one("contains", output, "Paris", "paname", **options) == expected


def test_not_contains_is_the_opposite_of_contains() -> None:
    for output in ("As an AI I cannot", "sorry!", "fine"):
        found = one("contains", output, texts=["as an ai", "sorry"])
        assert one("not_contains", output, texts=["as an ai", "sorry"]) == 1 - found


@pytest.mark.parametrize(
    ("options", "output", "expected"),
    [
        ({"at_most": 5}, "  12345\n", 1),
        ({"at_most": 5}, "123456", 0),
        ({"at_least": 2, "unit": "words"}, "one", 0),
        ({"at_least": 2, "at_most": 2, "unit": "words"}, "one\n two", 1),
    ],
)
def test_length(options: dict[str, object], output: str, expected: float) -> None:
    assert one("length", output, **options) == expected


@pytest.mark.parametrize("options", [{}, {"at_least": 3, "at_most": 2}, {"at_most": -1}])
def test_impossible_bounds_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(UserError):
        scorer("length", **options)


@pytest.mark.parametrize(
    ("options", "output", "accepted", "expected"),
    [
        ({}, "1,234.50", 1234.5, 1),
        ({}, " −3.\n", "-3", 1),
        ({}, "about 3", 3, 0),
        ({}, "1e3", 1000, 1),
        ({"find": "last"}, "10-20 makes 15, so $1,500 in all.", 1500, 1),
        ({"find": "last"}, "between 10-20", 20, 0),
        ({"find": "last"}, "between 10 and 20", 20, 1),
        ({"find": "last"}, "none at all", 0, 0),
        ({"tolerance": 0.01}, "0.3", 0.29, 1),
        ({"tolerance": 0.01}, "0.3001", 0.29, 0),
        ({"relative_tolerance": 0.1}, "110", 100, 1),
        ({"relative_tolerance": 0.1}, "111", 100, 0),
        ({"tolerance": 20, "relative_tolerance": 0.1}, "111", 100, 1),
        ({}, "9" * 1000, 9, 0),
        ({}, "1e99999", 9, 0),
        ({}, "1e-99999", 0, 1),
        ({}, "٣", 3, 0),
    ],
)
def test_number(options: dict[str, object], output: str, accepted: object, expected: float) -> None:
    assert one("number", output, accepted, **options) == expected


@pytest.mark.parametrize(
    ("output", "value"),
    [
        ("1,5 Liter", 1.5),
        ("It costs 1.234,50 €.", 1234.5),
        ("12 345,67 €", 12345.67),
        ("1\u202f234\u202f567", 1234567),
        ("1’234’567.5", 1234567.5),
        ("In 2020 500 people", 500),
        ("9{,}500", 9500),
        ("\\boxed{9\\,500}", 9500),
        ("-\\frac{3}{4}", -0.75),
        ("2 1/2 cups", 2.5),
        ("−$5", -5),
        ("$-5", -5),
        ("-€1.000,50", -1000.5),
        ("a fall of 5 %", 5),
        ("答案是５个。", 5),
        ("so 6 * 7 = 42", 42),
        ("#### -7", -7),
        ("**42**", 42),
        ("0,500", 0.5),
        ("1234,567", 1234.567),
        ("1_000", 1000),
        ("The area is 25 cm².", 25),
        ("25 m³ of water", 25),
        ("a room of 25 m^2", 25),
        ("25 m2", 25),
        ("$25 \\text{ cm}^2$", 25),
        ("$25~\\mathrm{~m}^{3}$", 25),
        ("9.8 m/s² or so", 9.8),
        ("a density of 7 kg/m^3", 7),
        ("it is minus 5", -5),
        ("The result is negative $5.", -5),
        ("minus 5 °C", -5),
        ("It is \u20115", -5),
        ("au moins 5 personnes", 5),
        ("The total — 5", 5),
        ("use 2 500 ml", 2500),
        ("The answer is 1 234 567.", 1234567),
        ("**1 234 567**", 1234567),
        ("It costs 1 234 567 €.", 1234567),
        ("1 234 567", 1234567),
        ("5 miles", 5),
        ("5 millimetres", 5),
        ("5 milhas", 5),
        ("300 K", 300),
    ],
)
def test_the_last_number_is_read_as_people_write_it(output: str, value: float) -> None:
    assert one("number", output, value, find="last") == 1


@pytest.mark.parametrize(
    "output",
    [
        *("12:30", "2026-03-10", "10/03/2026", "10.03.2026", "5-7", "5–7", "5 - 7", "$5-$7", "10%-20%", "1.2.3"),
        *("v1.2", "192.168.1.1", "H2O", "COVID-19", "No.5", "x_1", "x^{2}", "2^10", "10²", "1½", "½", "\\sqrt{2}"),
        *("√2", "2π", "\\frac{x}{4}", "5k", "$1.5M", "3 million", "20,5 Mio. €", "3 ± 0.1", "1,2,3", "10，20"),
        *("0x1F", "12h30", "5...7", "7 of ٣", "1.5 × 10^3", "1/0", "5 + 7", "1,234,56", "= - 5", "GPT-4"),
        *(
            "25 x²",
            "3 m^2 + 2",
            "5 s^2",
            "x minus 5",
            "is - 5",
            "moins 5",
            "负5",
            "it is —5",
            "$3 bn",
            "$5 k",
            "$5 m",
            "£5m",
        ),
        *(
            "5 M€",
            "5 k USD",
            "3 millones",
            "3 milhões",
            "3 milioni",
            "3 miljoen",
            "3 Tausend",
            "3 Tsd.",
            "3 mil",
            "3 lakh",
        ),
        *("3 mila", "3 crore", "3만", "3억", "3천", "3 mln", "3 लाख", "3 مليون", "3 milyon"),
    ],
)
def test_what_is_no_sure_number_is_none_and_no_other_one(output: str) -> None:
    assert last_number(f"The answer: {output}") is None
    assert last_number(f"First 8, then: {output}") is None, "nor an earlier one"
    assert only_number(output) is None


@pytest.mark.parametrize("output", ["10 200 300", "10 200 300 mm", "10 200 300 €"])
def test_a_row_of_numbers_is_not_one_number(output: str) -> None:
    assert last_number(f"The sizes are {output}.") is None
    assert last_number(f"The sizes: {output.replace(' €', '')} and that is all") is None


@pytest.mark.parametrize(
    "output",
    [
        "5 km",
        "5km",
        "5 USD",
        "EUR 5",
        "US$5",
        "5 °C",
        "5 kg",
        "5 m²",
        "5 cm^2",
        "5 m/s",
        "5 min.",
        "5\u00a0l",
        "5 Liter",
    ],
)
def test_a_usual_unit_beside_a_number_says_nothing(output: str) -> None:
    assert one("number", output, 5) == one("number", "5", output) == one("number", f"-{output}", -5) == 1
    assert only_number("$5", units=False) == only_number("5 %", units=False) == 5
    assert only_number("5 km", units=False) is only_number("EUR 5", units=False) is None
    assert one("number", f"about {output}", 5) == one("number", f"{output} or so", 5) == 0


@pytest.mark.parametrize("output", ["5 apples", "5 x", "5 k", "km 5", "5 km 3 m", "EUR 5 USD 6", "5 MIO"])
def test_other_words_beside_a_number_are_no_units(output: str) -> None:
    assert only_number(output) is None


def test_the_decimal_mark_can_be_said() -> None:
    assert one("number", "1,234", 1234) == one("number", "1.234", 1.234) == 1
    assert one("number", "1,234", 1.234, decimals="comma") == one("number", "1.234", 1234, decimals="comma") == 1
    assert one("number", "1,5", 1.5, decimals="point") == one("number", "1.5", 1.5, decimals="comma") == 0
    assert one("number", "1.5", 1.5, decimals="auto") == 1


def test_accepted_texts_are_read_as_outputs_are() -> None:
    reply = "She has 3 left, so 3 * 4 = 12.\n#### 12"
    assert one("number", reply, reply, find="last") == 1
    assert one("number", "12", reply, find="last") == 1
    assert one("number", reply, reply) == 0, "nothing is searched for"
    assert one("number", "1.234,50", "1234.5") == one("number", "$5", "5.00") == 1


@given(
    st.integers(0, 10**9), st.integers(0, 99), st.sampled_from([(",", "."), (".", ","), ("\u202f", ","), ("'", ".")]),
    st.sampled_from(["{}", "-{}", "${}", "-${}", "{} %", "{} km", "So {}.", "= {}"]),
)  # fmt: skip
def test_a_number_with_marks_for_thousands_and_decimals_is_that_number(
    whole: int, part: int, marks: tuple[str, str], around: str
) -> None:
    written = f"{whole:,}".replace(",", marks[0]) + f"{marks[1]}{part:02}"
    value = (whole + part / 100) * (-1 if around.startswith("-") else 1)
    assert one("number", around.format(written), value, find="last", tolerance=1e-6) == 1


@pytest.mark.parametrize(
    "part",
    [
        "1,",
        "1 ",
        "12 345 ",
        "1-",
        "1e",
        "\\frac{1}",
        "9{,}",
        "$",
        "-",
        "a1",
        "1 m",
        "1 m^2 ",
        "1\\text{ ",
        "is minus ",
        "EUR ",
    ],
)
def test_hostile_numbers_cost_no_quadratic_time(part: str) -> None:
    start = time.process_time()
    last_number(part * (300_000 // len(part)))
    assert time.process_time() - start < 5, "quadratic time would take minutes"


@pytest.mark.parametrize(
    ("output", "accepted"),
    [("the us army", "The US Army"), ("5", "5!"), ("a", "a?"), ("ms", "mS"), ("don’t", "don't"), ("a  b", "a b"),
     ('{"k": "abc"}', {"k": "AbC"}), ("東京", "東京。")],
)  # fmt: skip
def test_strict_tells_apart_what_is_equal_without_it(output: str, accepted: object) -> None:
    assert one("exact_match", output, accepted) == 1
    assert one("exact_match", output, accepted, strict=True) == 0
    assert one("field_f1", output, accepted) == 1
    assert one("field_f1", output, accepted, strict=True) == 0
    assert scorer("exact_match").strict is False and scorer("exact_match", strict=True).strict is True


def test_strict_forgives_white_space_around_and_the_form_of_numbers() -> None:
    assert one("exact_match", " The US Army\n", "The US Army", strict=True) == 1
    assert one("exact_match", '{"b": 1.0, "a": "X"}', {"a": "X", "b": 1}, strict=True) == 1
    assert one("regex", "#### Paris ", "Paris", pattern="#### (.+)", group=1, strict=True) == 1
    assert one("regex", "#### paris", "Paris", pattern="#### (.+)", group=1, strict=True) == 0
    with pytest.raises(UserError, match="give `group`"):
        scorer("regex", pattern="a", strict=True)


@given(st.integers(-(10**12), 10**12) | st.floats(-1e12, 1e12), st.floats(0, 10))
def test_a_number_matches_itself_however_it_is_written(value: float, tolerance: float) -> None:
    for written in (repr(value), f"{value:,}"):
        assert one("number", written, value, tolerance=tolerance) == 1
        assert one("number", f"I think that it is {written}", value, find="last") == 1


@given(anything, anything)
def test_no_text_makes_a_text_rule_raise(output: str, accepted: str) -> None:
    rules = [
        scorer("exact_match"),
        scorer("exact_match", find="anywhere"),
        scorer("regex", pattern="(a|[0-9]+)", group=1, last=True),
        scorer("contains", whole_words=True),
        scorer("not_contains", texts=["no"]),
        scorer("length", at_most=3, unit="words"),
        scorer("number", tolerance=0.5),
        scorer("number", find="last", relative_tolerance=0.5),
    ]
    for rule in rules:
        assert rule.function(output, item(accepted), task()) in {0, 1}, rule.name


@given(st.text(alphabet=string.digits + ".,-+eE−", max_size=30))
def test_almost_numbers_make_no_rule_raise(output: str) -> None:
    assert one("number", output, 1, find="last", tolerance=1) in {0, 1}
    assert one("number", output, output) in {0, 1}
