"""Arithmetic of a forward pass and of a LoRA training step, counted as the field counts it for MFU.

A matrix product of [a, b] by [b, c] takes 2abc FLOPs. Norms, activations, rotations and the softmax are left out, as in
PaLM (arXiv 2204.02311, appendix B) and Megatron (arXiv 2205.05198, appendix A): they are below a percent.

*Model FLOPs* are what the mathematics asks for; MFU divides them. *Hardware FLOPs* add what is computed twice to save
memory (gradient checkpointing, arXiv 2205.05198, section 6); dividing those gives HFU.

PaLM's 6N per token is 2N forward, 2N for the gradients of activations, 2N for the gradients of weights. A frozen weight
has no gradient of its own, so LoRA (arXiv 2106.09685) and QLoRA take 4N over the base and 6n over the n adapter
parameters. Padding is no work of the model's: it is left out, so that padding lowers MFU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tunelift.runtime.shape import ModelShape


@dataclass(frozen=True)
class StepFlops:
    """FLOPs by where they are spent; forward and backward together."""

    base: float
    """The layers' frozen weights."""
    adapters: float
    attention: float
    """Queries by keys, and probabilities by values: the part that grows with the square of the length."""
    head: float
    """The output head, at the positions that are scored."""
    recomputation: float = 0.0
    """The layers' forward pass once more, with gradient checkpointing."""

    @property
    def model(self) -> float:
        """Model FLOPs: the numerator of MFU."""
        return self.base + self.adapters + self.attention + self.head

    @property
    def hardware(self) -> float:
        """Hardware FLOPs: the numerator of HFU."""
        return self.model + self.recomputation


def attention_flops(shape: ModelShape, lengths: Sequence[int]) -> float:
    """Forward attention of all layers: 2 products x 2 FLOPs x length^2 x query width per layer and row.

    The causal mask's upper half is counted, as PaLM's 12LHQT per token does (this forward part is 4LHQT), so that MFU
    compares with published values.
    """
    return 4.0 * shape.layers * shape.queries * sum(length * length for length in lengths)


def forward_flops(shape: ModelShape, lengths: Sequence[int], scored: int, adapter_parameters: int = 0) -> StepFlops:
    """One forward pass.

    Args:
        shape: The base model.
        lengths: Tokens of each row, without padding.
        scored: Positions at which the output head is computed: the supervised ones, or all.
        adapter_parameters: LoRA's, unmerged.
    """
    tokens = sum(lengths)
    return StepFlops(
        base=2.0 * shape.linear_parameters * tokens,
        adapters=2.0 * adapter_parameters * tokens,
        attention=attention_flops(shape, lengths),
        head=2.0 * shape.embedding_parameters * scored,
    )


def training_flops(
    shape: ModelShape, lengths: Sequence[int], scored: int, adapter_parameters: int, *, checkpointing: bool = False
) -> StepFlops:
    """Forward and backward pass of LoRA or QLoRA (dequantization is no matrix product and counts nothing).

    Base and head: 2 forward + 2 backward per weight, as both are frozen. Adapters: 2 + 4. Attention: both of its
    products have two gradients each, so backward is twice forward. The base's gradient is counted down to the first
    layer's input; autograd stops at that layer's lowest adapters, which is less by at most 2/(4 layers).

    Args:
        shape: The base model.
        lengths: Tokens of each row, without padding.
        scored: Supervised positions, at which the output head is computed.
        adapter_parameters: The trainable ones.
        checkpointing: Each layer's forward pass runs again in the backward pass; the head's does not.
    """
    forward = forward_flops(shape, lengths, scored, adapter_parameters)
    again = forward.base + forward.adapters + forward.attention
    return StepFlops(
        base=2 * forward.base,
        adapters=3 * forward.adapters,
        attention=3 * forward.attention,
        head=2 * forward.head,
        recomputation=again if checkpointing else 0.0,
    )


def mfu(flops: StepFlops, seconds: float, peak_flops_per_second: float) -> float:
    """Model FLOPs utilization: share of the device's matrix-product peak that a step's model FLOPs make use of."""
    return flops.model / seconds / peak_flops_per_second
