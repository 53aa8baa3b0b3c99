"""Time, cost and serving on a card."""

from __future__ import annotations

import pytest

from tunelift.config.schema import EngineConfig, TrainConfig
from tunelift.runtime.flops import training_flops
from tunelift.runtime.forecast import Tokens, forecast, rows_that_fit
from tunelift.runtime.forecast_text import memory_lines, serving_lines, time_lines
from tunelift.runtime.gpus import find
from tunelift.runtime.published import published_shape
from tunelift.runtime.serving import serving_fits

SHAPE = published_shape("meta-llama/Llama-3.1-8B")
assert SHAPE is not None
DATA = Tokens(rows=1000, tokens=200_000, supervised=50_000)


def section(**changes) -> TrainConfig:
    settings = {
        "micro_batch_size": 4,
        "gradient_checkpointing": True,
        "attention": "sdpa",
        "precision": "bf16",
        "kernels": "none",
    }
    return TrainConfig.model_validate(settings | changes)


def test_time_is_tokens_times_flops_over_what_the_card_reaches() -> None:
    plan = forecast(SHAPE, section(epochs=2), memory_gib=24, tflops=100.0, mfu=0.5, data=DATA)
    flops = training_flops(SHAPE, [200], 50, SHAPE.lora_parameters(16, "all-linear")).model / 200
    assert plan.tokens_per_second == pytest.approx(0.5 * 100e12 / flops)
    assert plan.seconds == pytest.approx(400_000 / plan.tokens_per_second)
    assert plan.cost(2.0) == pytest.approx(plan.seconds / 1800)
    assert plan.run.scored == 1024, "a quarter of the positions is supervised"


def test_steps_override_epochs() -> None:
    plan = forecast(SHAPE, section(max_steps=10), memory_gib=24, tflops=100.0, data=DATA)
    assert plan.seconds == pytest.approx(10 * 16 * 200 / plan.tokens_per_second)


def test_what_is_not_known_is_said_and_not_guessed() -> None:
    blind = forecast(SHAPE, section(), memory_gib=24, tflops=None, data=DATA)
    assert (blind.tokens_per_second, blind.seconds, blind.cost(1.0)) == (None, None, None)
    assert "unknown" in time_lines(blind, None, None)[0]
    no_data = forecast(SHAPE, section(), memory_gib=24, tflops=100.0)
    assert time_lines(no_data, None, None, "known later")[1] == "time and cost: known later"
    priceless = forecast(SHAPE, section(), memory_gib=24, tflops=100.0, data=DATA)
    assert "cost unknown" in time_lines(priceless, None, None)[1]
    given = forecast(SHAPE, section(), memory_gib=24, tflops=100.0, mfu=0.3)
    assert "30% (as given)" in time_lines(given, 0.3, None)[0]


def test_the_published_speed_is_said_to_be_that_of_fused_kernels_and_whether_this_run_has_them() -> None:
    def said(**changes) -> str:
        return time_lines(forecast(SHAPE, section(**changes), memory_gib=24, tflops=100.0), None, None)[0]

    assert "22% (32% as published with fused kernels, which are not used here" in said()
    assert "computed again" in said()
    fused = said(kernels="hub", gradient_checkpointing=False)
    assert "32% (as published with fused kernels; --mfu" in fused


@pytest.mark.parametrize(
    ("kind", "recomputed", "measured"),
    [("qlora", False, 8598), ("qlora", True, 7814), ("lora", False, 11221), ("lora", True, 7992)],
)
def test_the_planned_speed_is_near_what_was_measured_on_an_h200(kind: str, recomputed: bool, measured: int) -> None:
    """README's figures: Llama 3.1 8B's shape, rows of 1,024 tokens, half of each supervised, micro-batch 8."""
    config = section(adapter={"kind": kind}, micro_batch_size=8, gradient_checkpointing=recomputed)
    rows = Tokens(rows=100, tokens=102_400, supervised=51_200)
    plan = forecast(SHAPE, config, memory_gib=find("h200").memory_gib, tflops=find("h200").bf16_tflops, data=rows)
    assert plan.tokens_per_second == pytest.approx(measured, rel=0.2)


def test_an_mfu_of_ones_own_holds_what_is_recomputed() -> None:
    """Model FLOPs over time: that its run computed more is in it already."""
    kept, again = (
        forecast(SHAPE, section(gradient_checkpointing=choice), memory_gib=24, tflops=100.0, mfu=0.3).tokens_per_second
        for choice in (False, True)
    )
    assert kept == again


def test_memory_is_shown_by_part_with_its_height_and_limits() -> None:
    plan = forecast(SHAPE, section(), memory_gib=24, tflops=None)
    text = "\n".join(memory_lines(plan))
    for part in ("4-bit weights", "4-bit statistics", "embeddings and head", "adapters", "optimizer", "CUDA context"):
        assert part in text
    assert "fits" in text and "largest micro-batch" in text
    assert "does not fit" in "\n".join(memory_lines(forecast(SHAPE, section(), memory_gib=6, tflops=None)))


def test_micro_batches_are_chosen_by_what_fits() -> None:
    few, many = (rows_that_fit(SHAPE, section(micro_batch_size="auto"), memory) for memory in (12, 24))
    assert 0 < few < many <= 16


@pytest.mark.parametrize(("card", "merged", "quantized"), [("rtx-4080", False, True), ("rtx-4090", True, True)])
def test_which_form_a_card_can_serve(card: str, merged: bool, quantized: bool) -> None:
    engine = EngineConfig(max_model_len=4096, dtype="bfloat16", enforce_eager=False)
    fits = serving_fits(SHAPE, engine, find(card).memory_gib, rank=16, targets="all-linear")
    assert [fit.sequences > 0 for fit in fits] == [merged, quantized]
    lines = serving_lines(fits, 4096)
    assert ("does not fit" in lines[0]) is not merged


def test_the_cache_of_a_token_is_two_bytes_for_each_key_and_value() -> None:
    """Llama 3.1 8B: 2 x 32 layers x 1,024 x 2 bytes = 128 KiB a token."""
    from tunelift.runtime.serving import cache_bytes

    assert cache_bytes(SHAPE, 2) == 128 * 1024


def test_what_no_term_counts_is_named() -> None:
    plan = forecast(SHAPE, section(adapter={"dora": True, "modules_to_save": ["lm_head"]}), memory_gib=24, tflops=None)
    said = [line for line in memory_lines(plan) if line.startswith("not counted")]
    assert len(said) == 2 and "dora" in said[0] and "modules_to_save" in said[1]
    assert not forecast(SHAPE, section(), memory_gib=24, tflops=None).not_counted
