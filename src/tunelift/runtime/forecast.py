"""A training run on a card before it is run: does it fit, how long does it take, what does it cost."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tunelift.config.schema import TrainConfig
from tunelift.runtime.flops import StepFlops, training_flops
from tunelift.runtime.gpus import Gpu
from tunelift.runtime.memory import Peak, Training, largest_length, largest_rows, peak, training
from tunelift.runtime.shape import EMBEDDING, HEAD, ModelShape

PUBLISHED_MFU: dict[Literal["qlora", "lora"], float] = {"lora": 0.41, "qlora": 0.32}
"""What others reach with fused kernels, the default of `--mfu`. LoRA: NeMo AutoModel, Llama-3-8B in bf16 on one H100,
402 of 989 TFLOP/s (its performance summary, which tells of no recomputation). QLoRA: that times 2,413 / 3,083, the
tokens per second of the two in torchtune's README (Llama-3.1-8B on an RTX 4090). Measure yours: the live line of
`tunelift train` shows it."""


@dataclass(frozen=True)
class Tokens:
    """What is trained on."""

    rows: int
    """As training sees them: a conversation may make several."""
    tokens: int
    supervised: int

    @property
    def share(self) -> float:
        """Supervised ones among all."""
        return self.supervised / self.tokens


@dataclass(frozen=True)
class Forecast:
    """A run on one card."""

    run: Training
    peak: Peak
    memory_gib: float
    largest_rows: int
    """The largest micro-batch of `train.max_length` that fits."""
    largest_length: int
    """The longest rows that fit at this micro-batch."""
    mfu: float
    """Share of the card's peak that is counted on."""
    tokens_per_second: float | None
    """None where the card's speed is not known."""
    seconds: float | None
    """Of the whole training; None where the data set is not made yet, or the speed is not known."""
    not_counted: tuple[str, ...] = ()
    """Settings that take memory which is in no term, so that the height is at least what is planned."""
    counted_in_full: tuple[str, ...] = ()
    """Settings that leave layers without an adapter, which the plan counts all the same."""

    @property
    def fits(self) -> bool:
        """At its height it takes no more than the card has."""
        return self.peak.total <= self.memory_gib * 2**30

    def cost(self, per_hour: float | None) -> float | None:
        """In the currency of the price."""
        return None if per_hour is None or self.seconds is None else self.seconds / 3600 * per_hour


def forecast(
    shape: ModelShape,
    config: TrainConfig,
    *,
    memory_gib: float,
    tflops: float | None,
    mfu: float | None = None,
    data: Tokens | None = None,
    device: Literal["cpu", "cuda"] = "cuda",
) -> Forecast:
    """What to expect of `config`, whose autos are resolved.

    Args:
        shape: The base model.
        config: The section.
        memory_gib: The device's memory.
        tflops: Its peak, in 1e12 FLOP/s; None if it is not known.
        mfu: Share of the peak that training reaches with these settings; from `PUBLISHED_MFU` by default.
        data: The training split; without it every position counts as supervised and rows as full.
        device: What it runs on.
    """
    run = training(config, device=device, supervised_share=data.share if data else 1.0)
    length, flops = _mean_row(shape, config, run, data)
    # MFU counts model FLOPs alone: who computes more than those at the same speed has a lower one.
    share = mfu or PUBLISHED_MFU[run.kind] * flops.model / flops.hardware
    speed = None if tflops is None else share * tflops * 1e12 / flops.model * length
    seconds = None if speed is None or data is None else _tokens(config, data) / speed
    return Forecast(
        run=run,
        peak=peak(shape, run),
        memory_gib=memory_gib,
        largest_rows=largest_rows(shape, run, memory_gib),
        largest_length=largest_length(shape, run, memory_gib),
        mfu=share,
        tokens_per_second=speed,
        seconds=seconds,
        not_counted=not_counted(shape, config),
        counted_in_full=_counted_in_full(shape, config),
    )


def not_counted(shape: ModelShape, config: TrainConfig) -> tuple[str, ...]:
    """Settings whose memory is in no term of the plan, so that it is too low by what they take."""
    adapter = config.adapter
    others = [name for name in adapter.modules_to_save if not shape.whole((name,))]
    ends = any(_targets(adapter.targets, name) for name in (EMBEDDING, HEAD))
    found = {
        "train.adapter.dora (the weights' norms and their gradients)": adapter.dora,
        f"train.adapter.modules_to_save: {', '.join(others)} (16 bytes a parameter, and what they keep)": others,
        "train.adapter.targets (adapters of the embedding or the head)": ends,
        "train.adapter.options.bias (the biases' gradients and states)": adapter.options.bias != "none",
    }
    return tuple(name for name, there in found.items() if there)


def _targets(targets: str | tuple[str, ...], name: str) -> bool:
    """Whether PEFT gives this module an adapter."""
    if isinstance(targets, str):
        return targets != "all-linear" and re.fullmatch(targets, name) is not None
    return any(f".{name}".endswith(f".{end}") for end in targets)


def _counted_in_full(shape: ModelShape, config: TrainConfig) -> tuple[str, ...]:
    adapter = config.adapter
    found = {
        "train.adapter.options.exclude_modules": adapter.options.exclude_modules is not None,
        "train.adapter.options.layers_to_transform": adapter.options.layers_to_transform is not None,
        "train.adapter.targets in some of the layers only": shape.skips_layers(adapter.targets),
    }
    return tuple(name for name, there in found.items() if there)


def _mean_row(shape: ModelShape, config: TrainConfig, run: Training, data: Tokens | None) -> tuple[int, StepFlops]:
    """Tokens and FLOPs of a row of the data's mean length (attention's part is a little more where lengths differ)."""
    length = max(1, round(data.tokens / data.rows)) if data else config.max_length
    scored = round(length * (data.share if data else 1.0))
    adapters = shape.lora_parameters(run.rank, run.targets, run.rank_pattern)
    return length, training_flops(shape, [length], scored, adapters, checkpointing=run.checkpointing)


def _tokens(config: TrainConfig, data: Tokens) -> float:
    """Tokens of the whole training."""
    if config.max_steps:
        return config.max_steps * config.global_batch_size * data.tokens / data.rows
    return config.epochs * data.tokens


def rows_that_fit(shape: ModelShape, config: TrainConfig, memory_gib: float) -> int | None:
    """The largest micro-batch of full rows that fits on a GPU; None if some of its memory cannot be counted.

    Args:
        shape: The base model.
        config: With no `auto` but the micro-batch's left, which does not matter.
        memory_gib: The GPU's.
    """
    if not_counted(shape, config):
        return None
    run = training(config.model_copy(update={"micro_batch_size": 1}), device="cuda")
    return largest_rows(shape, run, memory_gib, limit=config.global_batch_size)


def speed_of(card: Gpu | None, precision: str) -> float | None:
    """The card's peak in this precision, in 1e12 FLOP/s."""
    if card is None:
        return None
    return card.fp32_tflops if precision == "fp32" else card.bf16_tflops
