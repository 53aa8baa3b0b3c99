"""A machine in the way, through the real command: full and read-only disks, two runs, Ctrl-C, engines that die."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.command import CURATE, DONE, MACHINE, STOPPED, USER, copied, good_rows, is_told, lines, started, tunelift
from tests.project import write_lines
from tunelift import cli
from tunelift.errors import MachineError

pytestmark = pytest.mark.timeout(600)

REPLY = {"role": "assistant", "content": "Yes."}

# --- the disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def mounted() -> Iterator[Callable[[Path, str], None]]:
    """Mounts a small file system of its own on a folder; called again, it changes the options."""
    folders: list[Path] = []

    def mount(folder: Path, options: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        options = f"remount,{options}" if folder in folders else options
        result = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True)
        if result.returncode:
            pytest.skip("mounting needs root")
        folders.append(folder)

    yield mount
    for folder in set(folders):
        subprocess.run(["umount", "--lazy", folder], check=True)


def make_room(project: Path) -> None:
    """For a mount: nothing is made yet."""
    shutil.rmtree(project / "runs")


def test_a_full_disk_in_curate_is_told_and_with_room_the_same_command_works(project: Path, mounted) -> None:
    make_room(project)
    too_long = [{"messages": [{"role": "user", "content": f"{n} " * 5000}, REPLY]} for n in range(40)]
    write_lines(project / "data/rows.jsonl", [*good_rows(project), *too_long])  # All end up on the disk, kept or not.
    mounted(project / "runs", "size=160k")
    curate = (*CURATE, "train.max_truncated_ratio=1")
    is_told(tunelift(project, *curate), MACHINE, "runs/store/curate", "The disk is full.", "Free some space")
    mounted(project / "runs", "size=64m")
    assert tunelift(project, *curate).returncode == DONE


def test_a_disk_full_from_the_start_is_told(project: Path, mounted) -> None:
    make_room(project)
    mounted(project / "runs", "size=4k")
    (project / "runs/other").write_text("x" * 4096)
    is_told(tunelift(project, *CURATE), MACHINE, "runs", "The disk is full.", "Free some space")


def test_a_read_only_folder_is_told_and_once_writable_the_same_command_works(project: Path, mounted) -> None:
    make_room(project)
    mounted(project / "runs", "size=64m")
    mounted(project / "runs", "ro")
    is_told(tunelift(project, *CURATE), USER, "runs/", "Cannot write here (Read-only file system).", "another folder")
    mounted(project / "runs", "rw")
    assert tunelift(project, *CURATE).returncode == DONE


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
def test_a_disk_that_fills_while_a_checkpoint_is_written_is_told(project: Path, mounted) -> None:
    # 64 ranks make a checkpoint of several MB.
    train = ("train", "config.yaml", "train.adapter.rank=64")
    mounted(project / "runs/store/train", "size=2m")
    is_told(tunelift(project, *train), MACHINE, "runs/store/train", "The disk is full.", "what is finished is kept")
    mounted(project / "runs/store/train", "size=256m")
    result = tunelift(project, *train)
    assert result.returncode == DONE, result.stderr


# --- two at once, and Ctrl-C ------------------------------------------------------------------------------------------


def wait_for(pattern: str, folder: Path, process: subprocess.Popen[str], *, filled: bool = False) -> None:
    """Until a path that matches is there, and, if `filled`, holds something."""
    deadline = time.monotonic() + 400
    while not any(path.stat().st_size or not filled for path in folder.glob(pattern)):
        if process.poll() is not None:
            raise AssertionError(f"{pattern} never came: {process.communicate()[1]}")
        assert time.monotonic() < deadline, f"{pattern} did not come in time"
        time.sleep(0.005)


def processes_below(folder: Path) -> list[str]:
    """Command lines of what runs in the project or was told of it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_text().replace("\0", " ").strip()
            if (process / "cwd").readlink().is_relative_to(folder) or (words and str(folder) in words):
                found.append(words)
        except OSError:
            continue
    return found


def test_of_two_runs_at_once_the_second_is_told_and_the_first_finishes(project: Path) -> None:
    shutil.rmtree(project / "runs/store/curate")
    first = started(project, *CURATE)
    wait_for("runs/store/curate/*.partial", project, first)
    first.send_signal(signal.SIGSTOP)  # Or it may be done before the second has begun.
    second = tunelift(project, *CURATE)
    first.send_signal(signal.SIGCONT)
    is_told(second, USER, "runs/store/curate/", "Another process is making this artifact.", "it will find the result")
    _, said = first.communicate(timeout=120)
    assert first.returncode == DONE, said
    again = tunelift(project, *CURATE)
    assert again.returncode == DONE
    assert "curate: found" in again.stderr


STOP_WHEN = {
    "curate": ("curate", "runs/store/curate/*.partial"),
    "train": ("train", "runs/store/train/*.partial/checkpoints/checkpoint-2*"),
    "merge": ("merge", "runs/store/merge/*.partial"),
    "engine": ("evaluate", "runs/tiny-*/logs/vllm-base.log"),
    "evaluate": ("evaluate", "runs/store/evaluate/*.partial/samples.jsonl"),
}
"""The first stage to be made, and what is there when it is in the middle of it."""
STAGES = ("curate", "train", "merge", "evaluate", "report")


def stop_with_ctrl_c(folder: Path, pattern: str, *arguments: str, filled: bool = False) -> None:
    process = started(folder, *arguments)
    wait_for(pattern, folder, process, filled=filled)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == STOPPED, said
    assert said.rstrip().endswith("stopped; what is finished is kept, and the same command goes on from there")
    assert "Traceback" not in said
    assert processes_below(folder) == []


def test_ctrl_c_in_curate_leaves_no_process_and_the_same_command_works(project: Path) -> None:
    shutil.rmtree(project / "runs/store/curate")
    stop_with_ctrl_c(project, STOP_WHEN["curate"][1], *CURATE)
    assert tunelift(project, *CURATE).returncode == DONE


def test_a_training_that_is_stopped_gets_minutes_to_save(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, float | None] = {}

    def noted(target: str, *arguments: object, **options: Any) -> None:
        asked[target] = options["saves_within_seconds"]
        raise MachineError("enough")

    monkeypatch.setattr("tunelift.runs.run_isolated", noted)
    monkeypatch.setattr(cli, "heed_signals", lambda: None)  # This process is the tests' own.
    monkeypatch.chdir(project)
    assert cli.main(["train", "config.yaml"]) == MACHINE
    assert asked["tunelift.stages.train:train"] >= 300


@pytest.fixture(scope="module")
def finished(curated: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with every stage made."""
    folder = copied(curated, tmp_path_factory.mktemp("finished") / "project")
    result = tunelift(folder, "run", "config.yaml")
    assert result.returncode == DONE, result.stderr
    return folder


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.parametrize("moment", [moment for moment in STOP_WHEN if moment != "curate"])
def test_ctrl_c_in_a_stage_leaves_no_process_and_the_same_command_finishes(
    finished: Path, tmp_path: Path, moment: str
) -> None:
    folder = copied(finished, tmp_path / "project")
    stage, pattern = STOP_WHEN[moment]
    for name in STAGES[STAGES.index(stage) :]:
        shutil.rmtree(folder / "runs/store" / name, ignore_errors=True)
    for log in folder.glob("runs/tiny-*/logs/*.log"):
        log.unlink()
    stop_with_ctrl_c(folder, pattern, "run", "config.yaml", filled=moment in {"engine", "evaluate"})
    result = tunelift(folder, "run", "config.yaml")
    assert result.returncode == DONE, result.stderr
    assert list(folder.glob("runs/tiny-*/report.html"))


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
def test_ctrl_c_in_a_forced_training_and_the_same_command_goes_on_from_its_checkpoint(project: Path) -> None:
    again = ("train", "config.yaml", "--force")
    stop_with_ctrl_c(project, "runs/store/train/*.forced/checkpoints/checkpoint-2*", *again)
    result = tunelift(project, *again)
    assert result.returncode == DONE, result.stderr
    assert "train: goes on with runs/store/train/" in result.stderr
    assert "goes on after step" in result.stderr
    assert not list(project.glob("runs/tiny-*/forced.json"))


# --- the engine -------------------------------------------------------------------------------------------------------


def test_a_taken_port_is_told_before_anything_is_made(project: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        result = tunelift(project, "serve", "config.yaml", f"serve.port={port}")
    is_told(result, USER, f"serve.port={port}", "Address already in use", "choose another port")
    assert not (project / "runs/store/train").exists()


def test_an_address_that_is_not_this_machines_is_told(project: Path) -> None:
    result = tunelift(project, "serve", "config.yaml", "serve.host=nowhere.invalid", TUNELIFT_API_KEY="x")
    is_told(result, USER, "serve.host=nowhere.invalid", "Correct serve.host")


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
def test_an_engine_that_dies_at_the_start_is_quoted_and_with_another_setting_the_run_goes_on(project: Path) -> None:
    evaluate = ("evaluate", "config.yaml", "evaluate.arms=[base]")
    result = tunelift(project, *evaluate, "engine.cpu_kv_cache_gib=1000000")
    is_told(result, MACHINE, "logs/vllm-base.log", "vLLM ended while starting", "Lower engine.cpu_kv_cache_gib")
    assert processes_below(project) == []
    mended = tunelift(project, *evaluate)
    assert mended.returncode == DONE, mended.stderr


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
def test_more_examples_than_fit_are_told_with_the_limit(project: Path) -> None:
    evaluate = ("evaluate", "config.yaml", "evaluate.arms=[prompted]", "evaluate.noise_floor=false")
    result = tunelift(project, *evaluate, "evaluate.few_shot=500")
    remedy = "lower few_shot, or raise engine.max_model_len"
    is_told(result, USER, "refused all 5 requests of task lights", "512", remedy)
    rows = len(lines(next((project / "runs").glob("tiny-*/stages/curate/train.jsonl"))))
    assert f"warning: arm prompted has few_shot=500, but the training split has {rows} rows to show" in result.stderr
    mended = tunelift(project, *evaluate)
    assert mended.returncode == DONE, mended.stderr
