"""`auto` becomes concrete: a pure function of the config and the facts, with the reason for each choice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from tunelift.config.evaluation import SplitTaskConfig
from tunelift.config.schema import Config, TrainConfig
from tunelift.errors import UserError

MAX_AUTO_CONTEXT = 4096
"""Unless rows are longer that are trained on."""
LARGEST_CPU_MICRO_BATCH = 8
LARGEST_GPU_MICRO_BATCH = 8
"""With rows of a thousand tokens, more makes a GPU no faster."""
UNPLANNED_GPU_MICRO_BATCH = 4
"""Where no plan says what fits: the architecture is not known, or the adapter takes what is in no term."""
ENOUGH_ROWS = 4
"""Nothing is recomputed when so many rows fit without, unless `train.micro_batch_size` says how many."""
LONGEST_EAGER = 512
FLASH_CAPABILITY = 8.0
"""FlashAttention 2 runs on Ampere and later, in fp16 and bf16 (its README)."""


@dataclass(frozen=True)
class Facts:
    """What resolution depends on beside the config."""

    device: Literal["cpu", "cuda"]
    context: int
    """The base model's longest sequence in tokens."""
    wandb_key: bool
    """A W&B API key is set."""
    wandb_mode: str = ""
    """W&B's own WANDB_MODE."""
    native_bf16: bool = True
    """The device multiplies bf16 matrices in hardware."""
    capability: float = 0.0
    """The GPU's compute capability."""
    flash_attention: bool = False
    """The package flash-attn is installed."""
    rows_that_fit: Callable[[TrainConfig], int | None] | None = None
    """The largest micro-batch that the memory plan gives a section whose other autos are resolved, if there is one that
    counts all of it."""


@dataclass(frozen=True)
class Choice:
    """What one `auto` became."""

    field: str
    value: Any
    why: str


@dataclass(frozen=True)
class Resolved:
    """The concrete config and how it came about."""

    config: Config
    choices: tuple[Choice, ...]


def resolve(config: Config, facts: Facts) -> Resolved:
    """Replace each `auto`, and refuse what cannot work on this machine with this model.

    Raises:
        UserError: a value that the model or the machine cannot bear, with the limit and the remedy.
    """
    _check_limits(config, facts)
    choices: list[Choice] = []

    def choose(field: str, current: Any, value: Any, why: str) -> Any:
        if current != "auto":
            return current
        choices.append(Choice(field, value, why))
        return value

    train, engine, on_gpu, native = config.train, config.engine, facts.device == "cuda", facts.native_bf16
    why_precision = (
        f"this {facts.device} multiplies bf16 in hardware" if native else "bf16 would be emulated here, slowly"
    )
    precision = choose("train.precision", train.precision, "bf16" if native else "fp32", why_precision)
    if on_gpu:
        _check_attention(train.attention, precision)
    chosen = {
        "precision": precision,
        "attention": choose("train.attention", train.attention, *_attention(train.max_length, precision, facts)),
    }
    sizes = _gpu_sizes(train.model_copy(update=chosen), facts) if on_gpu else _cpu_sizes(train)
    updates: dict[str, dict[str, Any]] = {
        "train": {
            **chosen,
            "gradient_checkpointing": choose(
                "train.gradient_checkpointing", train.gradient_checkpointing, *sizes["gradient_checkpointing"]
            ),
            "micro_batch_size": choose("train.micro_batch_size", train.micro_batch_size, *sizes["micro_batch_size"]),
            "packing": choose("train.packing", train.packing, *_packing(chosen["attention"], on_gpu)),
            "memory_probe": choose(
                "train.memory_probe",
                train.memory_probe,
                on_gpu,
                "tries one micro-batch"
                if on_gpu
                else "without a limit of its own, a CPU process that needs too much is killed, probe and all",
            ),
        },
        "engine": {
            "dtype": choose("engine.dtype", engine.dtype, *_serving_dtype(facts)),
            "max_model_len": choose(
                "engine.max_model_len",
                engine.max_model_len,
                *_longest_request(config, facts),
            ),
            "enforce_eager": choose(
                "engine.enforce_eager",
                engine.enforce_eager,
                not on_gpu,
                "compiling pays on a GPU" if on_gpu else "ready in a third of the time",
            ),
        },
        "tracking": {"wandb": choose("tracking.wandb", config.tracking.wandb, *_wandb(facts))},
    }
    if updates["tracking"]["wandb"] != "off":
        _check_project(config.tracking.project)
    sections = {name: getattr(config, name).model_copy(update=values) for name, values in updates.items()}
    return Resolved(config.model_copy(update=sections), tuple(choices))


def _serving_dtype(facts: Facts) -> tuple[str, str]:
    """A GPU before Ampere has matrix units for fp16 alone; a CPU without bf16 has none."""
    if facts.native_bf16:
        return "bfloat16", f"this {facts.device} multiplies bf16 in hardware"
    if facts.device == "cuda":
        return "float16", "this GPU has no bf16; fp32 would take twice the memory"
    return "float32", "bf16 would be emulated here, slowly"


def _longest_request(config: Config, facts: Facts) -> tuple[int, str]:
    """Held-out rows are as long as those that are trained on; where the engine refused one, that would be an error."""
    usual = SplitTaskConfig.model_fields["max_tokens"].default  # A folder's is not read here.
    answers = (usual if isinstance(task, str) else task.max_tokens for task in config.evaluate.tasks)
    needed = config.train.max_length + max(answers)
    context = f"the model's context is {facts.context:,}"
    if needed <= MAX_AUTO_CONTEXT:
        return min(facts.context, MAX_AUTO_CONTEXT), f"{context}; more than {MAX_AUTO_CONTEXT:,} costs cache"
    why = f"{context}; train.max_length and the longest answer come to {needed:,}, and more costs cache"
    return min(facts.context, needed), why


WANDB_MODES = {"disabled": "off", "offline": "offline", "dryrun": "offline", "online": "online", "run": "online"}
"""What W&B's modes are called here; any other is left to the key."""


def _wandb(facts: Facts) -> tuple[str, str]:
    """As WANDB_MODE says, which what is handed to W&B would override."""
    if facts.wandb_mode in WANDB_MODES:
        return WANDB_MODES[facts.wandb_mode], f"WANDB_MODE is {facts.wandb_mode}"
    if facts.wandb_key:
        return "online", "WANDB_API_KEY is set"
    return "offline", "WANDB_API_KEY is not set; `wandb sync` uploads later"


REFUSED_BY_WANDB, LONGEST_PROJECT = "/\\#?%:", 128
"""In the name of a project (`validate_project` of wandb's settings)."""


def _check_project(project: str) -> None:
    """W&B would say so at the first metric, and its tracker would be switched off for the run."""
    found = [sign for sign in REFUSED_BY_WANDB if sign in project]
    if found or len(project) > LONGEST_PROJECT:
        team = " The team is no part of it: set the environment variable WANDB_ENTITY." if "/" in found else ""
        raise UserError(
            f"tracking.project={project!r} is a name that W&B refuses: "
            + (f"it holds {' '.join(found)}." if found else f"it has {len(project)} characters."),
            remedy=f"Take at most {LONGEST_PROJECT} characters, none of {' '.join(REFUSED_BY_WANDB)}, or set "
            f"tracking.wandb to off.{team}",
        )


def _check_attention(attention: str, precision: str) -> None:
    if attention == "flash_attention_2" and precision == "fp32":
        raise UserError(
            "train.attention=flash_attention_2 takes bf16 only, and train.precision is fp32.",
            remedy="Set train.attention to auto, or on an Ampere or later GPU train.precision to bf16.",
        )


def _attention(max_length: int, precision: str, facts: Facts) -> tuple[str, str]:
    if facts.device == "cpu" and max_length <= LONGEST_EAGER:
        return "eager", f"on a CPU the faster one for rows of up to {LONGEST_EAGER} tokens"
    takes_it = facts.capability >= FLASH_CAPABILITY and precision == "bf16"
    if facts.device == "cuda" and facts.flash_attention and takes_it:
        return "flash_attention_2", "flash-attn is installed; rows of unlike length need no mask"
    return "sdpa", "PyTorch's own fused attention"


def _packing(attention: str, on_gpu: bool) -> tuple[bool, str]:
    """Only where rows of unequal length are attended to apart; elsewhere what lies between is computed, then masked."""
    if attention == "flash_attention_2":
        return True, "FlashAttention takes rows of unequal length, so nothing is padded"
    if not on_gpu:
        return True, "on a CPU each row is attended to by itself, so nothing is padded"
    return False, f"{attention} attention would also compute what a row must not see of the others"


def _cpu_sizes(train: TrainConfig) -> dict[str, tuple[Any, str]]:
    micro = _largest_divisor(train.global_batch_size, LARGEST_CPU_MICRO_BATCH)
    return {
        "gradient_checkpointing": (False, "memory is no issue on the CPU, time is"),
        "micro_batch_size": (micro, "largest divisor of the global batch for a cpu"),
    }


def _gpu_sizes(train: TrainConfig, facts: Facts) -> dict[str, tuple[Any, str]]:
    """Recompute only where few rows, or fewer than are set, fit without; then the largest micro-batch that fits.

    It also divides the global batch.
    """
    without, recomputed = (
        facts.rows_that_fit(train.model_copy(update={"gradient_checkpointing": choice}))
        if facts.rows_that_fit
        else None
        for choice in (False, True)
    )
    if without is None or recomputed is None:
        micro = _largest_divisor(train.global_batch_size, UNPLANNED_GPU_MICRO_BATCH)
        return {
            "gradient_checkpointing": (True, "GPU memory is scarce"),
            "micro_batch_size": (micro, "largest divisor of the global batch, as no plan tells what fits"),
        }
    asked = train.micro_batch_size
    enough = asked if isinstance(asked, int) else min(ENOUGH_ROWS, train.global_batch_size)
    recompute = without < enough if train.gradient_checkpointing == "auto" else train.gradient_checkpointing
    fitting = recomputed if recompute else without
    rows = f"rows of {train.max_length:,} tokens"
    return {
        "gradient_checkpointing": (recompute, f"{rows} that are planned to fit: {without} without, {recomputed} with"),
        "micro_batch_size": (
            _largest_divisor(train.global_batch_size, min(max(1, fitting), LARGEST_GPU_MICRO_BATCH)),
            f"{rows} that are planned to fit: {fitting}; it divides the global batch",
        ),
    }


def _check_limits(config: Config, facts: Facts) -> None:
    train, engine = config.train, config.engine
    if train.max_length > facts.context:
        raise UserError(
            f"train.max_length={train.max_length} is longer than the model's context of {facts.context}.",
            remedy=f"Set train.max_length to {facts.context} or less.",
        )
    if isinstance(engine.max_model_len, int) and engine.max_model_len > facts.context:
        raise UserError(
            f"engine.max_model_len={engine.max_model_len} is longer than the model's context of {facts.context}.",
            remedy=f"Set engine.max_model_len to {facts.context} or less, or to auto.",
        )


def _largest_divisor(number: int, limit: int) -> int:
    return next(size for size in range(min(number, limit), 0, -1) if number % size == 0)
