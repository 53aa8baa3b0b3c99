"""What is told before anything is trained, and what an evaluation and a look are filed under."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.endpoint import Stub, answer
from tests.project import ROOMS, call_here, make_project, write_lines
from tests.stages.judge.bench import answers, pairs
from tests.wording import own_words
from tunelift import cli, pipeline, runs
from tunelift.pipeline import open_run
from tunelift.runs import read_rows
from tunelift.tasks.task import Task, load_task

OWN = {"name": "own", "model": {"id": "model", "chat_template": "own.jinja"}}
PLAIN = {"name": "plain", "model": {"id": "model"}}
SYSTEMS = ("Answer the guest.", "Answer the owner.")
TEXTS = "curate.sources=[{path: texts.jsonl}]"
"""Rows in free text, under two system messages."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    make_project(folder, evaluate={"tasks": ["task", "colours"], "noise_floor": False, "max_items": 3})
    (folder / "own.jinja").write_text((folder / "model/chat_template.jinja").read_text())
    write_lines(folder / "texts.jsonl", [_text_row(number) for number in range(64)])
    write_lines(folder / "labelled.jsonl", [*answers(), *pairs()])
    write_lines(folder / "few.jsonl", [*answers(good=9), *pairs()])
    return folder


@pytest.fixture(autouse=True)
def inside(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(runs, "run_isolated", call_here)


def _text_row(number: int) -> dict[str, object]:
    ask = f"Request {number}: light in the {ROOMS[number % 5]}, for {own_words(number)}"
    roles = ("system", "user", "assistant")
    texts = (SYSTEMS[number % 2], ask, f"Request {number}? Of course, I see to it.")
    return {"messages": [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]}


def _searching(url: str = "http://127.0.0.1:9/v1") -> str:
    arm = {"name": "one", "search": {"few_shot": [0, 2], "max_items": 8}, "endpoint": {"url": url, "model": "m"}}
    return f"evaluate.arms={json.dumps([arm])}"


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


def test_each_force_that_is_done_makes_again(capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        assert cli.main(["curate", "config.yaml", "--force"]) == 0
        assert "curate: made in" in capsys.readouterr().err
    assert cli.main(["curate", "config.yaml"]) == 0
    assert "curate: found" in capsys.readouterr().err


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


def test_a_look_counts_from_the_first_answer_of_an_evaluation_that_never_ends(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost = True
    stub = Stub(lambda body, number: (401, {}) if lost and len(stub.tries) > 1 else (200, answer("on")))
    arm = f"{{name: two, instruction: Be brief., endpoint: {{url: '{stub.url}', model: m}}}}"
    overrides = [f"evaluate.arms=[{arm}]", "evaluate.concurrency=1"]
    before = len(_looks())
    for _ in range(2):
        assert cli.main(["evaluate", "config.yaml", *overrides]) == 3
        assert len(_looks()) == before + 1, "once, however often it is tried"
    lost = False
    assert cli.main(["evaluate", "config.yaml", *overrides]) == 0
    stub.close()
    (look,) = _looks()[before:]
    run = open_run(Path("config.yaml"), overrides)
    lights = run.tasks(run.curated())[0].first(3)
    kept = Path("runs/store/looks", f"{look['asked']}.txt").read_text()
    assert set(kept.split()) == {item.question_digest for item in lights.items}
    assert "light" not in kept.lower(), "digests only"


def _looks() -> list[dict[str, object]]:
    path = Path("runs/store/looks.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


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


def test_a_prompt_is_chosen_by_the_targets_own_metric_on_rows_as_they_stand() -> None:
    def respond(body: dict, number: int) -> tuple[int, dict]:
        said = body["messages"]
        # Never word by word, so that no exact match would tell the candidates apart.
        return 200, answer(f"{said[-1]['content'].split(':')[0]}? Of course, I see to it soon." if said[2:] else "?")

    stub = Stub(respond)
    tasks = "evaluate.tasks=[{from_split: test, scorers: [{scorer: length, at_most: 99}, chrf], primary: chrf}]"
    overrides = [TEXTS, tasks, _searching(stub.url)]
    assert cli.main(["evaluate", "config.yaml", *overrides]) == 0
    stub.close()
    run = open_run(Path("config.yaml"), overrides)
    search = json.loads((run.folder / "stages/evaluate-one/summary.json").read_text())["prompt_search"]
    assert search["metric"] == "chrf"
    assert [one["mean"] > 0.7 for one in search["candidates"]] == [False, True]
    assert search["chosen"] == 1
    asked = {body["messages"][-1]["content"]: body["messages"][0]["content"] for body in stub.bodies}
    own = {
        row["messages"][1]["content"]: row["messages"][0]["content"]
        for split in ("validation", "test")
        for row in read_rows(run.curated().path / f"{split}.jsonl")
    }
    assert set(asked.values()) == set(SYSTEMS)
    assert asked == {question: own[question] for question in asked}


def test_what_a_prompt_is_chosen_by_is_part_of_the_evaluation() -> None:
    def selected(task: str) -> tuple[Task, str]:
        run = open_run(Path("config.yaml"), [TEXTS, f"evaluate.tasks=[{task}]", _searching()])
        dataset, (arm,) = run.make_curate(), run.arms
        selection = run.selection(arm, dataset)
        assert selection is not None
        return selection, run.evaluate_plan(arm, "w", dataset).inputs["selection"]

    splits = [
        "{from_split: test, scorers: [chrf, exact_match], primary: chrf, max_items: 3}",
        "{from_split: test, scorers: [chrf, exact_match], primary: exact_match}",
        "{from_split: test, scorers: [chrf, exact_match], instruction: Be kind.}",
    ]
    found = [selected(task) for task in (*splits, "task")]
    assert len({plan for _, plan in found}) == 4
    (by_chrf, _), (by_match, _), (instructed, _), (like_folder, _) = found
    assert (by_chrf.name, by_chrf.primary, by_match.primary) == ("validation", "chrf", "exact_match")
    assert len(by_chrf.items) > 3
    for item in by_chrf.items:
        assert item.instructed == item.prompt
    assert {item.instructed[0]["content"] for item in instructed.items} == {"Be kind."}
    folder = load_task(Path("task"))
    assert (like_folder.scorers[0].name, like_folder.tools) == ("exact_match", folder.tools)
    assert {item.instructed[0]["content"] for item in like_folder.items} == {folder.shared_instruction}


def test_a_step_chosen_by_a_scorer_depends_on_how_scorers_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    def plans() -> list[str]:
        runs_ = [open_run(Path("config.yaml"), [f"train.best.by={by}"]) for by in ("last", "eval_loss", "exact_match")]
        return [run.train_plan(run.make_curate()).fingerprint for run in runs_]

    before = plans()
    monkeypatch.setattr(pipeline, "SCORERS_VERSION", -1)
    assert [one == other for one, other in zip(before, plans(), strict=True)] == [True, True, False]
