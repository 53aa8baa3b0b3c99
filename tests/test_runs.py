"""A run's folder shows the curve of its training, whichever run trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tunelift import runs
from tunelift.artifacts.store import Plan, Store
from tunelift.config.schema import TrackingConfig
from tunelift.runtime.tracking import METRICS, Tracker

PLAN = Plan("train", 1, {}, {"dataset": "d0"})


def opened(root: Path, name: str, forced: frozenset[Any] = frozenset()) -> runs.Run:
    """A command on a run; only what finding and making go by is there."""
    folder = root / name
    folder.mkdir(exist_ok=True)
    tracker = Tracker(TrackingConfig(wandb="off"), folder, {})
    nothing: Any = None
    return runs.Run(nothing, (), nothing, Store(root / "store", dict), folder, forced, tracker)


def test_a_training_found_in_the_store_shows_its_curve_in_every_runs_folder_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter((3.0, 2.0))

    def train(target: str, arguments: dict[str, Any], log: Path, watch: Any, **_: Any) -> dict[str, Any]:
        (Path(arguments["out"]) / METRICS).write_text(json.dumps({"step": 1, "loss": next(losses)}) + "\n")
        watch()
        return {}

    def curve(name: str, forced: frozenset[Any] = frozenset()) -> list[float]:
        opened(tmp_path, name, forced).isolated(PLAN, "", {}, follow=METRICS)
        return [json.loads(line)["loss"] for line in (tmp_path / name / METRICS).read_text().splitlines()]

    monkeypatch.setattr(runs, "run_isolated", train)
    monkeypatch.chdir(tmp_path)
    assert curve("first") == [3.0]
    assert curve("first") == [3.0], "a rerun adds nothing"
    assert curve("second") == [3.0], "found"
    assert curve("second", frozenset({"train"})) == [2.0], "trained again by --force"


def test_the_same_command_after_a_stop_makes_again_only_what_it_had_not_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `tunelift run --from evaluate`, stopped in the second of two arms whose every answer is paid for."""
    monkeypatch.chdir(tmp_path)
    paid: list[str] = []

    def run(stages: set[Any], *, most: int = 9) -> list[str]:
        paid.clear()
        command = opened(tmp_path, "run", frozenset(stages))
        for arm in ("a", "b"):

            def answer(out: Path, arm: str = arm) -> dict[str, Any]:
                for number in range(2):
                    if not (out / f"{number}").exists():
                        if len(paid) == most:
                            raise KeyboardInterrupt
                        paid.append(f"{arm}{number}")
                        (out / f"{number}").touch()
                return {}

            command.record(f"evaluate-{arm}", Plan("evaluate", 1, {"arm": arm}, {}), answer)
        command.done()
        return list(paid)

    assert run(set()) == ["a0", "a1", "b0", "b1"]
    assert run(set()) == []
    with pytest.raises(KeyboardInterrupt):
        run({"evaluate"}, most=3)
    assert run(set()) == [], "what was there before is still there"
    assert run({"evaluate"}) == ["b1"], "the first arm and the first answer of the second are not paid for twice"
    assert run({"evaluate"}) == ["a0", "a1", "b0", "b1"], "that command was done"
    with pytest.raises(KeyboardInterrupt):
        run({"evaluate"}, most=2)
    assert run({"evaluate", "judge"}) == ["a0", "a1", "b0", "b1"], "another command"
