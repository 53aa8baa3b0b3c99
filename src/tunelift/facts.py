"""What resolving a config depends on beside the config: the machine, the packages here, the room a model leaves."""

from __future__ import annotations

import math
import os
import re
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from tunelift.config.resolve import Facts
from tunelift.config.schema import Config, TrainConfig, merged_only
from tunelift.errors import UserError
from tunelift.runtime import hardware
from tunelift.runtime.forecast import rows_that_fit
from tunelift.runtime.serving import WIDTHS, ServingFit, serving_fits
from tunelift.runtime.shape import ModelShape, read_shape

NF4_BYTES = 0.6
"""Of a parameter in 4 bits with its scales, the embeddings in 16 counted in."""
MERGE_GIB = 3.0
"""Beside the weights of a merge: the context, a batch of the comparison, the largest layer in fp32. On a CPU the
process and a shard that is written take as much."""
FLASH_ATTENTION = (2, 3, 3)
"""The oldest flash-attn that transformers takes (its `is_flash_attn_2_available`)."""


def facts_for(machine: hardware.Hardware, context: int, shape: ModelShape | None) -> Facts:
    """What resolution has to know of a machine, of the packages here, and of the room that this shape leaves."""
    return Facts(
        device=machine.device,
        context=context,
        wandb_key=bool(os.environ.get("WANDB_API_KEY")),
        wandb_mode=os.environ.get("WANDB_MODE", ""),
        native_bf16=machine.native_bf16,
        capability=machine.capability,
        flash_attention=has_flash_attention(),
        rows_that_fit=partial(_rows_that_fit, shape, machine.memory_gib) if shape else None,
    )


def has_flash_attention() -> bool:
    """Whether flash-attn is installed as transformers takes it. The module alone tells nothing: flash-attn-4 has it."""
    try:
        version = metadata.version("flash-attn")
    except metadata.PackageNotFoundError:
        return False
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3]) >= FLASH_ATTENTION


def refuse_untrainable(train: TrainConfig, device: Literal["cpu", "cuda"]) -> None:
    """Tell before hours of curation what training would stop at; whatever does not train runs on any machine.

    Raises:
        UserError: `train` asks for a GPU that is not there, or for a package that is not installed.
    """
    if device == "cpu" and train.optimizer != "adamw_torch":
        raise UserError(
            f"train.optimizer={train.optimizer} needs a GPU.",
            remedy="Set train.optimizer to adamw_torch, or plan for a card with `tunelift plan CONFIG --gpu rtx-4090`.",
        )
    if device == "cpu" and train.attention == "flash_attention_2":
        raise UserError("train.attention=flash_attention_2 needs a GPU.", remedy="Set train.attention to auto.")
    if train.attention == "flash_attention_2" and not has_flash_attention():
        raise UserError(
            f"train.attention=flash_attention_2 needs flash-attn {'.'.join(map(str, FLASH_ATTENTION))} or later, which "
            "is not installed.",
            remedy="Install it (pip install flash-attn --no-build-isolation), or set train.attention to auto.",
        )


def refuse_unservable(config: Config, machine: hardware.Hardware, parameters: int, shape: ModelShape | None) -> None:
    """Tell before hours of training that vLLM will not find the memory that it takes at its start.

    Args:
        config: Resolved.
        parameters: The model's.
        shape: The model's, if it is known; without it nothing is said of a GPU.

    Raises:
        UserError: the form that `serve.mode` names does not fit; with one that does, or the card that it takes.
    """
    engine, mode = config.engine, config.serve.mode
    if machine.device == "cpu":
        _refuse_unservable_on_cpu(config, machine, parameters)
        return
    if shape is None:
        return
    fits = serving_fits(shape, engine, machine.memory_gib, config.train.adapter)
    fit = fits[mode]
    if fit.sequences:
        return
    length = int(engine.max_model_len)
    away = (
        "`tunelift train` works here; then copy the folder runs/ to a card of "
        f"{math.ceil(fit.least_gib)} GB or more and run the same config there: the adapter is found"
    )
    ways = [away]
    if mode == "merged" and fits["adapter"].sequences and not merged_only(config.train):
        ways.insert(0, f"Set serve.mode=adapter: {fits['adapter'].form}, {_room(fits['adapter'], length)}. Or:")
    raise UserError(
        f"{machine.name} ({machine.memory_gib:.1f} GiB) cannot serve the tuned model, which evaluation asks: "
        f"{fit.form} takes {fit.weights_gib:.1f} GiB and {fit.working_gib:.1f} to work in, and "
        f"engine.gpu_memory_utilization={engine.gpu_memory_utilization:g} leaves no room for one request of "
        f"engine.max_model_len={length:,} tokens.",
        remedy=" ".join(ways) + ".",
    )


def _room(fit: ServingFit, length: int) -> str:
    return f"room for {fit.sequences} requests of {length:,} tokens"


def _refuse_unservable_on_cpu(config: Config, machine: hardware.Hardware, parameters: int) -> None:
    engine = config.engine
    width = NF4_BYTES if in_4_bits(config) else WIDTHS[engine.dtype]
    weights, cache = width * parameters / 2**30, engine.cpu_kv_cache_gib
    if weights + cache <= machine.memory_gib:
        return
    left = int(machine.memory_gib - weights)
    raise UserError(
        f"engine.cpu_kv_cache_gib={cache} and the model's weights ({weights:.1f} GiB) are more than this machine's "
        f"memory of {machine.memory_gib:.1f} GiB.",
        remedy=f"Set engine.cpu_kv_cache_gib to {max(1, left // 2)}, say."
        if left >= 1
        else "Take a smaller model, or a machine with more memory.",
    )


def in_4_bits(config: Config) -> bool:
    """Whether the engine holds the base in 4 bits: beside an adapter that was trained on it so."""
    return config.serve.mode == "adapter" and config.train.adapter.kind == "qlora"


def merge_device(machine: hardware.Hardware, parameters: int) -> Literal["cpu", "cuda"]:
    """Where to merge: on the GPU if it holds the model in bf16, else on the CPU.

    Raises:
        UserError: neither holds it.
    """
    needed = 2 * parameters / 2**30 + MERGE_GIB
    if machine.device == "cuda" and needed <= machine.memory_gib:
        return "cuda"
    memory = hardware.physical_memory_gib()
    if needed <= memory:
        return "cpu"
    raise UserError(
        f"Merging takes {needed:.0f} GiB, the model in bf16 and what is compared, and this machine has {memory:.1f} GiB"
        + (f" ({machine.memory_gib:.1f} on its GPU)." if machine.device == "cuda" else "."),
        remedy="Set serve.mode=adapter, which merges nothing; or run `tunelift train` here, copy the folder runs/ to a "
        "machine with more memory, and run the same config there: the adapter is found.",
    )


def _rows_that_fit(shape: ModelShape, memory_gib: float, section: TrainConfig) -> int | None:
    return rows_that_fit(shape, section, memory_gib)


def shape_if_known(folder: Path) -> ModelShape | None:
    try:
        return read_shape(folder)
    except UserError:  # No plan for it, but transformers may well train it.
        return None
