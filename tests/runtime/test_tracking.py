"""Metrics reach the local file always, W&B when it works, and sample text only when the config says so."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tests.tracked import FakeRun
from tunelift.config.resolve import Facts, resolve
from tunelift.config.schema import Config, TrackingConfig
from tunelift.errors import UserError
from tunelift.runtime.tracking import METRICS, Tracker


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_metrics_are_written_locally_with_tracking_off(tmp_path: Path) -> None:
    tracker = Tracker(TrackingConfig(wandb="off"), tmp_path, {})
    tracker.log("train", {"step": 1, "loss": 2.5})
    tracker.close()
    assert lines(tmp_path) == [{"stage": "train", "step": 1, "loss": 2.5}]
    assert not (tmp_path / "wandb").exists()


NAMES = st.text("ab/\\\\#?%: ü-_.", max_size=8) | st.integers(126, 131).map(lambda length: "p" * length)


@given(NAMES)
def test_a_project_is_refused_as_wandb_refuses_it(project: str) -> None:
    from wandb import Settings
    from wandb.errors import UsageError

    try:
        Settings(project=project)
        taken = True
    except (UsageError, ValidationError):
        taken = False
    config = Config.model_validate(
        {"name": "a", "model": {"id": "a/b"}, "curate": {"sources": [{"path": "a"}]}, "tracking": {"project": project}}
    )
    facts = Facts(device="cpu", context=2048, wandb_key=False)
    if taken:
        resolve(config, facts)
        return
    with pytest.raises(UserError, match="is a name that W&B refuses"):
        resolve(config, facts)
    resolve(config, replace(facts, wandb_mode="disabled"))


def test_following_forwards_each_step_once_even_after_a_resume(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    tracker = Tracker(TrackingConfig(wandb="off"), tmp_path, {})
    forward = tracker.follow("train", source, "f00")
    forward()
    source.write_text('{"step": 1, "loss": 3}\n{"step": 2, "lo')
    forward()
    source.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 2, "eval_loss": 2}\n')
    forward()
    source.write_text('{"step": 1, "loss": 3}\n')  # The run was killed; its resumption cut the file back.
    forward = Tracker(TrackingConfig(wandb="off"), tmp_path, {}).follow("train", source, "f00")
    source.write_text(
        '{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n{"step": 2, "eval_loss": 2}\n{"step": 3, "loss": 1}\n'
    )
    forward()
    assert [(row["step"], "eval_loss" in row) for row in lines(tmp_path)] == [
        (1, False),
        (2, False),
        (2, True),
        (3, False),
    ]


def test_following_survives_a_file_that_was_cut_back_and_has_grown_again(tmp_path: Path) -> None:
    source = tmp_path / "source.jsonl"
    forward = Tracker(TrackingConfig(wandb="off"), tmp_path, {}).follow("train", source, "f00")
    source.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2}\n')
    forward()
    again = tmp_path / "source.tmp"
    again.write_text('{"step": 1, "loss": 3}\n{"step": 2, "loss": 2.0001}\n{"step": 3, "loss": 1}\n')
    again.replace(source)
    forward()
    assert [row["step"] for row in lines(tmp_path)] == [1, 2, 3]


def trained(folder: Path, made_from: str, losses: list[float], *, done: bool = False) -> Tracker:
    """Follow a training in a process of its own; or look at one that is `done`."""
    source = folder / f"source-{made_from}.jsonl"
    tracker = Tracker(TrackingConfig(wandb="offline"), folder, {})
    if not done:
        source.unlink(missing_ok=True)
    forward = tracker.follow("train", source, made_from)
    source.write_text("".join(json.dumps({"step": n, "loss": loss}) + "\n" for n, loss in enumerate(losses, 1)))
    forward()
    return tracker


def test_two_trainings_in_one_folder_do_not_make_one_curve(tmp_path: Path, wandb_run: FakeRun) -> None:
    def curve() -> list[tuple[int, float]]:
        return [(row["step"], row["loss"]) for row in lines(tmp_path)]

    trained(tmp_path, "a", [3.0, 2.0])
    trained(tmp_path, "b", [5.0, 4.0, 3.5])
    assert curve() == [(1, 5.0), (2, 4.0), (3, 3.5)], "other data, more steps"
    trained(tmp_path, "b", [6.0])
    assert curve() == [(1, 6.0)], "the same, trained again by --force"
    trained(tmp_path, "a", [3.0, 2.0], done=True)
    assert curve() == [(1, 3.0), (2, 2.0)], "found in the store"
    trained(tmp_path, "a", [3.0, 2.0], done=True)
    assert curve() == [(1, 3.0), (2, 2.0)]
    assert [sent["train/loss"] for sent in wandb_run.logged] == [3.0, 2.0, 5.0, 4.0, 3.5, 6.0, 3.0, 2.0]


def test_each_training_has_a_run_of_its_own_in_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import wandb

    ids: list[str] = []

    def begin(**options: object) -> FakeRun:
        ids.append(str(options["id"]))
        return FakeRun()

    monkeypatch.setattr(wandb, "init", begin)
    trained(tmp_path, "a", [3.0])
    trained(tmp_path, "a", [3.0, 2.0], done=True)  # A resume.
    trained(tmp_path, "b", [3.0])
    trained(tmp_path, "b", [3.0], done=True).log("other", {"step": 1})
    assert ids == [tmp_path.name, tmp_path.name, f"{tmp_path.name}-2", f"{tmp_path.name}-2"]


def test_a_curve_stays_until_the_next_training_has_something_to_show(tmp_path: Path, wandb_run: FakeRun) -> None:
    trained(tmp_path, "a", [3.0])
    trained(tmp_path, "b", [])
    assert [row["loss"] for row in lines(tmp_path)] == [3.0]


def test_a_record_from_before_trainings_were_marked_is_of_another_one(tmp_path: Path, wandb_run: FakeRun) -> None:
    (tmp_path / METRICS).write_text('{"stage": "train", "step": 9, "loss": 1.0}\n{"stage": "tr')
    trained(tmp_path, "a", [3.0], done=True)
    assert [(row["step"], row["training"]) for row in lines(tmp_path)] == [(1, "a-2")]


def test_a_tracker_that_fails_is_switched_off_once_and_the_work_goes_on(tmp_path, monkeypatch, capsys) -> None:
    import wandb

    def fail(**options):
        raise RuntimeError("no network at all")

    monkeypatch.setattr(wandb, "init", fail)
    tracker = Tracker(TrackingConfig(wandb="online"), tmp_path, {})
    for step in range(3):
        tracker.log("train", {"step": step, "loss": 1.0})
    tracker.close()
    assert len(lines(tmp_path)) == 3
    assert capsys.readouterr().err.count("W&B is switched off") == 1


SCRIPT = """
import sys, os
from pathlib import Path
from tunelift.config.schema import TrackingConfig
from tunelift.runtime.tracking import Tracker
folder = Path(sys.argv[1])
config = TrackingConfig(wandb="offline", log_samples=sys.argv[2] == "yes")
tracker = Tracker(config, folder, {"train": {"learning_rate": 0.25}})
tracker.log("train", {"step": 1, "loss": 2.5})
lineage = [
    {"stage": "curate", "fingerprint": "f0" * 32, "content": "c0" * 32, "inputs": {"source:rows.jsonl": "50" * 32}},
    {"stage": "evaluate-tuned", "fingerprint": "f1" * 32, "content": "c1" * 32, "inputs": {"model": "c0" * 32}},
]
tracker.results(folder / "report", {"base": folder / "base", "tuned": folder / "tuned"}, lineage)
tracker.close()
"""

COMPARISON = {
    "verdict": "better by far",
    "gate": {"declared": True, "passed": True},
    "guards": [{"task": "general", "verdict": "non-inferior"}],
    "tasks": {
        "lights": {
            "exact_match": {
                "arms": {"tuned": {"mean": 0.75, "low": 0.5, "high": 0.875}},
                "pairs": [
                    {"a": "tuned", "b": "base", "difference": 0.5, "low": 0.25, "high": 0.625, "p": 0.03125,
                     "verdict": "improved"}
                ],
            }
        }
    },
}  # fmt: skip


def finished_run(folder: Path) -> None:
    (folder / "report").mkdir()
    (folder / "report/comparison.json").write_text(json.dumps(COMPARISON))
    (folder / "report/report.html").write_text("<p>the very secret page</p>")
    for arm in ("base", "tuned"):
        (folder / arm).mkdir()
        sample = {"task": "lights", "id": "1", "prompt": [], "expected": ["on"], "scores": {"exact_match": 1}}
        line = json.dumps({**sample, "output": f"the very secret text of {arm}"})
        (folder / arm / "samples.jsonl").write_text(line + "\n")


@pytest.mark.parametrize("log_samples", ["yes", "no"])
def test_an_offline_run_can_be_read_back_and_holds_samples_only_if_asked(tmp_path: Path, log_samples: str) -> None:
    # In a process of its own, with a secret in its environment that must not be written.
    secret = "tunelift-test-secret-4711"
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    finished_run(inputs)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(inputs), log_samples],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin", "HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path), "HF_TOKEN": secret},
    )
    assert done.stderr == ""
    (written,) = inputs.glob("wandb/offline-run-*/*.wandb")
    everything = b"".join(path.read_bytes() for path in (inputs / "wandb").rglob("*") if path.is_file())
    records = _records(written)
    assert any("train/loss" in str(record) for record in records)
    assert any("learning_rate" in str(record) for record in records)
    assert (b"the very secret text of tuned" in everything) == (log_samples == "yes")
    assert (b"the very secret page" in everything) == (log_samples == "yes")
    assert secret.encode() not in everything
    if log_samples == "no":  # Files that are to be uploaded stand in it by their path, for `wandb sync`.
        assert str(tmp_path).encode() not in written.read_bytes()
    numbers = {
        item.key or "/".join(item.nested_key): json.loads(item.value_json)
        for record in records
        if record.HasField("summary")
        for item in record.summary.update
    }
    assert (numbers["verdict"], numbers["gate/passed"], numbers["general/guard"]) == (
        "better by far",
        True,
        "non-inferior",
    )
    shown = [numbers[f"lights/exact_match/tuned - base/{key}"] for key in ("difference", "low", "high", "verdict")]
    assert shown == [0.5, 0.25, 0.625, "improved"]
    artifacts = {
        request.artifact.name: request.artifact
        for record in records
        if record.HasField("artifact") or record.HasField("request")
        for request in ([record] if record.HasField("artifact") else [record.request.log_artifact])
        if request.artifact.name
    }
    assert {
        name: made.type for name, made in artifacts.items() if "-table" not in name and not name.startswith("run-")
    } == {
        "inputs-curate": "dataset",
        "inputs-evaluate-tuned": "evaluation",
    }
    tuned = json.loads(artifacts["inputs-evaluate-tuned"].metadata)
    assert tuned["made_from"] == {"model": json.loads(artifacts["inputs-curate"].metadata)["content"]}


def _records(path: Path) -> list:
    """The records of an offline file: LevelDB's log format (32 KiB blocks of crc, length, type, data) after 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    block, data = 32768, path.read_bytes()
    records, parts, position = [], b"", 7
    while position + 7 <= len(data):
        if block - position % block < 7:
            position += block - position % block
            continue
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        parts += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in {1, 4}:  # whole, or the last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


@pytest.fixture
def wandb_run(monkeypatch) -> FakeRun:
    run = FakeRun()
    monkeypatch.setattr(Tracker, "_begin", lambda self: run)
    return run


@pytest.mark.parametrize("log_samples", [True, False])
def test_answers_while_training_are_sent_only_if_asked(tmp_path: Path, wandb_run: FakeRun, log_samples: bool) -> None:
    source = tmp_path / "samples.jsonl"
    tracker = Tracker(TrackingConfig(wandb="offline", log_samples=log_samples), tmp_path, {})
    forward = tracker.follow_samples("train", source)
    forward()
    source.write_text('{"step": 1, "id": "a", "output": "secret"}\n{"step": 1, "id"')
    forward()
    forward()
    tables = [values["train/samples"] for values in wandb_run.logged]
    assert [table.data for table in tables] == ([[["1", "a", "secret"]]] if log_samples else [])


LINE_BREAKS = "one\u2028two\u2029three\u0085four"
"""Characters that end a line for `str.splitlines`, and for nothing else."""


def test_line_separators_in_an_answer_do_not_tear_its_line(tmp_path: Path, wandb_run: FakeRun) -> None:
    finished_run(tmp_path)
    sample = {"task": "lights", "id": "1", "prompt": [], "expected": [], "scores": {}, "output": LINE_BREAKS}
    (tmp_path / "tuned/samples.jsonl").write_text(json.dumps(sample, ensure_ascii=False) + "\n", encoding="utf-8")
    tracker = Tracker(TrackingConfig(wandb="offline", log_samples=True), tmp_path, {})
    tracker.results(tmp_path / "report", {"base": tmp_path / "base", "tuned": tmp_path / "tuned"}, [])
    forward = tracker.follow_samples("train", tmp_path / "tuned/samples.jsonl")
    forward()
    results, training = wandb_run.logged
    assert results["samples"].data[0][results["samples"].columns.index("tuned output")] == LINE_BREAKS
    assert training["train/samples"].data[0][-1] == LINE_BREAKS


def test_a_gate_that_was_not_declared_has_not_passed(tmp_path: Path, wandb_run: FakeRun) -> None:
    finished_run(tmp_path)
    for declared in (False, True):
        gate = {"gate": {"declared": declared, "passed": True}}
        (tmp_path / "report/comparison.json").write_text(json.dumps(COMPARISON | gate))
        Tracker(TrackingConfig(wandb="offline"), tmp_path, {}).results(tmp_path / "report", {}, [])
        assert ("gate/passed" in wandb_run.summary) is declared


def test_results_are_sent_until_they_have_arrived_and_then_no_more(tmp_path: Path, wandb_run: FakeRun, capsys) -> None:
    finished_run(tmp_path)

    def send(made: str, *, arrives: bool = True, **settings) -> bool:
        """Whether a process of its own sent them."""
        wandb_run.summary.clear()
        tracker = Tracker(TrackingConfig(**({"wandb": "offline"} | settings)), tmp_path, {})
        lineage = [{"stage": "report", "fingerprint": made, "content": "c0" * 32, "inputs": {}}]
        tracker.results(tmp_path / "report", {"tuned": tmp_path / "tuned"}, lineage)
        if arrives:
            tracker.close()
        return "verdict" in wandb_run.summary

    assert send("one", arrives=False)
    assert send("one")
    assert not send("one")
    assert send("two")
    assert send("two", log_samples=True), "what was left out before"
    assert not send("two", wandb="off", log_samples=True)
    assert not send("two", log_samples=True)


@pytest.mark.parametrize("torn", ["report/comparison.json", "tuned/samples.jsonl", "training.jsonl"])
def test_a_file_that_cannot_be_read_switches_the_tracker_off_and_ends_nothing(
    tmp_path: Path, wandb_run: FakeRun, capsys, torn: str
) -> None:
    finished_run(tmp_path)
    (tmp_path / "training.jsonl").write_text('{"step": 1}\n')
    (tmp_path / torn).write_text("{torn\n")
    tracker = Tracker(TrackingConfig(wandb="offline", log_samples=True), tmp_path, {})
    tracker.follow_samples("train", tmp_path / "training.jsonl")()
    tracker.results(tmp_path / "report", {"tuned": tmp_path / "tuned"}, [])
    assert capsys.readouterr().err.count("W&B is switched off") == 1
