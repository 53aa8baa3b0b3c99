"""Different questions about one passage are no near duplicates; one question in other words is."""

from __future__ import annotations

from itertools import combinations

import pytest

from tests.stages.curate.test_near import dropped, kinds
from tunelift.stages.curate.passages import ask_otherwise
from tunelift.stages.curate.values import Said

PASSAGE = (
    "A man in a yellow coat pushes a cart with melons up a steep lane while two children watch him from a doorstep. "
    "A dog sleeps in the shade of the wall, and a woman hangs out washing between two balconies."
)
QUESTIONS = [  # What stood in more rows would be boilerplate.
    "does somebody move fruit?",
    "is anybody sitting outdoors?",
    "does an animal rest?",
    "is his coat bright?",
    "is the dog awake?",
    "is the dog hungry?",
    "is the street flat?",
    "is there a dog?",
    "is there a cat?",
    "are the children watching?",
]
FORMS = (
    "{passage}\n\nAnswer yes or no: {question}",
    "{question}\n\n{passage}",
    "Passage: {passage} Question: {question}",
    "Answer yes or no. {question}\n{passage}",
    "{passage} {question} Answer yes or no.",
)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("on", ["both", "prompt"])
def test_all_questions_about_one_passage_stay(form: str, on: str) -> None:
    rows = [
        (form.format(passage=PASSAGE, question=question), "yes" if number % 3 else "no")
        for number, question in enumerate(QUESTIONS)
    ]
    assert set(kinds(rows, on=on).values()) == {"related"}
    assert dropped(rows, on=on) == set()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Does somebody move fruit?", "Does someone move the fruit?"),
        ("Is there a dog in the shade?", "Is there any dog in the shade, please?"),
        ("Schläft der Hund im Schatten?", "Schläft bitte ein Hund im Schatten?"),
    ],
)
def test_one_question_in_other_words_is_dropped(one: str, other: str) -> None:
    rows = [(f"{PASSAGE}\n\n{question}", "yes") for question in (one, other)]
    assert dropped(rows) == {1}


def test_one_answer_of_many_words_shows_that_the_same_is_asked() -> None:
    reply = "A man pushes melons up a lane, watched by two children and a woman with her washing."
    rows = [(f"{task}\n\n{PASSAGE}", reply) for task in ("Summarise this.", "Say in one sentence what happens.")]
    assert dropped(rows) == {1}


def test_an_edited_sentence_makes_no_question_of_its_own() -> None:
    """A near duplicate with a word changed inside its only sentence has no passage."""
    text = (
        "I have waited for my {} parcel since last Monday and nobody at your shop has answered any of my letters so far"
    )
    rows = [(text.format(word), "delivery") for word in ("heavy", "small")]
    assert dropped(rows) == {1}


def test_what_is_shared_must_be_long_and_more_than_the_rest() -> None:
    for one, other in combinations(("is it cold?", "is it warm?"), 2):
        assert not ask_otherwise(Said(f"It snows in Oslo.\n{one}"), Said(f"It snows in Oslo.\n{other}"))
        assert not ask_otherwise(Said(PASSAGE), Said(f"{PASSAGE}\n{other}"))
        assert ask_otherwise(Said(f"{PASSAGE}\n{one}"), Said(f"{PASSAGE}\n{other}"))


def test_opposite_sentences_with_emoji_labels_both_stay() -> None:
    rows = [
        (f"React with one sign: The tour was {word} and the guide knew every stone of the old town by heart.", label)
        for word, label in (("lovely", "👍"), ("dreadful", "👎"), ("nice", "👍🏽"), ("horrid", "❌"), ("lovely", "✅"))
    ]
    assert dropped(rows) == {2}
