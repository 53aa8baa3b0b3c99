"""The memory plan's parts at the shape of an 8B model, and how they answer to the settings."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tunelift.config.schema import TrainConfig
from tunelift.runtime import activations
from tunelift.runtime.memory import (
    GIB,
    Training,
    adapter_tensors,
    fits,
    largest_length,
    largest_rows,
    nf4_statistics,
    optimizer_states,
    peak,
    training,
    weights,
)
from tunelift.runtime.published import CONFIGS, published_shape

LLAMA = published_shape("meta-llama/Llama-3.1-8B-Instruct")
assert LLAMA is not None
RUN = Training(
    kind="qlora",
    rank=16,
    targets="all-linear",
    dropout=0.0,
    optimizer="paged_adamw_8bit",
    rows=2,
    length=1024,
    scored=2048,
    precision="bf16",
    attention="sdpa",
    checkpointing=True,
    accumulates=True,
)


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_published_shapes_are_what_transformers_builds(name: str) -> None:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    described = dict(CONFIGS[name])
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(described.pop("model_type"), **described))
    shape = published_shape(name)
    assert shape is not None
    assert shape.parameters == sum(part.numel() for part in model.parameters())
    assert sum(weights(shape, "lora", 2).values()) == 2 * shape.parameters


def test_4_bit_bytes_are_those_of_bitsandbytes() -> None:
    """A weight of the 8B shape, quantized for real: packed numbers, scales, second scales and constants."""
    import torch
    from bitsandbytes.functional import quantize_4bit

    linear = next(linear for linear in LLAMA.linears if linear.name == "self_attn.k_proj")
    packed, state = quantize_4bit(
        torch.randn(linear.outputs, linear.inputs, dtype=torch.bfloat16), quant_type="nf4", compress_statistics=True
    )
    held = [packed, state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
    measured = sum(tensor.numel() * tensor.element_size() for tensor in held)
    one = replace(LLAMA, layers=1)
    others = sum(other.parameters for other in LLAMA.linears if other != linear)
    planned = weights(one, "qlora", 2)
    assert measured == planned["4-bit weights"] - others // 2 + nf4_statistics(linear)


def test_adapters_and_states_follow_bitsandbytes_rules() -> None:
    entries = sum(adapter_tensors(LLAMA, 16, "all-linear"))
    assert entries == LLAMA.lora_parameters(16, "all-linear") == 41_943_040
    plain, eight, paged = (
        optimizer_states(replace(RUN, optimizer=name), LLAMA)
        for name in ("adamw_torch", "adamw_8bit", "paged_adamw_8bit")
    )
    assert plain == 8 * entries
    assert eight == 2 * entries + 8 * entries // 256
    on_gpu = sum(size for size in adapter_tensors(LLAMA, 16, "all-linear") if size < 100_000)
    assert paged == 2 * on_gpu + 8 * entries // 256


def test_states_of_small_tensors_stay_in_fp32() -> None:
    """bitsandbytes keeps tensors below 4,096 entries in fp32."""
    shape = replace(LLAMA, hidden=64, intermediate=64, heads=1, kv_heads=1, head_dim=64)
    sizes = list(adapter_tensors(shape, 4, "all-linear"))
    assert max(sizes) < 4096
    assert optimizer_states(replace(RUN, rank=4, optimizer="adamw_8bit"), shape) == 8 * sum(sizes)


def test_recomputation_and_a_quantized_base_take_less() -> None:
    whole = peak(LLAMA, RUN).tensors
    assert peak(LLAMA, replace(RUN, checkpointing=False)).tensors > whole + 8 * GIB
    assert peak(LLAMA, replace(RUN, kind="lora")).tensors == pytest.approx(whole + 2 * 0.73 * 6.98e9, rel=0.01)


def test_only_supervised_positions_take_memory_in_the_loss() -> None:
    all_, few = peak(LLAMA, RUN), peak(LLAMA, replace(RUN, scored=64))
    assert all_.moment == "in the loss"
    assert all_.parts["loss"] == 12 * 2048 * LLAMA.vocabulary
    assert few.moment != "in the loss"
    assert few.tensors < all_.tensors - 2 * GIB


def test_the_sum_of_the_parts_is_the_height_and_no_moment_is_above_it() -> None:
    for settings in (RUN, replace(RUN, checkpointing=False), replace(RUN, attention="eager"), replace(RUN, rows=1)):
        height = peak(LLAMA, settings)
        assert height.tensors == max(height.moments.values()) == sum(height.parts.values())
        assert height.total > height.tensors


def test_memory_never_falls_with_rows_or_length_and_the_limits_are_tight() -> None:
    sizes = [peak(LLAMA, RUN.of_size(rows, 1024)).total for rows in range(1, 12)]
    assert sizes == sorted(sizes)
    rows = largest_rows(LLAMA, RUN, 24)
    assert fits(LLAMA, RUN.of_size(rows, 1024), 24) and not fits(LLAMA, RUN.of_size(rows + 1, 1024), 24)
    length = largest_length(LLAMA, RUN, 24)
    assert fits(LLAMA, RUN.of_size(2, length), 24) and not fits(LLAMA, RUN.of_size(2, length + 1), 24)
    assert largest_rows(LLAMA, RUN, 4) == 0


def test_a_mask_costs_what_grouped_heads_save() -> None:
    forward = RUN.forward(LLAMA)
    masked, plain = (activations.attention_saved(replace(forward, padded=padded)) for padded in (True, False))
    repeated = 2 * 2 * (LLAMA.queries - LLAMA.keys)
    assert masked - plain == forward.tokens * (repeated + 2 * forward.length)
    flash = replace(forward, padded=True, attention="flash_attention_2")
    assert activations.attention_saved(flash) == plain


def test_a_resolved_section_becomes_the_settings_that_decide() -> None:
    section = TrainConfig(
        micro_batch_size=2,
        global_batch_size=8,
        gradient_checkpointing=True,
        attention="sdpa",
        precision="fp32",
    )
    run = training(section, device="cpu", supervised_share=0.25)
    assert (run.rows, run.length, run.scored, run.width) == (2, 1024, 512, 4)
    assert run.accumulates and run.padded and run.checkpointing
