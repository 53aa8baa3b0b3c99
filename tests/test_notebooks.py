"""The notebooks say what the report says, on runs that are not as most runs are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stages.report_fixture import rewrite, rows
from tests.stages.run_folder import evaluation_of, make_run_folder
from tunelift.stages.report.runs import compare_runs

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
EVERY = ("01_look_at_data", "02_compare_runs", "03_error_analysis")


def executed(name: str) -> str:
    """What the notebook's cells put out."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return "\n".join(output.get("text") or output["data"].get("text/plain", "") for output in outputs)


def test_every_notebook_is_executed_by_a_test() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(EVERY)


@pytest.mark.parametrize("lost", [False, True])
def test_data_of_which_curation_lost_nothing_is_shown_too(tmp_path, monkeypatch, lost: bool) -> None:
    run = make_run_folder(tmp_path, "a")
    curated = run / "stages" / "curate"
    row = {"messages": [{"role": "user", "content": "hello"}], "tokens": 9, "supervised_tokens": 2}
    (curated / "train.jsonl").write_text(json.dumps(row) + "\n")
    (curated / "dropped.jsonl").write_text('{"reason": "too_long", "line": 71}\n' if lost else "")
    (curated / "quarantine.jsonl").write_text("")
    if not lost:
        stats = json.loads((curated / "stats.json").read_text())
        stats["rows"] |= {"read": stats["rows"]["kept"], "dropped": {}, "quarantined": {}}
        (curated / "stats.json").write_text(json.dumps(stats))
    monkeypatch.setenv("TUNELIFT_RUN", str(run))
    shown = executed("01_look_at_data")
    assert ("too_long" in shown, "No row was lost." in shown) == (lost, not lost)


def test_runs_are_compared_as_the_command_compares_them(tmp_path, monkeypatch) -> None:
    """Unlike items are left out, missing answers decide nothing, and p is corrected."""
    runs = [make_run_folder(tmp_path, "a"), make_run_folder(tmp_path, "b", 6), make_run_folder(tmp_path, "c", 7)]
    summary = json.loads((evaluation_of(runs[1]) / "summary.json").read_text())
    about = summary["tasks"]["tool_calls_golden"]
    summary["tasks"]["tool_calls_golden"] = about | {"digests": about["digests"] | {"items": "0f" * 32}}
    (evaluation_of(runs[1]) / "summary.json").write_text(json.dumps(summary))
    samples = rows(evaluation_of(runs[2]))
    samples[3] |= {"error": "refused", "scores": dict.fromkeys(samples[3]["scores"])}
    rewrite(evaluation_of(runs[2]), samples)
    monkeypatch.setenv("TUNELIFT_RUNS", " ".join(map(str, runs)))
    shown, result = executed("02_compare_runs"), compare_runs(runs, tmp_path / "out")
    assert result["verdict"] in shown
    assert "Left out: tool_calls_golden, unlike items" in shown
    assert "p_adjusted" in shown and "tool_calls_golden, exact_match" not in shown


def test_wins_and_losses_are_turned_where_less_is_better(tmp_path, monkeypatch) -> None:
    run = make_run_folder(tmp_path, "a")
    for arm, bits in (("base", 1.0), ("tuned", 0.8)):
        folder = evaluation_of(run, arm)
        summary = json.loads((folder / "summary.json").read_text())
        summary["tasks"]["general_text"]["role"] = "target"
        (folder / "summary.json").write_text(json.dumps(summary))
        samples = rows(folder)
        text = [sample for sample in samples if sample["task"] == "general_text"]
        for sample in samples:
            sample["output"] = sample["output"][:20].encode("ascii", "replace").decode()
        for number, sample in enumerate(text):
            sample["scores"]["bits_per_byte"] = bits + number / 1000
        rewrite(folder, samples)
    right = sum(
        row["scores"]["exact_match"]
        for row in rows(evaluation_of(run))
        if row["task"] in {"tool_calls_heldout", "tool_calls_golden"}
    )
    monkeypatch.setenv("TUNELIFT_RUN", str(run))
    shown = executed("03_error_analysis")
    assert f"tuned against base on general_text: {len(text)} wins, 0 losses" in shown
    assert f"tuned: {80 - right} of 80 items are not wholly right" in shown, "bits per byte know no wholly right"
    assert f"text-{len(text):03d}" in shown and "text-001" not in shown, "the worst of each task are shown"
