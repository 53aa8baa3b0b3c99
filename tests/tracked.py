"""A W&B run that goes nowhere."""

from __future__ import annotations

from typing import Any


class FakeRun:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.summary: dict[str, Any] = {}
        self.logged: list[dict[str, Any]] = []
        self.artifacts: list[str] = []

    def log(self, values: dict[str, Any]) -> None:
        self.logged.append(values)

    def log_artifact(self, artifact: Any) -> None:
        self.artifacts.append(artifact.name)

    def finish(self, exit_code: int) -> None:
        pass
