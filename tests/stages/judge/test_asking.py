"""Asking the judge: held to a schema where the endpoint can, read strictly, asked once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.endpoint import answer
from tests.stages.judge.bench import StubJudge, config, read_lines
from tunelift.engines.client import Client, Request
from tunelift.errors import MachineError, UserError
from tunelift.stages.judge.asking import AGAIN, Judge, Verdict, check_requests
from tunelift.stages.judge.questions import Question, absolute

CONFIG = config(Path("none"), max_tokens=99)


def questions(count: int = 6) -> list[Question]:
    return [absolute(CONFIG, 1, "q", [], f"answer {n}, quality {n % 5 + 1}") for n in range(count)]


def judge(bench: StubJudge, tmp_path: Path, **changes: Any) -> Judge:
    return Judge(config(Path("none"), **({"max_tokens": 99} | changes)), bench, 1, tmp_path / "replies.jsonl")


def structured(bench: StubJudge) -> list[bool]:
    """Of each request, whether it holds the reply to a schema."""
    return ["response_format" in body for body in bench.asked]


def test_marks_come_in_the_order_of_the_questions_with_what_they_cost(bench: StubJudge, tmp_path: Path) -> None:
    verdicts = judge(bench, tmp_path).ask(questions(), "judge")
    assert [verdict.value for verdict in verdicts] == [1, 2, 3, 4, 5, 1]
    assert verdicts[3] == Verdict(4, "because 4", None, False, 7, 2)
    assert structured(bench) == [True] * 6, "asked once each"
    schema = bench.asked[0]["response_format"]["json_schema"]["schema"]
    assert schema["properties"]["mark"] == {"type": "integer", "enum": [1, 2, 3, 4, 5]}
    assert all(body["max_tokens"] == 99 and body["temperature"] == 0 for body in bench.asked)


@pytest.mark.parametrize(
    ("status", "complaint"),
    [
        (400, "response_format is not supported"),
        (400, "no grammar backend"),
        (422, "json_schema: extra field"),
        (501, "todo"),
        (500, "oops"),
    ],
)
def test_an_endpoint_that_refuses_a_schema_is_asked_in_words_and_read_strictly(
    bench: StubJudge, tmp_path: Path, status: int, complaint: str
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if "response_format" in body:
            return status, {"error": {"message": complaint}}
        return bench.give_opinion(body, number)

    bench.respond = respond
    made = judge(bench, tmp_path)
    assert [verdict.value for verdict in made.ask(questions(), "judge")] == [1, 2, 3, 4, 5, 1]
    refused = structured(bench).count(True)
    assert refused <= 3, "the first question, and its retries"
    assert structured(bench) == [True] * refused + [False] * 6
    shape = '{"reason": "why, in one or two sentences", "mark": a whole number from 1 to 5}'
    assert shape in bench.asked[-1]["messages"][0]["content"], "the words say what the schema would"
    bench.respond = lambda body, number: (200, answer('Here: {"reason": "r", "mark": 5}'))
    assert [verdict.value for verdict in made.ask(questions(8), "judge")][6:] == [None, None]


def test_a_question_that_is_refused_either_way_does_not_cost_the_others_the_schema(
    bench: StubJudge, tmp_path: Path
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if "answer 0," in body["messages"][1]["content"]:
            return 400, {"error": "too long"}
        return bench.give_opinion(body, number)

    bench.respond = respond
    verdicts = judge(bench, tmp_path).ask(questions(3), "judge")
    assert [verdict.value for verdict in verdicts] == [None, 2, 3]
    assert "HTTP 400" in str(verdicts[0].error)
    assert not verdicts[0].unreadable
    assert structured(bench) == [True, False, True, True]


def test_a_reply_that_is_no_verdict_is_asked_for_once_more(bench: StubJudge, tmp_path: Path) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        first_time = len(body["messages"]) == 2
        return bench.give_opinion(body, number) if not first_time else (200, answer("I would say 5/5!"))

    bench.respond = respond
    verdicts = judge(bench, tmp_path).ask(questions(2), "judge")
    assert [(verdict.value, verdict.error) for verdict in verdicts] == [(1, None), (2, None)]
    assert (verdicts[0].tokens_in, verdicts[0].tokens_out) == (14, 4), "both replies cost"
    assert bench.asked[-1]["messages"][2:] == [
        {"role": "assistant", "content": "I would say 5/5!"},
        {"role": "user", "content": AGAIN},
    ]


def test_a_judge_that_never_says_a_verdict_leaves_it_missing(bench: StubJudge, tmp_path: Path) -> None:
    bench.respond = lambda body, number: (200, answer("They are all fine."))
    verdicts = judge(bench, tmp_path).ask(questions(3), "judge")
    assert [verdict.value for verdict in verdicts] == [None] * 3
    assert all(verdict.unreadable and "They are all fine." in str(verdict.error) for verdict in verdicts)
    assert len(bench.asked) == 6
    check_requests(verdicts, "x", all_needed=True)  # It did reply.
    # The same command does not pay for it a second time.
    judge(bench, tmp_path).ask(questions(3), "judge")
    assert len(bench.asked) == 6


@pytest.mark.parametrize(("status", "said"), [(503, "busy"), (401, "no"), (429, "insufficient_quota")])
def test_a_second_try_that_got_no_reply_ends_the_stage_and_is_asked_by_the_next_run(
    bench: StubJudge, tmp_path: Path, status: int, said: str
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return (200, answer("I would say 5/5!")) if len(body["messages"]) == 2 else (status, said)

    bench.respond = respond
    verdicts = judge(bench, tmp_path).ask(questions(2), "judge")
    assert [verdict.unreadable for verdict in verdicts] == [False, False]
    with pytest.raises(MachineError, match=f"2 of 2 requests for x got no reply; the first: HTTP {status}"):
        check_requests(verdicts, "x", all_needed=False)
    bench.asked.clear()
    bench.respond = bench.give_opinion
    verdicts = judge(bench, tmp_path).ask(questions(2), "judge")
    assert [len(body["messages"]) for body in bench.asked] == [4, 4], "the first try is paid for already"
    assert [(verdict.value, verdict.tokens_in) for verdict in verdicts] == [(1, 14), (2, 14)]


def test_a_second_try_that_is_refused_leaves_the_reply_unreadable(bench: StubJudge, tmp_path: Path) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return (200, answer("I would say 5/5!")) if len(body["messages"]) == 2 else (400, "too long")

    bench.respond = respond
    verdicts = judge(bench, tmp_path).ask(questions(2), "judge")
    assert [verdict.unreadable for verdict in verdicts] == [True, True]
    check_requests(verdicts, "x", all_needed=True)
    assert judge(bench, tmp_path).ask(questions(2), "judge") == verdicts, "final, and read back as such"


def test_a_failing_request_is_tried_again_and_then_missing(bench: StubJudge, tmp_path: Path) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if "answer 2," in body["messages"][1]["content"]:
            return 503, "busy"
        if "answer 1," in body["messages"][1]["content"] and number < 3:
            return 503, "busy"
        return bench.give_opinion(body, number)

    bench.respond = respond
    verdicts = judge(bench, tmp_path).ask(questions(4), "judge")
    assert [verdict.value for verdict in verdicts] == [1, 2, None, 4]
    assert "HTTP 503" in str(verdicts[2].error)


def test_questions_that_look_alike_are_asked_once(bench: StubJudge, tmp_path: Path) -> None:
    verdicts = judge(bench, tmp_path).ask(questions(2) + questions(3), "judge")
    assert [verdict.value for verdict in verdicts] == [1, 2, 1, 2, 3]
    assert len(bench.asked) == 3


def test_a_killed_run_goes_on_with_what_is_missing(bench: StubJudge, tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    judge(bench, tmp_path).ask(questions(4), "judge")
    kept = path.read_text().splitlines()[:2]
    path.write_text("\n".join(kept) + "\n" + '{"question": "torn", "ver')
    asked = len(bench.asked)
    verdicts = judge(bench, tmp_path).ask(questions(4), "judge")
    assert [verdict.value for verdict in verdicts] == [1, 2, 3, 4]
    assert len(bench.asked) - asked == 2
    assert len(read_lines(path)) == 4


@pytest.mark.parametrize("takes_a_schema", [True, False])
def test_a_run_killed_between_the_two_tries_pays_for_neither_twice(
    bench: StubJudge, tmp_path: Path, takes_a_schema: bool
) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        if "response_format" in body and not takes_a_schema:
            return 400, {"error": {"message": "no grammar backend"}}
        if len(body["messages"]) == 2:
            return 200, answer("I would say 5/5!\u2028")
        return bench.give_opinion(body, number)

    def dying(**options: Any) -> Client:
        """Ends when the first question is to be asked a second time."""
        client = client_of(**options)
        generate = client.generate

        def until_asked_again(requests: list[Request], on_reply: Any) -> None:
            if any(len(request.messages) > 2 for request in requests):
                raise KeyboardInterrupt
            generate(requests, on_reply)

        client.generate = until_asked_again  # type: ignore[method-assign]
        return client

    bench.respond, client_of = respond, bench.client
    bench.client = dying  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        judge(bench, tmp_path).ask(questions(6), "judge")
    bench.client = client_of  # type: ignore[method-assign]

    def paid() -> list[int]:
        """The messages of each request that was answered."""
        return [len(body["messages"]) for body in bench.asked if takes_a_schema or "response_format" not in body]

    assert paid() == [2] * 6
    assert len(read_lines(tmp_path / "replies.jsonl")) == 6
    verdicts = judge(bench, tmp_path).ask(questions(6), "judge")
    assert [verdict.value for verdict in verdicts] == [1, 2, 3, 4, 5, 1]
    assert {(verdict.tokens_in, verdict.tokens_out) for verdict in verdicts} == {(14, 4)}, "both replies cost"
    assert paid() == [2] * 6 + [4] * 6, "asked once more, not from the beginning"
    assert judge(bench, tmp_path).ask(questions(6), "judge") == verdicts, "all is on disk"


def test_a_request_that_failed_is_asked_again_by_the_next_run(bench: StubJudge, tmp_path: Path) -> None:
    bench.respond = lambda body, number: (503, "busy")
    assert judge(bench, tmp_path).ask(questions(1), "judge")[0].value is None
    bench.respond = bench.give_opinion
    assert judge(bench, tmp_path).ask(questions(1), "judge")[0].value == 1


def test_an_endpoint_that_nobody_asks_is_not_started(bench: StubJudge, tmp_path: Path) -> None:
    judge(bench, tmp_path).ask(questions(2), "judge")
    judge(bench, tmp_path).ask(questions(2), "judge")
    assert bench.starts == 1


def verdict(error: str | None, *, unreadable: bool = False) -> Verdict:
    return Verdict(None if error else 1, "", error, unreadable, 1, 1)


def test_requests_without_a_reply_are_the_users_or_the_machines_fault() -> None:
    refused, busy, fine = verdict("HTTP 400: too long"), verdict("HTTP 503: busy"), verdict(None)
    spent, locked = verdict("HTTP 429: insufficient_quota"), verdict("HTTP 401: no")
    with pytest.raises(UserError, match="2 of 2 requests for x were refused; the first: HTTP 400"):
        check_requests([refused, refused], "x", all_needed=False)
    with pytest.raises(MachineError, match="1 of 2"):
        check_requests([busy, fine], "x", all_needed=True)
    for passing in (busy, spent, locked):
        with pytest.raises(MachineError, match="1 of 3 requests for x got no reply; the first: HTTP"):
            check_requests([passing, fine, refused], "x", all_needed=False)
    with pytest.raises(UserError, match="1 of 2 requests for x were refused"):
        check_requests([fine, refused], "x", all_needed=True)
    check_requests([fine, refused], "x", all_needed=False)
    check_requests([verdict("no JSON", unreadable=True)], "x", all_needed=True)
    check_requests([], "x", all_needed=True)
