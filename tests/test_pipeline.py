"""The whole pipeline on a tiny model: real curation, training, merging, vLLM, report; each stage killed and rerun."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from tests.endpoint import Stub, answer
from tests.project import call_here, make_project, write_lines
from tests.stages.judge.bench import answers as judged_answers
from tests.stages.judge.bench import fair, parts
from tests.stages.judge.bench import pairs as judged_pairs
from tests.stages.judge.bench import reply as judge_reply
from tunelift import cli, pipeline, runs
from tunelift.artifacts.records import Artifact, Manifest, file_sha256
from tunelift.config.schema import Config
from tunelift.config.section import Section
from tunelift.errors import GateError
from tunelift.runtime.chat import load_tokenizer, prompt_ids

pytestmark = pytest.mark.timeout(600)


KEY = "tunelift-test-key-4711"


class Finished:
    """A project whose pipeline ran once, in this process, with every read of a config field noted."""

    def __init__(self, folder: Path, reads: set[str]) -> None:
        self.folder = folder
        self.config = folder / "config.yaml"
        self.reads = reads
        (self.run,) = (path for path in (folder / "runs").glob("tiny-*") if path.is_dir())

    def stage(self, name: str) -> Path:
        return (self.run / "stages" / name).resolve()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, vllm_runs: None) -> Finished:
    folder = tmp_path_factory.mktemp("project")
    chosen = {"by": "exact_match", "rows": 8, "max_tokens": 4, "patience": 9, "min_delta": 0.01}
    watched = {"best": chosen, "samples": {"every": 4, "rows": 1, "max_tokens": 4}}
    make_project(folder, report={"bootstrap_samples": 200, "usd_per_hour": 1.0}, train=watched)
    reads: set[str] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(runs, "run_isolated", call_here)
        _note_reads(patch, reads)
        assert cli.main(["run", "config.yaml"]) == 0
    return Finished(folder, reads)


@pytest.fixture(scope="module")
def elsewhere(finished: Finished) -> Path:
    """The folder of a run that trains nothing: three prompts and a judge behind one endpoint, with claims."""
    write_lines(finished.folder / "labelled.jsonl", [*judged_answers(), *judged_pairs()])
    stub = Stub(_answer_or_judge, key=KEY)
    endpoint = {"url": stub.url, "model": "m", "api_key_env": "TUNELIFT_TEST_KEY", "requests_per_minute": 1e6}
    endpoint |= {"usd_per_million_input": 1.0, "usd_per_million_output": 2.0}
    config = yaml.safe_load(finished.config.read_text())
    config["name"] = "elsewhere"
    config["evaluate"] |= {
        "tasks": ["task"],
        "noise_floor": False,
        "arms": [
            {"name": "plain", "endpoint": endpoint},
            {
                "name": "searched",
                "endpoint": endpoint,
                "search": {"few_shot": [0, 1], "instructions": ["Be precise."], "max_items": 8},
            },
            {"name": "precise", "endpoint": endpoint, "instruction": "Be precise."},
        ],
    }
    config["judge"] = {
        "endpoint": endpoint,
        "rubric": "Precise.",
        "modes": ["absolute", "pairwise"],
        "calibration": {"items": "labelled.jsonl"},
    }
    config["gate"] = {"improved": [{"task": "lights", "metric": "valid_json", "against": "plain"}]}
    config["tracking"] = {"wandb": "offline", "log_samples": True}
    path = finished.folder / "elsewhere.yaml"
    path.write_text(yaml.safe_dump(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(finished.folder)
        patch.setenv("TUNELIFT_TEST_KEY", KEY)
        _note_reads(patch, finished.reads)
        assert cli.main(["run", "elsewhere.yaml"]) == 1  # An unparsable answer is no valid JSON: the claim fails.
    stub.close()
    (run,) = (folder for folder in (finished.folder / "runs").glob("elsewhere-*") if folder.is_dir())
    return run


def _answer_or_judge(body: dict, number: int) -> tuple[int, dict]:
    if "response_format" in body:
        return 200, answer(judge_reply(body, fair(parts(body))))
    precise = any("Be precise." in message["content"] for message in body["messages"])
    return 200, answer("on, of quality 5" if precise else "off, of quality 2")


def _note_reads(patch: pytest.MonkeyPatch, reads: set[str]) -> None:
    """Note `Section.field` for each field read after loading; what only `resolve` reads does not count."""
    paused = [0]
    plain = Section.__getattribute__

    def noting(self: Section, name: str):
        if not paused[0] and name in type(self).model_fields:
            reads.add(f"{type(self).__name__}.{name}")
        return plain(self, name)

    def unnoted(function):
        def wrapped(*arguments, **options):
            paused[0] += 1
            try:
                return function(*arguments, **options)
            finally:
                paused[0] -= 1

        return wrapped

    patch.setattr(Section, "__getattribute__", noting)
    patch.setattr(pipeline, "resolve", unnoted(pipeline.resolve))
    patch.setattr(pipeline, "load_config", unnoted(pipeline.load_config))


def test_every_stage_leaves_its_artifact_and_the_report_reads_them(finished: Finished) -> None:
    comparison = json.loads((finished.run / "comparison.json").read_text())
    assert set(comparison["tasks"]) == {"lights", "test", "colours", "prose"}
    arms = comparison["tasks"]["lights"]["exact_match"]["arms"]
    assert {arm: values["n"] for arm, values in arms.items()} == {
        "base": 5,
        "prompted": 5,
        "tuned": 5,
        "base-again": 5,
    }
    assert set(comparison["tasks"]["prose"]["bits_per_byte"]["arms"]) == {"base", "tuned", "base-again"}
    assert [(guard["task"], guard["against"]) for guard in comparison["guards"]] == [
        ("colours", "base"),
        ("prose", "base"),
    ]
    assert {noise["task"] for noise in comparison["noise_floor"]} >= {"lights", "test"}
    assert comparison["verdict"] in (finished.run / "report.html").read_text() or comparison["verdict"].split(" (")[0]
    stats = json.loads((finished.stage("curate") / "stats.json").read_text())["rows"]
    assert stats["read"] == 74 == stats["kept"] + sum(stats["dropped"].values()) + sum(stats["quarantined"].values())
    assert (stats["quarantined"], stats["dropped"]) == ({"invalid_json": 1}, {"ends_without_reply": 1})
    parity = json.loads((finished.stage("merge") / "parity.json").read_text())
    assert parity["kl_mean"] <= 0.02


def _fields(model: type[Section], seen: set[str]) -> set[str]:
    for name, field in model.model_fields.items():
        seen.add(f"{model.__name__}.{name}")
        for kind in _sections(field.annotation):
            _fields(kind, seen)
    return seen


def _sections(annotation) -> list[type[Section]]:
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, Section) else []
    return [kind for part in getattr(annotation, "__args__", ()) for kind in _sections(part)]


READ_ELSEWHERE = {
    "SourceConfig.revision": "only a hub data set has one: tests/stages/curate",
    "LoraOptions.exclude_modules": "handed to PEFT whole: tests/stages/test_train_adapters.py",
    "LoraOptions.fan_in_fan_out": "handed to PEFT whole: tests/stages/test_train_adapters.py",
    "EngineConfig.gpu_memory_utilization": "only on a GPU: tests/test_recipes.py",
    "Config.serve": "the pipeline does not serve: tests/stages/test_serve.py",
    "ServeConfig.host": "tests/stages/test_serve.py",
    "ServeConfig.port": "tests/stages/test_serve.py",
    "ServeConfig.api_key_env": "tests/stages/test_serve.py",
    "TrackingConfig.project": "tracking is off here: tests/runtime/test_tracking.py",
}


def test_every_config_field_is_read_by_something_that_runs(finished: Finished, elsewhere: Path) -> None:
    unread = _fields(Config, set()) - finished.reads - set(READ_ELSEWHERE)
    assert unread == set(), f"fields that nothing reads: {sorted(unread)}"


def test_prompts_behind_an_endpoint_are_compared_and_judged(elsewhere: Path) -> None:
    comparison = json.loads((elsewhere / "comparison.json").read_text())
    assert comparison["focus"] == "precise"
    judged = {
        (pair["a"], pair["b"]): (pair["wins"], pair["ties"], pair["losses"]) for pair in comparison["judge"]["pairs"]
    }
    assert judged[("precise", "plain")] == (5, 0, 0)
    assert comparison["judge"]["absolute"]["lights"]["precise"]["mean"] == 5
    assert comparison["gate"]["declared"]
    assert not comparison["gate"]["passed"]
    assert comparison["cost"]["plain"]["usd_per_1000"] == pytest.approx((7 * 1.0 + 2 * 2.0) / 1000)
    search = json.loads((elsewhere / "stages/evaluate-searched/summary.json").read_text())["prompt_search"]
    assert len(search["candidates"]) == 4


def test_no_key_reaches_a_file(elsewhere: Path) -> None:
    for path in elsewhere.parent.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


def test_a_field_that_nothing_reads_would_be_noticed(finished: Finished) -> None:
    class Odd(Section):
        unread: int = 1

    assert "Odd.unread" in _fields(Odd, set()) - finished.reads


def test_lineage_leads_from_the_report_to_the_data_files(finished: Finished) -> None:
    by_content = {}
    for path in (finished.folder / "runs/store").glob("*/*/manifest.json"):
        manifest = Manifest(**json.loads(path.read_text()))
        by_content[Artifact(path.parent, manifest).content] = manifest
    report = Manifest(**json.loads((finished.stage("report") / "manifest.json").read_text()))
    tuned = by_content[report.inputs["evaluation:tuned"]]
    merged = by_content[tuned.inputs["model"]]
    adapter = by_content[merged.inputs["adapter"]]
    dataset = by_content[adapter.inputs["dataset"]]
    assert dataset.inputs["source:data/rows.jsonl"] == file_sha256(finished.folder / "data/rows.jsonl")


def command(finished_or_folder: Path, *arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "tunelift.cli", *arguments],
        cwd=finished_or_folder,
        capture_output=True,
        text=True,
        timeout=500,
        **options,
    )


def test_a_rerun_finds_every_stage(finished: Finished) -> None:
    result = command(finished.folder, "run", "config.yaml")
    assert result.returncode == 0, result.stderr
    for stage in ("curate", "train", "merge", "evaluate-base", "evaluate-prompted", "evaluate-tuned"):
        assert f"{stage}: found" in result.stderr, result.stderr


def test_plan_and_show_tell_what_is_there(finished: Finished) -> None:
    planned = command(finished.folder, "plan", "config.yaml")
    assert planned.returncode == 0, planned.stderr
    assert "train              found" in planned.stdout
    assert "GiB needed at most" in planned.stdout
    shown = json.loads(command(finished.folder, "show", "config.yaml", "--json").stdout)
    assert Path(shown["train"]) == finished.stage("train")
    assert Path(shown["report.html"]).is_file()


def test_nothing_of_this_machine_stands_in_what_is_shared(finished: Finished) -> None:
    for path in [*finished.stage("train").rglob("*.json"), *finished.stage("merge").glob("*.json")]:
        assert str(finished.folder) not in path.read_text(), path


KILL_WHEN = {
    "curate": "curate/*.partial",
    "train": "train/*.partial/checkpoints/checkpoint-2*",
    "merge": "merge/*.partial",
    "evaluate": "evaluate/*.partial/samples.jsonl",
    "report": "report/*.forced",
}


@pytest.mark.slow
@pytest.mark.parametrize("stage", list(KILL_WHEN))
def test_killed_in_a_stage_the_same_command_finishes_with_the_same_result(
    finished: Finished, tmp_path: Path, stage: str
) -> None:
    folder = tmp_path / "project"
    shutil.copytree(finished.folder, folder, symlinks=True)
    for name in pipeline.STAGES[pipeline.STAGES.index(stage) :]:
        shutil.rmtree(folder / "runs/store" / name, ignore_errors=True)
    process = subprocess.Popen(
        [sys.executable, "-m", "tunelift.cli", "run", "config.yaml"],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while process.poll() is None and not list((folder / "runs/store").glob(KILL_WHEN[stage])):
        assert time.monotonic() < deadline, f"{stage} never began"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    result = command(folder, "run", "config.yaml")
    assert result.returncode == 0, result.stderr
    before, after = (_outcome(root) for root in (finished.folder, folder))
    assert after["dataset"] == before["dataset"]
    assert after["eval_loss"] == pytest.approx(before["eval_loss"], rel=0.01)


def _outcome(folder: Path) -> dict:
    (run,) = (path for path in (folder / "runs").glob("tiny-*") if path.is_dir())
    dataset, adapter = (
        json.loads((run / "stages" / name / "manifest.json").read_text()) for name in ("curate", "train")
    )
    return {"dataset": dataset["details"]["content"], "eval_loss": adapter["details"]["eval_loss"]}


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_it_says_how_to_go_on_and_leaves_no_process(tmp_path: Path, number: int, code: int) -> None:
    make_project(tmp_path)
    process = subprocess.Popen(
        [sys.executable, "-m", "tunelift.cli", "run", "config.yaml"], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while not list((tmp_path / "runs").glob("store/train/*.partial")):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == code, said
    assert "same command goes on" in said
    assert "Traceback" not in said
    assert _processes_below(tmp_path) == []


def _processes_below(folder: Path) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if path.readlink().is_relative_to(folder):
                found.append((path.parent / "cmdline").read_text())
        except OSError:
            continue
    return found


def test_a_gate_whose_claims_do_not_hold_ends_with_1_and_says_why(
    finished: Finished, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.folder)
    assert cli.main(["report", "config.yaml", "gate.improved=[lights]", "gate.not_worse=[prose]"]) == 1
    told = capsys.readouterr()
    assert "gate: failed" in told.err
    assert "lights" in told.err
    (run,) = (
        path.parent
        for path in finished.folder.glob("runs/tiny-*/gate.md")
        if "lights" in path.read_text() and path.parent != finished.run
    )
    gate = json.loads((run / "comparison.json").read_text())["gate"]
    assert (gate["declared"], gate["passed"], len(gate["claims"])) == (True, False, 2)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("gate.improved=[ligths]", "ligths"),
        ("gate.improved=[prose]", "prose"),
        ("gate.not_worse=[lights]", "lights"),
        ("gate.improved=[{task: lights, metric: exactness}]", "exactness"),
        ("gate.improved=[{task: lights, against: nobody}]", "nobody"),
    ],
)
def test_a_gate_that_names_what_is_not_there_is_refused(
    finished: Finished, monkeypatch, capsys, override, message
) -> None:
    monkeypatch.chdir(finished.folder)
    assert cli.main(["evaluate", "config.yaml", override]) == 2
    assert message in capsys.readouterr().err


def test_a_run_compares_with_another(finished: Finished, monkeypatch, capsys) -> None:
    monkeypatch.chdir(finished.folder)
    assert cli.main(["run", "config.yaml", "name=other", "report.bootstrap_samples=300"]) == 0
    (other,) = Path("runs").glob("other-*")
    capsys.readouterr()
    assert cli.main(["compare", str(finished.run), str(other)]) == 0
    page = Path(capsys.readouterr().out.strip())
    assert page.name == "compare.html"
    assert "bootstrap_samples" in page.read_text()


def test_lint_finds_nothing_wrong_with_the_tasks(finished: Finished, monkeypatch, capsys) -> None:
    monkeypatch.chdir(finished.folder)
    assert cli.main(["lint", "task", "colours", "prose"]) == 0
    assert "✗" not in capsys.readouterr().out


NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


@pytest.mark.parametrize(
    ("name", "shown"),
    [("01_look_at_data", "supervised_tokens"), ("02_compare_runs", "difference"), ("03_error_analysis", "wins, ")],
)
def test_a_notebook_runs_on_the_run(
    finished: Finished, elsewhere: Path, monkeypatch: pytest.MonkeyPatch, name: str, shown: str
) -> None:
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("TUNELIFT_RUN", str(finished.run))
    monkeypatch.setenv("TUNELIFT_RUNS", f"{finished.run} {elsewhere}")
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=120).execute()
    outputs = "".join(str(cell.get("outputs", "")) for cell in notebook.cells)
    assert shown in outputs
    assert "image/png" in outputs


def test_the_served_model_answers_the_readmes_curl_and_client(finished: Finished) -> None:
    from tests.test_readme import blocks
    from tunelift.engines.vllm import free_port

    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "tunelift.cli", "serve", "config.yaml", f"serve.port={port}"],
        cwd=finished.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", server)
        (curl,) = (block for block in blocks("bash") if block.startswith("curl"))
        (client,) = (block for block in blocks("python") if "OpenAI" in block)
        for program in (["bash", "-c", curl], [sys.executable, "-c", client]):
            adapted = [part.replace(":8000", f":{port}").replace('"quickstart"', '"tiny"') for part in program]
            answered = subprocess.run(adapted, capture_output=True, text=True, timeout=120)
            assert answered.returncode == 0, answered.stderr
            assert answered.stdout  # A random model may well answer with blank lines.
            assert '"error"' not in answered.stdout, answered.stdout
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(60) in {130, 0}


def test_a_server_is_held_against_the_models_own_rendering_on_held_out_rows(
    finished: Finished, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.folder)
    run = pipeline.open_run(Path("config.yaml"))
    model = pipeline.make(run, "merge")
    assert isinstance(model, Artifact)
    tokenizer = load_tokenizer(model.path)

    def served(body: Any, _: Any) -> tuple[int, Any]:
        return 200, {"tokens": [*prompt_ids(tokenizer, body["messages"], None), *more]}

    for more in ([], [1]):
        stub = Stub(served)
        engine: Any = SimpleNamespace(url=stub.url, served_name="tuned", api_key=None)
        with pytest.raises(GateError, match="as training does") if more else nullcontext():
            run.check_served(model, engine)
        stub.close()
        held_out = [
            row["messages"][:-1]
            for split in ("test", "validation")
            for row in runs.read_rows(finished.stage("curate") / f"{split}.jsonl")
        ]
        assert stub.bodies and all(body["messages"] in held_out for body in stub.bodies)


def _wait_for(url: str, server: subprocess.Popen) -> None:
    import httpx

    deadline = time.monotonic() + 180
    while time.monotonic() < deadline:
        assert server.poll() is None, f"the server ended with {server.returncode}"
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"{url} did not answer in time")
