"""Shapes of published models, for plans made where the hub is out of reach: the numbers of their config.json."""

from __future__ import annotations

from typing import Any

from tunelift.runtime.shape import ModelShape, shape_from

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "num_key_value_heads": 8,
    "head_dim": 128,
}
LLAMA_8B = {**LLAMA, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32}
LLAMA_3B = {**LLAMA, "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28}
LLAMA_1B = {**LLAMA, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64}
QWEN3_8B = {
    "model_type": "qwen3",
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "meta-llama/Llama-3.1-8B": {**LLAMA_8B, "num_attention_heads": 32, "tie_word_embeddings": False},
    "meta-llama/Llama-3.2-3B": {**LLAMA_3B, "num_attention_heads": 24, "tie_word_embeddings": True},
    "meta-llama/Llama-3.2-1B": {**LLAMA_1B, "num_attention_heads": 32, "tie_word_embeddings": True},
    "Qwen/Qwen3-8B": QWEN3_8B,
}
"""By hub id, without `-Instruct`: tuning on instructions does not change a shape."""


def published_shape(model_id: str) -> ModelShape | None:
    """The shape of a model of the hub, if it is one of these."""
    described = CONFIGS.get(model_id.removesuffix("-Instruct"))
    return None if described is None else shape_from(described, where=model_id)
