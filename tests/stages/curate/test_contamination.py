"""Contamination: an item in the rows is found, a chance resemblance is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.conftest import pair, pairs, read_jsonl, write_jsonl
from tunelift.stages.curate.contamination import Match, Questions, contamination, words
from tunelift.stages.curate.rows import Fault

LONG = "Could you please book a table for four people at the Italian place near the station on Friday at seven?"
SIX = "remind me to phone grandma tonight"
SHORT = "Fan on!"
ITEMS = {"golden": [LONG, SIX, SHORT]}
PREFIX = "Today is Tuesday 2026-03-10.\n"


def matches(*user_texts: str, items: dict[str, list[str]] = ITEMS) -> list[Match]:
    return Questions(items, 8, 0.5).matches(user_texts, ["x"])


@pytest.mark.parametrize("text", [LONG, LONG.upper(), PREFIX + LONG, f"Here is a question: {LONG} Thank you."])
def test_a_long_item_is_found_verbatim_and_inside_a_longer_text(text: str) -> None:
    (match,) = matches(text)
    assert (match.task, match.item, match.overlap) == ("golden", 0, 1.0)
    assert match.span.lower() == LONG.lower().rstrip("?")


def test_a_lightly_edited_item_is_found_with_its_share() -> None:
    (match,) = matches(LONG.replace("seven", "nine").replace("Could you please", "Please"))
    assert match.item == 0
    assert 0.5 < match.overlap < 1
    assert match.span == "Please book a table for four people at the Italian place near the station on Friday at"


def test_less_than_the_share_is_no_match() -> None:
    assert matches("book a table for four people at the harbour, we will come around eight o'clock") == []


@pytest.mark.parametrize("text", [SIX, f"{PREFIX}Please {SIX}, will you?", "Remind me  to phone GRANDMA, tonight"])
def test_an_item_shorter_than_an_ngram_is_found_whole(text: str) -> None:
    assert [(match.item, match.overlap) for match in matches(text)] == [(1, 1.0)]


@pytest.mark.parametrize(
    "text",
    [
        "Question: Who wrote Hamlet?",
        "Q: who wrote Hamlet?\nA:",
        "1. Who wrote Hamlet?",
        "(b) **Question 7:** Who wrote Hamlet?",
        "Who wrote Hamlet? Answer briefly.",
        "Some trivia. Task: Be quick! 'Who wrote Hamlet?' Thanks",
        "请回答。 Who wrote Hamlet？",
    ],
)
def test_a_very_short_item_is_found_as_a_sentence_and_behind_a_label(text: str) -> None:
    (match,) = matches(text, items={"trivia": ["Who wrote Hamlet?", "Thanks", "Hamlet"]})
    assert (match.item, match.span) == (0, "Who wrote Hamlet" if "who" not in text else "who wrote Hamlet")


@pytest.mark.parametrize(
    "text", ["Do you know who wrote Hamlet?", "Who wrote Hamlet, and when?", "Q: Hamlet", "Thanks. Hm"]
)
def test_a_very_short_item_inside_a_sentence_and_one_word_behind_a_label_are_chance(text: str) -> None:
    assert matches(text, items={"trivia": ["Who wrote Hamlet?", "Thanks", "Hamlet"]}) == []


def test_a_line_of_nothing_but_labels_is_no_endless_work() -> None:
    text = "Q: " * 100_000 + "Who wrote Hamlet?"
    assert matches("1. 2. 3. Who wrote Hamlet?", items={"trivia": ["Who wrote Hamlet?"]})
    assert matches(text, items={"trivia": ["Who wrote Hamlet?"]}) == []


@pytest.mark.parametrize("text", ["fan on", PREFIX + "fan on", "Fan: on"])
def test_a_very_short_item_is_found_when_it_is_the_request(text: str) -> None:
    assert [match.item for match in matches(text)] == [2]


@pytest.mark.parametrize(
    "text",
    [
        "switch the fan on in the bedroom",
        "is the fan on?",
        "fan on, light off",
        "remind me to phone grandpa tonight",
        PREFIX,
    ],
)
def test_a_very_short_item_inside_another_request_is_chance(text: str) -> None:
    assert matches(text) == []


def test_any_user_turn_counts_and_the_fullest_match_comes_first() -> None:
    found = matches("hello", SHORT, LONG.replace("seven", "nine"))
    assert [(match.item, match.overlap == 1) for match in found] == [(2, True), (0, False)]


def test_the_fixed_line_before_requests_does_not_count() -> None:
    items = {"golden": ["Is today Tuesday 2026-03-10 or not, and what day comes after?"]}
    assert matches(PREFIX + "what is the weather", items=items) == []


FILLER = "The harbour was built long ago and it was for many years the busiest of them all on that coast. " * 8


@pytest.mark.parametrize("place", ["system", "user", "assistant", "reasoning_content"])
@pytest.mark.parametrize("item", [LONG, SIX])
def test_an_item_is_found_inside_a_long_text_of_anyone_in_the_conversation(place: str, item: str) -> None:
    texts = dict.fromkeys(("system", "user", "assistant", "reasoning_content"), FILLER) | {
        place: f"{FILLER}{item} {FILLER}"
    }
    messages = [{"role": role, "content": texts[role]} for role in ("system", "user", "assistant")]
    messages[-1]["reasoning_content"] = texts["reasoning_content"]
    fault, found = contamination(Questions(ITEMS, 8, 0.5), messages)
    (match,) = found
    assert (match.item, match.overlap) == (ITEMS["golden"].index(item), 1.0)
    assert match.span == item.rstrip("?")
    assert fault == Fault("contaminated", match.as_json())
    assert contamination(Questions(ITEMS, 8, 0.5), pair(FILLER, FILLER)["messages"]) == (None, [])


def test_a_very_short_item_counts_as_the_request_and_not_as_the_reply() -> None:
    questions = Questions(ITEMS, 8, 0.5)
    assert [match.item for match in questions.matches([SHORT], ["ok"])] == [2]
    assert questions.matches(["ok"], [SHORT]) == []


def test_the_evidence_shows_the_fullest_match_and_twenty_in_all() -> None:
    items = {"a": [f"please put the box number {number} on the shelf" for number in range(30)], "b": ["?"]}
    questions = Questions(items, 8, 0.5)
    fault, found = contamination(questions, pair("\n".join(items["a"]))["messages"])
    assert fault is not None
    assert len(fault.evidence["also"]) == 19
    assert len(found) == 30


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert words("明日の天気は?").keys == tuple("明日の天気は")
    item = "明日の東京の天気を教えてください"
    assert [match.overlap for match in matches(f"すみません、{item}。", items={"ja": [item]})] == [1.0]


@given(
    st.lists(
        st.sampled_from(["put", "the", "light", "in", "kitchen", "off", "book", "a", "table", "send"]),
        min_size=5,
        max_size=30,
    ),
    st.text(max_size=20),
    st.text(max_size=20),
)
def test_an_item_of_five_words_or_more_is_found_in_any_surroundings(item: list[str], before: str, after: str) -> None:
    text = f"{before} {' '.join(item)} {after}"
    found = matches(text, items={"t": [" ".join(item)]})
    assert [(match.item, match.overlap) for match in found] == [(0, 1.0)]


def test_a_word_that_grows_without_its_case_is_found() -> None:
    item = "İSTANBUL'da yarın hava nasıl olacak söyler misin lütfen bana"
    assert [match.overlap for match in matches(f"Merhaba, {item}?", items={"tr": [item]})] == [1.0]


def test_questions_without_words_match_nothing() -> None:
    assert matches("", "?!", items={"t": ["", "???"]}) == []


def test_contaminated_rows_are_dropped_with_the_evidence_and_items_are_counted(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [*pairs(40), pair(PREFIX + "fan on"), pair("And now: " + LONG), pair(LONG)]
    stats = run(
        write_jsonl(tmp_path / "a.jsonl", rows), questions={**ITEMS, "other": ["Where is my bicycle gone?"], "none": []}
    )
    assert stats["rows"]["dropped"] == {"contaminated": 3}
    assert stats["contamination"] == {"golden": pytest.approx(2 / 3), "other": 0.0, "none": 0.0}
    dropped = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert dropped[0]["evidence"] == {"task": "golden", "item": 2, "overlap": 1.0, "span": "fan on"}
    assert dropped[0]["row"] == json.loads(json.dumps(rows[40]))
    assert dropped[1]["source"].endswith("a.jsonl:42")
