"""What resolving goes by is read from where it stands."""

from __future__ import annotations

import pytest

from tunelift.facts import facts_for
from tunelift.runtime import hardware


def test_wandbs_own_settings_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    def read() -> tuple[bool, str]:
        facts = facts_for(hardware.Hardware("cpu", "a CPU", 8.0, 2, True, 0.0), 1024, None)
        return facts.wandb_key, facts.wandb_mode

    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert read() == (True, "offline")
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.delenv("WANDB_MODE")
    assert read() == (False, "")
