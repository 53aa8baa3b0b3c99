"""What is kept and counted of answers with thinking, without a beginning, withheld, or to prompts that were cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.stages.evaluate.making import StubEngine, item, row, run, samples, summary, task
from tests.tiny import CHATML, tiny_tokenizer
from tunelift.config.evaluation import ArmConfig, PromptSearchConfig
from tunelift.errors import MachineError, UserError
from tunelift.stages.evaluate.unread import unread_prompts
from tunelift.tasks.scorers import build_scorers

OPENS = CHATML.replace("assistant\\n' }}{% endif", "assistant\\n<think>\\n' }}{% endif")
"""A template that begins the model's thinking, as DeepSeek-R1's does."""


def words(count: int = 6, **changes: Any) -> Any:
    """A task whose right answers are words, judged by a scorer of its own."""
    items = tuple(item(number, accepted=(f"word {number}",)) for number in range(count))
    return task(items=items, scorers=build_scorers(["exact_match", "contains"], has_tools=False), **changes)


def number_of(body: dict[str, Any]) -> int:
    return int(body["messages"][-1]["content"].split()[-1])


def reply(content: Any, finish: str = "stop", tokens: int = 7, **message: Any) -> tuple[int, Any]:
    choice = {"message": {"content": content, **message}, "finish_reason": finish}
    return 200, {"choices": [choice], "usage": {"prompt_tokens": tokens, "completion_tokens": 2}}


def test_thinking_is_kept_in_the_sample_and_taken_off_before_any_scorer(engine: StubEngine, tmp_path: Path) -> None:
    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        number = number_of(body)
        right = f"word {number}"
        return [
            reply(f"<think>\nnot word 9\n</think>\n\n{right}"),
            reply(right, reasoning_content="not word 9"),
            reply([{"type": "thinking", "thinking": "not word 9"}, {"type": "text", "text": right}]),
            reply(f"<think>\n\n</think>\n\n{right}"),
            reply(right),
            reply(f"[THINK]not word 9[/THINK]{right}"),
        ][number]

    engine.respond = respond
    run(engine, tmp_path, tasks=[words()])
    found = samples(tmp_path)
    assert [sample["answer"] for sample in found] == [f"word {number}" for number in range(6)]
    assert [sample["thinking"] for sample in found] == ["not word 9"] * 3 + ["", None, "not word 9"]
    assert found[0]["output"] == "<think>\nnot word 9\n</think>\n\nword 0", "what the model wrote"
    assert {tuple(sample["scores"].values()) for sample in found} == {(1.0, 1.0)}
    part = summary(tmp_path)["tasks"]["one"]
    assert (part["thinking"], part["no_answer"], part["cut_off"], part["max_tokens"]) == (5, 0, 0, 9)


def test_answers_that_never_began_are_counted_apart_from_those_that_were_cut_off(
    engine: StubEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        return [
            reply("", "length", reasoning_content="it is word 0"),
            reply("<think>\nit is word 1, or", "length"),
            reply(None),
            reply("word 3 or, to tell it in", "length"),
            reply(" \n"),
            reply("word 5"),
        ][number_of(body)]

    engine.respond = respond
    run(engine, tmp_path, tasks=[words()])
    part = summary(tmp_path)["tasks"]["one"]
    assert (part["no_answer"], part["cut_off"], part["failed_requests"], part["n"]) == (4, 3, 0, 6)
    assert [sample["scores"]["contains"] for sample in samples(tmp_path)] == [0, 0, 0, 1, 0, 1]
    told = " ".join(capsys.readouterr().err.split())
    assert "4 of 6 answers of tuned to one never began" in told and "max_tokens is 9" in told


def test_an_empty_answer_that_is_right_is_an_answer(engine: StubEngine, tmp_path: Path) -> None:
    engine.respond = lambda body: reply("")
    nothing = words()
    run(engine, tmp_path, tasks=[replace(nothing, items=tuple(item(n, accepted=("",)) for n in range(3)))])
    assert summary(tmp_path)["tasks"]["one"]["no_answer"] == 0


@pytest.mark.parametrize("pinned", [True, False])
def test_thinking_that_the_prompt_opened_is_known_by_the_template(
    engine: StubEngine, tmp_path: Path, pinned: bool
) -> None:
    """A reply without any mark is then thinking that did not end, however right it sounds."""
    tokenizer = tmp_path / "tokenizer"
    made = tiny_tokenizer()
    made.chat_template = CHATML if pinned else OPENS
    made.save_pretrained(tokenizer)
    said = {0: "hm\n</think>\n\nword 0", 1: "it may be word 1", 2: "</think>\nword 2"}
    engine.respond = lambda body: reply(said[number_of(body)], "stop")
    changes = {"template": OPENS} if pinned else {}
    run(engine, tmp_path / "out", tasks=[words(3)], tokenizer=tokenizer, **changes)
    found = samples(tmp_path / "out")
    assert [sample["answer"] for sample in found] == ["word 0", "", "word 2"]
    assert [sample["thinking"] for sample in found] == ["hm", "it may be word 1", ""]
    assert [sample["output"] for sample in found] == list(said.values())
    assert [sample["scores"]["contains"] for sample in found] == [1, 0, 1]
    assert summary(tmp_path / "out")["tasks"]["one"]["no_answer"] == 1


@pytest.mark.parametrize("killed", [False, True])
def test_thinking_that_an_endpoints_own_template_opened_is_known_by_the_arms_other_answers(
    engine: StubEngine, tmp_path: Path, killed: bool
) -> None:
    """A cut-off reply holds no mark; what it muses may well hold the right words."""

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        number = number_of(body)
        return reply(f"word {number}, or", "length") if number % 2 else reply(f"hm\n</think>\n\nword {number}")

    engine.respond = respond
    if killed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("tunelift.stages.evaluate.samples.settle", lambda questions, samples: samples)
            run(engine, tmp_path, tasks=[words()])
    run(engine, tmp_path, tasks=[words()])
    found = samples(tmp_path)
    assert [sample["answer"] for sample in found] == ["word 0", "", "word 2", "", "word 4", ""]
    assert found[1]["thinking"] == found[1]["output"] == "word 1, or"
    assert [sample["scores"]["contains"] for sample in found] == [1, 0, 1, 0, 1, 0]
    part = summary(tmp_path)["tasks"]["one"]
    assert (part["no_answer"], part["thinking"], part["cut_off"]) == (3, 6, 3)


def test_an_arm_that_does_not_think_keeps_its_cut_off_answers(engine: StubEngine, tmp_path: Path) -> None:
    said = ["word 0, or", "word 1", "<think>hm</think>word 2", "The tag is </think> in HTML", "word 4", "word 5"]
    engine.respond = lambda body: reply(said[number_of(body)], "stop" if number_of(body) else "length")
    run(engine, tmp_path, tasks=[words()])
    assert samples(tmp_path)[0]["answer"] == "word 0, or"
    assert summary(tmp_path)["tasks"]["one"]["no_answer"] == 0


def test_an_unknown_tag_that_most_answers_begin_with_is_told(
    engine: StubEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine.respond = lambda body: reply(f"{'<xyz>hm</xyz>' * (number_of(body) < 4)}word {number_of(body)}")
    run(engine, tmp_path, tasks=[words()])
    assert summary(tmp_path)["tasks"]["one"]["unknown_tag"] == {"tag": "xyz", "items": 4}
    told = " ".join(capsys.readouterr().err.split())
    assert "4 of 6 answers of tuned to one begin with <xyz>…</xyz>" in told


def test_examples_are_shown_without_their_thinking(engine: StubEngine, tmp_path: Path) -> None:
    rows = [
        row("a", "<think>\nlong and long\n</think>\n\nword 7"),
        row("b", "word 8", reasoning_content="long and long"),
        row("c", "long\n</think>word 9"),
    ]
    engine.respond = lambda body: reply("word")
    run(engine, tmp_path, arm=ArmConfig(name="prompted", few_shot=3), examples=rows, tasks=[words(1)])
    prompt = samples(tmp_path)[0]["prompt"]
    shown = sorted(message["content"] for message in prompt if message["role"] == "assistant")
    assert shown == ["word 7", "word 8", "word 9"]
    assert not any("reasoning_content" in message for message in prompt)


def test_a_search_scores_the_answer_and_not_the_thinking(engine: StubEngine, tmp_path: Path) -> None:
    """The candidate that thinks before the right answer wins over the one that says the wrong one at once."""

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        right = f"word {number_of(body)}"
        thinks = body["messages"][0]["content"] == "think hard"
        return reply(f"<think>\nword 5?\n</think>\n\n{right}" if thinks else "word 5")

    engine.respond = respond
    arm = ArmConfig(name="prompted", search=PromptSearchConfig(few_shot=(0,), instructions=("think hard",)))
    chosen = words(name="validation")
    chosen = replace(chosen, items=tuple(item(n, accepted=(f"word {n}",)) for n in range(100, 110)))
    run(engine, tmp_path, arm=arm, tasks=[words()], selection=chosen)
    search = summary(tmp_path)["prompt_search"]
    assert [candidate["mean"] for candidate in search["candidates"]] == [0.0, 1.0]
    assert search["candidates"][search["chosen"]]["instruction"] == "think hard"


# --- withheld answers and errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "withheld", [reply("", "content_filter"), reply(None, refusal="I can't help with that.")], ids=("filter", "refusal")
)
def test_withheld_answers_are_missing_and_counted(
    engine: StubEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str], withheld: Any
) -> None:
    engine.respond = lambda body: withheld if number_of(body) % 3 == 1 else reply(f"word {number_of(body)}")
    details = run(engine, tmp_path, tasks=[words()])
    part = summary(tmp_path)["tasks"]["one"]
    assert (part["withheld"], part["failed_requests"], part["no_answer"]) == (2, 2, 0)
    assert details["failed_requests"] == 2
    assert "their answers withheld by a filter or the model itself (2)" in " ".join(capsys.readouterr().err.split())
    assert set(engine.stub.tries.values()) == {1}


def test_an_arm_whose_every_answer_is_withheld_is_refused(engine: StubEngine, tmp_path: Path) -> None:
    engine.respond = lambda body: reply("", "content_filter")
    with pytest.raises(UserError, match="All 6 answers to task one were withheld"):
        run(engine, tmp_path, tasks=[words()])


def test_an_error_with_http_200_ends_the_stage_and_is_asked_again_by_the_next(
    engine: StubEngine, tmp_path: Path
) -> None:
    error = (200, {"error": {"message": "Provider returned error", "code": 502}})
    engine.respond = lambda body: error if number_of(body) == 4 else reply(f"word {number_of(body)}")
    with pytest.raises(MachineError, match=r"1 of 6 requests of task one failed.*Provider returned error"):
        run(engine, tmp_path, tasks=[words()])
    asked = len(engine.stub.bodies)
    engine.respond = lambda body: reply(f"word {number_of(body)}")
    run(engine, tmp_path, tasks=[words()])
    assert len(engine.stub.bodies) == asked + 1
    assert summary(tmp_path)["tasks"]["one"]["metrics"]["exact_match"]["mean"] == 1


# --- prompts that were not read whole -------------------------------------------------------------------------------


def counted(texts: list[str], tokens: list[int | None]) -> Any:
    return unread_prompts(
        [
            {"kind": "generate", "tokens_in": count, "prompt": [{"role": "user", "content": text}]}
            for text, count in zip(texts, tokens, strict=True)
        ]
    )


LONG = [" ".join(["word"] * (2000 + 150 * n)) for n in range(20)]


def test_fewer_tokens_than_words_tell_of_a_prompt_that_was_cut_off() -> None:
    found = counted(LONG, [min(len(text.split()), 2048) for text in LONG])
    assert found == {"items": 19, "tokens": 2048, "words": 4850, "why": "fewer"}
    chinese = ["时间" * (4000 + n) for n in range(20)]
    assert counted(chinese, [1024] * 20)["why"] == "fewer", "where no blank stands between words"


def test_one_count_for_prompts_of_all_lengths_tells_of_it_too() -> None:
    urls = [f"see https://example.org/{'a/b-c_d.e?f=g&h' * (40 + 9 * n)}" for n in range(20)]
    assert counted(urls, [4096] * 20) == {"items": 20, "tokens": 4096, "words": 2, "why": "constant"}
    assert counted(urls, [min(300 + 300 * n, 2048) for n in range(20)])["why"] == "constant"
    short = [" ".join(["word"] * (4 + n % 5)) for n in range(20)]
    assert counted(short, [9] * 20)["why"] == "constant"


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        (LONG, [len(text.split()) + 5 for text in LONG]),
        (LONG, [None] * 20),
        (LONG, [0] * 20),  # Some say 0 where they do not count.
        (["word " * 9] * 20, [14] * 20),
        ([f"Reply with the word for {n}." for n in range(10, 30)], [14] * 20),
        (["时间" * n for n in range(10, 30)], [n + 5 for n in range(10, 30)]),
        (LONG, [1, *(len(text.split()) for text in LONG[1:])]),  # One of twenty.
        ([], []),
    ],
)
def test_plausible_counts_and_none_at_all_tell_nothing(texts: list[str], tokens: list[int | None]) -> None:
    assert counted(texts, tokens) is None


def test_the_thinking_of_earlier_replies_is_not_expected_in_the_count() -> None:
    """Templates leave it out."""
    prompt = [
        {"role": "user", "content": "when?"},
        {"role": "assistant", "content": f"<think>{'hm ' * 900}</think>late"},
        {"role": "user", "content": "why?"},
    ]
    assert unread_prompts([{"kind": "generate", "tokens_in": 20, "prompt": prompt}] * 9) is None


def test_only_the_prompts_of_endpoints_are_looked_at(
    engine: StubEngine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An engine started here refuses what is too long; a template may well leave a message out."""
    engine.respond = lambda body: reply("word", tokens=2)
    arm = ArmConfig(name="prompted", instruction="be brief " * 40)
    run(engine, tmp_path / "own", arm=arm, tasks=[words()])
    assert summary(tmp_path / "own")["tasks"]["one"]["unread_prompts"] is None
    engine.description = {"kind": "endpoint"}
    run(engine, tmp_path / "endpoint", arm=arm, tasks=[words()])
    found = summary(tmp_path / "endpoint")["tasks"]["one"]["unread_prompts"]
    assert (found["items"], found["tokens"], found["why"]) == (6, 2, "fewer")
    assert "the endpoint of prompted cuts prompts off or counts wrongly" in " ".join(capsys.readouterr().err.split())
