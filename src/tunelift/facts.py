"""What resolving a config depends on beside the config: the machine, the packages here, the room a model leaves."""

from __future__ import annotations

import os
import re
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from tunelift.config.resolve import Facts
from tunelift.config.schema import EngineConfig, TrainConfig
from tunelift.errors import UserError
from tunelift.runtime import hardware
from tunelift.runtime.forecast import rows_that_fit
from tunelift.runtime.serving import WIDTHS
from tunelift.runtime.shape import ModelShape, read_shape

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


def refuse_unservable(engine: EngineConfig, machine: hardware.Hardware, parameters: int) -> None:
    """Tell before hours of training that vLLM will not find the memory that it takes at its start on a CPU.

    Args:
        engine: Resolved.
        parameters: The model's.

    Raises:
        UserError: the cache and the weights are more than the machine has.
    """
    weights, cache = WIDTHS[engine.dtype] * parameters / 2**30, engine.cpu_kv_cache_gib
    if machine.device == "cuda" or weights + cache <= machine.memory_gib:
        return
    left = int(machine.memory_gib - weights)
    raise UserError(
        f"engine.cpu_kv_cache_gib={cache} and the model's weights ({weights:.1f} GiB) are more than this machine's "
        f"memory of {machine.memory_gib:.1f} GiB.",
        remedy=f"Set engine.cpu_kv_cache_gib to {max(1, left // 2)}, say."
        if left >= 1
        else "Take a smaller model, or a machine with more memory.",
    )


def _rows_that_fit(shape: ModelShape, memory_gib: float, section: TrainConfig) -> int | None:
    return rows_that_fit(shape, section, memory_gib)


def shape_if_known(folder: Path) -> ModelShape | None:
    try:
        return read_shape(folder)
    except UserError:  # No plan for it, but transformers may well train it.
        return None
