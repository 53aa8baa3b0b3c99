"""Which form of a tuned model a card can serve through vLLM: weights, working memory, and the room for the cache."""

from __future__ import annotations

from dataclasses import dataclass

from tunelift.config.adapter import AdapterConfig
from tunelift.config.schema import EngineConfig
from tunelift.runtime.memory import CUDA_CONTEXT_GIB, GIB, adapter_tensors, weights
from tunelift.runtime.shape import ModelShape

FP32 = 4
WIDTHS = {"bfloat16": 2, "float16": 2, "float32": FP32}
"""Bytes of a number, by `engine.dtype`."""
GRAPHS_GIB = 1.0
"""Held back for CUDA graphs. vLLM measures them at start (`Estimated CUDA graph memory`); no formula gives them. Not
held back with engine.enforce_eager, which records none."""
LARGE_GIB, LARGE_TOKENS = 70, 8192
USUAL_TOKENS = 2048
"""vLLM's `max_num_batched_tokens` behind an endpoint: more on cards of 70 GiB and up (vllm/engine/arg_utils.py)."""


@dataclass(frozen=True)
class ServingFit:
    """One form of the model on one card; sizes in GiB."""

    form: str
    weights_gib: float
    working_gib: float
    """Activations of the largest batch, logits, context and graphs."""
    cache_gib: float
    """Left for keys and values; negative: the weights alone do not fit."""
    sequences: int
    """Requests of `engine.max_model_len` tokens that it holds at once; 0: it cannot be served."""
    least_gib: float
    """The smallest card that holds one of them."""


def cache_bytes(shape: ModelShape, width: int) -> int:
    """Keys and values of one token: 2 x layers x width of all key heads, `width` bytes each (arXiv 2309.06180)."""
    return 2 * width * shape.layers * shape.keys


def serving_fits(
    shape: ModelShape, engine: EngineConfig, memory_gib: float, adapter: AdapterConfig
) -> dict[str, ServingFit]:
    """By `serve.mode`: the merged model, and the base with its adapter, in 4 bits (bitsandbytes) if trained so.

    Args:
        shape: The base model.
        engine: With no `auto` left.
        memory_gib: The card's.
        adapter: What is trained.
    """
    width = WIDTHS[engine.dtype]
    beside = width * sum(adapter_tensors(shape, adapter.rank, adapter.targets))
    base = "4-bit" if adapter.kind == "qlora" else engine.dtype
    forms = {
        "merged": (f"merged, {engine.dtype}", sum(weights(shape, "lora", width).values())),
        "adapter": (f"{base} base + adapter", sum(weights(shape, adapter.kind, width).values()) + beside),
    }
    working = _working(shape, engine, memory_gib)
    each = cache_bytes(shape, width) * int(engine.max_model_len)
    found = {}
    for mode, (form, size) in forms.items():
        left = engine.gpu_memory_utilization * memory_gib - size / GIB - working
        sequences = max(0, int(left * GIB // each))
        least = (size / GIB + working + each / GIB) / engine.gpu_memory_utilization
        found[mode] = ServingFit(form, size / GIB, working, left, sequences, least)
    return found


def _working(shape: ModelShape, engine: EngineConfig, memory_gib: float) -> float:
    """GiB beside weights and cache.

    vLLM's widest point is the MLP: gate and up in one projection, then their product (3 x intermediate), beside the
    residual and its normed copy. Logits are made for each request's next token, then in fp32, and sorted for top-p.
    """
    width = WIDTHS[engine.dtype]
    tokens = LARGE_TOKENS if memory_gib >= LARGE_GIB else USUAL_TOKENS
    activations = tokens * width * (3 * shape.intermediate + 2 * shape.hidden)
    logits = engine.max_num_seqs * shape.vocabulary * (width + 2 * FP32)
    graphs = 0.0 if engine.enforce_eager is True else GRAPHS_GIB
    return (activations + logits) / GIB + CUDA_CONTEXT_GIB + graphs
