"""Mending: what was broken is whole again, and what has a meaning stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.stages.curate.conftest import pair, pairs, read_jsonl, write_jsonl
from tunelift.config.curation import CleanConfig
from tunelift.stages.curate.checks import structure_fault
from tunelift.stages.curate.clean import changes, mend, repaired, tidied
from tunelift.stages.curate.rows import Example

BOTH = CleanConfig()
SENTENCES = [
    "Größe und Übung – „machen“ den Meister…",
    "« Être âgé », ça coûte très cher",
    "¿Qué mañana? ¡Sí, señor!",
    "Привет мир, как дела?",
    "今日は天気がいい",
    "Žluťoučký kůň",
    "İstanbul’da güneşli bir gün",
    "Ελληνικά κείμενα",
    "don’t “quote” it 😀",
]


@pytest.mark.parametrize("sentence", SENTENCES)
def test_text_decoded_wrongly_is_repaired(sentence: str) -> None:
    broken = sentence.encode().decode("latin-1")
    assert repaired(broken) == sentence
    assert repaired(f"The customer wrote: {broken}") == f"The customer wrote: {sentence}"


@pytest.mark.parametrize(
    ("broken", "whole"),
    [
        ("donâ€™t", "don’t"),
        ("Â£5", "£5"),
        ("РџСЂРёРІРµС‚ РјРёСЂ", "Привет мир"),
        ("√©t√©", "été"),
        ("voilÃ le travail", "voilà le travail"),
        ("a\x1b[31mred\x1b[0m b", "ared b"),
        ("nul\x00l", "null"),
        ("\ufeffHi", "Hi"),
        ("ï»¿Hi", "Hi"),
        ("it\x92s", "it’s"),
    ],
)
def test_control_characters_and_common_breaks_are_repaired(broken: str, whole: str) -> None:
    assert repaired(broken) == whole


@pytest.mark.parametrize(
    "text",
    [
        *SENTENCES,
        "“curly” ‘quotes’, ﬁne ligatures, ＷＩＤＥ, 10³ and ½",
        "&amp; &lt;b&gt; &eacute;",
        "cafe\u0301",
        "family 👨\u200d👩\u200d👧 and ❤\ufe0f",
        "right\u200fto left, zero\u200bwidth, soft\u00adhyphen",
        "tab\tand\nline",
        "ÂNGELA FOI ÀS COMPRAS EM SÃO PAULO",
        "Å, Ö und Ä",
        "x ≤ 5 ≠ y, √2, ∂f, → ✔",
        '{"name": "\\u00c3\\u00a9"}',
    ],
)
def test_text_that_is_right_stays_as_it_is(text: str) -> None:
    assert repaired(text) == text


@pytest.mark.parametrize(
    ("loose", "tidy"),
    [
        ("  Hi \n", "Hi"),
        ("\n\n  Hi", "Hi"),
        ("a  \nb\t\nc", "a\nb\nc"),
        ("a\n\n\n\nb\n \n \nc", "a\n\nb\n\nc"),
        ("a\r\nb\r\n", "a\nb"),
        ("- one\n  - two", "- one\n  - two"),
        # An indented block is moved as a whole or not at all.
        ("\n    if a:\n        b()\n\n    return c\n", "    if a:\n        b()\n\n    return c"),
        ("   Dear all,\nhello", "Dear all,\nhello"),
        (
            "        self.items = []\n\n    def add(self):\n        pass\n",
            "        self.items = []\n\n    def add(self):\n        pass",
        ),
        ("    return x\n\nprint(f(1))", "    return x\n\nprint(f(1))"),
        ("\n \n\treturn x\n}", "\treturn x\n}"),
        ("    String s = a;\n}", "    String s = a;\n}"),
        ("  Sure! Here it is:\n\n1. One", "Sure! Here it is:\n\n1. One"),
        ("    return x\n", "return x"),
        # One blank glues a reply to its prompt, unless the block stands there.
        (" def f():\n    return 1", "def f():\n    return 1"),
        (" a\n  b\n c", " a\n  b\n c"),
        ("```\na  \n\n\n\nb\n```  \n\n\n\nc", "```\na  \n\n\n\nb\n```\n\nc"),
        ("~~~ text  \n a \n~~~", "~~~ text\n a \n~~~"),
        ("````\n```\na  \n```\n\n\n\n````", "````\n```\na  \n```\n\n\n\n````"),
        ("```\nnever closed  \n\n\n\nb", "```\nnever closed  \n\n\n\nb"),
        ("use ```a``` here  \n\n\n\nb", "use ```a``` here\n\nb"),
    ],
)
def test_white_space_goes_where_it_means_nothing(loose: str, tidy: str) -> None:
    assert tidied(loose) == tidy


def test_the_edits_are_named_and_each_can_be_turned_off() -> None:
    broken = pair("schÃ¶n", "gut  \n")["messages"]
    assert mend(broken, BOTH) == (pair("schön", "gut")["messages"], ("unicode", "whitespace"))
    assert mend(broken, CleanConfig(whitespace=False)) == (pair("schön", "gut  \n")["messages"], ("unicode",))
    assert mend(broken, CleanConfig(unicode=False)) == (pair("schÃ¶n", "gut")["messages"], ("whitespace",))
    assert mend(broken, CleanConfig(unicode=False, whitespace=False)) == (broken, ())
    assert mend(pair("a", "b")["messages"], BOTH) == (pair("a", "b")["messages"], ())


def test_thinking_and_the_arguments_of_calls_are_repaired_and_the_arguments_keep_their_spaces() -> None:
    call = {"type": "function", "function": {"name": "say", "arguments": {"text": " schÃ¶n ", "n": [1, "Ã©", None]}}}
    message = {"role": "assistant", "content": "", "reasoning_content": "Hm\x00. ", "tool_calls": [call]}
    (mended,), edits = mend([message], BOTH)
    assert edits == ("unicode", "whitespace")
    assert mended["reasoning_content"] == "Hm."
    assert mended["tool_calls"][0]["function"]["arguments"] == {"text": " schön ", "n": [1, "é", None]}
    assert message["tool_calls"][0]["function"]["arguments"]["text"] == " schÃ¶n ", "the raw row stays as it was"


def test_a_reply_that_mending_leaves_empty_is_an_empty_reply() -> None:
    messages, edits = mend(pair("Hi", "\x00\x1b[0m \n")["messages"], BOTH)
    assert edits == ("unicode", "whitespace")
    fault = structure_fault(Example("a.jsonl", 1, {}, messages, None, "g"))
    assert fault is not None
    assert fault.reason == "empty_reply"


pieces = st.sampled_from(
    [
        "a",
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        "\r\n",
        "\r",
        "```",
        "~~~",
        "é",
        "Ã©",
        "â€",
        "Â",
        "Ã",
        "\x00",
        "\x1b[1m",
        "\x92",
    ]
)
texts = st.one_of(st.text(max_size=40), st.lists(pieces, max_size=25).map("".join))


@given(texts)
@example("\tÃ [")
@example("Ã \r\n\x85 ")
def test_mending_twice_is_mending_once(text: str) -> None:
    once, _ = mend(pair(text, text)["messages"], BOTH)
    assert mend(once, BOTH) == (once, ())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=10,
)


@given(json_values, st.sampled_from([None, 2]))
def test_json_means_the_same_after_its_white_space_is_mended(value: Any, indent: int | None) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    assert json.loads(tidied(f"\n {text} \n\n\n")) == value


@pytest.mark.parametrize(
    ("prompt", "reply"),
    [
        ("What went wrong in this text: donâ€™t panic", "Its UTF-8 was read as Windows-1252."),
        ("Print red text in Python.", "print('\x1b[31mred\x1b[0m')"),
        ("Print it.", "```\nprint(\x1b[31m)\n```\nDone."),
        ("Replace 'Ã©' in my file.", 'sed "s/Ã©/e/"'),
        ("Is `donâ€™t` a word?", "It is not."),
        ("Wie kommt es zu Ã¼ in meinem Brief?", "Die Kodierung ist falsch."),
    ],
)
def test_what_a_row_quotes_or_talks_about_stays(prompt: str, reply: str) -> None:
    messages = pair(prompt, reply)["messages"]
    assert mend(messages, BOTH) == (messages, ())


def test_quotations_are_mended_where_the_row_is_broken_elsewhere_and_json_always() -> None:
    messages = pair('"Itâ€™s late," she said. He didnâ€™t move.', '{"said": "itâ€™s"}')["messages"]
    assert [one["content"] for one in mend(messages, BOTH)[0]] == [
        '"It’s late," she said. He didn’t move.',
        '{"said": "it’s"}',
    ]
    alone = pair("Say it as JSON.", '{"said": "itâ€™s"}')["messages"]
    assert mend(alone, BOTH)[0][1]["content"] == '{"said": "it’s"}'
    code = pair("donâ€™t", "```\ndonâ€™t\n```\nitâ€™s `donâ€™t`")["messages"]
    assert mend(code, BOTH)[0][1]["content"] == "```\ndonâ€™t\n```\nit’s `donâ€™t`"


def test_what_was_mended_is_shown_with_a_little_around_it() -> None:
    messages = pair("a " * 50 + "donâ€™t " + "b " * 50, "ok  ")["messages"]
    mended, edits = mend(messages, BOTH)
    (found,) = changes(messages, mended)
    assert edits == ("unicode", "whitespace") and found["message"] == 0
    assert "donâ€™t" in found["before"] and "don’t" in found["after"] and len(found["before"]) < 80


def test_what_was_mended_is_listed_before_and_after(run: Any, tmp_path: Path, capsys: Any) -> None:
    rows = [*pairs(40), pair("Why so?", "I donâ€™t know, ask ann@example.com.")]
    run(write_jsonl(tmp_path / "a.jsonl", rows))
    (entry,) = read_jsonl(tmp_path / "out" / "edits.jsonl")
    assert entry["source"].endswith("a.jsonl:41") and entry["message"] == 1
    assert (entry["before"], entry["after"]) == (
        "I donâ€™t know, ask a…@example.com.",
        "I don’t know, ask a…@example.com.",
    )
    assert "I donâ€™t know" in (tmp_path / "out" / "curation.html").read_text()
