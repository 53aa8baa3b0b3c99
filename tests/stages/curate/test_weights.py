"""What messages say of their loss, in several tools' keys, becomes one; what is not followed is told by its path."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.conftest import kept_rows, pair, pairs, read_jsonl, write_jsonl
from tests.tiny import tiny_tokenizer
from tunelift.runtime.chat import mark_supervised
from tunelift.runtime.encoded import encode, read_encoded
from tunelift.stages.curate.formats import to_conversation
from tunelift.stages.curate.rows import ShapeError
from tunelift.stages.curate.weights import SWITCHES, truth

Run = Callable[..., dict[str, Any]]
WIDE = {"validation": 0.3, "test": 0.3}


def talk(first: dict[str, Any] | None = None, user: dict[str, Any] | None = None, **last: Any) -> dict[str, Any]:
    """Two requests and their replies, with more keys on the first reply, the second request, the last reply."""
    return {
        "messages": [
            {"role": "user", "content": "When does the ferry sail?"},
            {"role": "assistant", "content": "Wrong one", **(first or {})},
            {"role": "user", "content": "Look again.", **(user or {})},
            {"role": "assistant", "content": "At noon.", **last},
        ]
    }


def weights(row: dict[str, Any], shape: Any = "messages") -> list[Any]:
    messages, _ = to_conversation(row, shape, None)
    return [message.get("weight") for message in messages]


@pytest.mark.parametrize("key", sorted(SWITCHES))
@pytest.mark.parametrize("values", [(False, True), (0, 1), (0.0, 1.0), ("0", "1"), ("false", "True")])
def test_each_tools_key_becomes_openais(key: str, values: tuple[Any, Any]) -> None:
    off = values[not SWITCHES[key]]
    assert weights(talk({key: off})) == [None, 0, None, None]
    messages, _ = to_conversation(talk({key: off}), "messages", None)
    assert messages[1] == {"role": "assistant", "content": "Wrong one", "weight": 0}


@pytest.mark.parametrize("value", [True, 1, 1.0, "1", "true", None])
def test_what_is_supervised_anyway_and_null_which_parquet_fills_in_leave_no_key(value: Any) -> None:
    assert weights(talk({"weight": value}, {"weight": None}, weight=value)) == [None] * 4
    assert weights(talk({"weight": value, "train": None, "masked": None})) == [None] * 4


def test_every_format_with_messages_follows_them() -> None:
    turns = talk({"weight": 0})["messages"]
    spoken = [
        {"from": {"user": "human", "assistant": "gpt"}[one["role"]], "value": one["content"]}
        | ({"loss": False} if "weight" in one else {})
        for one in turns
    ]
    assert weights({"conversations": spoken}, "sharegpt") == [None, 0, None, None]
    assert weights({"messages": json.dumps(turns)}) == [None, 0, None, None]
    call = {"from": "function_call", "value": '{"name": "f", "arguments": {}}', "train": False}
    row = {"conversations": [spoken[0], call, {"from": "tool", "value": "1"}, spoken[3]]}
    messages, _ = to_conversation(row, "sharegpt", None)
    assert messages[1]["weight"] == 0 and messages[1]["tool_calls"]
    assert weights({"prompt": turns[:1], "completion": turns[1:]}, "prompt_completion") == [None, 0, None, None]


def test_assistant_turns_inside_the_prompt_are_context() -> None:
    turns = talk()["messages"]
    for prompt in (turns[:3], json.dumps(turns[:3])):
        assert weights({"prompt": prompt, "completion": turns[3:]}, "prompt_completion") == [None, 0, None, None]
        assert weights({"prompt": prompt, "completion": "At noon."}, "prompt_completion") == [None, 0, None, None]
    history = {"instruction": "a", "output": "b", "history": [["c", "d"]]}
    assert weights(history, "alpaca") == [None] * 4, "Alpaca's history is supervised, as LLaMA-Factory does"


@pytest.mark.parametrize(
    ("row", "path", "detail"),
    [
        (talk({"weight": 0.5}), "$.messages[1].weight", "is 0.5; a weight between 0 and 1 is not followed: 0 or 1"),
        (talk({"loss_weight": 2}), "$.messages[1].loss_weight", "is 2; must be 0 or 1, true or false"),
        (talk({"train": "no"}), "$.messages[1].train", "is 'no'; must be 0 or 1, true or false"),
        (talk(loss_mask=[0, 1]), "$.messages[3].loss_mask", "is [0, 1]; must be 0 or 1, true or false"),
        (talk({"weight": 1, "train": False}), "$.messages[1]", "train=False and weight=1 contradict each other"),
        (talk({"masked": True, "loss": 1}), "$.messages[1]", "loss=1 and masked=True contradict each other"),
        (talk(None, {"train": True}), "$.messages[2].train", "is True, but a user message is never supervised"),
        (talk(None, {"masked": 0}), "$.messages[2].masked", "is 0, but a user message is never supervised"),
        (
            talk(train_detail=[{"begin_offset": 0, "end_offset": 3, "train": False}]),
            "$.messages[3].train_detail",
            "a loss on parts of a message is not followed",
        ),
    ],
)
def test_what_is_not_done_is_refused_by_name(row: dict, path: str, detail: str) -> None:
    with pytest.raises(ShapeError) as caught:
        to_conversation(row, "messages", None)
    assert (caught.value.path, caught.value.reason, caught.value.detail) == (path, "loss_not_followed", detail)


def test_a_loss_on_the_prompts_own_turns_is_refused_and_none_on_other_roles_is_so_already() -> None:
    turns = talk({"weight": 1}, {"weight": 0}, weight=1)["messages"]
    assert weights({"messages": turns}) == [None] * 4
    with pytest.raises(ShapeError, match=r"\$\.prompt\[1\]\.weight: is 1, but assistant turns inside the prompt"):
        to_conversation({"prompt": turns[:3], "completion": turns[3:]}, "prompt_completion", None)


@given(st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers())))
def test_a_value_is_followed_or_refused_and_never_passed_over(value: Any) -> None:
    if value is None or truth(value) is not None:
        assert weights(talk(weight=value))[-1] == (0 if truth(value) is False else None)
        return
    with pytest.raises(ShapeError) as caught:
        weights(talk(weight=value))
    assert caught.value.path == "$.messages[3].weight" and repr(value) in caught.value.detail


def test_only_supervised_turns_are_learnt_counted_and_judged(run: Run, tmp_path: Path) -> None:
    refusal, open_json = "I'm sorry, but I can't help with that.", '{"a": [1, 2'
    rows = [
        talk({"content": refusal, "weight": 0}),
        talk({"content": open_json, "weight": 0}),
        talk({"weight": 0}, weight=0),
        talk({"content": " ", "weight": 0}),
        talk({"content": refusal}),
        talk(content=refusal, weight=0),
        talk({"weight": 0.25}),
    ]
    for number, row in enumerate(rows):
        row["messages"][0]["content"] += f" {number} {'abcdefg'[number] * 4}"
    stats = run(
        write_jsonl(tmp_path / "a.jsonl", [*rows, *pairs(60)]),
        split=WIDE,
        clean={"min_reply_words": 1, "max_reply_words": 3},
    )
    assert stats["rows"]["dropped"] == {"nothing_supervised": 1, "empty_turn": 1, "refusal": 1}
    assert stats["rows"]["quarantined"] == {"loss_not_followed": 1}
    assert stats["context"] == {"rows": 3, "turns": 3}, "turns after the last supervised one count too"
    (entry,) = read_jsonl(tmp_path / "out/quarantine.jsonl")
    assert (entry["line"], entry["path"]) == (7, "$.messages[1].weight")
    kept = kept_rows(tmp_path / "out")
    place = {
        number: next(row for source, row in kept.items() if source.endswith(f"a.jsonl:{number}"))
        for number in (1, 2, 6)
    }
    tokenizer = tiny_tokenizer()
    for number, row in place.items():
        (made,) = encode(tokenizer, row, "here")
        marked = mark_supervised(tokenizer, made.rendered)
        assert marked.count("⟦") == 1
        assert ("⟦Wrong one<|im_end|>⟧" if number == 6 else "⟦At noon.<|im_end|>⟧") in marked
        assert row["supervised_tokens"] == made.rendered.supervised_tokens
        assert row["tokens"] == len(made)
    rows_read = [
        row for split in ("train", "validation", "test") for row in read_encoded(tokenizer, tmp_path / "out", split)
    ]
    told = sum(counts["supervised_tokens"] for counts in stats["splits"].values())
    assert sum(row.rendered.supervised_tokens for row in rows_read) == told
    assert "context: 3 assistant turns in 3 rows are not supervised" in (tmp_path / "out/README.md").read_text()
    assert "Assistant turns not supervised" in (tmp_path / "out/curation.html").read_text()


def test_parquets_columns_of_weights_are_read(run: Run, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [talk({"weight": 0.0}, weight=1.0), *pairs(30)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    stats = run(tmp_path / "a.parquet", split=WIDE)
    assert stats["rows"]["quarantined"] == {} and stats["context"] == {"rows": 1, "turns": 1}
    (row,) = (row for source, row in kept_rows(tmp_path / "out").items() if source.endswith(":1"))
    assert [message.get("weight") for message in row["messages"]] == [None, 0, None, None]


def test_rows_that_differ_in_what_is_supervised_are_no_duplicates(run: Run, tmp_path: Path) -> None:
    """An agent's steps: one task, another context each time, and a reply that says the same."""
    first, second = "The ferry to the island sails at dawn from pier two", "At noon it leaves from the old pier"
    one = [talk({"content": first, "weight": weight}, content=second, weight=1 - weight) for weight in (0, 1)]
    step = {"role": "assistant", "content": "press the next key"}
    screens = [
        "a list of seven harbours to the north",
        "prices for children, dogs and bicycles",
        "the winter timetable",
    ]
    agent = [
        {
            "prompt": [
                {"role": "user", "content": "Find the last ferry of the day."},
                {"role": "assistant", "content": f"The screen shows {screen}, so I go on reading."},
                {"role": "user", "content": "Go on."},
            ],
            "completion": [step],
        }
        for screen in screens
    ]
    stats = run(
        write_jsonl(tmp_path / "a.jsonl", [*one, one[0], *pairs(30)]),
        write_jsonl(tmp_path / "b.jsonl", agent),
        split={**WIDE, "max_group_ratio": 0.9},
    )
    assert stats["rows"]["dropped"] == {"exact_duplicate": 1}
    assert stats["conflicts"]["prompts"] == 0


def test_prompts_conflict_up_to_the_last_supervised_reply(run: Run, tmp_path: Path) -> None:
    texts = ["At noon from the pier", "Never on a Sunday, sorry to say"]
    rows = [talk({"content": text}, weight=0) for text in texts]
    rows += [talk({"weight": number}, content=text) for number, text in enumerate(texts)]
    source = write_jsonl(tmp_path / "a.jsonl", [*rows, *pairs(30)])
    stats = run(source, split={**WIDE, "max_group_ratio": 0.9}, duplicates={"near": "off"})
    assert stats["conflicts"] == {"prompts": 2, "rows": 4}
    conflicts = read_jsonl(tmp_path / "out/conflicts.jsonl")
    assert [[row["reply"] for row in one["rows"]] for one in conflicts] == [texts, texts]


def test_a_context_turn_still_gives_an_evaluation_item_away(run: Run, tmp_path: Path) -> None:
    item = "rinse the aquarium filter under cold water before noon"
    rows = [talk({"content": f"You must {item} today", "weight": 0}), *pairs(30)]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), questions={"t": [item]}, split=WIDE)
    assert stats["rows"]["dropped"] == {"contaminated": 1}


def test_rows_without_any_key_are_as_before() -> None:
    messages, _ = to_conversation(pair("Hi"), "messages", None)
    assert messages == pair("Hi")["messages"]
