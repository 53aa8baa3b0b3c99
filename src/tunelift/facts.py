"""What resolving a config depends on beside the config: the machine, the packages here, the room a model leaves."""

from __future__ import annotations

import os
from functools import partial
from importlib.util import find_spec
from pathlib import Path

from tunelift.config.resolve import Facts
from tunelift.config.schema import TrainConfig
from tunelift.errors import UserError
from tunelift.runtime import hardware
from tunelift.runtime.forecast import rows_that_fit
from tunelift.runtime.shape import ModelShape, read_shape


def facts_for(machine: hardware.Hardware, context: int, shape: ModelShape | None) -> Facts:
    """What resolution has to know of a machine, of the packages here, and of the room that this shape leaves."""
    return Facts(
        device=machine.device,
        context=context,
        wandb_key=bool(os.environ.get("WANDB_API_KEY")),
        wandb_mode=os.environ.get("WANDB_MODE", ""),
        native_bf16=machine.native_bf16,
        capability=machine.capability,
        flash_attention=find_spec("flash_attn") is not None,
        kernels=find_spec("kernels") is not None,
        rows_that_fit=partial(_rows_that_fit, shape, machine.memory_gib) if shape else None,
    )


def _rows_that_fit(shape: ModelShape, memory_gib: float, section: TrainConfig) -> int | None:
    return rows_that_fit(shape, section, memory_gib)


def shape_if_known(folder: Path) -> ModelShape | None:
    try:
        return read_shape(folder)
    except UserError:  # No plan for it, but transformers may well train it.
        return None
