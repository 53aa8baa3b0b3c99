"""What resolving goes by is read from where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tunelift import cli
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


NEEDS_A_GPU = ["train.optimizer=paged_adamw_8bit"]


def test_what_training_would_stop_at_is_told_before_curation(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(*overrides: str) -> str:
        for make in ("make_train", "make_merge", "make_report"):
            run = open_run(Path("config.yaml"), ["seed=99", *overrides])
            with pytest.raises(UserError) as caught:
                getattr(run, make)()
            assert run.store.find(run.curate_plan()) is None, make
        return str(caught.value)

    monkeypatch.chdir(project)
    assert "train.optimizer=paged_adamw_8bit needs a GPU." in told(*NEEDS_A_GPU)
    assert "train.attention=flash_attention_2 needs a GPU." in told("train.attention=flash_attention_2")
    monkeypatch.setattr("tunelift.runtime.hardware.detect", lambda: ADA)
    asked = "train.attention=flash_attention_2"
    said = told(asked)
    assert "needs flash-attn 2.3.3 or later, which is not installed" in said
    assert "pip install flash-attn" in said
    install(tmp_path / "packages", "flash-attn", "2.8.3")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    open_run(Path("config.yaml"), [asked]).check_trainable()
    open_run(Path("config.yaml"), NEEDS_A_GPU).check_trainable()


def test_a_recipe_for_a_gpu_does_anywhere_what_is_not_training(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setattr(cli, "heed_signals", lambda: None)  # This process is the tests' own.
    monkeypatch.setattr("tunelift.runtime.worker.leave_torch_out", lambda: None)
    asked = ["config.yaml", *NEEDS_A_GPU]
    for verb in (["curate"], ["show"], ["render", "--row", "1"]):
        assert cli.main([verb[0], *asked, *verb[1:]]) == 0, capsys.readouterr().err
    assert cli.main(["explain", "config.yaml", "data/rows.jsonl:1", *NEEDS_A_GPU]) == 0, capsys.readouterr().err
    assert cli.main(["plan", *asked]) == 2
    assert "needs a GPU" in capsys.readouterr().err


def test_an_adapter_that_is_there_is_found_on_a_machine_that_could_not_train_it(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    run = open_run(Path("config.yaml"), NEEDS_A_GPU)
    with pytest.raises(UserError, match="needs a GPU"):
        run.make_train()
    run.store.make(run.train_plan(run.curated()), lambda out: {})  # As a GPU made it.
    assert open_run(Path("config.yaml"), NEEDS_A_GPU).make_train().found
    with pytest.raises(UserError, match="needs a GPU"):
        open_run(Path("config.yaml"), NEEDS_A_GPU, ["train"]).make_train()
