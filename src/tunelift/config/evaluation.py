"""The config of everything that measures: arms, tasks from splits, the judge, the report, the gate."""

from __future__ import annotations

import os
import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, field_validator, model_validator

from tunelift.config.section import RUNTIME, ModelConfig, Section

ArmName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=40)]
BEST_UNTUNED = "best_untuned"
Weights = Literal["base", "tuned", "other"]
"""Whose weights an arm asks: the run's base model, what the run made of it, or anything else."""
NOISE_ARM = "base-again"
"""The second asking of the base, for the noise floor."""


class EndpointConfig(Section):
    """Any OpenAI-compatible endpoint."""

    url: str = Field(pattern=r"^https?://.+", examples=["http://127.0.0.1:8000/v1"])
    """Its base, ending in `/v1`."""
    model: str = Field(examples=["gpt-5-mini"])
    """The name under which it serves the model."""
    api_key_env: str | None = Field(None, json_schema_extra=RUNTIME)
    """Environment variable that holds the API key; the key itself is never written anywhere."""
    requests_per_minute: float | None = Field(None, gt=0, json_schema_extra=RUNTIME)
    """Stay below this rate; without it, only replies that ask for patience slow the client down."""
    usd_per_million_input: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """Price of prompt tokens."""
    usd_per_million_output: float | None = Field(None, ge=0, json_schema_extra=RUNTIME)
    """Price of output tokens."""

    @field_validator("url", mode="before")
    @classmethod
    def _without_password(cls, url: Any) -> Any:
        """Before anything is said of the value: messages, reports and W&B would show it."""
        if isinstance(url, str) and "@" in re.split(r"[/?#]", url.partition("//")[2] or url)[0]:
            raise ValueError(
                "holds a user name or a password, which reports would show; take it out, put the key into an "
                "environment variable, and its name into api_key_env"
            )
        return url

    @field_validator("url")
    @classmethod
    def _address(cls, url: str) -> str:
        """Told with its line, not by the first request; without the URL, which may hold a password."""
        try:
            parts = urlsplit(url)
            sound = bool(parts.hostname) and parts.port != 0 and url.isprintable() and " " not in url
        except ValueError:
            sound = False
        if not sound:
            raise ValueError("is no address: its host or its port is malformed; write http://127.0.0.1:8000/v1, say")
        return url


class PromptSearchConfig(Section):
    """Declared candidates for an arm's prompt; the best on data that no claim rests on is taken."""

    few_shot: tuple[Annotated[int, Field(ge=0)], ...] = Field((0, 3, 6), min_length=1)
    """Numbers of examples to try."""
    instructions: tuple[str, ...] = ()
    """System messages to try beside each task's own."""
    on: str = "validation"
    """`validation`, the split, or the folder of a task that is not in evaluate.tasks."""
    max_items: int = Field(40, ge=8)
    """Items for each candidate, drawn by `seed`."""


class ArmConfig(Section):
    """What answers, and with which prompt. `base`, `prompted` and `tuned` are short for the usual three."""

    name: ArmName = Field(examples=["mine"])
    """Names the arm in reports."""
    model: Literal["base", "tuned"] | ModelConfig = "base"
    """The weights, served by vLLM here: `base`, `tuned` (the merged model), or another model."""
    endpoint: EndpointConfig | None = None
    """An endpoint that answers instead of weights served here."""
    prompt: Literal["instructed", "trained"] = "instructed"
    """`instructed`: the task's full instruction; `trained`: the prompt that the tuned model was trained with."""
    instruction: str | None = None
    """System message in place of the task's instruction, on target tasks."""
    few_shot: int | None = Field(None, ge=0)
    """Examples from the training split in the prompt, on target tasks."""
    search: PromptSearchConfig | None = None
    """Choose instruction and number of examples by measurement, not on the tasks that claims rest on."""

    @model_validator(mode="after")
    def _combinations(self) -> ArmConfig:
        if self.endpoint and self.model != "base":
            raise ValueError("an arm has either a model or an endpoint; remove one of them")
        if self.prompt == "trained" and (self.instruction or self.few_shot or self.search):
            raise ValueError("the trained prompt takes no instruction, few_shot or search; set prompt to instructed")
        if self.search and (self.instruction or self.few_shot is not None):
            raise ValueError("search chooses instruction and few_shot; remove them, or list them under search")
        return self

    @property
    def weights(self) -> Weights:
        """Whose weights answer; what an endpoint serves is not known to be the run's own."""
        return "other" if self.endpoint or isinstance(self.model, ModelConfig) else self.model

    @property
    def has_own_prompt(self) -> bool:
        """Whether its prompt is made for the target tasks; then it is not asked guard tasks."""
        return bool(self.instruction or self.few_shot or self.search)


def _named(value: Any) -> Any:
    """`prompted` is short for `{name: prompted}`; `tuned` brings model and prompt along unless they are given."""
    arm = {"name": value} if isinstance(value, str) else value
    if isinstance(arm, dict) and arm.get("name") == "tuned" and not arm.keys() & {"model", "endpoint", "prompt"}:
        return {**arm, "model": "tuned", "prompt": "trained"}
    return arm


class SplitTaskConfig(Section):
    """The run's own held-out data as a task: prompts are the rows without their last reply."""

    from_split: Literal["test", "validation"]
    """Which split."""
    name: str | None = None
    """The task's name in reports; by default the split's."""
    scorers: tuple[str | dict[str, Any], ...] | Literal["auto"] = "auto"
    """As in a task.yaml. `auto`: `tool_call` if replies call tools, JSON scorers if every one is a JSON object or
    list, otherwise exact match."""
    primary: str | None = None
    """The metric that the verdict goes by; by default exact_match if it is measured, else the first."""
    instruction: str | None = None
    """System message for arms that were not tuned; without it they see the tuned arm's prompt."""
    max_tokens: int = Field(256, ge=1)
    """Longest answer."""
    max_items: int | None = Field(None, ge=1)
    """Take so many items, drawn by `seed`; fewer are among more."""
    effect: float = Field(0.05, gt=0, lt=1)
    """Smallest difference worth finding; a test that would rather miss it is called underpowered."""


class EvaluateConfig(Section):
    """Before and after, on the same items."""

    tasks: tuple[str | SplitTaskConfig, ...] = Field(default=(SplitTaskConfig(from_split="test"),), min_length=1)
    """Folders with a task.yaml, or `{from_split: test}`."""
    arms: tuple[Annotated[ArmConfig, BeforeValidator(_named, json_schema_input_type=str | ArmConfig)], ...] = Field(
        default=(
            ArmConfig(name="base"),
            ArmConfig(name="prompted"),
            ArmConfig(name="tuned", model="tuned", prompt="trained"),
        ),
        min_length=1,
        examples=["[base, prompted, tuned]"],
    )
    """`base`: the model as it comes; `prompted`: with training examples; `tuned`; or arms of your own."""
    few_shot: int = Field(6, ge=1)
    """Examples in the `prompted` arm's prompt."""
    noise_floor: bool = False
    """Ask the base twice, so that the report shows how much two runs of one arm differ."""
    max_items: int | None = Field(None, ge=1)
    """Take so many items of each task (a smoke run), drawn by their ids; the same for every seed, and fewer are among
    more."""
    concurrency: int = Field(32, ge=1, json_schema_extra=RUNTIME)
    """Requests in flight."""
    request_timeout_seconds: float = Field(300, gt=0, json_schema_extra=RUNTIME)
    """Give up on one request after this; it is tried three times."""

    @model_validator(mode="after")
    def _combinations(self) -> EvaluateConfig:
        names = [arm.name for arm in self.arms]
        if NOISE_ARM in names:
            raise ValueError(f"evaluate.arms names {NOISE_ARM}, which evaluate.noise_floor adds; choose another name")
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"evaluate.arms names {twice} twice; name each once")
        if self.noise_floor and "base" not in names:
            raise ValueError("evaluate.noise_floor asks the base twice, but evaluate.arms has no `base`; add it")
        for arm in self.resolved_arms():
            self._refuse_selection_on_a_task(arm)
        return self

    def _refuse_selection_on_a_task(self, arm: ArmConfig) -> None:
        if arm.search is None:
            return
        chosen_on = arm.search.on if arm.search.on == "validation" else os.path.realpath(arm.search.on)
        for task in self.tasks:
            # One folder has many spellings: ./a, a/, a link to it. What a copy of it holds, `check_askable` compares.
            claims_on = os.path.realpath(task) if isinstance(task, str) else task.from_split
            if claims_on == chosen_on:
                name = task.rstrip("/") if isinstance(task, str) else task.from_split
                raise ValueError(
                    f"the prompt of arm {arm.name} would be chosen on {name}, which is also in evaluate.tasks: "
                    "what selects cannot prove; choose on the validation split or on another task"
                )

    def resolved_arms(self) -> tuple[ArmConfig, ...]:
        """The arms as they are asked: examples for `prompted` filled in, and the one that measures noise added."""
        arms = tuple(
            arm.model_copy(update={"few_shot": self.few_shot})
            if arm.name == "prompted" and not arm.has_own_prompt and arm.few_shot is None
            else arm
            for arm in self.arms
        )
        again = [arm.model_copy(update={"name": NOISE_ARM}) for arm in arms if arm.name == "base" and self.noise_floor]
        return (*arms, *again)

    @property
    def focus(self) -> str:
        """The arm that claims are about: the first tuned one; without one, the last."""
        tuned = [arm.name for arm in self.resolved_arms() if arm.model == "tuned"]
        return tuned[0] if tuned else self.arms[-1].name


class CalibrationConfig(Section):
    """Items with known judgements that a judge must get right before it may judge."""

    items: str = Field(examples=["evals/judge/labelled.jsonl"])
    """JSON Lines, labelled by people: {"id", "request", "output", "good": true|false, "arm"?}, and for pairwise
    judging {"id", "request", "a", "b", "better": "a"|"b"|"tie"}."""
    min_sensitivity: float = Field(0.8, ge=0, le=1)
    """Refuse a judge that accepts a smaller share of the good answers (pairwise: picks the better one less often)."""
    min_specificity: float = Field(0.8, ge=0, le=1)
    """Refuse a judge that rejects a smaller share of the bad answers (pairwise: calls fewer of the ties a tie)."""


class JudgeConfig(Section):
    """A model that grades answers no rule can grade."""

    endpoint: EndpointConfig = Field(examples=["{url: https://example.com/v1, model: big-one, api_key_env: JUDGE_KEY}"])
    """The judge."""
    rubric: str = Field(min_length=1, examples=["Right, complete, and no longer than needed."])
    """What makes an answer good, in words."""
    tasks: tuple[str, ...] = ()
    """Names of the tasks to judge; by default all target tasks that generate."""
    modes: tuple[Literal["absolute", "pairwise"], ...] = Field(("pairwise",), min_length=1)
    """`absolute`: each answer on a scale; `pairwise`: two arms' answers side by side, in both orders."""
    scale: int = Field(5, ge=2, le=10)
    """Highest mark of an absolute judgement; the lowest is 1."""
    accept_from: int = Field(4, ge=2)
    """An answer with at least this mark counts as good in calibration."""
    max_tokens: int = Field(512, ge=16)
    """Longest judgement."""
    calibration: CalibrationConfig = Field(examples=["{items: evals/judge/labelled.jsonl}"])
    """The judge's own examination."""
    concurrency: int = Field(16, ge=1, json_schema_extra=RUNTIME)
    """Requests in flight."""
    request_timeout_seconds: float = Field(120, gt=0, json_schema_extra=RUNTIME)
    """Give up on one request after this; it is tried three times."""

    @model_validator(mode="after")
    def _marks(self) -> JudgeConfig:
        if self.accept_from > self.scale:
            raise ValueError(f"judge.accept_from={self.accept_from} is above judge.scale={self.scale}; lower it")
        return self


class ReportConfig(Section):
    """The evidence, shown."""

    bootstrap_samples: int = Field(10_000, ge=100)
    """Resamples for intervals of graded metrics."""
    usd_per_hour: float | None = Field(None, gt=0)
    """Price of the machine; with it the report shows cost per 1,000 requests and when tuning pays."""


class ClaimConfig(Section):
    """One claim that must hold."""

    task: str = Field(examples=["my_task"])
    """The task's name."""
    metric: str | None = None
    """The metric; by default the task's primary one."""
    against: str = BEST_UNTUNED
    """The arm that the tuned one must beat; `best_untuned`: the best of the arms that ask the run's base model, or
    where there is none, of the other untuned ones."""
    at_least: float = Field(0.0, ge=0, lt=1)
    """The difference's interval must lie above this."""


def _claimed(value: Any) -> Any:
    """A task's name alone claims that its primary metric improved."""
    return {"task": value} if isinstance(value, str) else value


class GateConfig(Section):
    """What must be shown, or `tunelift report` and `tunelift run` end with exit code 1."""

    improved: tuple[
        Annotated[ClaimConfig, BeforeValidator(_claimed, json_schema_input_type=str | ClaimConfig)], ...
    ] = Field((), examples=["[my_task, {task: my_task, metric: field_f1, at_least: 0.02}]"])
    """Target tasks on which the tuned arm must be better."""
    not_worse: tuple[str, ...] = ()
    """Guard tasks on which it must be shown to be worse by less than the task's margin."""

    @model_validator(mode="after")
    def _something(self) -> GateConfig:
        if not self.improved and not self.not_worse:
            raise ValueError("gate claims nothing; name tasks under improved or not_worse, or remove it")
        return self
