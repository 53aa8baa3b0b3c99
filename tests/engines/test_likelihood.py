"""Log-likelihoods: which tokens belong to a continuation, and what is asked of an endpoint for them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.endpoint import Answer, Stub
from tunelift.engines import client as module
from tunelift.engines.client import Client, Likelihood, Scoring
from tunelift.engines.likelihood import Echo
from tunelift.errors import UserError


def first(tokens: list[str], context: str, continuation: str) -> int | None:
    return Echo(tokens, [None] + [-1.0] * (len(tokens) - 1)).first_after(context, continuation)


@pytest.mark.parametrize(
    ("tokens", "context", "continuation", "expected"),
    [
        (["An", "swer", ":", " A"], "Answer:", " A", 3),
        (["<|begin_of_text|>", "An", "swer", ":", " A"], "Answer:", " A", 4),
        (["An", "swer", ": A"], "Answer:", " A", 2),  # Straddles the border.
        (["An", "swer", ":", "A", "B"], "Answer:", " A B", 3),  # SentencePiece: words lose their space when alone.
        (["<s>", "x", "", "", "日", "本"], "x", "日本", 2),  # The empty ones are the first bytes of 日.
        (["x", "", "", " 🎉", "y"], "x 🎉", "y", 4),
        (["a", "b"], "", "ab", 0),
        (["a", "b"], "ab", "", 2),
        (["�", "", "", " x"], "🎉", " x", None),  # The first token's bytes cannot be read: it does not spell the text.
        (["a", "?", "c"], "ab", "c", None),
        (["c"], "ab", "c", None),
    ],
)
def test_the_continuation_begins_with_the_first_token_that_reaches_into_it(
    tokens: list[str], context: str, continuation: str, expected: int | None
) -> None:
    assert first(tokens, context, continuation) == expected


@given(st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=12), st.data())
def test_tokens_that_spell_the_text_are_split_where_the_text_is(pieces: list[str], data: st.DataObject) -> None:
    text = "".join(pieces)
    border = data.draw(st.integers(1, len(text)))
    ends = [sum(len(piece) for piece in pieces[: number + 1]) for number in range(len(pieces))]
    expected = next((number for number, end in enumerate(ends) if end > border), len(pieces))
    assert first(pieces, text[:border], text[border:]) == expected


WORDS = re.compile(r"\s*\S+")


class Words:
    """An endpoint whose tokens are words with the space before them; each has -1/10 of its letters as its logprob."""

    def __init__(self, **refused: str) -> None:
        self.refused, self.echo, self.tokenizes, self.extra, self.splits = refused, True, False, 0, True

    def ids(self, text: str) -> list[int]:
        return [sum(word.encode()) for word in WORDS.findall(text)]

    def respond(self, body: dict[str, Any], number: int) -> tuple[int, Any]:
        if body["path"] == "/tokenize":
            return (200, {"tokens": self.ids(body["prompt"])}) if self.tokenizes else (404, {})
        for name, why in self.refused.items():
            if name in body and not (name == "max_tokens" and body[name]):
                return 400, {"error": {"message": why}}
        if isinstance(body["prompt"], list):
            found = {f"token_id:{token}": -float(token) for token in body["logprob_token_ids"]}
            return 200, {"choices": [{"logprobs": {"top_logprobs": [found]}}], "usage": {}}
        words = WORDS.findall(body["prompt"])
        values: list[float | None] = [None, *(-len(word.strip()) / 10 for word in words[1:])]
        new = body["max_tokens"] + self.extra
        spelled = words if self.splits else ["?"] * len(words)
        found = {"tokens": spelled + [" new"] * new, "token_logprobs": values + [-9.0] * new}
        logprobs = found if body.get("echo") and self.echo else None
        return 200, {"choices": [{"logprobs": logprobs}], "usage": {"prompt_tokens": len(words)}}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[dict[str, Likelihood], Stub]]]:
    monkeypatch.setattr(module, "BACK_OFF_SECONDS", (0.005, 0.01))
    made: list[Stub] = []

    def ask(respond: Answer, scorings: list[Scoring]) -> tuple[dict[str, Likelihood], Stub]:
        made.append(Stub(respond))
        answers: list[Likelihood] = []
        client = Client(made[-1].url, "m", concurrency=4, timeout_seconds=5, decoding={"temperature": 0.0}, seed=1)
        client.loglikelihoods(scorings, answers.append)
        assert sorted(answer.id for answer in answers) == sorted(scoring.id for scoring in scorings)
        return {answer.id: answer for answer in answers}, made[-1]

    yield ask
    for server in made:
        server.close()


ONE = Scoring("one", "What is it?", " red apple", False)
Asked = Callable[..., tuple[dict[str, Likelihood], Stub]]


def test_the_logprobs_of_the_continuation_alone_are_summed(asked: Asked) -> None:
    answers, server = asked(Words().respond, [ONE])
    assert (answers["one"].logprob, answers["one"].tokens, answers["one"].error) == (pytest.approx(-0.8), 2, None)
    sent = {"prompt": "What is it? red apple", "echo": True, "logprobs": 1, "max_tokens": 0}
    assert server.bodies[0] == {**sent, "add_special_tokens": False, "temperature": 0.0, "seed": 1, "model": "m"}


def test_of_a_text_without_context_all_tokens_count_but_the_first(asked: Asked) -> None:
    texts = ("some words here", "a bb", "a ccc")
    answers, _ = asked(Words().respond, [Scoring(text, "", text, True) for text in texts])
    assert {key: (round(answer.logprob, 6), answer.tokens) for key, answer in answers.items()} == {
        "some words here": (-0.9, 2),
        "a bb": (-0.2, 1),
        "a ccc": (-0.3, 1),
    }


@pytest.mark.parametrize("extra", [0, 1])
def test_tokens_made_after_the_prompt_do_not_count(asked: Asked, extra: int) -> None:
    """Some endpoints make at least one, and some more than they were asked for."""
    words = Words(max_tokens="max_tokens must be at least 1")
    words.extra = extra
    answers, server = asked(words.respond, [ONE, Scoring("two", "a b", " c", False)])
    assert answers["one"].logprob == pytest.approx(-0.8)
    assert answers["two"].logprob == pytest.approx(-0.1)
    assert server.bodies[-1]["max_tokens"] == 1


def test_an_endpoint_that_does_not_know_special_tokens_is_asked_without(asked: Asked) -> None:
    words = Words(add_special_tokens="Unrecognized request argument supplied: add_special_tokens")
    answers, _ = asked(words.respond, [ONE])
    assert answers["one"].logprob == pytest.approx(-0.8)


def test_where_tokens_do_not_spell_the_text_the_contexts_are_counted(asked: Asked) -> None:
    words = Words()
    words.splits = False
    answers, server = asked(words.respond, [ONE])
    assert (answers["one"].logprob, answers["one"].tokens) == (pytest.approx(-0.8), 2)
    assert server.bodies[-1]["prompt"] == "What is it?"


LETTERS = [Scoring(letter, "Which? Answer:", f" {letter}", False) for letter in "ABCD"]


def test_continuations_of_one_token_are_asked_about_at_once(asked: Asked) -> None:
    words = Words()
    words.tokenizes = True
    answers, server = asked(words.respond, LETTERS)
    assert {key: answer.logprob for key, answer in answers.items()} == {
        letter: -float(32 + ord(letter)) for letter in "ABCD"
    }
    assert server.paths.count("/v1/completions") == 1
    body = server.bodies[-1]
    assert (body["logprob_token_ids"], body["logprobs"], body["max_tokens"]) == ([97, 98, 99, 100], 4, 1)
    assert body["prompt"] == words.ids("Which? Answer:")


def test_longer_continuations_and_single_ones_are_echoed(asked: Asked) -> None:
    words = Words()
    words.tokenizes = True
    longer = [Scoring(name, "Which?", f" {name} apple", False) for name in ("red", "blue")]
    answers, server = asked(words.respond, [*longer, ONE])
    assert {key: round(answer.logprob, 6) for key, answer in answers.items()} == {
        "red": -0.8,
        "blue": -0.9,
        "one": -0.8,
    }
    assert server.paths.count("/tokenize") == 2, "the context, and the first that is longer"


def test_an_endpoint_without_the_shorter_question_is_asked_the_long_one(asked: Asked) -> None:
    words = Words(logprob_token_ids="Extra inputs are not permitted: logprob_token_ids")
    words.tokenizes = True
    answers, _ = asked(words.respond, LETTERS)
    assert {answer.logprob for answer in answers.values()} == {-0.1}
    answers, server = asked(Words().respond, LETTERS)
    assert {answer.logprob for answer in answers.values()} == {-0.1}
    assert server.paths.count("/tokenize") == 1


def test_one_that_is_refused_harms_no_other(asked: Asked) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        return (400, {"error": "too long"}) if "endless" in body["prompt"] else Words().respond(body, number)

    answers, _ = asked(respond, [Scoring("long", "a", " endless", False), ONE, Scoring("none", "", "alone", False)])
    assert answers["long"].error == 'HTTP 400: {"error": "too long"}'
    assert answers["one"].error is None
    assert answers["none"].error == "the continuation has no token with a log-probability"


def test_an_endpoint_without_logprobs_of_the_prompt_is_refused(asked: Asked) -> None:
    silent = Words()
    silent.echo = False
    refusing = Words(echo="Setting 'echo' and 'logprobs' at the same time is not supported for this model.")
    for respond, why in (
        (silent.respond, "it ignores echo"),
        (refusing.respond, "Setting 'echo'"),
        (lambda body, number: (404, {"detail": "Not Found"}), "HTTP 404"),
    ):
        with pytest.raises(UserError, match="does not give the log-probabilities of a prompt") as caught:
            asked(respond, [ONE])
        assert why in caught.value.message
