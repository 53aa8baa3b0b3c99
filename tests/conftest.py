"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import make_tiny_model


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama folder, made once a test run. Read it, do not change it."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")
