"""Train: base model and data set to an adapter."""

from tunelift.stages.train.settings import lora_config, quantization, sft_config, total_steps
from tunelift.stages.train.stage import train

VERSION = 1
"""Raised when the same input would give another adapter."""

__all__ = ["VERSION", "lora_config", "quantization", "sft_config", "total_steps", "train"]
