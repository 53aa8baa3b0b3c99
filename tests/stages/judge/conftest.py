from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stages.judge.bench import StubJudge, answers, pairs, write_lines
from tunelift.engines import client


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubJudge]:
    """A judge that is right about everything, until a test says otherwise."""
    monkeypatch.setattr(client, "BACK_OFF_SECONDS", (0.01, 0.01))
    made = StubJudge()
    yield made
    made.stop()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """Enough labelled items of every kind."""
    return write_lines(tmp_path / "labelled.jsonl", answers() + pairs())
