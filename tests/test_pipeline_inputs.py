"""What is told before anything is trained, and what an evaluation and a look are filed under."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.endpoint import Stub, answer
from tests.project import call_here, make_project, write_lines
from tests.stages.judge.bench import answers, pairs
from tunelift import cli, runs
from tunelift.pipeline import open_run

OWN = {"name": "own", "model": {"id": "model", "chat_template": "own.jinja"}}
PLAIN = {"name": "plain", "model": {"id": "model"}}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    make_project(folder, evaluate={"tasks": ["task", "colours"], "noise_floor": False, "max_items": 3})
    (folder / "own.jinja").write_text((folder / "model/chat_template.jinja").read_text())
    write_lines(folder / "labelled.jsonl", [*answers(), *pairs()])
    write_lines(folder / "few.jsonl", [*answers(good=9), *pairs()])
    return folder


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(runs, "run_isolated", call_here)


@pytest.mark.parametrize(
    ("items", "overrides", "says"),
    [
        ("labeled.jsonl", [], "labeled.jsonl: The file is missing."),
        ("few.jsonl", [], "9 answers labelled good"),
        ("labelled.jsonl", ["judge.tasks=[ligths]"], "'ligths', which is no task"),
        ("labelled.jsonl", ["evaluate.arms=[tuned]"], "tuned is the only arm"),
    ],
)
def test_what_could_not_be_judged_is_told_before_training(
    items: str, overrides: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    endpoint = "{url: 'http://127.0.0.1:9/v1', model: m}"
    judge = f"judge={{endpoint: {endpoint}, rubric: r, modes: [absolute, pairwise], calibration: {{items: {items}}}}}"
    assert cli.main(["run", "config.yaml", judge, *overrides]) == 2
    assert says in capsys.readouterr().err
    assert not Path("runs/store/train").exists()


def test_a_look_is_noted_at_what_was_asked_and_nothing_else() -> None:
    stub = Stub(lambda body, number: (200, answer("on")))
    arm = f"{{name: one, instruction: Be brief., endpoint: {{url: '{stub.url}', model: m}}}}"
    overrides = [f"evaluate.arms=[{arm}]"]
    assert cli.main(["evaluate", "config.yaml", *overrides]) == 0
    stub.close()
    run = open_run(Path("config.yaml"), overrides)
    lights = run.tasks(run.curated())[0]
    looks = [json.loads(line) for line in Path("runs/store/looks.jsonl").read_text().splitlines()]
    assert [(look["task"], look["items"]) for look in looks] == [("lights", lights.first(3).digests["items"])]
    assert lights.first(3).digests["items"] != lights.digests["items"]


def test_an_edited_template_of_an_arm_makes_another_evaluation() -> None:
    def plans() -> dict[str, object]:
        run = open_run(Path("config.yaml"), [f"evaluate.arms={json.dumps([OWN, PLAIN])}"])
        dataset = run.make_curate()
        return {arm.name: run.evaluate_plan(arm, "w", dataset) for arm in run.arms}

    before = plans()
    Path("own.jinja").write_text(Path("own.jinja").read_text() + " ")
    after = plans()
    assert before["own"].fingerprint != after["own"].fingerprint
    assert before["plain"].fingerprint == after["plain"].fingerprint
    assert "template" not in before["plain"].inputs, "what was evaluated before is still found"
