"""Contamination: an item in the rows is found, a chance resemblance is not."""

from __future__ import annotations

import json
from collections.abc import Callable
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


def in_call(text: str) -> dict:
    call = {
        "type": "function",
        "function": {"name": "send_mail", "arguments": {"to": "a@b.org", "mail": {"body": text}}},
    }
    return {"role": "assistant", "content": "", "tool_calls": [call]}


def in_tools(text: str) -> list[dict]:
    text_argument = {"type": "string", "description": text}
    function = {"name": "search", "parameters": {"type": "object", "properties": {"text": text_argument}}}
    return [{"type": "function", "function": function}]


HIDDEN: dict[str, Callable[[str], tuple[list[dict], list[dict] | None]]] = {
    "an argument of a call": lambda text: ([said("user", "Send it."), in_call(text)], None),
    "a call before the last turn": lambda text: ([said("user", "Send it."), in_call(text), said("tool", "ok")], None),
    "a tool's result": lambda text: ([said("user", "Read it."), in_call("1"), said("tool", json.dumps([text]))], None),
    "a tool's definition": lambda text: ([said("user", "Hi"), said("assistant", "Hello")], in_tools(text)),
    "a name": lambda text: ([said("user", "Hi"), {**said("tool", "ok"), "name": text}], None),
}


def said(role: str, text: str) -> dict:
    return {"role": role, "content": text}


@pytest.mark.parametrize("place", HIDDEN)
@pytest.mark.parametrize("item", [LONG, SIX])
def test_an_item_is_found_in_all_that_training_shows(place: str, item: str) -> None:
    questions = Questions(ITEMS, 8, 0.5)
    for text in (item, f"{FILLER}{item} {FILLER}", "Dear all,\n" + item.replace(" ", "\n") + "\nYours"):
        fault, found = contamination(questions, *HIDDEN[place](text))
        assert [(match.item, match.overlap) for match in found] == [(ITEMS["golden"].index(item), 1.0)]
        assert fault is not None
    assert contamination(questions, *HIDDEN[place](FILLER)) == (None, [])


@pytest.mark.parametrize("overlap", [1, 0.99])
def test_an_overlap_of_one_finds_whole_copies_and_nothing_less(overlap: float) -> None:
    questions = Questions(ITEMS, 8, overlap)
    assert [match.overlap for match in questions.matches([f"Please: {LONG} Thanks."])] == [1.0]
    assert [match.overlap for match in questions.matches([SIX])] == [1.0]
    assert questions.matches([LONG.replace("seven", "nine")]) == []


def parts(text: str, count: int) -> list[str]:
    every = text.split()
    size = -(-len(every) // count)
    return [" ".join(every[start : start + size]) for start in range(0, len(every), size)]


PASSAGE = " ".join(
    f"{word}{number}" for number in range(12) for word in ("the", "old", "mill", "by", "river", "stands")
)


@pytest.mark.parametrize(("item", "count"), [(LONG, 2), (PASSAGE, 2), (PASSAGE, 3), (PASSAGE, 8)])
def test_an_item_in_parts_over_several_messages_is_found(item: str, count: int) -> None:
    questions = Questions({"t": [item]}, 8, 0.5)
    for order in (parts(item, count), parts(item, count)[::-1]):
        messages = [said(("user", "assistant")[n % 2], f"Part {n}: {part} (goes on)") for n, part in enumerate(order)]
        assert [match.overlap for match in contamination(questions, messages)[1]] == [1.0]
        apart = [message for part in order for message in (said("user", part), said("assistant", FILLER))]
        assert [match.overlap for match in contamination(questions, apart)[1]] == [1.0]
    halves = [said("user", parts(item, 2)[0]), in_call(parts(item, 2)[1])]
    assert [match.overlap for match in contamination(questions, halves)[1]] == [1.0]
    assert contamination(Questions({"t": [PASSAGE]}, 8, 0.5), [said("user", parts(PASSAGE, 3)[0])]) == (None, [])


def test_parts_with_a_gap_between_them_count_together() -> None:
    first, _, last = parts(PASSAGE, 3)
    (match,) = matches(first, "And then?", last, items={"t": [PASSAGE]})
    assert match.overlap == pytest.approx(2 / 3, abs=0.01)


def test_usual_phrases_in_a_long_conversation_are_no_item() -> None:
    phrases = ("Which of the following statements is true about the", "Choose the best answer from the list below")
    item = f"{phrases[0]} Krebs cycle in muscle? {phrases[1]}."
    talk = [said("user", f"{phrases[n % 2]} in chapter {n}, please.") for n in range(60)]
    assert contamination(Questions({"exam": [item, LONG]}, 8, 0.5), talk) == (None, [])
    # In one message the two cover more than half of the item, as in any text.
    assert contamination(Questions({"exam": [item]}, 8, 0.5), [said("user", f"{phrases[0]} sea? {phrases[1]}")])[0]


@pytest.mark.parametrize("words_of_it", [100, 200])
def test_a_long_stretch_of_a_long_text_is_found_whatever_its_share(words_of_it: int) -> None:
    text = " ".join(f"word{number}" for number in range(3000))
    part = " ".join(text.split()[700 : 700 + words_of_it])
    assert [match.item for match in matches(f"Read this. {part} Good.", items={"perplexity": [text]})] == [0]
    assert Questions({"perplexity": [text]}, 8, 1).matches([part]) == []
    shorter = " ".join(part.split()[:99])
    assert matches(shorter, "Go on.", items={"perplexity": [text]}) == []


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"note": LONG.replace(" ", "\n")}),
        json.dumps({"note": json.dumps({"inner": LONG.replace(" ", "\n")})}),
        json.dumps({"note": LONG.replace("Italian", "Italian\u00ad")}),
        "```json\n" + json.dumps([LONG.replace(" ", "\t")], indent=1) + "\n```",
        LONG.replace(" ", "&nbsp;").replace("o", "&#111;"),
        "<p>" + LONG.replace(" ", " <b>", 3).replace(" at ", " <br/>at<br class='x'> ") + "</p>",
        LONG.replace("table", "ta\u200bble").replace("station", "sta\u00adtion"),
    ],
)
def test_escapes_tags_and_invisible_characters_hide_nothing(text: str) -> None:
    assert [(match.item, match.overlap) for match in matches(text)] == [(0, 1.0)]


@pytest.mark.parametrize(
    "text",
    [
        'Data:\n{"id": 7, "lang": "en", "question": "Who wrote Hamlet?", "marks": 2}',
        '[{"q": ["What is up", "Who wrote Hamlet?"]}]',
        "<task><question>Who wrote Hamlet?</question></task>",
        "Please answer the following question in short: Who wrote Hamlet?",
        "> Who wrote\u00a0Hamlet?",
    ],
)
def test_a_very_short_item_is_found_inside_json_tags_and_behind_an_instruction(text: str) -> None:
    assert [match.item for match in matches(text, items={"trivia": ["Who wrote Hamlet?"]})] == [0]


@pytest.mark.parametrize(
    "text",
    [
        "if a <b then " + LONG + " else c> d",
        "List<String> x; " + LONG.replace("table", "table <T>"),
        "C:\\temp " + LONG.replace("table", "{table}"),
        LONG + " a && b &c;",
    ],
)
def test_what_only_looks_like_markup_takes_no_word_away(text: str) -> None:
    assert [match.item for match in matches(text)] == [0]


def test_an_item_with_markup_is_found_with_it_and_without() -> None:
    item = "<p>What is \\nu in <i>Planck&#39;s</i> law of the light of a black body?</p>"
    for text in (item, json.dumps({"q": item}), "What is \\nu in Planck's law of the light of a black body?"):
        assert [match.overlap for match in matches(text, items={"t": [item]})] == [1.0]


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


def test_items_in_rows_that_are_dropped_for_another_reason_are_told(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [
        *pairs(40),
        pair(LONG, "I'm sorry, but I can't help with that."),
        {"messages": [said("user", SIX)]},
        "{" + json.dumps(SHORT),
    ]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), questions=ITEMS)
    assert stats["rows"]["dropped"] == {"refusal": 1, "ends_without_reply": 1}
    assert stats["contaminated_items"] == {"golden": {"items": 3, "found": 2}}
    assert (stats["contamination_rows"], stats["rows"]["read"]) == (42, 43)
    told = "of the items of golden stood in the rows that could be read"
    assert told in (tmp_path / "out" / "README.md").read_text()
    page = (tmp_path / "out" / "curation.html").read_text()
    assert told in page and "Rows that could not be read were not looked at" in page
