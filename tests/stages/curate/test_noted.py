"""What is found in rows that stay: calls that their tools do not allow, words that an added token cuts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import kept_rows, read_jsonl, write_jsonl
from tests.tiny import tiny_tokenizer
from tests.wording import own_words
from tunelift.errors import UserError
from tunelift.runtime.vocabulary import Cuts, add_tokens
from tunelift.starting.recipe import TEMPLATE

WIDE = {"validation": 0.49, "test": 0.1}
READ = {
    "type": "function",
    "function": {
        "name": "read",
        "description": "",
        "parameters": {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]},
    },
}


def calling(number: int, name: str, arguments: Any) -> dict[str, Any]:
    calls = [{"id": "c", "type": "function", "function": {"name": name, "arguments": arguments}}]
    turns = [{"role": "user", "content": own_words(number)}, {"role": "assistant", "content": "", "tool_calls": calls}]
    return {"messages": turns, "tools": [READ]}


def test_wrong_calls_are_flagged_with_numbers_and_first_places(
    run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [calling(number, "read", {"item": f"i{number}"}) for number in range(20)]
    rows += [calling(20, "delete", {"item": "a"}), calling(21, "read", {"item": 5}), calling(22, "read", False)]
    stats = run(write_jsonl(tmp_path / "rows.jsonl", rows), template=TEMPLATE.read_text(), split=WIDE)
    assert stats["rows"]["quarantined"] == {"wrong_type": 1} and stats["rows"]["kept"] == 22
    assert stats["flagged"] == {"call_breaks_schema": 1, "call_not_offered": 1}
    assert stats["wrong_calls"]["call_not_offered"]["calls"] == 1
    flags = {
        row["source"].rpartition(":")[2]: row["flags"] for row in kept_rows(tmp_path / "out").values() if "flags" in row
    }
    assert flags == {"21": ["call_not_offered"], "22": ["call_breaks_schema"]}
    told = "rows.jsonl:21 (delete, offered: read)"
    out = tmp_path / "out"
    for text in (capsys.readouterr().err, (out / "README.md").read_text(), (out / "curation.html").read_text()):
        assert told in text and "rows.jsonl:22 (read: item breaks type" in text


def test_swapped_results_are_ordered_and_told_as_an_edit(run: Any, tmp_path: Path) -> None:
    def row(number: int, order: str) -> dict[str, Any]:
        calls = [
            {"id": one, "type": "function", "function": {"name": "read", "arguments": {"item": one}}} for one in "ab"
        ]
        results = [{"role": "tool", "tool_call_id": one, "content": f"VALUE-{one}"} for one in order]
        start = [
            {"role": "user", "content": own_words(number)},
            {"role": "assistant", "content": "", "tool_calls": calls},
        ]
        return {"messages": [*start, *results, {"role": "assistant", "content": "So."}], "tools": [READ]}

    rows = [row(number, "ab") for number in range(20)] + [row(20, "ba"), row(21, "az"), row(22, "aa"), row(23, "b")]
    stats = run(write_jsonl(tmp_path / "rows.jsonl", rows), template=TEMPLATE.read_text(), split=WIDE)
    assert stats["edited"] == {"tool_results": 1}
    assert {entry["reason"] for entry in read_jsonl(tmp_path / "out/dropped.jsonl")} == {
        "tool_result_unknown",
        "tool_result_twice",
        "tool_result_missing",
    }
    (edited,) = [kept for kept in kept_rows(tmp_path / "out").values() if "edits" in kept]
    assert [message["content"] for message in edited["messages"][2:4]] == ["VALUE-a", "VALUE-b"]


def test_an_empty_system_message_is_rendered_as_an_empty_turn(run: Any, tmp_path: Path) -> None:
    default = (
        "{% if messages[0]['role'] != 'system' %}<|im_start|>system\nDEFAULT<|im_end|>\n{% endif %}"
        + tiny_tokenizer().chat_template
    )
    rows = [
        {"messages": [{"role": role, "content": text} for role, text in turns]}
        for number in range(20)
        for turns in [[("system", ""), ("user", own_words(number)), ("assistant", "Yes.")]]
    ]
    with_empty = run(write_jsonl(tmp_path / "rows.jsonl", rows), template=default, split=WIDE)
    assert all(row["messages"][0] == {"role": "system", "content": ""} for row in kept_rows(tmp_path / "out").values())
    bare = [{"messages": row["messages"][1:]} for row in rows]
    without = run(write_jsonl(tmp_path / "bare.jsonl", bare), template=default, split=WIDE, out=tmp_path / "bare")
    assert with_empty["rows"]["kept"] == without["rows"]["kept"] == 20
    tokens = [sum(split["tokens"] for split in stats["splits"].values()) for stats in (with_empty, without)]
    assert tokens[0] < tokens[1], "the template's default prompt is not written"


def test_words_that_an_added_token_cuts_are_told(run: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asks = ["the sku of the skull mug", "is the skunk in stock", *(own_words(number) for number in range(20))]
    rows = [
        {"messages": [{"role": "user", "content": ask}, {"role": "assistant", "content": "skull" if not n else "Yes."}]}
        for n, ask in enumerate(asks)
    ]
    stats = run(write_jsonl(tmp_path / "rows.jsonl", rows), added_tokens=("sku", "<|tool|>"), split=WIDE)
    place = next(iter(stats["sources"])) + ":1"
    assert stats["added_tokens"] == {"sku": {"words": 3, "rows": 2, "such_as": "skull", "first": place}}
    told = f"added token 'sku' cuts 3 words of 2 rows, such as skull ({place})"
    assert told in capsys.readouterr().err and told in (tmp_path / "out/README.md").read_text()


@pytest.mark.parametrize(
    ("token", "text", "words"),
    [
        ("sku", "skull Xsku sku sku. (sku) sku_1", ["skull", "Xsku", "sku_1"]),
        ("<|tool|>", "a<|tool|>b", []),
        ("@sku", "x@sku @skull", ["@skull"]),
        ("sku", "退sku款 skuß", ["skuß"]),
        ("退款", "请退款吧", []),
        ("sku", "line\nsku\tsku", []),
    ],
)
def test_a_cut_word_is_one_whose_letters_touch_the_token(token: str, text: str, words: list[str]) -> None:
    messages = [{"role": "user", "content": text}]
    assert [word for _, word in Cuts([token]).of(messages, None)] == words
    assert Cuts([]).of(messages, None) == ()


def test_words_in_calls_and_tools_count(run: Any) -> None:
    called = calling(0, "read", {"item": "skull"})
    assert Cuts(["sku"]).of(called["messages"], [READ]) == (("sku", "skull"),)


def test_a_piece_of_the_vocabulary_is_no_token_to_add(run: Any, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    piece = next(one for one in tokenizer.get_vocab() if one.isalpha() and len(one) > 2)
    with pytest.raises(UserError, match="which the vocabulary has already") as caught:
        add_tokens(tokenizer, ["<|new|>", piece])
    assert repr(piece) in caught.value.message and "'<|new|>'" not in caught.value.message
    rows = [{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}]
    with pytest.raises(UserError, match="which the vocabulary has already"):
        run(write_jsonl(tmp_path / "rows.jsonl", rows), added_tokens=(piece,))
    assert add_tokens(tokenizer, ["<|im_start|>"]), "what stands apart already is trained too"
    assert json.dumps(tokenizer.get_vocab()).count("<|new|>") == 0, "refused before anything is added"
