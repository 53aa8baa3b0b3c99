"""What every engine offers, whether it is started here or answers from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from tunelift.engines.client import Client

IDENTITY = ("package", "version", "torch", "device", "hardware", "dtype")
"""Keys of a description that tell which engine gave an answer, where that is known."""


class Engine(Protocol):
    """An OpenAI-compatible endpoint that is made ready when it is first needed."""

    served_name: str
    """The name under which it serves the model."""

    @property
    def url(self) -> str:
        """Base of the endpoint, ending in `/v1`; valid once started."""
        ...

    @property
    def api_key(self) -> str | None:
        """The secret that goes into the header of each request, and nowhere else; valid once started."""
        ...

    @property
    def requests_per_minute(self) -> float | None:
        """The rate to stay below, if there is one."""
        ...

    @property
    def description(self) -> Mapping[str, Any]:
        """What answers, as JSON; without the key."""
        ...

    def start(self) -> None:
        """Be ready for requests; again and again does no harm."""
        ...

    def check(self) -> None:
        """Raise MachineError, with the reason, if it was started and answers no more."""
        ...

    def stop(self) -> None:
        """Let go of what was started."""
        ...

    def client(self, *, concurrency: int, timeout_seconds: float, decoding: Mapping[str, Any], seed: int) -> Client:
        """A client of the started engine, with its key and rate."""
        ...
