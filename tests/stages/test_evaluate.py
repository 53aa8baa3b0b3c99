"""The evaluate stage: what each arm sees, no item asked twice, and what is written. Against a stub endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.endpoint import Stub, answer
from tunelift.config.schema import EvaluateConfig
from tunelift.engines import client
from tunelift.errors import MachineError, UserError
from tunelift.stages.evaluate import evaluate, prompts
from tunelift.stages.evaluate.summary import quantile
from tunelift.tasks.statistics import wilson
from tunelift.tasks.task import Item, Task

CONFIG = EvaluateConfig(few_shot=2, concurrency=2, request_timeout_seconds=5)


def item(number: int, right: Any = None) -> Item:
    user = {"role": "user", "content": f"question {number}"}
    return Item(
        id=f"i{number}",
        prompt=({"role": "system", "content": "short"}, user),
        instructed=({"role": "system", "content": "long and full"}, user),
        accepted=({"n": number} if right is None else right,),
        question=f"question {number}",
        cluster=f"c{number % 2}",
        tags=("t",),
    )


def task(name: str = "one", count: int = 6) -> Task:
    return Task(
        name, 2, "target", "d", "l", tuple(item(n) for n in range(count)), ("exact_match", "field_f1"), "exact_match", 9
    )


def row(identity: str, reply: str, **last: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": f"ask {identity}"},
        {"role": "assistant", "content": reply, **last},
    ]
    return {"id": identity, "messages": messages}


class StubEngine:
    served_name = "stub"

    def __init__(self, respond: Any) -> None:
        self.description = {"kind": "stub"}
        self.respond, self.starts, self.stub = respond, 0, Stub(lambda body, number: self.respond(body))

    @property
    def url(self) -> str:
        return self.stub.url

    def start(self) -> None:
        self.starts += 1

    def check(self) -> None:
        pass


def right(body: dict[str, Any]) -> tuple[int, Any]:
    number = int(body["messages"][-1]["content"].split()[-1])
    # Wrong for item 5 alone.
    return 200, answer(json.dumps({"n": number if number != 5 else 0}))


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubEngine]:
    monkeypatch.setattr(client, "BACK_OFF_SECONDS", (0.01, 0.01))
    made = StubEngine(right)
    yield made
    made.stub.close()


def run(engine: StubEngine, out: Path, **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "arm": "tuned",
        "tasks": [task()],
        "examples": [],
        "model_card": {"id": "m"},
        "seed": 3,
    }
    return evaluate(changes.pop("config", CONFIG), engine=engine, out=out, **(arguments | changes))


def samples(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]


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
        "arm": "tuned",
        "prompt": [{"role": "system", "content": "short"}, {"role": "user", "content": "question 5"}],
        "expected": [{"n": 5}],
        "output": '{"n": 0}',
        "scores": {"exact_match": 0.0, "field_f1": 0.0},
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
    summary = json.loads((tmp_path / "summary.json").read_text())
    low, high = wilson(5, 6)
    shown = summary["tasks"]["one"]
    assert shown["metrics"]["exact_match"] == {"mean": 5 / 6, "low": low, "high": high, "kind": "binary"}
    assert shown["metrics"]["field_f1"]["kind"] == "graded"
    assert 0 <= shown["metrics"]["field_f1"]["low"] < 5 / 6 < shown["metrics"]["field_f1"]["high"] <= 1
    assert shown["digests"] == task().digests
    assert (shown["n"], shown["version"], shown["tokens_in_mean"], shown["tokens_out_mean"]) == (6, 2, 7, 2)
    assert 0 < shown["seconds_p50"] <= shown["seconds_p95"]
    assert (summary["arm"], summary["model"], summary["engine"]) == ("tuned", {"id": "m"}, {"kind": "stub"})
    assert summary["decoding"] == {"temperature": 0.0, "top_p": 1.0, "seed": 3}
    assert details["primary"]["one"]["mean"] == 5 / 6


def test_the_arms_differ_in_their_prompts_alone(engine: StubEngine, tmp_path: Path) -> None:
    rows = [row("a", '{"tool": "x"}'), row("b", '{"tool": "y"}'), row("c", '{"tool": "x"}')]
    user = {"role": "user", "content": "question 0"}
    long = {"role": "system", "content": "long and full"}
    for arm in ("base", "prompted", "tuned"):
        run(engine, tmp_path / arm if (tmp_path / arm).mkdir() is None else tmp_path, arm=arm, examples=rows)
    assert samples(tmp_path / "base")[0]["prompt"] == [long, user]
    assert samples(tmp_path / "tuned")[0]["prompt"] == [{"role": "system", "content": "short"}, user]
    shown = samples(tmp_path / "prompted")[0]["prompt"]
    assert [shown[0], shown[-1]] == [long, user]
    assert [message["role"] for message in shown] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert "short" not in json.dumps(shown), "the examples' own system message is left out"


def test_a_finished_evaluation_asks_nothing_and_starts_no_engine(engine: StubEngine, tmp_path: Path) -> None:
    first = run(engine, tmp_path)
    before = (tmp_path / "samples.jsonl").read_bytes()
    assert engine.starts == 1
    assert run(engine, tmp_path) == first
    assert engine.starts == 1
    assert len(engine.stub.bodies) == 6
    assert (tmp_path / "samples.jsonl").read_bytes() == before


def test_a_killed_evaluation_goes_on_with_the_items_that_are_missing(engine: StubEngine, tmp_path: Path) -> None:
    run(engine, tmp_path)
    whole = (tmp_path / "samples.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "samples.jsonl").write_text(lines[4] + lines[1] + lines[2][:40])
    (tmp_path / "summary.json").unlink()
    engine.stub.tries.clear()
    run(engine, tmp_path)
    assert set(engine.stub.tries) == {"question 0", "question 2", "question 3", "question 5"}
    assert max(engine.stub.tries.values()) == 1
    assert [{**sample, "seconds": 0} for sample in samples(tmp_path)] == [
        {**json.loads(line), "seconds": 0} for line in lines
    ]


def test_every_answer_is_on_disk_before_the_next_is_awaited(engine: StubEngine, tmp_path: Path) -> None:
    seen: list[int] = []

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(len(samples(tmp_path)))
        return right(body)

    engine.respond = respond
    run(engine, tmp_path, config=CONFIG.model_copy(update={"concurrency": 1}))
    assert seen == [0, 1, 2, 3, 4, 5]


def test_answers_to_another_prompt_are_not_taken_over(engine: StubEngine, tmp_path: Path) -> None:
    run(engine, tmp_path, arm="base")
    run(engine, tmp_path, arm="tuned")
    assert len(engine.stub.bodies) == 12
    assert {sample["arm"] for sample in samples(tmp_path)} == {"tuned"}


def test_a_failed_request_scores_zero_and_is_asked_again_by_the_next_run(
    engine: StubEngine, tmp_path: Path, capsys: Any
) -> None:
    engine.respond = lambda body: (400, {"why": "no"}) if body["messages"][-1]["content"].endswith("2") else right(body)
    details = run(engine, tmp_path)
    failed = samples(tmp_path)[2]
    assert failed["scores"] == {"exact_match": 0.0, "field_f1": 0.0}
    assert failed["error"] == 'HTTP 400: {"why": "no"}'
    assert details["failed_requests"] == 1
    assert "1 of 6 requests failed" in capsys.readouterr().err
    assert (
        json.loads((tmp_path / "summary.json").read_text())["tasks"]["one"]["metrics"]["exact_match"]["mean"] == 4 / 6
    )
    engine.respond = right
    assert run(engine, tmp_path)["failed_requests"] == 0
    assert engine.stub.tries["question 2"] == 2
    assert engine.stub.tries["question 1"] == 1


@pytest.mark.parametrize(
    ("status", "kind", "message"),
    [
        (400, UserError, r"refused all 6 requests.*maximum context length is 512"),
        (503, MachineError, r"None of 6 requests succeeded.*maximum context length is 512"),
    ],
)
def test_when_no_request_succeeds_it_is_not_put_down_to_the_model(
    engine: StubEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, kind: type, message: str
) -> None:
    monkeypatch.setattr("tunelift.engines.client.BACK_OFF_SECONDS", (0, 0))
    engine.respond = lambda body: (status, {"message": "maximum context length is 512"})
    with pytest.raises(kind, match=message):
        run(engine, tmp_path)
    assert not (tmp_path / "summary.json").exists()


def test_an_engine_that_ended_says_why(engine: StubEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.stub.close()

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
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    first, second = run(engine, tmp_path / "a"), run(engine, tmp_path / "b")
    engine.respond = lambda body: (200, answer("other"))
    assert first["content"] == second["content"] != run(engine, tmp_path / "c")["content"]


def test_examples_cover_what_replies_are_made_of() -> None:
    common = [row(f"w{n}", f'{{"tool": "get_weather", "city": "c{n}"}}') for n in range(30)]
    others = [row(f"r{n}", f'{{"tool": "set_reminder", "text": "t{n}"}}') for n in range(10)]
    none = [row(f"n{n}", '{"tool": null}') for n in range(10)]
    chosen = prompts.choose_examples([*common, *others, *none], 3, seed=1)
    assert {str(shot["id"])[0] for shot in chosen} == {"w", "r", "n"}
    assert [shot["id"] for shot in chosen] == [
        shot["id"] for shot in prompts.choose_examples([*common, *others, *none], 3, seed=1)
    ]


def test_examples_are_conversations_in_text_that_end_with_a_reply() -> None:
    call = row("call", "")
    call["messages"][-1] = {"role": "assistant", "content": None, "tool_calls": []}
    open_end = {"id": "open", "messages": [{"role": "user", "content": "x"}]}
    assert [shot["id"] for shot in prompts.choose_examples([call, open_end, row("good", "yes")], 3, seed=1)] == ["good"]
    assert prompts.choose_examples([], 3, seed=1) == []


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.5, 0.95, 1.0]))
def test_a_quantile_is_a_value_that_enough_values_do_not_exceed(values: list[float], share: float) -> None:
    found = quantile(sorted(values), share)
    assert found in values
    assert sum(value <= found for value in values) >= share * len(values)
