"""The evaluate stage: what each arm sees, and what is written. Against a stub endpoint."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.endpoint import answer
from tests.stages.evaluate.making import (
    BASE,
    CONFIG,
    PROMPTED,
    TUNED,
    WORDS,
    StubEngine,
    item,
    right,
    row,
    run,
    samples,
    summary,
    task,
)
from tunelift.config.evaluation import NOISE_ARM, ArmConfig
from tunelift.errors import GateError, MachineError, UserError
from tunelift.runtime.chat import load_tokenizer, prompt_ids
from tunelift.stages.evaluate import check_askable
from tunelift.stages.evaluate.summary import quantile, template_sha256
from tunelift.tasks.statistics import mean_interval

USER = {"role": "user", "content": "question 0"}
LONG = {"role": "system", "content": "long and full"}
SHORT = {"role": "system", "content": "short"}


def test_samples_stand_in_the_order_of_the_items_with_everything_a_reader_needs(
    engine: StubEngine, tmp_path: Path
) -> None:
    run(engine, tmp_path, tasks=[task("two", 3), task("one", 6)])
    written = samples(tmp_path)
    assert [(sample["task"], sample["id"]) for sample in written] == [
        *(("two", f"i{n}") for n in range(3)),
        *(("one", f"i{n}") for n in range(6)),
    ]
    assert {**written[8], "seconds": 0} == {
        "id": "i5",
        "task": "one",
        "kind": "generate",
        "arm": "tuned",
        "prompt": [SHORT, {"role": "user", "content": "question 5"}],
        "expected": [{"n": 5}],
        "output": '{"n": 0}',
        "answer": '{"n": 0}',
        "thinking": None,
        "scores": {"exact_match": 0.0, "length": 0.8},
        "tokens_in": 7,
        "tokens_out": 2,
        "seconds": 0,
        "finish_reason": "stop",
        "cluster": "c1",
        "tags": ["t"],
        "error": None,
    }


def test_the_summary_has_intervals_and_what_is_needed_to_compare(engine: StubEngine, tmp_path: Path) -> None:
    details = run(engine, tmp_path)
    written = summary(tmp_path)
    shown = written["tasks"]["one"]
    scores = [sample["scores"]["exact_match"] for sample in samples(tmp_path)]
    low, high = mean_interval(
        scores, "binary", clusters=[f"c{n % 2}" for n in range(6)], samples=10_000, seed=3, bounded=True
    )
    assert shown["metrics"]["exact_match"] == {
        "mean": 5 / 6,
        "low": low,
        "high": high,
        "kind": "binary",
        "lower_is_better": False,
        "bounded": True,
        "scorer": "same",
        "options": {},
        "strict": None,
    }
    assert shown["metrics"]["length"]["kind"] == "graded"
    assert shown["metrics"]["length"]["lower_is_better"] is True
    assert shown["digests"] == task().digests
    assert (shown["n"], shown["version"], shown["tokens_in_mean"], shown["tokens_out_mean"]) == (6, 2, 7, 2)
    assert (shown["kind"], shown["margin"], shown["effect"], shown["cut_off"]) == ("generate", None, 0.05, 0)
    assert 0 < shown["seconds_p50"] <= shown["seconds_p95"]
    assert (written["arm"], written["model"], written["engine"]) == ("tuned", {"id": "m"}, {"kind": "stub"})
    assert (written["template"], written["prompt_search"]) == (None, None)
    assert written["prompt"] == "the short prompt that it was trained with"
    assert written["prompt_example"] == [SHORT, USER]
    assert written["decoding"] == {"temperature": 0.0, "top_p": 1.0, "seed": 3}
    assert details["primary"]["one"]["mean"] == 5 / 6


def test_the_time_of_asking_is_measured_for_each_task(engine: StubEngine, tmp_path: Path) -> None:
    def slow(body: dict[str, Any]) -> tuple[int, Any]:
        import time

        time.sleep(0.05)
        return right(body)

    engine.respond = slow
    run(engine, tmp_path, tasks=[task("two", 4), task("one", 8)])
    asking = {name: part["asking"] for name, part in summary(tmp_path)["tasks"].items()}
    assert [asking["two"]["requests"], asking["one"]["requests"]] == [4, 8]
    assert 0.1 <= asking["two"]["seconds"] < asking["one"]["seconds"] < 1.5, "two at once, 50 ms each, in turn"


def test_the_arms_differ_in_their_prompts_alone(engine: StubEngine, tmp_path: Path) -> None:
    rows = [row("a", '{"tool": "x"}'), row("b", '{"tool": "y"}'), row("c", '{"tool": "x"}')]
    for arm in (BASE, PROMPTED, TUNED):
        run(engine, tmp_path / arm.name, arm=arm, examples=rows)
    assert samples(tmp_path / "base")[0]["prompt"] == [LONG, USER]
    assert samples(tmp_path / "tuned")[0]["prompt"] == [SHORT, USER]
    shown = samples(tmp_path / "prompted")[0]["prompt"]
    assert [shown[0], shown[-1]] == [LONG, USER]
    assert [message["role"] for message in shown] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "short" not in json.dumps(shown), "the examples' own system message is left out"
    assert (
        summary(tmp_path / "prompted")["prompt"] == "the task's full instruction and 2 examples from the training split"
    )
    assert summary(tmp_path / "prompted")["prompt_example"] == shown


def test_an_instruction_of_the_arm_stands_in_place_of_the_tasks(engine: StubEngine, tmp_path: Path) -> None:
    details = run(engine, tmp_path, arm=ArmConfig(name="mine", instruction="be brief"))
    assert samples(tmp_path)[0]["prompt"] == [{"role": "system", "content": "be brief"}, USER]
    assert details["prompt"] == "an instruction of its own"
    silent = task(items=(item(0, prompt=(USER,), instructed=(USER,)),))
    run(engine, tmp_path / "b", arm=ArmConfig(name="mine", instruction="be brief"), tasks=[silent])
    assert samples(tmp_path / "b")[0]["prompt"] == [{"role": "system", "content": "be brief"}, USER]


def test_guards_are_asked_alike_by_all_arms_and_not_at_all_by_one_with_a_prompt_of_its_own(
    engine: StubEngine, tmp_path: Path
) -> None:
    tasks = [task(), task("guard", 3, role="guard", margin=0.05)]
    for arm in (BASE, TUNED, PROMPTED):
        run(engine, tmp_path / arm.name, arm=arm, tasks=tasks, examples=[row("a", "x"), row("b", "y")])
    asked = {
        arm: [sample["prompt"] for sample in samples(tmp_path / arm) if sample["task"] == "guard"]
        for arm in ("base", "tuned", "prompted")
    }
    assert asked["base"] == asked["tuned"]
    assert len(asked["base"]) == 3
    assert asked["prompted"] == []
    assert list(summary(tmp_path / "prompted")["tasks"]) == ["one"]
    assert summary(tmp_path / "tuned")["tasks"]["guard"]["margin"] == 0.05


def test_an_arm_for_which_no_task_is_left_is_refused() -> None:
    guard = task("guard", role="guard", margin=0.05)
    with pytest.raises(UserError, match=r"prompted has a prompt made for target tasks, and .* has only guards"):
        check_askable(PROMPTED, [guard], None, has_tokenizer=True)
    check_askable(PROMPTED, [guard, task()], None, has_tokenizer=True)
    check_askable(BASE, [guard], None, has_tokenizer=True)


def test_the_noise_arm_is_asked_the_same_in_another_order(engine: StubEngine, tmp_path: Path) -> None:
    again = BASE.model_copy(update={"name": NOISE_ARM})
    one_at_a_time = CONFIG.model_copy(update={"concurrency": 1})
    tasks = [task("two", 8), task("one", 8)]
    run(engine, tmp_path / "a", arm=BASE, tasks=tasks, config=one_at_a_time)
    first = [body["messages"][-1]["content"] for body in engine.stub.bodies]
    run(engine, tmp_path / "b", arm=again, tasks=tasks, config=one_at_a_time)
    second = [body["messages"][-1]["content"] for body in engine.stub.bodies[16:]]
    assert first[:8] == [f"question {n}" for n in range(8)]
    assert sorted(second[:8]) == sorted(first[:8]), "tasks stay one after another"
    assert second[:8] != first[:8]
    assert [{**sample, "arm": "", "seconds": 0} for sample in samples(tmp_path / "a")] == [
        {**sample, "arm": "", "seconds": 0} for sample in samples(tmp_path / "b")
    ], "written in the order of the items"


def test_too_few_rows_for_the_examples_are_told(engine: StubEngine, tmp_path: Path, capsys: Any) -> None:
    details = run(engine, tmp_path, arm=PROMPTED, examples=[row("only", "x")])
    assert "arm prompted has few_shot=2, but the training split has 1 rows to show" in capsys.readouterr().err
    assert (details["examples"], details["prompt"]) == (
        ["only"],
        "the task's full instruction and 1 example from the training split",
    )


def test_examples_with_native_calls_show_what_they_call(engine: StubEngine, tmp_path: Path) -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    run(engine, tmp_path, arm=PROMPTED, examples=[row("a", "", tool_calls=[call])])
    said = [message["content"] for message in samples(tmp_path)[0]["prompt"] if message["role"] == "assistant"]
    assert said == ['{"name": "weather", "arguments": {"city": "Rome"}}'], "as text, where the template is not known"


def test_a_refused_request_scores_worst_and_is_asked_again_by_the_next_run(
    engine: StubEngine, tmp_path: Path, capsys: Any
) -> None:
    engine.respond = lambda body: (400, {"why": "no"}) if body["messages"][-1]["content"].endswith("2") else right(body)
    details = run(engine, tmp_path)
    failed = samples(tmp_path)[2]
    assert failed["scores"] == {"exact_match": 0.0, "length": 1.0}
    assert failed["error"] == 'HTTP 400: {"why": "no"}'
    assert details["failed_requests"] == 1
    assert "1 of 6 requests of task one were refused" in capsys.readouterr().err
    assert summary(tmp_path)["tasks"]["one"]["metrics"]["exact_match"]["mean"] == 4 / 6
    assert summary(tmp_path)["tasks"]["one"]["asking"]["requests"] == 5
    assert run(engine, tmp_path) == details, "the one that always fails stays a failure of one"
    engine.respond = right
    assert run(engine, tmp_path)["failed_requests"] == 0
    assert engine.stub.tries["question 2"] == 3
    assert engine.stub.tries["question 1"] == 1


@pytest.mark.parametrize(
    ("lower_is_better", "worst"),
    [(True, 5.0), (False, 1.0)],
)
def test_without_a_bound_a_failed_request_has_no_score_and_counts_as_the_worst_there_is(
    engine: StubEngine, tmp_path: Path, lower_is_better: bool, worst: float
) -> None:
    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        number = int(body["messages"][-1]["content"].split()[-1])
        return (400, "no") if number == 5 else (200, answer("word " * (number + 1)))

    engine.respond = respond
    words = replace(WORDS, lower_is_better=lower_is_better)
    run(engine, tmp_path, tasks=[task(scorers=(words,), primary="words")])
    assert [sample["scores"]["words"] for sample in samples(tmp_path)] == [1, 2, 3, 4, 5, None]
    assert summary(tmp_path)["tasks"]["one"]["metrics"]["words"]["mean"] == (15 + worst) / 6


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, UserError, r"refused all 3 requests of task two.*maximum context length is 512"),
        (503, MachineError, r"3 of 3 requests of task two failed.*maximum context length is 512"),
    ],
)
def test_when_a_task_gets_no_answer_it_is_not_put_down_to_the_model(
    engine: StubEngine, tmp_path: Path, status: int, kind: type, message: str
) -> None:
    tasks = [task(), task("two", items=tuple(item(n) for n in (7, 8, 9)))]
    engine.respond = lambda body: (
        (status, {"message": "maximum context length is 512"})
        if int(body["messages"][-1]["content"].split()[-1]) > 6
        else right(body)
    )
    with pytest.raises(kind, match=message):
        run(engine, tmp_path, tasks=tasks)
    assert not (tmp_path / "summary.json").exists()


@pytest.mark.parametrize(("shots", "told"), [(2, True), (1, False)])
def test_fewer_examples_are_the_remedy_only_where_there_are_several(
    engine: StubEngine, tmp_path: Path, shots: int, told: bool
) -> None:
    engine.respond = lambda body: (400, {"message": "maximum context length is 512"})
    config = CONFIG.model_copy(update={"few_shot": shots})
    arm = next(arm for arm in config.resolved_arms() if arm.name == "prompted")
    with pytest.raises(UserError) as caught:
        run(engine, tmp_path, config=config, arm=arm, examples=[row("a", "x"), row("b", "y")])
    assert ("few_shot" in caught.value.remedy) == told
    assert "raise engine.max_model_len" in caught.value.remedy


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (429, {"error": {"code": "insufficient_quota", "message": "You exceeded your current quota."}}),
        (401, {"error": {"message": "The key was revoked."}}),
        (404, {"error": {"message": "The model does not exist."}}),
        (503, {"error": {"message": "overloaded"}}),
        (200, {"choices": []}),
    ],
)
def test_what_failed_through_no_fault_of_its_own_is_no_answer_and_only_that_is_asked_again(
    engine: StubEngine, tmp_path: Path, status: int, said: Any
) -> None:
    answered: list[str] = []

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        question = body["messages"][-1]["content"]
        if question not in answered and len(answered) == 3:
            return status, said
        answered.append(question)
        return right(body)

    engine.respond = respond
    alone = CONFIG.model_copy(update={"concurrency": 1})
    with pytest.raises(MachineError, match=r"^3 of 6 requests of task one failed, the first with: ") as caught:
        run(engine, tmp_path, config=alone)
    assert "only those that failed are asked again" in caught.value.remedy
    assert not (tmp_path / "summary.json").exists()
    engine.respond = right
    engine.stub.tries.clear()
    assert run(engine, tmp_path, config=alone)["failed_requests"] == 0
    assert dict(engine.stub.tries) == {f"question {number}": 1 for number in (3, 4, 5)}


def test_an_engine_that_ended_says_why(engine: StubEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.stub.close()

    def check() -> None:
        raise MachineError("vLLM ended: out of memory")

    monkeypatch.setattr(engine, "check", check)
    monkeypatch.setattr(engine, "stop", lambda: None)
    with pytest.raises(MachineError, match="out of memory"):
        run(engine, tmp_path)


def test_an_engine_that_ended_says_why_also_where_its_server_still_refused_requests(
    engine: StubEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.respond = lambda body: (500, {"error": {"message": "EngineCore encountered an issue", "code": 500}})

    def check() -> None:
        raise MachineError("vLLM ended: out of memory")

    monkeypatch.setattr(engine, "check", check)
    with pytest.raises(MachineError, match="out of memory"):
        run(engine, tmp_path)


def test_max_items_takes_the_first_of_each_task(engine: StubEngine, tmp_path: Path) -> None:
    run(engine, tmp_path, tasks=[task("two"), task("one")], config=CONFIG.model_copy(update={"max_items": 2}))
    assert [sample["id"] for sample in samples(tmp_path)] == ["i0", "i1", "i0", "i1"]


def test_two_tasks_of_one_name_are_refused(engine: StubEngine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the name 'one'"):
        run(engine, tmp_path, tasks=[task(), task()])


def test_the_content_hash_follows_the_answers_and_not_their_latencies(engine: StubEngine, tmp_path: Path) -> None:
    first, second = run(engine, tmp_path / "a"), run(engine, tmp_path / "b")
    engine.respond = lambda body: (200, answer("other"))
    assert first["content"] == second["content"] != run(engine, tmp_path / "c")["content"]


def test_the_templates_hash_is_that_of_its_text_wherever_it_stands(tmp_path: Path) -> None:
    assert template_sha256(None) is None
    assert template_sha256(tmp_path) is None
    text = "{{ messages }} ü"
    expected = hashlib.sha256(text.encode()).hexdigest()
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": text}))
    assert template_sha256(tmp_path) == expected
    (tmp_path / "chat_template.jinja").write_text(text)
    (tmp_path / "tokenizer_config.json").unlink()
    assert template_sha256(tmp_path) == expected


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_is_a_value_that_enough_values_do_not_exceed(values: list[float], share: float) -> None:
    found = quantile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)


def test_tokens_that_no_endpoint_tells_have_no_mean(tmp_path: Path) -> None:
    engine = StubEngine(lambda body: (200, {**answer("x"), "usage": None}))
    run(engine, tmp_path / "out")
    engine.stop()
    assert {(sample["tokens_in"], sample["tokens_out"]) for sample in samples(tmp_path / "out")} == {(None, None)}
    shown = summary(tmp_path / "out")["tasks"]["one"]
    assert (shown["tokens_in_mean"], shown["tokens_out_mean"]) == (None, None)


def test_nothing_is_asked_of_an_engine_that_reads_otherwise_than_training(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    shift = 0

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        if "add_generation_prompt" not in body:
            return right(body)
        return 200, {"tokens": [token + shift for token in prompt_ids(tokenizer, body["messages"])]}

    engine = StubEngine(respond)
    engine.description = {"kind": "vllm"}
    try:
        shift = 1
        with pytest.raises(GateError, match="does not read the prompt"):
            run(engine, tmp_path / "other", tokenizer=tiny_model)
        assert set(engine.stub.paths) == {"/tokenize"} and samples(tmp_path / "other") == []
        shift = 0
        run(engine, tmp_path / "same", tokenizer=tiny_model)
        assert len(samples(tmp_path / "same")) == 6
    finally:
        engine.stop()
