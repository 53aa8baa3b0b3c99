"""FLOPs: the formulas against torch's own counter on real passes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import make_tiny_model
from tunelift.runtime.flops import forward_flops, mfu, training_flops
from tunelift.runtime.shape import read_shape

ROWS, LENGTH, RANK = 2, 48, 4


def counted(folder: Path, *, checkpointing: bool) -> tuple[int, int]:
    """FLOPs that torch counts in a forward and in a whole LoRA pass that scores every position."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = get_peft_model(base, LoraConfig(r=RANK, target_modules="all-linear", task_type="CAUSAL_LM"))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()  # So that the gradient goes down to the first layer's input, as is counted.
    model.train()
    ids = torch.randint(0, base.config.vocab_size, (ROWS, LENGTH))
    with FlopCounterMode(display=False) as forward:
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    with FlopCounterMode(display=False) as backward:
        loss.backward()
    return forward.get_total_flops(), forward.get_total_flops() + backward.get_total_flops()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_formula_is_what_torch_counts(checkpointing: bool, tmp_path: Path) -> None:
    folder = make_tiny_model(tmp_path, layers=3)
    shape = read_shape(folder)
    adapters = shape.lora_parameters(RANK, "all-linear")
    lengths, scored = [LENGTH] * ROWS, ROWS * LENGTH
    forward, whole = counted(folder, checkpointing=checkpointing)
    assert forward_flops(shape, lengths, scored, adapters).model == pytest.approx(forward, rel=1e-3)
    step = training_flops(shape, lengths, scored, adapters, checkpointing=checkpointing)
    assert step.hardware == pytest.approx(whole, rel=1e-3)
    assert (step.hardware > step.model) is checkpointing


def test_palms_own_formula_follows_when_everything_is_trained() -> None:
    """6N + 12LHQT per token, of which the frozen base leaves 4N."""
    from tests.runtime.test_shape import SMALL
    from tunelift.runtime.shape import shape_from

    shape = shape_from({"model_type": "llama", **SMALL}, where="")
    length = 32
    step = training_flops(shape, [length], length, adapter_parameters=0)
    quadratic = 12 * shape.layers * shape.heads * shape.head_dim * length
    assert step.attention == quadratic * length
    assert step.base + step.head == 4 * (shape.linear_parameters + shape.embedding_parameters) * length


def test_only_supervised_positions_pay_for_the_head() -> None:
    from tests.runtime.test_shape import SMALL
    from tunelift.runtime.shape import shape_from

    shape = shape_from({"model_type": "llama", **SMALL}, where="")
    few, all_ = training_flops(shape, [64], 4, 100), training_flops(shape, [64], 64, 100)
    assert (few.base, few.attention, few.adapters) == (all_.base, all_.attention, all_.adapters)
    assert all_.head == 16 * few.head
    assert mfu(few, seconds=2.0, peak_flops_per_second=few.model) == 0.5
