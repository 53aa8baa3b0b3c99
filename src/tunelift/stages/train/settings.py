"""A config section as the libraries' own settings. Only the device tells a GPU run from a CPU run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tunelift.config.schema import TrainConfig
from tunelift.runtime.weights import Device, Precision, nf4

if TYPE_CHECKING:
    from peft import LoraConfig
    from transformers import BitsAndBytesConfig
    from trl import SFTConfig


def quantization(config: TrainConfig) -> BitsAndBytesConfig | None:
    """How the base is held in memory; none for plain weights."""
    return nf4(precision(config)) if config.adapter.kind == "qlora" else None


def lora_config(config: TrainConfig, **found_in_model: Any) -> LoraConfig:
    """What is trained.

    Args:
        found_in_model: What only the model tells: `modules_to_save`, `trainable_token_indices`, `ensure_weight_tying`.

    Raises:
        ValueError: options that PEFT does not take together.
    """
    from peft import LoraConfig

    adapter = config.adapter
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=adapter.alpha,
        lora_dropout=adapter.dropout,
        target_modules=adapter.targets if isinstance(adapter.targets, str) else list(adapter.targets),
        use_rslora=adapter.rslora,
        use_dora=adapter.dora,
        task_type="CAUSAL_LM",
        **adapter.options.model_dump(mode="json"),
        **found_in_model,
    )


def sft_config(config: TrainConfig, *, device: Device, steps: int, seed: int, checkpoints: Path) -> SFTConfig:
    """How it is trained. Rows arrive as token ids with labels: the library renders, cuts and drops nothing."""
    from trl import SFTConfig

    micro = micro_batch_size(config)
    recompute = bool(resolved("gradient_checkpointing", config.gradient_checkpointing))
    return SFTConfig(
        output_dir=str(checkpoints),
        max_steps=steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=config.global_batch_size // micro,
        learning_rate=config.learning_rate,
        lr_scheduler_type=config.schedule,
        warmup_steps=warmup_steps(config, steps),
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optimizer,
        bf16=precision(config) == "bf16",
        use_cpu=device == "cpu",
        gradient_checkpointing=recompute,
        gradient_checkpointing_kwargs={"use_reentrant": False} if recompute else None,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        packing=False,
        eval_strategy="steps",
        eval_steps=config.eval_steps,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=None,  # `checkpoints.rotate` deletes, and only when the newest is known to be whole.
        logging_steps=1,
        logging_nan_inf_filter=False,  # A loss that is no number ends the run instead of being averaged away.
        seed=seed,
        data_seed=seed,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=device == "cuda",
    )


def warmup_steps(config: TrainConfig, steps: int) -> int:
    """Steps over which the learning rate rises, from 0: none where the ratio makes less than one.

    The first of them moves nothing, and in a run of a few steps it would be much of the training.
    """
    rising = config.warmup_ratio * steps
    return math.ceil(rising) if rising >= 1 else 0


def precision(config: TrainConfig) -> Precision:
    """What training computes in."""
    return cast("Precision", resolved("precision", config.precision))


def micro_batch_size(config: TrainConfig) -> int:
    """Rows per forward pass."""
    return int(resolved("micro_batch_size", config.micro_batch_size))


def packing(config: TrainConfig) -> bool:
    """Whether the rows of a micro-batch are laid end to end instead of padded."""
    return bool(resolved("packing", config.packing))


def resolved(field: str, value: bool | int | str) -> bool | int | str:
    """`value`, which must not be `auto` any more.

    Raises:
        ValueError: the config was not resolved.
    """
    if value == "auto":
        raise ValueError(f"train.{field} is still auto: resolve the config before a stage runs")
    return value


def total_steps(config: TrainConfig, rows: int) -> int:
    """Optimizer steps of the whole run; the last batch of an epoch may be smaller."""
    return config.max_steps or math.ceil(config.epochs * steps_per_epoch(config, rows))


def steps_per_epoch(config: TrainConfig, rows: int) -> int:
    """Optimizer steps that see each row once."""
    return math.ceil(rows / config.global_batch_size)
