"""Which differences are of values, so that both rows stay."""

from __future__ import annotations

import pytest

from tunelift.stages.curate.values import Said, difference, form, same_words


def compare(one: str, other: str) -> str:
    return difference(Said(one), Said(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Set a timer for 5 minutes", "Set a timer for 10 minutes"),
        ("Set a timer for five minutes", "Set a timer for 10 minutes"),
        ("We meet on 2025-03-08 at 12:30", "We meet on 2026-11-18 at 9 pm"),
        ("we meet on monday", "we meet on thursday"),
        ("Please track order VNA-936-00", "Please track order wk82990"),
        ("Write to anna@example.com", "Write to info@example.org"),
        ("Read https://example.com/a?b=1", "Read www.example.org/c"),
        ("Find flights from Rome to Paris", "Find flights from Paris to Rome"),
        ("Find flights from Rome to New York", "Find flights from Milan to Oslo"),
        ('{"tool": "get_weather", "city": "Bologna"}', '{"tool": "get_weather", "city": "Delhi"}'),
        ("He calls it “a fine day” again", "He calls it “nothing much” again"),
        ("Anna ordered two pizzas.", "Peter ordered two pizzas."),
        ("How much is 3 + 4?", "How much is 3 * 4?"),
        ("It costs 3.5 euros", "It costs 35 euros"),
        ("It fell to -5 degrees", "It fell to 5 degrees"),
        ("Please send 100 euros to my mother", "Send 500 euros to my mother"),
        ("Tell me more of it", "Tell me more of it 2"),
        ("把桌子订在3点", "把桌子订在5点"),
    ],
)
def test_other_values(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == "values"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KILL THE LIGHTS IN THE HALL", "Kill the lights in the hall."),
        ("Get the forecast for Paris...", "get the forecast for Paris"),
        ("It's 22.5 °C  in here", "it's 22.5 °c in here!!"),
        ("Meet Anna at 5", "Meet Anna at 5"),
    ],
)
def test_case_and_punctuation_are_no_difference(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == "none"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Locate PO-51509", "Hi! Locate PO-51509"),
        ("Locate PO-51509", "Locate PO-51509 please"),
        ("Book a table on Wednesday, December 22", "Book a table on Wednesday, December 22 ASAP"),
        ("I like this film", "I love this film"),
        ("turn the light on", "turn the light off"),
        ("Is Rome nice in May?", "Was Rome so nice in May?"),
    ],
)
def test_other_or_more_words_are_no_values(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == "words"


def test_ids_are_the_words_of_a_text_that_is_made_of_them() -> None:
    said = [f"w{number}" for number in range(40)]
    assert compare(" ".join(said), " ".join([*said[:20], "w77", *said[21:]])) == "words"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Move 3 boxes to hall 12 please.", "Move 500 boxes to hall 7 please."),
        ("Is my order from Paris late?", "Is my order from New York late?"),
        ("Remind me on Monday to call 'mum'", "Remind me on 2026-03-01 to call “the bank”"),
    ],
)
def test_texts_of_one_template_have_one_form(one, other):
    assert form(one) == form(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Move 3 boxes to hall 12 please.", "Bring 3 boxes to hall 12 please."),
        ('Judge this: "the food was cold and late"', 'Judge this: "a lovely evening by the sea"'),
        ("Give the topic: Apple Buys Beats For Three Billion", "Give the topic: Storm Closes Two Schools In Ohio"),
    ],
)
def test_other_words_and_longer_texts_are_another_form(one, other):
    assert form(one) != form(other) or form(one) == "", "without a form a text is of no template"


@pytest.mark.parametrize("text", ["", "5 1005", "Add 5", "what is the capital of the land"])
def test_what_tells_no_template_has_no_form(text):
    assert form(text) == ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("👍", "👎"),
        ("✅", "❌\ufe0f"),
        ("+", "-"),
        ("==", "!="),
        ("...", "?"),
        ("Is a == b true here?", "Is a != b true here?"),
        ("Does i++ come first?", "Does i-- come first?"),
        ("What is C++ used for?", "What is C used for?"),
        ("What is C# used for?", "What is C used for?"),
        ("The tour was nice 🙂", "The tour was nice 🙁"),
        ("A fee of ten $", "A fee of ten €"),
    ],
)
def test_another_sign_is_another_value(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == "values"


@pytest.mark.parametrize(
    ("one", "other"),
    [("👍", "👍🏽"), ("✅", "✅\ufe0f"), ("**Good** morning!", "good morning"), ("- one\n- two", "* one\n* two")],
)
def test_how_a_sign_is_drawn_and_markup_are_no_difference(one: str, other: str) -> None:
    assert compare(one, other) == compare(other, one) == "none"


@pytest.mark.parametrize(("one", "other", "same"), [("👍", "👎", False), ("+", "+", True), ("Yes!", "yes", True)])
def test_texts_without_words_are_the_same_only_if_equal(one: str, other: str, same: bool) -> None:
    assert same_words(Said(one), Said(other)) is same
