"""What resolving goes by is read from where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunelift.errors import UserError
from tunelift.facts import facts_for, has_flash_attention
from tunelift.pipeline import open_run
from tunelift.runtime import hardware

ADA = hardware.Hardware("cuda", "NVIDIA GeForce RTX 4090", 24.0, 8, native_bf16=True, capability=8.9)


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


def install(folder: Path, name: str, version: str) -> None:
    """A distribution that brings the module `flash_attn`."""
    metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info/METADATA"
    metadata.parent.mkdir(parents=True)
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (folder / "flash_attn").mkdir(exist_ok=True)
    (folder / "flash_attn/__init__.py").touch()


@pytest.mark.parametrize(
    ("name", "version", "taken"),
    [
        ("flash-attn", "2.8.3.post1", True),
        ("flash-attn", "2.3.3", True),
        ("flash-attn", "2.3.2", False),
        ("flash-attn", "2.10.0+cu13torch2.14", True),
        ("flash-attn-4", "4.0.0", False),
    ],
)
def test_flash_attention_is_there_in_a_version_that_transformers_takes(
    name: str, version: str, taken: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, name, version)
    monkeypatch.syspath_prepend(tmp_path)
    assert has_flash_attention() is taken
    assert facts_for(ADA, 4096, None).flash_attention is taken


def test_an_attention_without_its_package_is_refused_before_anything_runs(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr("tunelift.runtime.hardware.detect", lambda: ADA)
    asked = ["train.attention=flash_attention_2"]
    with pytest.raises(UserError, match=r"needs flash-attn 2\.3\.3 or later, which is not installed") as caught:
        open_run(Path("config.yaml"), asked)
    assert "pip install flash-attn" in caught.value.remedy
    install(tmp_path / "packages", "flash-attn", "2.8.3")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    assert open_run(Path("config.yaml"), asked).config.train.attention == "flash_attention_2"
