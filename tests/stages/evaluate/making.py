"""Tasks, rows, a stub of an engine, and one way to run the stage on them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.endpoint import Stub, answer
from tunelift.config.evaluation import ArmConfig, EvaluateConfig
from tunelift.engines.client import Client
from tunelift.stages.evaluate import evaluate
from tunelift.tasks.scorers import Scorer
from tunelift.tasks.task import Item, Task

CONFIG = EvaluateConfig(concurrency=2, request_timeout_seconds=5)
BASE = ArmConfig(name="base")
PROMPTED = ArmConfig(name="prompted", few_shot=2)
TUNED = ArmConfig(name="tuned", model="tuned", prompt="trained")


def _same(output: str, item: Item, task: Task) -> float:
    return float(output == json.dumps(item.accepted[0]))


def _length(output: str, item: Item, task: Task) -> float:
    return min(1.0, len(output) / 10)


def _words(output: str, item: Item, task: Task) -> float:
    return float(len(output.split()))


SAME = Scorer("exact_match", "binary", _same, {"scorer": "same"})
SHORT = Scorer("length", "graded", _length, {"scorer": "length"}, lower_is_better=True)

WORDS = Scorer("words", "graded", _words, {"scorer": "words"}, lower_is_better=True, bounded=False)


def item(number: int, **changes: Any) -> Item:
    user = {"role": "user", "content": f"question {number}"}
    values = {
        "id": f"i{number}",
        "prompt": ({"role": "system", "content": "short"}, user),
        "instructed": ({"role": "system", "content": "long and full"}, user),
        "accepted": ({"n": number},),
        "question": f"question {number}",
        "cluster": f"c{number % 2}",
        "tags": ("t",),
    }
    return Item(**(values | changes))


def task(name: str = "one", count: int = 6, **changes: Any) -> Task:
    values: dict[str, Any] = {
        "name": name,
        "version": 2,
        "role": "target",
        "description": "d",
        "licence": "l",
        "items": tuple(item(number) for number in range(count)),
        "scorers": (SAME, SHORT),
        "primary": "exact_match",
        "max_tokens": 9,
    }
    return Task(**(values | changes))


def row(identity: str, reply: str, **last: Any) -> dict[str, Any]:
    messages = [
        {"role": "system", "content": "short"},
        {"role": "user", "content": f"ask {identity}"},
        {"role": "assistant", "content": reply, **last},
    ]
    return {"id": identity, "messages": messages}


class StubEngine:
    """Counts its starts; answers come from a stub endpoint, or from any at `url`."""

    served_name = "stub"
    api_key = None
    requests_per_minute = None

    def __init__(self, respond: Callable[[dict[str, Any]], Any] | None = None, url: str = "") -> None:
        self.description: Mapping[str, Any] = {"kind": "stub"}
        self.respond, self.starts = respond, 0
        self.stub = None if url else Stub(lambda body, number: self.respond(body))
        self.url = url or self.stub.url

    def start(self) -> None:
        self.starts += 1

    def check(self) -> None:
        pass

    def stop(self) -> None:
        if self.stub:
            self.stub.close()

    def client(self, **options: Any) -> Client:
        return Client(self.url, self.served_name, **options)


def right(body: dict[str, Any]) -> tuple[int, Any]:
    """The answer to a question that is accepted; wrong for item 5 alone."""
    number = int(body["messages"][-1]["content"].split()[-1])
    return 200, answer(json.dumps({"n": number if number != 5 else 0}))


def run(engine: StubEngine, out: Path, **changes: Any) -> dict[str, Any]:
    """The stage on one small task, unless told otherwise."""
    out.mkdir(exist_ok=True)
    arguments: dict[str, Any] = {
        "arm": TUNED,
        "tasks": [task()],
        "examples": [],
        "tokenizer": None,
        "model_card": {"id": "m"},
        "seed": 3,
    }
    return evaluate(changes.pop("config", CONFIG), engine=engine, out=out, **(arguments | changes))


def samples(out: Path, name: str = "samples.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / name).read_text().splitlines()]


def summary(out: Path) -> dict[str, Any]:
    return json.loads((out / "summary.json").read_text())
