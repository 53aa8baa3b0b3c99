"""Worker processes: typed arguments in, a result or the very error out, and no orphan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest

from tunelift.config.schema import MergeConfig
from tunelift.errors import GateError, MachineError, UserError
from tunelift.runtime.console import say
from tunelift.runtime.worker import die_with_parent, run_isolated

HERE = "tests.runtime.test_worker"


def add(config: MergeConfig, *, out: Path, number: int) -> dict:
    print("noise of a library")
    return {"type": type(config).__name__, "path": out.name, "sum": number + config.parity_rows}


def refuse(kind: str) -> dict:
    raise {"user": UserError, "gate": GateError}[kind]("wrong value 7", remedy="use 8", where="a.yaml:3")


def die() -> dict:
    print("the last words", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


curate = train = merge = die
"""Stages are told by their function's name."""


def crash() -> dict:
    raise ZeroDivisionError("a bug")


def import_kernels() -> dict:
    try:
        import kernels
    except ImportError:
        return {"imported": None}
    return {"imported": kernels.__file__}


def test_no_code_can_be_fetched_from_the_hub_through_the_package_kernels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kernels.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    assert run_isolated(f"{HERE}:import_kernels", {}, tmp_path / "log") == {"imported": None}


def test_arguments_arrive_with_their_types(tmp_path: Path) -> None:
    result = run_isolated(f"{HERE}:add", {"config": {"parity_rows": 3}, "out": "x/y", "number": 4}, tmp_path / "log")
    assert result == {"type": "MergeConfig", "path": "y", "sum": 7}
    assert "noise of a library" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("kind", "expected"), [("user", UserError), ("gate", GateError)])
def test_an_error_crosses_with_message_remedy_and_place(tmp_path: Path, kind: str, expected: type) -> None:
    with pytest.raises(expected) as caught:
        run_isolated(f"{HERE}:refuse", {"kind": kind}, tmp_path / "log")
    assert (caught.value.message, caught.value.remedy, caught.value.where) == ("wrong value 7", "use 8", "a.yaml:3")


def test_a_killed_child_is_the_machines_failure(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="killed") as caught:
        run_isolated(f"{HERE}:die", {}, tmp_path / "log")
    assert caught.value.where == str(tmp_path / "log")


@pytest.mark.parametrize(
    ("stage", "remedy"),
    [("curate", "curate.processes"), ("train", "train.micro_batch_size"), ("merge", "merge.parity_rows")],
)
def test_what_to_do_about_a_killed_stage_is_what_that_stage_can_do(stage: str, remedy: str, tmp_path: Path) -> None:
    with pytest.raises(MachineError) as caught:
        run_isolated(f"{HERE}:{stage}", {}, tmp_path / "log")
    assert remedy in caught.value.remedy
    assert [other for other in ("curate.", "train.", "merge.") if other in caught.value.remedy] == [f"{stage}."]


def test_a_crash_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="ZeroDivisionError: a bug"):
        run_isolated(f"{HERE}:crash", {}, tmp_path / "log")


def talk() -> dict:
    print("for the log")
    say("for a person")
    return {}


def test_what_is_meant_for_a_person_reaches_the_parents_console(tmp_path: Path, capfd) -> None:
    run_isolated(f"{HERE}:talk", {}, tmp_path / "log")
    assert capfd.readouterr().err == "for a person\n"
    assert (tmp_path / "log").read_text() == "for the log\n"


def sleep(marker: str) -> dict:
    Path(marker).write_text(str(os.getpid()))
    time.sleep(60)
    return {}


@pytest.mark.skipif(sys.platform != "linux", reason="parent-death signals are Linux's")
def test_a_child_dies_with_its_killed_parent(tmp_path: Path) -> None:
    marker = tmp_path / "pid"
    code = (
        "from pathlib import Path; from tunelift.runtime.worker import run_isolated; "
        f"run_isolated('{HERE}:sleep', {{'marker': {str(marker)!r}}}, Path({str(tmp_path / 'log')!r}))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 30
    while not (marker.exists() and marker.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    child = int(marker.read_text())
    parent.kill()
    parent.wait()
    while time.monotonic() < deadline and _alive(child):
        time.sleep(0.05)
    assert not _alive(child), f"process {child} outlived its parent"


def save_when_stopped(folder: str, seconds: float) -> dict:
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    Path(folder, "began").touch()
    while not stopped:
        time.sleep(0.02)
    Path(folder, "stopping").touch()
    time.sleep(seconds)
    Path(folder, "saved").touch()
    return {}


PARENT = f"""
import sys
from functools import partial
from pathlib import Path
from tunelift.runtime import worker
from tunelift.runtime.stopping import Stopped, heed_signals

heed_signals()
worker.GRACE_SECONDS = 0.1
folder, seconds = sys.argv[1], float(sys.argv[2])
arguments = {{"folder": folder, "seconds": seconds}}
try:
    worker.run_isolated("{HERE}:save_when_stopped", arguments, Path(folder, "log"), saves_within_seconds=60)
except Stopped as stop:
    sys.exit(stop.exit_code)
"""


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} never came"
        time.sleep(0.02)


@pytest.mark.parametrize(("seconds", "signals", "saved"), [(2.0, 1, True), (300.0, 2, False)])
def test_what_is_saved_on_sigterm_is_waited_for_until_a_second_signal(
    seconds: float, signals: int, saved: bool, tmp_path: Path
) -> None:
    command = [sys.executable, "-c", PARENT, str(tmp_path), str(seconds)]
    parent = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    wait_for(tmp_path / "began")
    parent.send_signal(signal.SIGTERM)
    wait_for(tmp_path / "stopping")
    if signals == 2:
        parent.send_signal(signal.SIGINT)
    _, said = parent.communicate(timeout=60)
    assert parent.returncode in {143, 130}, said
    assert "a second Ctrl-C or SIGTERM ends it at once" in said and "Traceback" not in said
    assert (tmp_path / "saved").exists() == saved


def _alive(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_a_child_whose_parent_died_before_it_began_ends_at_once():
    """The kill may come between the fork and the child's wish to die with its parent."""
    child = subprocess.run(
        [sys.executable, "-c", "pass"], preexec_fn=partial(die_with_parent, os.getpid() + 1), check=False
    )
    assert child.returncode == -signal.SIGKILL
    assert subprocess.run(["true"], preexec_fn=partial(die_with_parent, os.getpid()), check=False).returncode == 0
