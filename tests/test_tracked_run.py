"""W&B gets a run's results whichever commands made them, and gets them once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.endpoint import Stub, answer
from tests.project import call_here, make_project
from tests.tracked import FakeRun
from tunelift import cli, runs
from tunelift.runtime.tracking import Tracker


def test_results_are_sent_when_the_stages_were_made_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub = Stub(lambda body, number: (200, answer("on")))
    arms = [{"name": name, "endpoint": {"url": stub.url, "model": "m"}} for name in ("one", "other")]
    make_project(
        tmp_path,
        evaluate={"tasks": ["task"], "arms": arms, "noise_floor": False},
        tracking={"wandb": "offline", "log_samples": True},
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "run_isolated", call_here)

    def sent(command: str) -> FakeRun:
        run = FakeRun()
        monkeypatch.setattr(Tracker, "_begin", lambda self: run)
        assert cli.main([command, "config.yaml"]) == 0
        return run

    assert sent("evaluate").summary == {}
    reported = sent("report")
    stub.close()
    assert reported.summary["verdict"]
    assert [list(values) for values in reported.logged] == [["samples", "report"]]
    stages = ("curate", "evaluate-one", "evaluate-other", "report")
    assert [name.endswith(stage) for name, stage in zip(reported.artifacts, stages, strict=True)] == [True] * 4
    assert sent("report").summary == sent("run").summary == {}
