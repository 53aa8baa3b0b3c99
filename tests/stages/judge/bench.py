"""What the judge's tests share: a judge played by a stub endpoint that reads its prompt, labels, and evaluations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.endpoint import Stub, answer
from tunelift.artifacts import jsonl
from tunelift.config.evaluation import CalibrationConfig, EndpointConfig, JudgeConfig
from tunelift.engines.client import Client

BLOCK = re.compile(
    r"^BEGIN (?P<name>[A-Z ]+?(?: \d+)?) (?P<code>[0-9a-f]{16})\n(?P<text>.*?)\nEND (?P=name) (?P=code)$", re.M | re.S
)

Parts = dict[str, str]
Opinion = Callable[[Parts], Any]
"""From the parts of the material to a mark, `first`, `second` or `tie`."""


def parts(body: Mapping[str, Any]) -> Parts:
    """The material by name, as a judge that honours the delimiters reads it."""
    return {found["name"]: found["text"] for found in BLOCK.finditer(body["messages"][1]["content"])}


def quality(text: str) -> int:
    """The tests' answers tell how good they are: `… quality 4 …`."""
    found = re.search(r"quality (\d)", text)
    return int(found[1]) if found else 1


def fair(material: Parts) -> Any:
    """Right about everything."""
    if "ANSWER" in material:
        return quality(material["ANSWER"])
    first, second = quality(material["FIRST ANSWER"]), quality(material["SECOND ANSWER"])
    return "first" if first > second else "second" if second > first else "tie"


def likes_the_first(material: Parts) -> Any:
    return 5 if "ANSWER" in material else "first"


def reply(body: Mapping[str, Any], value: Any) -> str:
    key = "mark" if "ANSWER" in parts(body) else "better"
    return json.dumps({"reason": f"because {value}", key: value})


class StubJudge:
    """An engine whose answers a test decides; like every engine it does nothing until it is started."""

    served_name = "stub-judge"
    api_key = None
    requests_per_minute = None

    def __init__(self, opinion: Opinion = fair) -> None:
        self.opinion, self.starts = opinion, 0
        self.respond: Callable[[dict[str, Any], int], tuple[int, Any]] = self.give_opinion
        self.stub = Stub(lambda body, number: self.respond(body, number))
        self.description = {"kind": "stub"}

    def give_opinion(self, body: dict[str, Any], number: int) -> tuple[int, Any]:
        return 200, answer(reply(body, self.opinion(parts(body))))

    @property
    def url(self) -> str:
        return self.stub.url

    @property
    def asked(self) -> list[dict[str, Any]]:
        return self.stub.bodies

    def start(self) -> None:
        self.starts += 1

    def check(self) -> None:
        pass

    def stop(self) -> None:
        self.stub.close()

    def client(self, *, concurrency: int, timeout_seconds: float, decoding: Mapping[str, Any], seed: int) -> Client:
        return Client(
            self.url,
            self.served_name,
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
            decoding=dict(decoding),
            seed=seed,
        )


def answers(good: int = 12, bad: int = 12, **extra: Any) -> list[dict[str, Any]]:
    """Labelled answers of quality 5 and 2."""
    return [
        {"id": f"{word}{n}", "request": f"ask {n}", "output": f"{word} {n}, quality {q}", "good": q > 3, **extra}
        for word, q, count in (("good", 5, good), ("bad", 2, bad))
        for n in range(count)
    ]


def pairs(decided: int = 12, ties: int = 12) -> list[dict[str, Any]]:
    """Labelled pairs; a and b are better in turn."""
    rows = []
    for n in range(decided):
        a, b = (5, 2) if n % 2 else (1, 4)
        better = "a" if a > b else "b"
        rows.append(
            {"id": f"p{n}", "request": f"ask {n}", "a": f"x{n} quality {a}", "b": f"y{n} quality {b}", "better": better}
        )
    rows += [
        {"id": f"t{n}", "request": f"ask {n}", "a": f"x{n} quality 3", "b": f"y{n} quality 3", "better": "tie"}
        for n in range(ties)
    ]
    return rows


def write_lines(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in jsonl.read_lines(path)]


def config(items: Path, **changes: Any) -> JudgeConfig:
    settings: dict[str, Any] = {
        "endpoint": EndpointConfig(url="http://127.0.0.1:1/v1", model="stub-judge"),
        "rubric": "True, and {short}.",
        "modes": ("absolute", "pairwise"),
        "calibration": CalibrationConfig(items=str(items)),
        "concurrency": 4,
        "request_timeout_seconds": 5,
    }
    return JudgeConfig(**(settings | changes))
