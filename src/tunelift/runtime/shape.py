"""A decoder's shape: the few numbers of config.json that decide how much memory and arithmetic a model takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeGuard

from tunelift.errors import UserError

REMEDY = "Plans and MFU are known for {}. Training itself takes any dense text model that transformers knows."


@dataclass(frozen=True)
class Family:
    """What config.json leaves to the architecture's code; read from transformers 5.19's modeling files."""

    query_bias: bool | None = False
    """Biases on the projections to queries, keys and values; None: as `attention_bias` says."""
    output_bias: bool | None = False
    """Bias on attention's output projection; None: as `attention_bias` says."""
    head_norm: Literal["none", "head", "projection"] = "none"
    """RMSNorm of queries and keys: of each head, or of the whole projection."""
    layer_norms: int = 2
    """RMSNorms of the hidden width in a layer."""
    post_norm: bool = False
    """A norm follows the MLP, before the residual is added."""
    fused: bool = False
    """One projection makes queries, keys and values, and one makes both halves of the gated MLP."""
    tied: bool = False
    """`tie_word_embeddings` where config.json does not say."""


FAMILIES: dict[str, Family] = {
    "llama": Family(query_bias=None, output_bias=None),
    "mistral": Family(),
    "qwen2": Family(query_bias=True),
    "qwen3": Family(query_bias=None, output_bias=None, head_norm="head"),
    "phi3": Family(fused=True),
    "gemma2": Family(query_bias=None, output_bias=None, layer_norms=4, post_norm=True, tied=True),
    "gemma3_text": Family(
        query_bias=None, output_bias=None, layer_norms=4, post_norm=True, head_norm="head", tied=True
    ),
    "olmo2": Family(query_bias=None, output_bias=None, head_norm="projection", post_norm=True),
    "granite": Family(query_bias=None, output_bias=None),
    "smollm3": Family(query_bias=None, output_bias=None, tied=True),
}
"""By config.json's `model_type`."""

EMBEDDING, HEAD = "model.embed_tokens", "lm_head"
LAYER_NORMS = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
Ranks = tuple[tuple[str, int], ...]
"""PEFT's `rank_pattern`: other ranks by module name or regular expression."""

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


@dataclass(frozen=True)
class Linear:
    """A linear layer inside a decoder layer."""

    name: str
    """Its path in the layer, such as `self_attn.q_proj`."""
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Weights, without the bias."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class ModelShape:
    """A dense decoder with grouped-query attention and a gated MLP."""

    family: str
    """config.json's `model_type`."""
    layers: int
    hidden: int
    intermediate: int
    """Width inside the MLP."""
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    context: int
    """Longest sequence in tokens."""
    tied: bool
    """The output head is the embedding's own weight."""
    query_bias: bool
    output_bias: bool
    mlp_bias: bool
    activation: str
    """Of the gated MLP: `silu` makes SwiGLU, `gelu_pytorch_tanh` GeGLU."""
    soft_capped: bool = False
    """Attention's scores go through a tanh, which PyTorch's fused attention does not know (`keeping_the_cap`)."""

    @property
    def queries(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all key heads together; values are as wide."""
        return self.kv_heads * self.head_dim

    @property
    def linears(self) -> tuple[Linear, ...]:
        """The linear layers of one decoder layer, in the order in which they are used."""
        h, m, q, k = self.hidden, self.intermediate, self.queries, self.keys
        bias, out, mlp = self.query_bias, self.output_bias, self.mlp_bias
        if FAMILIES[self.family].fused:
            return (
                Linear("self_attn.qkv_proj", h, q + 2 * k, bias),
                Linear("self_attn.o_proj", q, h, out),
                Linear("mlp.gate_up_proj", h, 2 * m, mlp),
                Linear("mlp.down_proj", m, h, mlp),
            )
        return (
            Linear("self_attn.q_proj", h, q, bias),
            Linear("self_attn.k_proj", h, k, bias),
            Linear("self_attn.v_proj", h, k, bias),
            Linear("self_attn.o_proj", q, h, out),
            Linear("mlp.gate_proj", h, m, mlp),
            Linear("mlp.up_proj", h, m, mlp),
            Linear("mlp.down_proj", m, h, mlp),
        )

    @property
    def linear_parameters(self) -> int:
        """Weights of the layers' linear layers, all layers together: what 4-bit quantizes and LoRA can adapt."""
        return self.layers * sum(linear.parameters for linear in self.linears)

    @property
    def norm_parameters(self) -> int:
        """Weights of all norms, the last one included."""
        family = FAMILIES[self.family]
        heads = {"none": 0, "head": 2 * self.head_dim, "projection": self.queries + self.keys}[family.head_norm]
        return self.layers * (family.layer_norms * self.hidden + heads) + self.hidden

    @property
    def bias_parameters(self) -> int:
        """Biases of all linear layers."""
        return self.layers * sum(linear.outputs for linear in self.linears if linear.bias)

    @property
    def embedding_parameters(self) -> int:
        """The input embedding; an untied head has as many again."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All of the model's parameters."""
        embeddings = self.embedding_parameters * (1 if self.tied else 2)
        return self.linear_parameters + self.norm_parameters + self.bias_parameters + embeddings

    def adapted(self, targets: str | Sequence[str]) -> tuple[Linear, ...]:
        """The linear layers of one decoder layer that get an adapter, matched by name as PEFT does.

        Args:
            targets: `all-linear`, ends of module names such as `q_proj`, or a regular expression over whole names;
                a linear layer counts if it gets one in any decoder layer.
        """
        if targets == "all-linear":
            return self.linears
        if isinstance(targets, str):
            return tuple(linear for linear in self.linears if any(self._matched(linear, targets)))
        return tuple(linear for linear in self.linears if any(f".{linear.name}".endswith(f".{end}") for end in targets))

    def skips_layers(self, targets: str | Sequence[str]) -> bool:
        """Whether some linear layer gets an adapter in a part of the decoder layers only."""
        if targets == "all-linear" or not isinstance(targets, str):
            return False
        return any(0 < sum(self._matched(linear, targets)) < self.layers for linear in self.linears)

    def _matched(self, linear: Linear, pattern: str) -> list[bool]:
        names = (f"model.layers.{layer}.{linear.name}" for layer in range(self.layers))
        return [re.fullmatch(pattern, name) is not None for name in names]

    def ranks(self, linear: Linear, rank: int, pattern: Ranks = ()) -> list[int]:
        """The rank of its adapter in each layer; the first pattern that matches its whole name or the end of that."""
        names = [f"model.layers.{layer}.{linear.name}" for layer in range(self.layers)] if pattern else []
        found = [next((r for key, r in pattern if re.match(rf"(.*\.)?({key})$", name)), rank) for name in names]
        return found or [rank] * self.layers

    def lora_parameters(self, rank: int, targets: str | Sequence[str], pattern: Ranks = ()) -> int:
        """Trainable parameters of plain LoRA: A is [rank, inputs] and B is [outputs, rank] (arXiv 2106.09685)."""
        return sum(
            sum(self.ranks(linear, rank, pattern)) * (linear.inputs + linear.outputs)
            for linear in self.adapted(targets)
        )

    @property
    def modules(self) -> dict[str, int]:
        """Weights of each module outside the linear layers, by its full name; a tied head is not one of its own."""
        family = FAMILIES[self.family]
        names = LAYER_NORMS if family.layer_norms == len(LAYER_NORMS) else LAYER_NORMS[1::2]
        if family.layer_norms == 2 and not family.post_norm:
            names = LAYER_NORMS[:2]
        layer = dict.fromkeys(names, self.hidden)
        if family.head_norm != "none":
            widths = (self.head_dim, self.head_dim) if family.head_norm == "head" else (self.queries, self.keys)
            layer |= {"self_attn.q_norm": widths[0], "self_attn.k_norm": widths[1]}
        ends = {EMBEDDING: self.embedding_parameters, "model.norm": self.hidden}
        ends |= {} if self.tied else {HEAD: self.embedding_parameters}
        return ends | {f"model.layers.{n}.{name}": size for n in range(self.layers) for name, size in layer.items()}

    def whole(self, names: Sequence[str]) -> dict[str, int]:
        """Those of `modules` that are trained whole: PEFT takes every module whose name ends in one of these."""
        found = {name: size for name, size in self.modules.items() if name.endswith(tuple(names))}
        if self.tied and HEAD.endswith(tuple(names)):
            found[EMBEDDING] = self.embedding_parameters
        return found


def read_shape(folder: Path) -> ModelShape:
    """The shape of the model in a folder, from its config.json.

    Raises:
        UserError: no config.json, or an architecture that is not known here.
    """
    path = folder / "config.json"
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            "The file is missing.", where=str(path), remedy="A model folder needs config.json and *.safetensors."
        ) from None
    except ValueError as error:
        raise UserError(
            f"The file is damaged: {error}.", where=str(path), remedy="Copy or download it again."
        ) from error
    return shape_from(described, where=str(path))


def shape_from(described: Mapping[str, Any], *, where: str) -> ModelShape:
    """The shape that a parsed config.json describes.

    Raises:
        UserError: an architecture that is not known here, a mixture of experts, or a number missing.
    """
    known = REMEDY.format(", ".join(sorted(FAMILIES)))
    name = described.get("model_type")
    if has_experts(described):
        raise UserError(f"model_type={name!r} is a mixture of experts.", where=where, remedy=known)
    if name not in FAMILIES:
        raise UserError(f"model_type={name!r} is no architecture whose shape is known.", where=where, remedy=known)
    family = FAMILIES[name]

    def number(key: str, otherwise: int | None = None) -> int:
        value = described.get(key) or otherwise
        if not _positive(value):
            raise UserError(f"{key}={described.get(key)!r} should be a positive whole number.", where=where)
        return value

    def flag(key: str, otherwise: bool) -> bool:
        value = described.get(key)
        return otherwise if value is None else bool(value)

    hidden, heads = number("hidden_size"), number("num_attention_heads")
    bias = flag("attention_bias", otherwise=False)
    return ModelShape(
        family=name,
        layers=number("num_hidden_layers"),
        hidden=hidden,
        intermediate=number("intermediate_size"),
        heads=heads,
        kv_heads=number("num_key_value_heads", heads),
        head_dim=number("head_dim", hidden // heads),
        vocabulary=number("vocab_size"),
        context=number("max_position_embeddings", 4096),
        tied=flag("tie_word_embeddings", otherwise=family.tied),
        query_bias=bias if family.query_bias is None else family.query_bias,
        output_bias=bias if family.output_bias is None else family.output_bias,
        mlp_bias=flag("mlp_bias", otherwise=False),
        activation=str(described.get("hidden_act") or described.get("hidden_activation") or "silu"),
        soft_capped=bool(described.get("attn_logit_softcapping")),
    )


def has_experts(described: Mapping[str, Any]) -> bool:
    """Whether a parsed config.json is that of a mixture of experts."""
    return any(_positive(described.get(key)) and described[key] > 1 for key in EXPERTS)


def _positive(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
