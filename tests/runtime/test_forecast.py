"""Time, cost and serving on a card."""

from __future__ import annotations

import pytest

from tunelift.config.adapter import AdapterConfig
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


def test_the_published_speed_is_said_to_be_that_of_fused_kernels_which_this_run_has_not() -> None:
    def said(**changes) -> str:
        return time_lines(forecast(SHAPE, section(**changes), memory_gib=24, tflops=100.0), None, None)[0]

    assert "22% (32% as published with fused kernels, less the forward pass that is computed again" in said()
    assert "rather lower without them, as here" in said()
    assert "32% (as published with fused kernels; rather lower" in said(gradient_checkpointing=False)


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
    fits = serving_fits(SHAPE, engine, find(card).memory_gib, AdapterConfig(kind="qlora", rank=16))
    assert {mode: fit.sequences > 0 for mode, fit in fits.items()} == {"merged": merged, "adapter": quantized}
    lines = serving_lines(fits, 4096)
    assert ("does not fit" in lines[0]) is not merged and "(serve.mode=adapter)" in lines[1]
    for fit in fits.values():
        again = serving_fits(SHAPE, engine, fit.least_gib + 0.01, AdapterConfig(kind="qlora", rank=16))
        assert [one.sequences for one in again.values() if one.form == fit.form] == [1]


def test_an_adapter_on_16_bit_weights_takes_no_less_than_the_merged_model() -> None:
    engine = EngineConfig(max_model_len=4096, dtype="bfloat16", enforce_eager=False)
    fits = serving_fits(SHAPE, engine, 80, AdapterConfig(kind="lora", rank=16))
    assert fits["adapter"].form == "bfloat16 base + adapter" and fits["adapter"].cache_gib < fits["merged"].cache_gib


def test_the_cache_of_a_token_is_two_bytes_for_each_key_and_value() -> None:
    """Llama 3.1 8B: 2 x 32 layers x 1,024 x 2 bytes = 128 KiB a token."""
    from tunelift.runtime.serving import cache_bytes

    assert cache_bytes(SHAPE, 2) == 128 * 1024


def said_of(**adapter) -> str:
    return "\n".join(memory_lines(forecast(SHAPE, section(adapter=adapter), memory_gib=60, tflops=None)))


def test_what_no_term_counts_is_named_and_leaves_open_whether_it_fits() -> None:
    said = said_of(dora=True)
    assert "not counted: train.adapter.dora" in said
    assert "at least " in said and "whether it fits is unknown" in said and "tokens: at most " in said
    for adapter in (
        {"targets": ["q_proj", "lm_head"]},
        {"modules_to_save": ["self_attn"]},
        {"options": {"bias": "all"}},
    ):
        assert "whether it fits is unknown" in said_of(**adapter), adapter
    small = forecast(SHAPE, section(adapter={"dora": True}), memory_gib=6, tflops=None)
    assert "does not fit" in "\n".join(memory_lines(small))
    assert rows_that_fit(SHAPE, section(adapter={"dora": True}), 24) is None


def test_modules_trained_whole_are_counted_with_gradients_and_states() -> None:
    """Of Llama 3.1 8B's embedding and head: fp32 copies and gradients, and the embedding's states in fp32."""
    said = said_of(modules_to_save=["lm_head", "embed_tokens"])
    assert "not counted" not in said
    plain, whole = (
        forecast(SHAPE, section(adapter={"modules_to_save": names}), memory_gib=60, tflops=None)
        for names in ([], ["lm_head", "embed_tokens"])
    )
    copies = 4 * 2 * SHAPE.embedding_parameters
    assert whole.peak.parts["trained whole (fp32)"] == copies
    assert whole.peak.parts["optimizer states"] - plain.peak.parts["optimizer states"] == 2 * copies
    assert whole.peak.tensors - plain.peak.tensors > 4 * copies
    assert rows_that_fit(SHAPE, section(adapter={"modules_to_save": ["lm_head", "embed_tokens"]}), 24) == 0


def test_ranks_by_pattern_are_counted_layer_by_layer() -> None:
    pattern = {"down_proj": 32, r"layers\.0\..*_proj": 8}
    plan = forecast(SHAPE, section(adapter={"options": {"rank_pattern": pattern}}), memory_gib=24, tflops=None)
    dims = {linear.name.rpartition(".")[2]: linear.inputs + linear.outputs for linear in SHAPE.linears}
    others = sum(dims.values()) - dims["down_proj"]
    assert plan.peak.parts["adapters (fp32)"] == 4 * (32 * 32 * dims["down_proj"] + (31 * 16 + 8) * others)


def test_layers_left_out_are_said_to_be_counted() -> None:
    assert "counted as if it were not set: train.adapter.options.exclude_modules" in said_of(
        options={"exclude_modules": ["q_proj"]}
    )


def test_rows_packed_under_one_mask_take_more_on_a_gpu_than_rows_of_their_own() -> None:
    apart, packed, flash = (
        forecast(SHAPE, section(**changes), memory_gib=24, tflops=None).peak
        for changes in ({"packing": False}, {"packing": True}, {"packing": True, "attention": "flash_attention_2"})
    )
    # One layer's mask is alive: [4 x 1024, 4 x 1024] instead of 4 x [1024, 1024], in bf16; and rotary tables.
    layer = "in the last layer's backward pass"
    longer = packed.moments[layer] - apart.moments[layer]
    assert longer == 2 * (4096**2 - 4 * 1024**2) + 2 * 2 * 3 * 1024 * SHAPE.head_dim
    assert flash.moments[layer] < apart.moments[layer]
