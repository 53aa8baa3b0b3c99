"""Long rows, silent rows and padding: nothing is lost, and nothing computed in vain, without being told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.conversations import conversation, train_config, write_dataset
from tunelift.errors import UserError
from tunelift.stages.train import train
from tunelift.stages.train.order import Positions, RandomOrder, padded_positions


def run(model: Path, dataset: Path, out: Path, **changes) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    return train(
        train_config(**{"precision": "fp32"} | changes), model=model, dataset=dataset, seed=1, device="cpu", out=out
    )


def preflight(out: Path) -> dict:
    return json.loads((out / "preflight.json").read_text())


# --- length ---------------------------------------------------------------------------------------------------------


def test_a_row_that_would_be_cut_stops_the_run_with_its_length_and_what_it_teaches(
    tiny_model: Path, tmp_path: Path
) -> None:
    long = conversation(900)
    long["messages"][1]["content"] = "please " * 300
    dataset = write_dataset(tmp_path / "data", extra=(long,))
    with pytest.raises(UserError, match=r"1 rows are longer than train\.max_length=256 tokens") as caught:
        run(tiny_model, dataset, tmp_path / "out")
    assert "  row-900: " in caught.value.message and "of them supervised" in caught.value.message
    tokens = int(caught.value.message.split("row-900: ")[1].split(" tokens")[0].replace(",", ""))
    assert f"train.max_length to {tokens}," in caught.value.remedy
    details = run(tiny_model, dataset, tmp_path / "out", max_length=tokens, max_steps=1)
    assert details["steps"] == 1
    assert preflight(tmp_path / "out")["longest_row"] == tokens


def test_preflight_repeats_what_curation_lost(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = write_dataset(tmp_path / "data")
    lost = {"max_length": 256, "rows": 22, "supervised_tokens": 700, "ratio": 0.0123, "longest_row": 900}
    (dataset / "stats.json").write_text(json.dumps({"truncation": lost}))
    run(tiny_model, dataset, tmp_path / "out", max_steps=1)
    assert preflight(tmp_path / "out")["truncation"] == lost
    line = "curation dropped 22 rows over 256 tokens, with 700 supervised tokens, 1.23% of what could be learnt"
    assert line in capsys.readouterr().err


# --- padding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("micro", [8, 2])
@pytest.mark.parametrize("packed", [False, True])
def test_the_padding_foretold_is_the_padding_computed(
    packed: bool, micro: int, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # 12 steps of 8 over 20 rows: epochs that end with a batch of 4.
    details = run(
        tiny_model,
        write_dataset(tmp_path / "data", train=20),
        tmp_path / "out",
        packing=packed,
        micro_batch_size=micro,
        max_steps=7,
    )
    found = preflight(tmp_path / "out")
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    layout = found["batches"]["packed" if packed else "padded"]
    assert sum(line["positions"] for line in steps) == layout["positions"]
    assert details["padding_share"] == pytest.approx(found["padding_share"], abs=2e-6)
    assert found["padding_share"] == layout["padding_share"]
    assert (found["padding_share"] == 0) == packed
    shown = capsys.readouterr().err
    assert ("rows are packed, no computed position is padding" if packed else "computed positions are padding") in shown


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=60),
    micro=st.integers(1, 5),
    accumulation=st.integers(1, 4),
    steps=st.integers(1, 30),
)
def test_positions_are_counted_over_just_the_steps_of_the_run(
    lengths: list[int], micro: int, accumulation: int, steps: int
) -> None:
    order = RandomOrder(lengths, micro * accumulation, seed=5)
    batches = list(order.steps(steps))
    assert batches == [order.rows_of_step(step) for step in range(1, steps + 1)]
    positions = padded_positions(lengths, batches, micro)
    tokens = sum(lengths[row] for batch in batches for row in batch)
    assert positions.computed - positions.padding == tokens
    assert 0 <= positions.padding_share < 1
    assert padded_positions(lengths, batches, 1) == Positions(tokens, 0)


def test_rows_of_like_length_share_a_micro_batch() -> None:
    lengths = [10 if number % 2 else 90 for number in range(320)]
    order = RandomOrder(lengths, 16, seed=1)
    grouped = padded_positions(lengths, order.steps(20), 4).padding_share
    random_order = [sorted(batch) for batch in order.steps(20)]  # As good as random: the length follows the parity.
    assert grouped < 0.15 < 0.35 < padded_positions(lengths, random_order, 4).padding_share
