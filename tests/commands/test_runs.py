"""`tunelift runs`: nothing that a run needs, or that someone is at work on, is ever removed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from filelock import FileLock

from tunelift import cli
from tunelift.artifacts.records import Manifest
from tunelift.commands import runs
from tunelift.errors import UserError


def artifact(root: Path, stage: str, name: str, inputs: dict[str, str] | None = None, days: float = 0) -> Path:
    """A folder of the store; its content is named after it."""
    folder = root / "store" / stage / name
    folder.mkdir(parents=True)
    (folder / "file.bin").write_bytes(b"x" * 4096)
    made = Manifest(stage, 1, f"print-{name}", inputs or {}, {}, {}, {}, "", 1.0, {"content": f"content-{name}"})
    (folder / "manifest.json").write_text(made.to_json())
    old(folder, days)
    return folder


def old(folder: Path, days: float) -> None:
    then = time.time() - days * 86400
    for path in (*folder.rglob("*"), folder):
        os.utime(path, (then, then))


def link(root: Path, run: str, name: str, target: Path) -> None:
    folder = root / run / "stages"
    folder.mkdir(parents=True, exist_ok=True)
    (root / run / "resolved.json").write_text("{}")
    (folder / name).symlink_to(os.path.relpath(target, folder))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run whose report leads back to its data, and what is left of others."""
    monkeypatch.chdir(tmp_path)
    root = Path("runs")
    artifact(root, "curate", "data", days=30)
    artifact(root, "train", "adapter", {"dataset": "content-data", "model": "of the hub"}, days=30)
    artifact(root, "merge", "model", {"adapter": "content-adapter"}, days=30)
    asked = artifact(root, "evaluate", "asked", {"model": "content-model"}, days=30)
    report = artifact(root, "report", "shown", {"evaluation:tuned": "content-asked"}, days=30)
    link(root, "a-1", "report", report)
    link(root, "a-1", "evaluate-tuned", asked)
    artifact(root, "merge", "left", {"adapter": "content-adapter"}, days=30)
    artifact(root, "merge", "fresh", {"adapter": "content-adapter"})
    for name, days in (("old.partial", 30), ("new.partial", 0), ("old.forced", 30)):
        folder = root / "store/train" / name
        folder.mkdir()
        (folder / "metrics.jsonl").write_text("{}")
        old(folder, days)
    (root / "store/looks").mkdir()
    (root / "store/looks/items.txt").write_text("digest")
    (root / "store/hashes.json").write_text("{}")
    return root


def names(found: list[runs.Held]) -> set[str]:
    return {one.path.name for one in found}


def test_what_is_linked_and_all_that_it_was_made_from_is_needed(root: Path) -> None:
    found = runs.held(root)
    assert names([one for one in found if one.needed]) == {"data", "adapter", "model", "asked", "shown"}
    assert {one.path.name: one.linked_by for one in found if one.linked_by} == {"asked": ("a-1",), "shown": ("a-1",)}
    assert names([one for one in found if one.state == "unfinished"]) == {"old.partial", "new.partial", "old.forced"}
    assert names(runs.collectable(found, 7)) == {"left", "old.partial", "old.forced"}
    assert "items.txt" not in str(found) and "looks" not in {one.stage for one in found}


def test_gc_tells_first_and_removes_only_when_told_to(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(root.rglob("*"))
    assert cli.main(["runs", "gc"]) == 0
    told = capsys.readouterr()
    assert "merge/left" in told.out and "no run links to it" in told.out and "adapter " not in told.out
    assert "nothing was removed" in told.err and "2 more" in told.err
    assert sorted(root.rglob("*")) == before
    assert cli.main(["runs", "gc", "--yes"]) == 0
    gone = {path.name for path in set(before) - set(root.rglob("*"))}
    assert {"left", "old.partial", "old.forced"} <= gone and not {"fresh", "new.partial", "model"} & gone
    assert cli.main(["runs", "gc", "--older-than", "0d", "--yes"]) == 0
    assert names(runs.held(root)) == {"data", "adapter", "model", "asked", "shown"}
    assert (root / "store/looks/items.txt").exists() and (root / "store/hashes.json").exists()


def test_what_a_command_is_at_work_on_is_left(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with FileLock(root / "store/merge/left.lock"):
        assert cli.main(["runs", "gc", "--yes"]) == 0
    assert "merge/left is left: a command is at work on it" in capsys.readouterr().err
    assert (root / "store/merge/left/manifest.json").exists()


def test_a_removal_that_is_cut_short_leaves_no_artifact(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(path: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tunelift.commands.runs.shutil.rmtree", cut)
    (left,) = (one for one in runs.held(root) if one.path.name == "left")
    with pytest.raises(KeyboardInterrupt):
        runs.remove(left)
    (left,) = (one for one in runs.held(root) if one.path.name == "left")
    assert left.state == "damaged"


def test_links_that_lead_elsewhere_or_nowhere_harm_nothing(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link(root, "b-2", "merge", outside)
    link(root, "b-2", "train", root / "store/train/never")
    (root / "store/merge/foreign").symlink_to(outside)
    found = runs.held(root)
    assert "foreign" not in names(found)
    assert cli.main(["runs", "gc", "--older-than", "0", "--yes"]) == 0
    assert outside.is_dir() and (root / "store/merge/foreign").is_symlink()


def test_the_runs_are_listed_with_their_gate(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "a-1/comparison.json").write_text(json.dumps({"gate": {"declared": True, "passed": False}}))
    link(root, "b-2", "curate", root / "store/curate/data")
    assert cli.main(["runs", "list", "--json"]) == 0
    found = {run["run"]: run for run in json.loads(capsys.readouterr().out)}
    assert found["a-1"]["gate"] == "failed" and found["a-1"]["stages"] == ["evaluate-tuned", "report"]
    assert found["b-2"]["gate"] == "no report yet"
    assert cli.main(["runs", "list"]) == 0 and "gate failed" in capsys.readouterr().out
    assert cli.main(["runs", "du"]) == 0
    assert "linked by a-1" in capsys.readouterr().out
    assert cli.main(["runs", "du", "--json"]) == 0
    assert {"path", "stage", "state", "gib", "linked_by"} <= set(json.loads(capsys.readouterr().out)[0])


def test_where_there_are_no_runs_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="There are no runs here"):
        runs.usage(tmp_path, False)
