"""Figures that others have published, and what the plan's terms give with *their* settings put in.

torchtune: README, "Memory and training speed" and "Optimization flags"; recipes/configs/llama3_1/8B_*_single_device and
llama3_2/3B_*_single_device, which have been edited over time: rank 8 (3B: 64) on all but keys is taken for both kinds.
Adapters, their gradients and fused AdamW's states are bf16; each layer's input is checkpointed; the head's logits are
made and scored in 8 chunks (CEWithChunkedOutputLoss), which compiling fuses with the cast to fp32.

litgpt: config_hub/finetune/README.md and llama-3.1-8b/{lora,qlora}.yaml, litgpt/finetune/lora.py, litgpt/lora.py.
Everything is bf16; nothing is checkpointed; adapters of queries and values alone; 512 tokens.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tunelift.runtime.memory import GIB, NF4_BLOCK, SCALE_BLOCK, weights
from tunelift.runtime.published import published_shape
from tunelift.runtime.shape import ModelShape

BF16, FP32 = 2, 4
CHUNKS = 8
GB = 10**9
TORCHTUNE_TARGETS = ("q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
LITGPT_TARGETS = ("q_proj", "v_proj")
STASH = 5
"""Layer inputs that torchtune's offloading keeps on the GPU (`max_fwd_stash_size`)."""


@dataclass(frozen=True)
class Figure:
    """A published peak and the terms that make it up."""

    name: str
    published: float
    unit: int
    """Bytes of the figure's unit: GiB or GB."""
    terms: Callable[[], dict[str, float]]
    """Bytes, by part."""
    why: str = ""
    """What explains a disagreement beyond 15%."""


def _shape(name: str) -> ModelShape:
    shape = published_shape(name)
    assert shape is not None
    return shape


def _adapters(shape: ModelShape, rank: int, targets: tuple[str, ...]) -> float:
    """Weights, gradients and AdamW's two moments, all bf16."""
    return 4.0 * BF16 * shape.lora_parameters(rank, targets)


def torchtune(model: str, kind: str, *, rank: int, tokens: int, offloaded: bool) -> dict[str, float]:
    """torchtune's terms at its height, in the loss."""
    shape = _shape(model)
    base = weights(shape, "lora", BF16)
    linear = base.pop("linear weights")
    if kind == "qlora":  # torchao's NF4: 4 bits, a scale of 8 bit for 64, one of bf16 for 256 of those.
        parameters = linear / BF16
        linear = parameters * (0.5 + 1 / NF4_BLOCK + BF16 / (NF4_BLOCK * SCALE_BLOCK))
    kept = STASH if offloaded else shape.layers
    logits = BF16 * tokens * shape.vocabulary
    return {
        "weights": linear + sum(base.values()),
        "adapters, gradients, AdamW": _adapters(shape, rank, TORCHTUNE_TARGETS),
        "layers' inputs": kept * BF16 * tokens * shape.hidden,
        "logits, and a chunk's gradient": logits * (1 + 1 / CHUNKS),
    }


def litgpt(kind: str, *, rows: int, length: int = 512, rank: int = 32) -> dict[str, float]:
    """litgpt's terms at the end of the forward pass.

    A layer keeps: two norms' fp32 inputs; the dropped input of the fused projection's adapter and its mask; rotated
    queries, and keys and values repeated for each query head; the attention's output; gate, its activation, and up.
    """
    shape, tokens = _shape("meta-llama/Llama-3.1-8B"), rows * length
    base = weights(shape, "lora", BF16)
    linear, embeddings = base["linear weights"], base["embeddings and head"]
    if kind == "qlora":  # bnb.nf4 without double quantization, and the head as well: 4 bits, an fp32 scale for 64.
        packed = (linear + embeddings / 2) / BF16
        linear, embeddings = packed * (0.5 + FP32 / NF4_BLOCK), embeddings / 2
    h, q, m = shape.hidden, shape.queries, shape.intermediate
    layer = 2 * FP32 * (h + 1) + (BF16 + 1) * h + 4 * BF16 * q + FP32 * shape.heads + 3 * BF16 * m
    terms = {
        "weights": linear + embeddings + base["norms and biases"],
        "adapters, gradients, AdamW": _adapters(shape, rank, LITGPT_TARGETS),
        "activations": tokens * shape.layers * layer,
        "logits and their softmax": 2 * BF16 * tokens * shape.vocabulary,
    }
    if kind == "qlora":  # Older releases of bitsandbytes kept each 4-bit layer's input (`ctx.tensors = (A, B)`).
        terms["4-bit layers' inputs"] = BF16 * tokens * shape.layers * (2 * h + m)
    return terms


FIGURES = (
    Figure(
        "torchtune Llama-3.1-8B LoRA, RTX 4090, 2 x 2048",
        16.2,
        GIB,
        lambda: torchtune("meta-llama/Llama-3.1-8B", "lora", rank=8, tokens=4096, offloaded=False),
    ),
    Figure(
        "torchtune Llama-3.1-8B QLoRA, RTX 4090, 2 x 2048",
        7.4,
        GIB,
        lambda: torchtune("meta-llama/Llama-3.1-8B", "qlora", rank=8, tokens=4096, offloaded=False),
    ),
    Figure(
        "torchtune Llama-3.2-3B LoRA, A100, 2 x 4096",
        8.5,
        GIB,
        lambda: torchtune("meta-llama/Llama-3.2-3B", "lora", rank=64, tokens=8192, offloaded=True),
    ),
    Figure(
        "torchtune Llama-3.2-3B QLoRA, A100, 2 x 4096",
        4.6,
        GIB,
        lambda: torchtune("meta-llama/Llama-3.2-3B", "qlora", rank=64, tokens=8192, offloaded=True),
    ),
    Figure("litgpt Llama-3.1-8B LoRA, A10G, 1 x 512", 19.73, GB, lambda: litgpt("lora", rows=1)),
    Figure(
        "litgpt Llama-3.1-8B QLoRA, A10G, 2 x 512",
        17.41,
        GB,
        lambda: litgpt("qlora", rows=2),
        why=(
            "4.6 GB are in no term. litgpt's QLoRA takes more than its own LoRA for the same rows, which its tracker "
            "has as a bug (litgpt#1112): TinyLlama takes 13.32 GB as QLoRA and 10.54 GB as LoRA, in a table of "
            "litgpt#1113, though its weights are 1.6 GB smaller. So the excess is in what that implementation keeps, "
            "not in what QLoRA needs: torchtune's 7.4 GiB are for four times the tokens."
        ),
    ),
)
