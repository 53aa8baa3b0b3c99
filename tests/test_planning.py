"""`tunelift plan`: memory, time and serving, on a named card and on this machine."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tunelift.cli import main
from tunelift.runtime.shape import read_shape

CONFIGS = Path(__file__).parent.parent / "configs"
RECIPE = str(CONFIGS / "llama3.1-8b-qlora.yaml")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_an_8b_recipe_is_planned_for_a_named_card_without_the_hub(capsys: pytest.CaptureFixture[str]) -> None:
    recomputed = ["train.micro_batch_size=2", "train.gradient_checkpointing=true"]
    assert main(["plan", RECIPE, "--gpu", "rtx-4090", "--price", "0.5", *recomputed]) == 0
    said = capsys.readouterr().out
    assert "8,030,261,248 parameters, from a built-in table" in said
    for part in (
        "4-bit weights",
        "CUDA context",
        "largest micro-batch",
        "tokens/s at an MFU of 22% (32% as published",
        "time and cost: unknown, as the data set is found by the model's tokenizer",
        "merged, bfloat16",
    ):
        assert part in said
    assert "of 24.0: fits" in said


def test_another_card_gets_other_choices(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", RECIPE, "--gpu", "t4"])
    assert "train.precision = fp32" in capsys.readouterr().out
    main(["plan", RECIPE, "--gpu", "a100-80"])
    assert "train.gradient_checkpointing = False" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([RECIPE, "--gpu", "rtx4090"], "Did you mean rtx-4090?"),
        ([RECIPE, "--gpu", "rtx-4090", "model.id=nobody/unknown"], "model.id=nobody/unknown"),
    ],
    ids=["card", "model"],
)
def test_what_is_not_known_is_refused(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_base_that_cannot_be_trained_is_not_planned(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(tiny_model, tmp_path / "copy")
    described = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(described | {"quantization_config": {"quant_method": "fp8"}}))
    assert main(["plan", RECIPE, "--gpu", "rtx-4090", f"model.id={copy}", "model.revision=null"]) == 2
    assert "quantized already (fp8)" in capsys.readouterr().err


def test_a_share_is_a_share(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["plan", RECIPE, "--mfu", "40"])
    assert "at most 1" in capsys.readouterr().err


def test_this_machines_plan_counts_the_data_set_that_was_made(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    assert main(["plan", "config.yaml"]) == 0
    said = capsys.readouterr().out
    assert "memory while training" in said
    assert "100% supervised" not in said
    assert "time and cost: unknown" in said


def test_a_named_cards_plan_counts_the_data_set_that_was_made(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a machine without a GPU, with settings that need one."""
    monkeypatch.chdir(project)
    plan = ["plan", "config.yaml", "--gpu", "rtx-4090", "--price", "0.5", "train.optimizer=paged_adamw_8bit"]
    assert main(plan) == 0
    said = capsys.readouterr().out
    assert re.search(r"time \d+ s, cost \d+\.\d\d", said)
    assert "100% supervised" not in said
    main([*plan, "seed=99"])
    assert "known once the data set is made (tunelift curate); until then --tokens" in capsys.readouterr().out
    main([*plan, "curate.sources=[{path: gone.jsonl}]"])
    assert "the data set cannot be looked up: " in capsys.readouterr().out


def test_a_conversation_that_makes_several_rows_counts_as_several(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the template drops earlier turns' thinking: its tokens are those of all its rows."""
    from tunelift.pipeline import open_run
    from tunelift.planning import training_tokens

    monkeypatch.chdir(project)
    run = open_run(Path("config.yaml"))
    dataset = run.store.find(run.curate_plan())
    assert dataset is not None
    stats = json.loads((dataset.path / "stats.json").read_text())
    counts = stats["splits"]["train"]
    counts["training_rows"] = 3 * counts["rows"]
    (dataset.path / "stats.json").write_text(json.dumps(stats))
    found = training_tokens(dataset)
    assert found is not None and (found.rows, found.tokens) == (3 * counts["rows"], counts["tokens"])


def test_tokens_are_taken_before_there_is_a_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    main(["plan", RECIPE, "--gpu", "h100", "--price", "2", "--tokens", "20_000_000", "--mfu", "0.3"])
    first = capsys.readouterr().out
    assert re.search(r"time \d+ h \d+ min, cost \d+\.\d\d", first)
    main(["plan", RECIPE, "--gpu", "h100", "--tokens", "20_000_000", "train.max_steps=1"])
    assert re.search(r"time \d+ s, cost unknown", capsys.readouterr().out)
    with pytest.raises(SystemExit):
        main(["plan", RECIPE, "--tokens", "0"])
    assert "at least 1" in capsys.readouterr().err


def test_disk_holds_what_is_trained_whole(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tunelift.pipeline import open_run
    from tunelift.planning import disk_needed_gib

    monkeypatch.chdir(project)
    plain, whole, ranks = (
        open_run(Path("config.yaml"), [f"train.adapter.{change}"])
        for change in ("rank=4", "modules_to_save=[embed_tokens]", "options.rank_pattern={q_proj: 64}")
    )
    grown = (disk_needed_gib(whole) - disk_needed_gib(plain)) * 2**30
    embedding = 4 * read_shape(Path("model")).embedding_parameters
    assert grown == pytest.approx(embedding * (1 + 3 * 4)), "the adapter, and four checkpoints with Adam's moments"
    assert disk_needed_gib(ranks) > disk_needed_gib(plain)
