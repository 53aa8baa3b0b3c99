"""Memory of a training step, by part and at its height: derived from the shape, before anything is loaded.

Every term is a tensor that exists: its bytes follow from the model's shape and the config. Nothing is fitted to a
measurement. What no formula gives, the CUDA context and the allocator's rounding, is kept apart and cited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import ceil
from typing import Literal

from tunelift.config.schema import TrainConfig
from tunelift.runtime import activations
from tunelift.runtime.activations import FP32, Attention, Pass
from tunelift.runtime.shape import EMBEDDING, HEAD, Linear, ModelShape, Ranks

GIB = 2**30
NF4_BLOCK = 64
"""Weights that share one scale (bitsandbytes' default, QLoRA's choice)."""
SCALE_BLOCK = 256
"""Scales that share one second-level scale."""
NF4_CONSTANTS = FP32 * (16 + 256 + 1)
"""Of each weight: NF4's 16 values, the 256 values of 8-bit scales, and the scales' mean."""
OPTIMIZER_BLOCK = 256
SMALLEST_8BIT = 4096
"""bitsandbytes keeps the states of smaller tensors in fp32."""
SMALLEST_PAGED = 100_000
"""bitsandbytes keeps the states of smaller tensors on the GPU."""
CUDA_CONTEXT_GIB = 0.71
"""What a process holds on a GPU before its first tensor: 723 MiB with PyTorch (discuss.pytorch.org/t/73021). Drivers
and cards differ by some hundred MiB; it is on the card and in no `torch.cuda` figure."""
ALLOCATOR_PAGE = 2 * 2**20
"""Requests above 10 MiB are rounded up to 2 MiB (c10/cuda/CUDACachingAllocator.cpp, kRoundLarge)."""


@dataclass(frozen=True)
class Training:
    """What decides, beside the model's shape, how much memory a step takes."""

    kind: Literal["qlora", "lora"]
    rank: int
    targets: str | tuple[str, ...]
    dropout: float
    optimizer: str
    rows: int
    """Micro-batch."""
    length: int
    scored: int
    """Supervised positions in a micro-batch."""
    precision: Literal["bf16", "fp32"]
    attention: Attention
    checkpointing: bool
    accumulates: bool
    """Several micro-batches make a step, so gradients of the ones before are there."""
    padded: bool = True
    packed: bool = False
    """The rows lie end to end as one, under one mask, as on a GPU without FlashAttention."""
    rank_pattern: Ranks = ()
    whole: tuple[str, ...] = ()
    """`modules_to_save`."""
    added_tokens: int = 0
    device: Literal["cpu", "cuda"] = "cuda"

    @property
    def width(self) -> int:
        """Bytes of a number in the computing precision."""
        return 2 if self.precision == "bf16" else FP32

    def forward(self, shape: ModelShape) -> Pass:
        """One micro-batch."""
        return Pass(
            shape=shape,
            rows=1 if self.packed else self.rows,
            length=self.rows * self.length if self.packed else self.length,
            scored=self.scored,
            rank=self.rank,
            targets=self.targets,
            rank_pattern=self.rank_pattern,
            whole=self.whole,
            token_rows=self.added_tokens > 0,
            dropout=self.dropout,
            width=self.width,
            attention="eager" if shape.soft_capped and self.attention == "sdpa" else self.attention,
            padded=self.padded,
            checkpointing=self.checkpointing,
            quantized=self.kind == "qlora",
            fused_dropout=self.device == "cuda",
        )

    def of_size(self, rows: int, length: int) -> Training:
        """The same training with other micro-batches; the supervised share of the positions stays."""
        share = self.scored / (self.rows * self.length)
        return replace(self, rows=rows, length=length, scored=ceil(share * rows * length), padded=rows > 1)


def training(config: TrainConfig, *, device: Literal["cpu", "cuda"], supervised_share: float = 1.0) -> Training:
    """A resolved config section as `Training`, for its longest rows.

    Args:
        config: With no `auto` left.
        device: Where it runs.
        supervised_share: Supervised positions among all; 1 is the most that can be.
    """
    rows, length = int(config.micro_batch_size), config.max_length
    return Training(
        kind=config.adapter.kind,
        rank=config.adapter.rank,
        targets=config.adapter.targets,
        dropout=config.adapter.dropout,
        optimizer=config.optimizer,
        rows=rows,
        length=length,
        scored=ceil(supervised_share * rows * length),
        precision="fp32" if config.precision == "fp32" else "bf16",
        attention="eager" if config.attention == "eager" else _fused(config.attention),
        checkpointing=bool(config.gradient_checkpointing),
        accumulates=config.global_batch_size > rows,
        padded=rows > 1,
        packed=config.packing is True and device == "cuda" and config.attention != "flash_attention_2",
        rank_pattern=tuple(config.adapter.options.rank_pattern.items()),
        whole=config.adapter.modules_to_save,
        added_tokens=len(config.added_tokens),
        device=device,
    )


def _fused(attention: str) -> Attention:
    return "flash_attention_2" if attention == "flash_attention_2" else "sdpa"


# --- what is there all the time -----------------------------------------------------------------------------------


def nf4_statistics(linear: Linear) -> int:
    """Bytes beside the 4-bit numbers of one weight, as bitsandbytes keeps them with double quantization.

    One scale for 64 weights, in 8 bit; one fp32 scale for 256 of those; the constants (QLoRA, arXiv 2305.14314, gives
    the same as 0.127 bits a weight, without the constants).
    """
    scales = ceil(linear.parameters / NF4_BLOCK)
    return scales + FP32 * ceil(scales / SCALE_BLOCK) + NF4_CONSTANTS


def weights(shape: ModelShape, kind: Literal["qlora", "lora"], width: int) -> dict[str, int]:
    """The frozen base, by part. `width`: bytes of a number that is not quantized."""
    linears = shape.layers * sum(linear.parameters for linear in shape.linears)
    rest = {
        "embeddings and head": width * shape.embedding_parameters * (1 if shape.tied else 2),
        "norms and biases": width * (shape.norm_parameters + shape.bias_parameters),
    }
    if kind == "lora":
        return {"linear weights": width * linears, **rest}
    statistics = shape.layers * sum(nf4_statistics(linear) for linear in shape.linears)
    return {"4-bit weights": ceil(linears / 2), "4-bit statistics": statistics, **rest}


def adapter_tensors(shape: ModelShape, rank: int, targets: str | tuple[str, ...], pattern: Ranks = ()) -> Iterator[int]:
    """Entries of each of the adapter's tensors."""
    for linear in shape.adapted(targets):
        for own in shape.ranks(linear, rank, pattern):
            yield from (own * linear.inputs, own * linear.outputs)


def token_tensors(run: Training, shape: ModelShape) -> list[int]:
    """Entries of the rows that are trained of the embedding and of a head of its own, unless those are whole."""
    ends = [EMBEDDING] if shape.tied else [EMBEDDING, HEAD]
    free = [end for end in ends if end not in shape.whole(run.whole)]
    return [run.added_tokens * shape.hidden] * len(free) if run.added_tokens else []


def trained_tensors(run: Training, shape: ModelShape) -> list[int]:
    """Entries of each tensor that is trained; all are fp32."""
    adapters = adapter_tensors(shape, run.rank, run.targets, run.rank_pattern)
    return [*adapters, *shape.whole(run.whole).values(), *token_tensors(run, shape)]


def optimizer_states(run: Training, shape: ModelShape) -> int:
    """AdamW's two moments on the device: fp32, or 8 bit with an fp32 scale for 256 (arXiv 2110.02861).

    Paged states lie in memory that the driver moves to the host when the GPU needs the room: they are not counted.
    """
    tensors = trained_tensors(run, shape)
    if run.optimizer == "adamw_torch":
        return 2 * FP32 * sum(tensors)
    total = 0
    whole_embedding = shape.whole(run.whole).get(EMBEDDING)
    for size in tensors:
        eight = size >= SMALLEST_8BIT and size != whole_embedding  # transformers keeps an embedding's states in fp32.
        states = 2 * (size if eight else FP32 * size)
        scales = 2 * FP32 * ceil(size / OPTIMIZER_BLOCK) if eight else 0
        paged = run.optimizer.startswith("paged") and size >= SMALLEST_PAGED
        total += scales + (0 if paged else states)
    return total


def optimizer_working(run: Training, shape: ModelShape) -> int:
    """While parameters are updated: the second moments' roots, of all tensors at once on a GPU (torch's `foreach`)."""
    tensors = trained_tensors(run, shape)
    if run.optimizer != "adamw_torch":
        return 0  # One fused kernel a tensor.
    return FP32 * sum(tensors) if run.device == "cuda" else 2 * FP32 * max(tensors, default=0)


# --- the height ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Peak:
    """Memory by part when it is highest."""

    moment: str
    """What is going on then."""
    parts: dict[str, int]
    """Bytes of tensors, by part."""
    moments: dict[str, int]
    """Bytes of tensors at each moment that was considered."""
    context: int
    """Bytes that the CUDA context takes; none on a CPU."""
    rounding: int
    """At most so many bytes more by the allocator's rounding; what fragments beyond that, no formula gives."""

    @property
    def tensors(self) -> int:
        """Bytes of all tensors."""
        return sum(self.parts.values())

    @property
    def total(self) -> int:
        """Bytes of the device."""
        return self.tensors + self.context + self.rounding


def peak(shape: ModelShape, run: Training) -> Peak:
    """The height of a training step, from the second step on (the optimizer's states exist)."""
    forward = run.forward(shape)
    adapters = sum(adapter_tensors(shape, run.rank, run.targets, run.rank_pattern))
    whole, rows = sum(shape.whole(run.whole).values()), sum(token_tensors(run, shape))
    entries = adapters + whole + rows
    standing = {
        **weights(shape, run.kind, run.width),
        "adapters (fp32)": FP32 * adapters,
        "trained whole (fp32)": FP32 * whole,  # Beside the originals, which PEFT keeps.
        "added tokens": _added_tokens(run, shape),
        "optimizer states": optimizer_states(run, shape),
        "batch": 3 * 8 * forward.tokens,
    }
    gradients = FP32 * entries if run.accumulates else 0
    moments = {
        "in the loss": {
            "gradients": gradients,
            "activations": activations.forward_saved(forward),
            "loss": activations.loss_working(forward),
        },
        **_backward(forward, gradients),
        **_ends_backward(forward, gradients, entries),
        "in the optimizer's step": {
            "gradients": FP32 * entries,
            "optimizer's working memory": optimizer_working(run, shape),
        },
    }
    sums = {moment: sum(standing.values()) + sum(parts.values()) for moment, parts in moments.items()}
    moment = max(sums, key=lambda name: sums[name])
    on_gpu = run.device == "cuda"
    return Peak(
        moment=moment,
        parts={**standing, **moments[moment]},
        moments=sums,
        context=round(CUDA_CONTEXT_GIB * GIB) if on_gpu else 0,
        rounding=ALLOCATOR_PAGE * _large_tensors(forward) if on_gpu else 0,
    )


def _added_tokens(run: Training, shape: ModelShape) -> int:
    """Their rows: trained ones and a copy of those they began as, and what the matrices grow by."""
    grown = run.width * run.added_tokens * shape.hidden * (1 if shape.tied else 2)
    return (FP32 + run.width) * sum(token_tensors(run, shape)) + grown


def _ends_backward(forward: Pass, gradients: int, entries: int) -> dict[str, dict[str, int]]:
    """The backward passes of a head and of an embedding that are trained."""
    saved, head = activations.forward_saved(forward), activations.head_working(forward)
    embedding = activations.embedding_working(forward)
    found = {}
    if head:
        found["in the head's backward pass"] = {
            "gradients": gradients,
            "activations": saved,
            "working memory": head,
        }
    if embedding:
        whole = forward.shape.embedding_parameters if EMBEDDING in forward.whole_modules else 0
        found["in the embedding's backward pass"] = {
            "gradients": max(gradients, FP32 * (entries - whole)) + _head_waiting(forward),
            "working memory": embedding,
        }
    return found


def _with_head(forward: Pass, gradients: int) -> int:
    """Gradients once the head is through: those of micro-batches before, or if there were none, a whole head's."""
    whole = forward.head_is_whole and not forward.shape.tied
    return gradients or (FP32 * forward.shape.embedding_parameters if whole else 0)


def _head_waiting(forward: Pass) -> int:
    """A tied head's gradient, which waits for the embedding's, to which it is added."""
    if not forward.shape.tied:
        return 0
    if EMBEDDING in forward.whole_modules:
        return FP32 * forward.shape.embedding_parameters
    return 0


def _backward(forward: Pass, gradients: int) -> dict[str, dict[str, int]]:
    """The moments of the backward pass at which most is alive."""
    saved, last = activations.forward_saved(forward), activations.norm_saved(forward)
    layer = activations.layer_saved(forward)
    held = saved - last - activations.head_saved(forward)
    held += activations.layer_recomputed(forward) if forward.checkpointing else 0
    accumulated, gradients = gradients, _with_head(forward, gradients) + _head_waiting(forward)
    moments = {
        "in the last norm's backward pass": (saved, activations.norm_working(forward)),
        "in the last layer's backward pass": (held, activations.mlp_working(forward)),
    }
    if forward.checkpointing:
        again = held, activations.recomputation_working(forward)
        moments["in the last layer's second forward pass"] = again
    if forward.attention == "eager":
        below = held - layer + activations.lower_half_saved(forward)
        moments["in the last layer's attention, backward"] = (below, activations.eager_working(forward))
    found = {
        moment: {"gradients": gradients, "activations": kept, "working memory": working}
        for moment, (kept, working) in moments.items()
    }
    if forward.checkpointing and not accumulated:
        # Layers' inputs go as gradients come: one end or the other is higher.
        layers = forward.shape.layers
        inputs = (layers - 1) * forward.tokens * forward.stream * forward.shape.hidden
        entries = sum(adapter_tensors(forward.shape, forward.rank, forward.targets, forward.rank_pattern))
        found["in the first layer's backward pass"] = {
            "gradients": gradients + FP32 * entries * (layers - 1) // layers,
            "activations": held - inputs,
            "working memory": activations.mlp_working(forward),
        }
    return found


def _large_tensors(forward: Pass) -> int:
    """Tensors above 10 MiB that stay: one for each linear weight, and a layer's activations for each that is kept."""
    per_layer = len(forward.shape.linears) + (1 if forward.checkpointing else 12)
    return forward.shape.layers * per_layer + 4


# --- does it fit ----------------------------------------------------------------------------------------------------


def fits(shape: ModelShape, run: Training, memory_gib: float) -> bool:
    """Whether the height is below the device's memory."""
    return peak(shape, run).total <= memory_gib * GIB


def largest_rows(shape: ModelShape, run: Training, memory_gib: float, limit: int = 1024) -> int:
    """The largest micro-batch that fits at this length; 0 if not even one row does."""
    return _largest(lambda rows: fits(shape, run.of_size(rows, run.length), memory_gib), limit)


def largest_length(shape: ModelShape, run: Training, memory_gib: float) -> int:
    """The longest rows that fit at this micro-batch, within the model's context; 0 if none do."""
    return _largest(lambda length: fits(shape, run.of_size(run.rows, length), memory_gib), shape.context)


def _largest(holds: Callable[[int], bool], limit: int) -> int:
    """The largest number up to `limit` for which `holds`, which no larger number does once one does not."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if holds(middle) else (low, middle - 1)
    return low
