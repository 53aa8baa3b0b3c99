"""`tunelift plan` refuses what the stages would refuse, and looking at a run fetches no weights."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.project import call_here
from tunelift import runs
from tunelift.cli import main
from tunelift.pipeline import open_run


@pytest.fixture
def here(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.setattr("tunelift.runtime.worker.leave_torch_out", lambda: None)
    monkeypatch.setattr(runs, "run_isolated", call_here)
    return project


REFUSED = {
    "train.adapter.targets=[q_porj]": "train.adapter.targets names 'q_porj', which the model does not have.",
    "train.adapter.targets=.*(q_proj|v_porj)": "has the alternative `v_porj`, which matches no layer.",
    "train.adapter.modules_to_save=[lm_haed]": "names 'lm_haed', which the model does not have.",
    "train.adapter.modules_to_save=[down_proj]": "which kind: qlora holds in 4 bits",
    "train.adapter.options.rank_pattern={nowhere: 2}": "'nowhere', which no layer with an adapter matches",
    "train.best={by: acc}": "train.best.by=acc: There is no scorer `acc`.",
    "gate={improved: [nope]}": "gate.improved claims something of 'nope', which is no task.",
    "gate={improved: [{task: test, metric: nope}]}": "claims 'nope' of test, which has no such metric.",
    "gate={not_worse: [test]}": "gate.not_worse claims test, which is a target task.",
    "evaluate.tasks=[{from_split: test, scorers: [exct]}]": "task test: There is no scorer `exct`.",
    "evaluate.tasks=[nowhere]": "nowhere",
    "tracking={wandb: offline, project: my-team/sft}": "tracking.project='my-team/sft' is a name that W&B refuses",
}
MACHINE = {
    "engine.cpu_kv_cache_gib=100000": "engine.cpu_kv_cache_gib=100000 and the model's weights (0.0 GiB) are more than"
}


@pytest.mark.parametrize("seed", ["seed=17", "seed=99"], ids=["curated", "before"])
@pytest.mark.parametrize("override", [*REFUSED, *MACHINE])
def test_plan_refuses_what_a_stage_would(
    override: str, seed: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", "config.yaml", override, seed]) == 2
    assert (REFUSED | MACHINE)[override] in capsys.readouterr().err


@pytest.mark.parametrize("override", REFUSED)
def test_so_does_a_plan_for_a_card(override: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "config.yaml", "--gpu", "rtx-4090", override]) == 2
    assert REFUSED[override] in capsys.readouterr().err


def test_a_key_that_is_not_set_is_told(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arm = "{name: a, endpoint: {url: 'http://x/v1', model: m, api_key_env: NOT_SET}}"
    assert main(["plan", "config.yaml", "evaluate.tasks=[task]", f"evaluate.arms=[base, {arm}]"]) == 2
    assert "The environment variable NOT_SET, the API key of http://x/v1, is not set." in capsys.readouterr().err


def test_a_plan_tells_the_layers_and_few_rows_that_choose(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "config.yaml", r"train.adapter.targets=.*layers\.1\..*\.[qv]_proj"]) == 0
    said = capsys.readouterr().out
    assert "adapters on q_proj 1 of 2, v_proj 1 of 2 layers" in said
    assert "counted as if it were not set: train.adapter.targets in some of the layers only" in said
    assert main(["plan", "config.yaml", "train.best={by: eval_loss}", "train.eval_rows=3"]) == 2
    assert "would choose the step by train.eval_rows=3" in capsys.readouterr().err


def test_what_cannot_be_claimed_is_told_before_curation(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for override in ("gate={improved: [nope]}", "engine.cpu_kv_cache_gib=100000"):
        assert main(["evaluate", "config.yaml", "seed=99", override]) == 2
        assert "working" not in capsys.readouterr().err


def test_plan_takes_a_runs_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = open_run(Path("config.yaml")).folder
    assert main(["plan", str(folder)]) == 0
    assert f"run      {folder}" in capsys.readouterr().out


def test_looking_at_a_run_of_a_hub_model_fetches_no_weights(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import huggingface_hub
    from huggingface_hub.utils import filter_repo_objects

    repository, fetched = [path.name for path in Path("model").iterdir()], set()
    assert "model.safetensors" in repository

    def download(_id: str, *, allow_patterns: list[str], ignore_patterns: list[str], **_: object) -> str:
        taken = set(filter_repo_objects(repository, allow_patterns=allow_patterns, ignore_patterns=ignore_patterns))
        fetched.update(taken)
        for name in taken:
            Path("snapshot").mkdir(exist_ok=True)
            shutil.copyfile(Path("model") / name, Path("snapshot") / name)
        return "snapshot"

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    asked = "model.id=owner/model"
    source = "data/rows.jsonl:1"
    for command in (["plan"], ["show"], ["render", "--row", "1"], ["explain", source], ["curate"]):
        verb, *rest = command
        assert main([verb, "config.yaml", *rest, asked]) == 0, capsys.readouterr().err
    assert fetched == set(repository) - {"model.safetensors"}
    arm = "evaluate.arms=[base, {name: other, model: {id: owner/other}}]"
    assert main(["plan", "config.yaml", arm]) == 0
    assert "model.safetensors" not in fetched
    open_run(Path("config.yaml"), [asked])
    assert "model.safetensors" in fetched


def test_a_damaged_artifact_is_told_and_made_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = open_run(Path("config.yaml"))
    split = run.curated().path / "train.jsonl"
    split.write_bytes(split.read_bytes()[:-1] + b" ")
    assert main(["render", "config.yaml", "--row", "1"]) == 2
    assert "The run's data set is damaged: train.jsonl is not as it was written." in capsys.readouterr().err
    assert main(["curate", "config.yaml"]) == 0
    said = capsys.readouterr().err
    assert "warning: curate: of runs/store/curate/" in said
    assert "which was finished, train.jsonl is not as it was written; it is made again\n" in said
    assert main(["curate", "config.yaml"]) == 0
    assert "made again" not in capsys.readouterr().err
