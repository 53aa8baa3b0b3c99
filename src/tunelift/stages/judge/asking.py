"""Asking the judge: structured replies where the endpoint can, strict reading everywhere, no question asked twice."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunelift.artifacts.store import write_durably
from tunelift.config.evaluation import JudgeConfig
from tunelift.engines.client import Client, Reply, Request
from tunelift.engines.protocol import Engine
from tunelift.engines.transport import REFUSED
from tunelift.engines.withheld import WITHHELD
from tunelift.errors import MachineError, UserError
from tunelift.runtime import console
from tunelift.stages.judge.questions import NoVerdictError, Question
from tunelift.tasks.task import DECODING

SHOWN_REPLY = 500
AGAIN = "That is not the one JSON object that was asked for. Reply with it, and with nothing before or after it."

REFUSES_SCHEMA = re.compile(r"HTTP (4(?!01|03|08|09|29)\d\d|50[01])")
"""How it may begin when the endpoint cannot hold a reply to a schema."""


@dataclass(frozen=True)
class Verdict:
    """What the judge said to one question; `value` is None when it gave no verdict, and `error` says why."""

    value: Any
    reason: str
    error: str | None
    unreadable: bool
    """It replied, and no verdict could be read; or a filter, or the judge itself, withheld the reply."""
    tokens_in: int | None
    """None where the endpoint does not say; 0 where no reply came."""
    tokens_out: int | None


@dataclass(frozen=True)
class FirstTry:
    """A reply that could not be read, until the question is asked once more."""

    said: str
    """Its beginning, which the judge is shown again."""
    verdict: Verdict


class Judge:
    """The endpoint, and replies.jsonl: every verdict and every first try, on disk as soon as it came.

    What a killed run was told is read back; requests that failed are asked again.
    """

    def __init__(self, config: JudgeConfig, endpoint: Engine, seed: int, path: Path) -> None:
        self.verdicts: dict[str, Verdict] = {}
        self._first_tries: dict[str, FirstTry] = {}
        """Of the questions that have no verdict yet."""
        self._config, self._endpoint, self._seed, self._path = config, endpoint, seed, path
        self._structured: bool | None = None
        """Whether the endpoint takes the schema of a reply, once it is known."""
        for line in _lines(path):
            key, verdict = line["question"], Verdict(**line["verdict"])
            if "first_try" in line:
                self._first_tries[key] = FirstTry(line["first_try"], verdict)
            elif verdict.error is None or verdict.unreadable:
                self.verdicts[key] = verdict
                self._first_tries.pop(key, None)
        # Written anew: a line that a kill has torn must not run into the next one.
        kept = [_line(key, verdict) for key, verdict in self.verdicts.items()]
        kept += [_first_line(key, first) for key, first in self._first_tries.items()]
        write_durably(path, "".join(kept))

    def ask(self, questions: Sequence[Question], label: str) -> list[Verdict]:
        """A verdict for each question, in their order.

        Raises:
            MachineError: the endpoint answers no more.
        """
        distinct = {question.digest: question for question in questions}
        missing = {key: question for key, question in distinct.items() if key not in self.verdicts}
        if missing:
            self._endpoint.start()
            client = self._endpoint.client(
                concurrency=self._config.concurrency,
                timeout_seconds=self._config.request_timeout_seconds,
                decoding=DECODING,
                seed=self._seed,
            )
            done = len(distinct) - len(missing)
            with (
                console.progress(label, total=len(distinct), unit="judgements", done=done) as bar,
                self._path.open("a", encoding="utf-8") as file,
            ):

                def on_reply(reply: Reply) -> None:
                    file.write(self._noted(missing[reply.id], reply))
                    file.flush()
                    if reply.id in self.verdicts:
                        bar.advance()

                with self._telling_why():
                    self._ask(client, {key: missing[key] for key in missing if key not in self._first_tries}, on_reply)
                    self._ask(client, {key: missing[key] for key in missing if key in self._first_tries}, on_reply)
        return [self.verdicts[question.digest] for question in questions]

    def forget(self) -> None:
        """Remove what was said: the same command asks anew."""
        self._path.unlink()

    def _noted(self, question: Question, reply: Reply) -> str:
        """Take in a reply; returns its line for the file, empty where that of a first try still says all."""
        key, verdict, first = reply.id, _verdict(question, reply), self._first_tries.pop(reply.id, None)
        if verdict.unreadable and first is None and not WITHHELD.match(verdict.error or ""):
            self._first_tries[key] = FirstTry(reply.text[:SHOWN_REPLY], verdict)
            return _first_line(key, self._first_tries[key])
        if first and not verdict.unreadable and verdict.error is not None and not REFUSED.match(verdict.error):
            # No second try yet: what keeps the endpoint from replying says nothing about the question.
            self._first_tries[key], self.verdicts[key] = first, verdict
            return ""
        self.verdicts[key] = _both(first.verdict, verdict) if first else verdict
        return _line(key, self.verdicts[key])

    def _ask(self, client: Client, questions: Mapping[str, Question], on_reply: Callable[[Reply], None]) -> None:
        keys = list(questions)
        if keys and self._structured is None:
            on_reply(self._first(client, keys[0], questions[keys[0]]))
            keys = keys[1:]
        client.generate([self._request(key, questions[key]) for key in keys], on_reply)

    def _first(self, client: Client, key: str, question: Question) -> Reply:
        """Ask one question, without the schema if the endpoint refuses it; the others are then asked alike.

        Refusals that are plain enough the client sees to by itself.
        """
        replies: list[Reply] = []
        for self._structured in (True, False):
            client.generate([self._request(key, question)], replies.append)
            if not REFUSES_SCHEMA.match(replies[-1].error or ""):
                return replies[-1]
        self._structured = None  # Refused either way: something else is wrong with this question.
        return replies[-1]

    def _request(self, key: str, question: Question) -> Request:
        messages = list(question.messages)
        if first := self._first_tries.get(key):
            messages += [{"role": "assistant", "content": first.said}, {"role": "user", "content": AGAIN}]
        schema = None if self._structured is False else question.schema(self._config.max_tokens)
        return Request(key, messages, self._config.max_tokens, schema=schema)

    @contextmanager
    def _telling_why(self) -> Iterator[None]:
        try:
            yield
        except MachineError:
            self._endpoint.check()  # Raises with the endpoint's own last words, if it has ended.
            raise


def _verdict(question: Question, reply: Reply) -> Verdict:
    if reply.error is not None:
        withheld = WITHHELD.match(reply.error) is not None
        return Verdict(None, "", reply.error, withheld, reply.tokens_in, reply.tokens_out)
    try:
        value, reason = question.read(reply.text)
    except NoVerdictError as error:
        cut = ", which was cut off at judge.max_tokens" if reply.finish_reason == "length" else ""
        shown = json.dumps(reply.text[:SHOWN_REPLY], ensure_ascii=False)
        if reply.thinking and not reply.text.strip():
            shown += f" after its thinking: {json.dumps(reply.thinking[:SHOWN_REPLY], ensure_ascii=False)}"
        return Verdict(None, "", f"{error}{cut}: {shown}", True, reply.tokens_in, reply.tokens_out)
    return Verdict(value, reason, None, False, reply.tokens_in, reply.tokens_out)


def _both(first: Verdict, second: Verdict) -> Verdict:
    """The second try's verdict, with what both have cost; a second try that was refused leaves the first as it was."""
    spoken = first if second.error is not None and not second.unreadable else second
    tokens_in = total(one.tokens_in for one in (first, second))
    tokens_out = total(one.tokens_out for one in (first, second))
    return Verdict(spoken.value, spoken.reason, spoken.error, spoken.unreadable, tokens_in, tokens_out)


def total(counts: Iterable[int | None]) -> int | None:
    """Their sum; None if one of them is not known."""
    known = list(counts)
    return None if None in known else sum(count or 0 for count in known)


def _line(key: str, verdict: Verdict, **more: str) -> str:
    return json.dumps({"question": key, "verdict": asdict(verdict), **more}, ensure_ascii=False) + "\n"


def _first_line(key: str, first: FirstTry) -> str:
    return _line(key, first.verdict, first_try=first.said)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return
    for line in lines:
        try:
            yield json.loads(line)
        except ValueError:
            continue  # Torn by a kill; the question is asked again.


def check_requests(verdicts: Sequence[Verdict], what: str, *, all_needed: bool) -> None:
    """Requests got a reply: all of them; or, unless all are needed, all but some that the endpoint refused.

    Raises:
        UserError: the endpoint refuses them.
        MachineError: requests failed through no fault of their own; the replies so far are kept.
    """
    failed = [verdict.error for verdict in verdicts if verdict.error is not None and not verdict.unreadable]
    passing = [error for error in failed if not REFUSED.match(error)]
    if passing:
        raise MachineError(
            f"{len(passing)} of {len(verdicts)} requests for {what} got no reply; the first: {passing[0]}",
            remedy="Once the endpoint takes requests again (its state, the key in the variable that "
            "judge.endpoint.api_key_env names, the account's limits), the same command asks for what is missing only. "
            "If requests timed out, lower judge.concurrency or raise judge.request_timeout_seconds.",
        )
    if failed and (all_needed or len(failed) == len(verdicts)):
        raise UserError(
            f"{len(failed)} of {len(verdicts)} requests for {what} were refused; the first: {failed[0]}",
            remedy="If they are too long for the judge, shorten the items or take another judge.endpoint.",
        )
