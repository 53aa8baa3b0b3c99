"""Serving: loopback only unless a key is set, and the very arguments that evaluation uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunelift.config.schema import EngineConfig, ServeConfig
from tunelift.errors import UserError
from tunelift.stages import serve as module


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
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
        module.serve(
            ServeConfig(host="0.0.0.0", api_key_env="MY_KEY"), EngineConfig(), model=Path("m"), name="n", seed=1
        )
    assert "MY_KEY" in caught.value.remedy


def test_the_key_goes_to_the_server_and_not_onto_its_command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    started = {}

    class Server:
        pid = 0

        def __init__(self, command, env, **options):
            started.update(command=command, env=env)

        def wait(self, timeout=None):
            return 0

    monkeypatch.setattr(module.subprocess, "Popen", Server)
    monkeypatch.setattr(module, "stop_group", lambda server: None)
    monkeypatch.setenv("MY_KEY", "very-secret")
    engine = EngineConfig(max_model_len=512, enforce_eager=True)
    module.serve(
        ServeConfig(host="0.0.0.0", port=8123, api_key_env="MY_KEY"), engine, model=Path("m"), name="n", seed=1
    )
    assert "very-secret" not in " ".join(started["command"])
    assert started["env"]["VLLM_API_KEY"] == "very-secret"
    assert "8123" in started["command"]
