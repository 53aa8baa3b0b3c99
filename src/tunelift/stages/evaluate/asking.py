"""Putting questions to an engine: those that have no answer yet, one task after another, and how long that took."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.artifacts.store import write_durably
from tunelift.config.evaluation import EvaluateConfig
from tunelift.engines.client import Client, Likelihood, Reply, Request, Scoring
from tunelift.engines.protocol import IDENTITY, Engine
from tunelift.engines.rendering import check_rendering
from tunelift.engines.transport import REFUSED
from tunelift.engines.withheld import WITHHELD
from tunelift.errors import MachineError, UserError
from tunelift.runtime import chat, console, turns
from tunelift.runtime.template import read_template
from tunelift.stages.evaluate.prompts import as_text
from tunelift.stages.evaluate.samples import Journal, Question, Sample
from tunelift.tasks.task import DECODING, Task
from tunelift.tasks.thinking import may_open, opening_in

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Keep = Callable[[Question, Sample], None]
"""Told of an answer as it comes."""
Put = Callable[[Client, Keep], None]
"""Puts the questions of one task."""

SAVE_SECONDS = 2.0
"""At most so much of the time spent asking is forgotten by a kill."""


class Stopwatch:
    """asking.json: per journal and task, the items answered and the seconds that asking them took, over all restarts.

    Both are saved together, so that a kill, which loses the last of them, does not change the rate.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._times: dict[str, dict[str, dict[str, float]]] = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            self._times = {}

    def of(self, journal: str, task: str) -> dict[str, float]:
        """`requests`: items answered; `seconds`: wall time while requests were on their way."""
        return self._times.get(journal, {}).get(task, {"requests": 0, "seconds": 0.0})

    @contextmanager
    def running(self, journal: str, task: str) -> Iterator[Callable[[], None]]:
        """Measure a block, which calls what it is given once an answer."""
        before = self.of(journal, task)
        started = answered = saved = time.monotonic()
        requests = 0

        def save() -> None:
            total = {
                "requests": before["requests"] + requests,
                "seconds": round(before["seconds"] + answered - started, 3),
            }
            self._times.setdefault(journal, {})[task] = total
            write_durably(self._path, json.dumps(self._times, indent=2) + "\n")

        def count() -> None:
            nonlocal requests, answered, saved
            requests, answered = requests + 1, time.monotonic()
            if answered - saved > SAVE_SECONDS:
                saved = answered
                save()

        try:
            yield count
        finally:
            save()


class Substitutions:
    """dialect.json: how the engine really answered, over all restarts.

    `substituted` are the parameters that it did not take as they are, `answered_by` its package, version and machine,
    once for each under which it answered. Both are forgotten with the process; the answers stay.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            kept = json.loads(path.read_bytes())
            self.names: set[str] = set(kept.get("substituted", ()))
            self.engines: list[dict[str, Any]] = list(kept.get("answered_by", ()))
        except (FileNotFoundError, ValueError):
            self.names, self.engines = set(), []

    def note(self, engine: Engine) -> None:
        """Keep what is known of the engine by now."""
        description = engine.description
        known = set(description.get("substituted", ()))
        identity = {key: description[key] for key in IDENTITY if key in description}
        is_new = bool(identity) and identity not in self.engines
        if is_new or not known <= self.names:
            self.names |= known
            self.engines += [identity] * is_new
            kept = {"substituted": sorted(self.names), "answered_by": self.engines}
            write_durably(self._path, json.dumps(kept) + "\n")

    def describe(self, engine: Engine) -> dict[str, Any]:
        """What answered, for the summary: not what would answer now, which an upgrade may have changed since."""
        now = {key: value for key, value in engine.description.items() if key not in IDENTITY}
        several = {"answered_by": self.engines} if len(self.engines) > 1 else {}
        substituted = {"substituted": sorted(self.names)} if self.names else {}
        return now | (self.engines[-1] if self.engines else {}) | several | substituted


class Asker:
    """Puts one arm's questions to its engine, which starts only if there is something to ask."""

    def __init__(
        self,
        config: EvaluateConfig,
        engine: Engine,
        tokenizer: Path | None,
        seed: int,
        stopwatch: Stopwatch,
        substitutions: Substitutions,
        template: str | None = None,
        note_look: Callable[[Task], None] | None = None,
    ) -> None:
        self._note_look, self._looked_at = note_look, set[str]()
        self._config, self._engine, self._folder, self._seed = config, engine, tokenizer, seed
        self._stopwatch, self._substitutions, self._template = stopwatch, substitutions, template

    def ask(self, questions: Sequence[Question], journal: Journal, label: str) -> None:
        """Ask what has no answer in the journal, in the order given; a task's questions stand together.

        Raises:
            UserError: the template or the engine refuses the questions of a task.
            GateError: the engine reads the questions otherwise than training does.
            MachineError: the engine ended, or requests failed through no fault of their own; what was answered is kept.
        """
        missing = [question for question in questions if question.key not in journal.samples]
        for question in questions:
            if question.key in journal.samples:
                self._note(question.task)
        if not missing:
            return
        groups = [list(group) for _, group in groupby(missing, key=lambda question: question.task.name)]
        puts = [self._prepare(group) for group in groups]
        self._engine.start()
        client = self._engine.client(
            concurrency=self._config.concurrency,
            timeout_seconds=self._config.request_timeout_seconds,
            decoding=DECODING,
            seed=self._seed,
        )
        self._check_rendering(missing)
        resumed = len(questions) - len(missing)
        with console.progress(label, total=len(questions), unit="items", done=resumed) as bar:
            for group, put in zip(groups, puts, strict=True):
                task = group[0].task.name
                bar.note(task)
                try:
                    self._ask(client, put, task, journal, bar)
                    # With the answers of earlier parts: a single item left over may well be one that is always refused.
                    whole = [journal.samples[question.key] for question in questions if question.task.name == task]
                    _check_failures(task, whole, self._shows_many(whole[0]["arm"]))
                except MachineError:
                    self._engine.check()  # Raises with the engine's own last words, if it has ended.
                    raise

    def _check_rendering(self, questions: Sequence[Question]) -> None:
        """Whether an engine that was started here reads the questions as training would; others do not tell."""
        if self._folder and self._engine.description.get("kind") == "vllm":
            asked = [(one.prompt, one.item.tools) for one in questions if one.task.kind != "perplexity"]
            if asked:
                check_rendering(self._engine, self._tokenizer, asked)

    def _note(self, task: Task) -> None:
        if self._note_look and task.name not in self._looked_at:
            self._note_look(task)
            self._looked_at.add(task.name)

    def _shows_many(self, name: str) -> bool:
        """Whether the arm, or a prompt that a search tries, could do with fewer examples."""
        shots = {arm.name: arm.few_shot or 0 for arm in self._config.resolved_arms() if arm.search is None}
        return shots.get(name, 2) > 1

    def _ask(self, client: Client, put: Put, task: str, journal: Journal, bar: console.Bar) -> None:
        with self._stopwatch.running(journal.name, task) as count:

            def keep(question: Question, sample: Sample) -> None:
                self._substitutions.note(self._engine)  # First: no answer is on disk without how it was asked.
                if sample["error"] is None:
                    self._note(question.task)  # Before the answer can be read, for the same reason.
                journal.add(question, sample)
                if sample["error"] is None:
                    count()
                bar.advance()

            put(client, keep)

    def _prepare(self, questions: Sequence[Question]) -> Put:
        """Everything that can be refused before an engine starts."""
        if questions[0].task.kind == "generate":
            return partial(_generate, questions, self._openings(questions))
        scorings = [
            Scoring(f"{number}:{place}", *scoring)
            for number, question in enumerate(questions)
            for place, scoring in enumerate(self._scorings(question))
        ]
        return partial(_measure, questions, scorings)

    def _openings(self, questions: Sequence[Question]) -> list[str]:
        """The mark with which each prompt opens the model's thinking; empty for none, and where it is not known."""
        template = (self._template or read_template(self._folder)) if self._folder else None  # Else an endpoint's own.
        texts = template.values() if isinstance(template, dict) else [template or ""]
        if not any(map(may_open, texts)):
            return [""] * len(questions)
        return [self._opening(question) for question in questions]

    def _opening(self, question: Question) -> str:
        try:
            return opening_in(turns.render(self._tokenizer, question.prompt, question.item.tools, generate=True))
        except UserError:  # The engine says itself what it refuses.
            return ""

    def _scorings(self, question: Question) -> Iterator[tuple[str, str, bool]]:
        """Context, continuation, and whether special tokens are still to be added: one for each choice, or the text."""
        task, item = question.task, question.item
        if task.kind == "perplexity":
            yield "", item.text, True
            return
        if task.rendering == "chat":
            try:
                context = turns.render(self._tokenizer, question.prompt, item.tools, generate=True)
            except UserError as error:
                raise UserError(
                    error.message, where=f"task {task.name}, item {item.id}", remedy=error.remedy
                ) from error
        else:
            context = as_text(question.prompt)
        for choice in item.choices:
            yield context, choice, task.rendering == "plain"

    @cached_property
    def _tokenizer(self) -> PreTrainedTokenizerFast:
        assert self._folder is not None, "check_askable refuses what needs it"
        return chat.load_tokenizer(self._folder, self._template)


def _generate(questions: Sequence[Question], openings: Sequence[str], client: Client, keep: Keep) -> None:
    requests = [
        Request(str(number), question.prompt, question.task.max_tokens, question.item.tools)
        for number, question in enumerate(questions)
    ]

    def on_reply(reply: Reply) -> None:
        question, opening = questions[int(reply.id)], openings[int(reply.id)]
        keep(question, question.answered(reply, opening))

    client.generate(requests, on_reply)


def _measure(questions: Sequence[Question], scorings: Sequence[Scoring], client: Client, keep: Keep) -> None:
    """Keep an item as soon as all its likelihoods are known; one that is missing cannot be scored at all."""
    found: dict[int, dict[int, Likelihood]] = {number: {} for number in range(len(questions))}
    failed: list[str] = []

    def on_likelihood(likelihood: Likelihood) -> None:
        number, place = map(int, likelihood.id.split(":"))
        if likelihood.error or not math.isfinite(likelihood.logprob):
            failed.append(likelihood.error or f"a log-probability of {likelihood.logprob}")
            return
        question, parts = questions[number], found[number]
        parts[place] = likelihood
        if len(parts) == max(1, len(question.item.choices)):
            keep(question, question.measured([part for _, part in sorted(parts.items())]))

    client.loglikelihoods(scorings, on_likelihood)
    if failed:
        what = f"{len(failed)} of {len(scorings)} log-likelihoods of task {questions[0].task.name} are missing"
        if all(map(REFUSED.match, failed)):
            raise UserError(
                f"{what}: the engine refused them, the first with: {failed[0]}",
                remedy="If texts are too long, raise engine.max_model_len, or take them out of the task.",
            )
        raise MachineError(
            f"{what}; the first failed with: {failed[0]}",
            remedy="The same command goes on with those; lower evaluate.concurrency if requests timed out.",
        )


def _check_failures(task: str, samples: Sequence[Sample], shows_many: bool) -> None:
    """A refused request or a withheld answer is one that the arm does not have; what failed otherwise is asked again.

    Were it kept, an arm would lose to the state of its endpoint, and the artifact would never be made anew.
    """
    failures = [sample["error"] for sample in samples if sample["error"]]
    if not failures:
        return
    passing = [error for error in failures if not REFUSED.match(error) and not WITHHELD.match(error)]
    withheld = sum(bool(WITHHELD.match(error)) for error in failures)
    if passing:
        raise MachineError(
            f"{len(passing)} of {len(samples)} requests of task {task} failed, the first with: {passing[0]}",
            remedy="Once the endpoint takes requests again (its state, the key, the account's limits), the same "
            "command goes on: only those that failed are asked again. If requests timed out, lower "
            "evaluate.concurrency or raise evaluate.request_timeout_seconds; an item that fails every time has to "
            "leave the task.",
        )
    if withheld == len(samples):
        raise UserError(
            f"All {withheld} answers to task {task} were withheld, the first: {failures[0]}",
            remedy="Switch the endpoint's content filter off for this evaluation, or ask another model.",
        )
    if len(failures) == len(samples):
        raise UserError(
            f"The engine refused all {len(samples)} requests of task {task}, the first with: {failures[0]}",
            remedy=f"If the prompts are too long, {'lower few_shot, or ' * shows_many}raise engine.max_model_len.",
        )
    what = f"{len(failures)} of {len(samples)} requests of task {task} were refused"
    what += f" or their answers withheld by a filter or the model itself ({withheld})" if withheld else ""
    console.warn(f"{what}; they are missing answers and score worst; the first with: {failures[0]}")
