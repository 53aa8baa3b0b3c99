"""`tunelift render`, and how a pinned template reaches every stage's plan."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from tests.command import tunelift
from tests.project import call_here, make_project
from tests.tiny import CHATML
from tunelift import cli, rendering, runs
from tunelift.artifacts.records import Artifact, Manifest
from tunelift.errors import UserError
from tunelift.pipeline import Pipeline, open_run

DATED = "{{ strftime_now('%d %b %Y') }}\n{% if loud is defined and loud %}LOUD {% endif %}" + CHATML.replace(
    "message['content'] +", "('!' if loop.last else '') + message['content'] +"
)
"""Writes a date, reads an argument, and writes the last reply differently from earlier ones."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A curated project with a dated template; among its rows is one of two turns."""
    folder = tmp_path_factory.mktemp("project")
    make_project(folder, model={"id": "model", "template_arguments": {"loud": True}})
    (folder / "model/chat_template.jinja").write_text(DATED)
    turns = [
        {"role": "user", "content": f"{n}?\x1b[31m"} if n % 2 == 0 else {"role": "assistant", "content": f"{n}."}
        for n in range(4)
    ]
    rows = "".join(json.dumps({"messages": turns[:count]}) + "\n" for count in (2, 4))
    weighted = [turn | {"content": f"kept {turn['content']}"} for turn in turns]
    weighted[1]["weight"] = 0
    rows += json.dumps({"messages": weighted}) + "\n"
    (folder / "data/rows.jsonl").write_text(rows + (folder / "data/rows.jsonl").read_text())
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runs, "run_isolated", call_here)
        assert cli.main(["curate", "config.yaml"]) == 0
    return folder


@pytest.fixture
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    return project


def two_turns(folder: Path) -> tuple[str, int, str]:
    """Split, number and id of the row with two turns."""
    for split in ("train", "validation", "test"):
        (file,) = folder.glob(f"runs/store/curate/*/{split}.jsonl")
        for number, line in enumerate(file.read_text().splitlines(), start=1):
            row = json.loads(line)
            if row["training_rows"] == 2:
                return split, number, row["id"]
    raise AssertionError("the row was not kept")


def test_a_row_shows_what_is_learnt_and_what_is_pinned(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split, number, name = two_turns(inside)
    assert cli.main(["render", "config.yaml", "--row", str(number), "--split", split]) == 0
    shown = capsys.readouterr().out
    assert f"{split} row {number} of" in shown
    assert "pinned: loud=true, date 2024-07-26" in shown
    assert "2 training rows" in shown
    assert "26 Jul 2024\nLOUD <|im_start|>user\n0?" in shown
    assert "⟦!1.<|im_end|>⟧" in shown and "⟦!3.<|im_end|>⟧" in shown
    assert f"{name}#1: " in shown and "of them learnt (" in shown
    assert "\x1b" not in shown, "a row's text cannot steer the terminal"


def test_a_turn_with_weight_0_is_shown_as_context(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept = {split: inside.glob(f"runs/store/curate/*/{split}.jsonl") for split in ("train", "validation", "test")}
    (found,) = (
        (split, json.loads(line)["id"])
        for split, (file,) in kept.items()
        for line in file.read_text().splitlines()
        if "kept 1." in line
    )
    assert cli.main(["render", "config.yaml", "--id", found[1], "--split", found[0]]) == 0
    shown = capsys.readouterr().out
    assert "training rows" not in shown and shown.count("⟦") == 1
    assert "assistant\nkept 1.<|im_end|>" in shown and "⟦!kept 3.<|im_end|>⟧" in shown


def test_a_row_is_found_by_its_id_and_so_is_one_of_its_turns(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split, number, name = two_turns(inside)
    (run,) = (path for path in (inside / "runs").glob("tiny-*") if path.is_dir())
    assert cli.main(["render", str(run), "--id", f"{name}#2", "--split", split]) == 0
    shown = capsys.readouterr().out
    assert f"row {number} of" in shown
    assert f"{name}#2: " in shown and f"{name}#1: " not in shown


def test_on_a_terminal_what_is_learnt_is_green(
    inside: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rendering, "wants_colour", lambda: True)
    assert cli.main(["render", "config.yaml", "--row", "1"]) == 0
    shown = capsys.readouterr().out
    assert f"{rendering.LEARNT}!" in shown and f"<|im_end|>{rendering.PLAIN}" in shown
    assert "⟦" not in shown


@pytest.mark.parametrize(
    ("terminal", "environment", "colour"),
    [(True, {}, True), (True, {"NO_COLOR": "1"}, False), (True, {"TERM": "dumb"}, False), (False, {}, False)],
)
def test_colour_is_for_terminals_that_want_it(
    terminal: bool, environment: dict, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    assert rendering.wants_colour() is colour


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--row", "0"], "--row 0: the train split has"),
        (["--row", "999"], "--row 999: the train split has"),
        (["--row", "-1"], "--row -1: the train split has"),
        (["--id", "nobody"], "--id nobody: no row of the train split has this id."),
        (["seed=99", "--row", "1"], "The run has no data set yet."),
        (["model.template_arguments={lout: true}", "--row", "1"], "did you mean loud?"),
    ],
)
def test_what_cannot_be_shown_is_one_clear_error(
    inside: Path, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["render", "config.yaml", *arguments]) == 2
    shown = capsys.readouterr().err
    assert says in shown
    assert shown.count("error: ") == shown.count("What to do: ") == 1


def test_it_answers_without_torch(project: Path) -> None:
    watch = project / "sitecustomize.py"
    watch.write_text("import atexit, sys\natexit.register(lambda: print('torch:', bool(sys.modules.get('torch'))))\n")
    path = os.pathsep.join([str(project), os.environ.get("PYTHONPATH", "")])
    result = tunelift(project, "render", "config.yaml", "--row", "1", PYTHONPATH=path)
    watch.unlink()
    assert result.returncode == 0, result.stderr
    assert result.stdout.endswith("torch: False\n"), result.stdout


def artifact(folder: Path, content: str) -> Artifact:
    manifest = Manifest("x", 1, "f" * 64, {}, {}, {}, {}, "", 0.0, {"content": content, "precision": "bf16"})
    return Artifact(folder, manifest, True)


def pipeline(folder: Path, **model: object) -> Pipeline:
    config = yaml.safe_load((folder / "config.yaml").read_text())
    config["model"] = {"id": "model", **model}
    (folder / "other.yaml").write_text(yaml.safe_dump(config))
    return open_run(folder / "other.yaml")


def test_what_is_pinned_enters_the_fingerprint_of_all_that_depends_on_it(inside: Path) -> None:
    made = artifact(inside, "c")

    def fingerprints(run: Pipeline) -> dict[str, str]:
        base, tuned = (next(arm for arm in run.arms if arm.model == model) for model in ("base", "tuned"))
        plans = {
            "curate": run.curate_plan(),
            "train": run.train_plan(made),
            "merge": run.merge_plan(made, made),
        }
        run._tasks[made.content] = run.folder_tasks
        plans |= {arm.name: run.evaluate_plan(arm, "w", made) for arm in (base, tuned)}
        return {name: plan.fingerprint for name, plan in plans.items()}

    plain = fingerprints(pipeline(inside))
    assert fingerprints(pipeline(inside)) == plain
    for change in ({"template_date": "2025-01-01"}, {"template_arguments": {"loud": True}}):
        other = fingerprints(pipeline(inside, **change))
        assert not set(other.values()) & set(plain.values()), change


def test_a_date_that_the_template_never_writes_changes_no_fingerprint(inside: Path, tmp_path: Path) -> None:
    shutil.copytree(inside / "model", tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text(CHATML)
    plans = [
        pipeline(inside, id=str(tmp_path / "model"), template_date=day).curate_plan().fingerprint
        for day in ("2024-07-26", "2025-01-01")
    ]
    assert plans[0] == plans[1]


def test_untuned_arms_are_asked_with_the_template_that_is_trained(
    inside: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = pipeline(inside, template_arguments={"loud": True})
    base, tuned = (next(arm for arm in run.arms if arm.model == model) for model in ("base", "tuned"))
    assert run.template_of(base) == run.template
    assert run.template_of(tuned) is None, "its own folder holds it"
    with run._engine(base, None) as engine:
        assert engine._template is not None
        assert engine._template.read_text() == run.template
    with run._engine(tuned, SimpleNamespace(path=inside / "model")) as engine:
        assert engine._template is None


def test_the_schema_for_replies_enters_by_what_it_says(inside: Path) -> None:
    schema = inside / "reply.schema.json"

    def fingerprint(text: str) -> str:
        schema.write_text(text)
        return (
            open_run(inside / "config.yaml", ["curate.clean.reply_schema=reply.schema.json"]).curate_plan().fingerprint
        )

    one, other = fingerprint("{}"), fingerprint('{"type": "object"}')
    assert one != other
    assert fingerprint("{}") == one
    schema.unlink()
    with pytest.raises(UserError, match="The schema for replies cannot be read"):
        open_run(inside / "config.yaml", ["curate.clean.reply_schema=reply.schema.json"]).curate_plan()


def test_render_counts_as_training_does_with_the_added_tokens(inside: Path) -> None:
    overrides = ["train.added_tokens=[light in the]"]
    assert cli.main(["curate", "config.yaml", *overrides]) == 0
    run = open_run(Path("config.yaml"), overrides)
    rows = [json.loads(line) for line in (run.curated().path / "train.jsonl").read_text().splitlines()]
    number = next(place for place, row in enumerate(rows, start=1) if "light in the" in row["messages"][1]["content"])
    shown = rendering.describe(run, "train", number, None, colour=False)
    assert f"{rows[number - 1]['tokens']:,} tokens, {rows[number - 1]['supervised_tokens']:,} of them learnt" in shown
