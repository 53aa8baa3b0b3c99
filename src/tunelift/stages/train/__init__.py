"""Train: base model and data set to an adapter."""

from tunelift.stages.train.settings import lora_config, quantization, sft_config, total_steps
from tunelift.stages.train.stage import train

VERSION = 6
"""Raised when the same input would give another adapter."""
STEP_SECONDS = 900.0
"""How long a step may take, with the checkpoint after it, for a signal to be waited out."""

__all__ = ["STEP_SECONDS", "VERSION", "lora_config", "quantization", "sft_config", "total_steps", "train"]
