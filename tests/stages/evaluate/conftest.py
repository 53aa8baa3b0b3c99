from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stages.evaluate.making import StubEngine, right
from tunelift.engines import client


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubEngine]:
    monkeypatch.setattr(client, "BACK_OFF_SECONDS", (0.01, 0.01))
    made = StubEngine(right)
    yield made
    made.stop()
