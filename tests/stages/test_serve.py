"""Serving: a key for whatever others can reach, ready when it is said, and no end without a word."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tunelift.config.schema import EngineConfig, ServeConfig
from tunelift.engines import vllm
from tunelift.engines.vllm import VllmEngine, free_port
from tunelift.errors import MachineError, UserError
from tunelift.stages import serve as module

KEY = "very-secret"


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("LOCALHOST", True),
        ("127.1", True),
        ("::", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("example.com", False),
    ],
)
def test_what_counts_as_loopback(host: str, inside: bool) -> None:
    assert module.is_loopback(host) is inside


def test_an_open_address_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    with pytest.raises(UserError, match="can be reached from other machines") as caught:
        module.check_address(ServeConfig(host="0.0.0.0", api_key_env="MY_KEY"))
    assert "MY_KEY" in caught.value.remedy


@pytest.mark.parametrize(
    "key", ["a\nsecret", "secret\n", "secret\r", "sécret", " ", "\t", " secret", "secret ", "se cret", "secret\x7f"]
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_key_that_no_client_can_send_is_refused_and_not_shown(
    key: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", key)
    with pytest.raises(UserError, match="holds what no key has") as caught:
        module.check_address(ServeConfig(host=host, api_key_env="MY_KEY"))
    assert "MY_KEY" in caught.value.message
    assert "cret" not in str(caught.value)


SERVER = """
import os, signal, sys, threading, time
from http.server import BaseHTTPRequestHandler, HTTPServer
import socket
host, port, end = {host!r}, {port}, {end!r}
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 401)
        self.end_headers()
    def log_message(self, *_):
        pass
class Server(HTTPServer):
    address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
def stop():
    time.sleep(0.8)
    print("ValueError: the engine is dead", flush=True)
    os.kill(os.getpid(), 9) if end == "killed" else os._exit(int(end))
time.sleep(0.2)
if end:
    threading.Thread(target=stop, daemon=True).start()
Server((host, port), Handler).serve_forever()
"""
"""In vLLM's place: ready after a moment, and dead a moment later, if it is to end."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What vLLM would be started with; in its place starts SERVER, with the exit code under `end`."""
    seen: dict[str, Any] = {"end": ""}
    arguments, environment = vllm.vllm_arguments, vllm.vllm_environment

    def command(*positional: Any, host: str, port: int, **named: Any) -> list[str]:
        seen["command"] = arguments(*positional, host=host, port=port, **named)
        return [sys.executable, "-c", SERVER.format(host=host, port=port, end=seen["end"])]

    def environ(*positional: Any, **named: Any) -> dict[str, str]:
        seen["environment"] = environment(*positional, **named)
        return seen["environment"]

    monkeypatch.setattr(vllm, "vllm_arguments", command)
    monkeypatch.setattr(vllm, "vllm_environment", environ)
    return seen


def serve(folder: Path, host: str = "127.0.0.1", **options: Any) -> None:
    config = ServeConfig(host=host, port=free_port(), api_key_env="MY_KEY")
    engine = EngineConfig(max_model_len=512, enforce_eager=True)
    module.serve(config, engine, model=Path("m"), name="n", seed=1, log=folder / "vllm.log", **options)


@pytest.mark.parametrize("end", ["0", "1", "killed"])
def test_an_end_that_nobody_asked_for_is_an_error_whatever_its_code(
    end: str, started: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    started["end"] = end
    with pytest.raises(MachineError, match="vLLM ended, which nobody asked for") as caught:
        serve(tmp_path)
    assert "ValueError: the engine is dead" in caught.value.message
    assert (caught.value.exit_code, caught.value.where) == (3, str(tmp_path / "vllm.log"))
    assert "startup_timeout" not in caught.value.remedy
    assert "memory" in caught.value.remedy


def test_the_key_goes_to_the_server_and_not_onto_its_command_line(
    started: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    started["end"] = "0"
    with pytest.raises(MachineError):
        serve(tmp_path, "0.0.0.0")
    assert KEY not in " ".join(started["command"])
    assert started["command"][started["command"].index("--middleware") + 1] == "tunelift.engines.guard.RequireKey"
    assert started["environment"]["VLLM_API_KEY"] == KEY
    assert KEY not in capfd.readouterr().err + (tmp_path / "vllm.log").read_text()


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]")]
)
def test_it_is_ready_when_it_answers_and_was_checked_at_an_address_that_clients_can_use(
    host: str,
    shown: str,
    started: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MY_KEY", KEY)
    started["end"] = "0"
    said: list[str] = []

    def check(engine: VllmEngine) -> None:
        assert httpx.get(engine.url.removesuffix("/v1") + "/health", trust_env=False).status_code == 200
        assert engine.api_key == KEY
        said.append(capfd.readouterr().err)

    with pytest.raises(MachineError):
        serve(tmp_path, host, check=check)
    assert "starting, log in" in said[0]
    assert "ready: " not in said[0]
    assert re.match(rf"ready: http://{re.escape(shown)}:\d+/v1 \(model n;", capfd.readouterr().err)


def test_what_a_check_finds_ends_the_server(started: dict[str, Any], tmp_path: Path) -> None:
    def check(engine: VllmEngine) -> None:
        raise MachineError("other tokens than in training")

    with pytest.raises(MachineError, match="other tokens"):
        serve(tmp_path, check=check)
    assert not [child for child in psutil.Process().children() if "BaseHTTPRequestHandler" in " ".join(child.cmdline())]


COMMAND = """
import sys
from pathlib import Path
from tunelift import cli
from tunelift.config.schema import EngineConfig, ServeConfig
from tunelift.engines import vllm
from tunelift.stages.serve import serve
folder, port, key = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if key == "none":
    vllm.vllm_arguments = lambda *_, **__: [sys.executable, "-c", (folder / "server.py").read_text()]
engine = EngineConfig(dtype="float32", max_model_len=512, cpu_kv_cache_gib=1, max_num_seqs=8, enforce_eager=True)
cli._serve = lambda parsed: serve(
    ServeConfig(port=port, api_key_env="MY_KEY"), engine, model=folder, name="tiny", seed=1, log=Path(sys.argv[4])
)
sys.exit(cli.main(["serve", "config.yaml"]))
"""
"""`tunelift serve` of a model folder."""


def start_command(folder: Path, port: int, key: str, log: Path) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", COMMAND, str(folder), str(port), key, str(log)]
    environment = {**os.environ, "MY_KEY": "" if key == "none" else key}
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def until_ready(command: subprocess.Popen[str]) -> None:
    assert command.stderr is not None
    lines = []
    while not (lines and lines[-1].startswith("ready: ")):
        lines.append(command.stderr.readline())
        assert lines[-1], "".join(lines)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stop_ends_it_quietly_with_its_own_code(number: int, code: int, tmp_path: Path) -> None:
    port = free_port()
    (tmp_path / "server.py").write_text(SERVER.format(host="127.0.0.1", port=port, end=""))
    command = start_command(tmp_path, port, "none", tmp_path / "log")
    until_ready(command)
    command.send_signal(number)
    _, said = command.communicate(timeout=60)
    assert command.returncode == code
    assert said == "stopped; what is finished is kept, and the same command goes on from there\n"
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server is gone"


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_when_vllms_engine_is_killed_the_command_fails_with_its_words(tiny_model: Path, tmp_path: Path) -> None:
    """The API server alone would end with code 0."""
    command = start_command(tiny_model, free_port(), KEY, tmp_path / "log")
    watchdog = threading.Timer(500, command.kill)
    watchdog.start()
    try:
        until_ready(command)
        family = psutil.Process(command.pid).children(recursive=True)
        next(child for child in family if "EngineCore" in " ".join(child.cmdline())).kill()
        _, said = command.communicate(timeout=120)
        assert command.returncode == 3, said
        assert "vLLM ended, which nobody asked for" in said
        assert "EngineDeadError" in said
    finally:
        watchdog.cancel()
        command.kill()
        command.wait()
    deadline = time.monotonic() + 20
    while any(child.is_running() for child in family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not [child for child in family if child.is_running()]
    assert KEY not in (tmp_path / "log").read_text()
