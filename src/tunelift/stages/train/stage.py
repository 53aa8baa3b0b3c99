"""One adapter from a base model and a data set; the same code on a GPU and on a CPU."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.artifacts.records import file_sha256
from tunelift.config.schema import TrainConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import Row, read_encoded
from tunelift.runtime.weights import Device, load_base, machine_trouble, one_gpu, peak_memory_gib
from tunelift.stages.train import checkpoints, preflight
from tunelift.stages.train.settings import (
    lora_config,
    micro_batch_size,
    precision,
    resolved,
    sft_config,
    total_steps,
)

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import SFTConfig

    from tunelift.stages.train.trainer import SupervisedTrainer

ADAPTER_WEIGHTS = "adapter_model.safetensors"
FINISHED = "training.json"
"""Written when the adapter is: a run that is killed after it does not train again."""


def train(config: TrainConfig, *, model: Path, dataset: Path, seed: int, device: Device, out: Path) -> dict[str, Any]:
    """Train an adapter into `out`; checkpoints in it of a killed run with the same arguments are gone on from.

    Writes `adapter/` (fp32 safetensors, tokenizer, chat template, generation config), `metrics.jsonl` and
    `preflight.json`.

    Returns:
        `steps`, `epochs`, `train_loss` (mean over all steps, nats per supervised token), `eval_loss` (the last),
        `seconds` and `first_step_seconds` (with loading), `supervised_tokens` (seen in all epochs),
        `micro_batch_size`, `accumulation`, `trainable_parameters`, `peak_memory_gib`, and `content`, the sha256 of
        the adapter's weights.

    Raises:
        UserError: the data set, the model or the config cannot be trained on.
        MachineError: out of memory or disk, or a loss that is not finite.
    """
    started = time.monotonic()
    if device == "cuda":
        one_gpu()
    with machine_trouble(out):
        finished = _finished(out)
        if finished:
            return finished
        tokenizer = load_tokenizer(model)
        rows = read_encoded(tokenizer, dataset, "train")
        eval_rows = read_encoded(tokenizer, dataset, "validation", config.eval_rows)
        found = preflight.check(tokenizer, model, rows, eval_rows, config.max_length)
        _write_json(out / "preflight.json", found)
        preflight.show(found)
        tokenizer.pad_token = found["padding"]
        settings = sft_config(
            config, device=device, steps=total_steps(config, len(rows)), seed=seed, checkpoints=out / "checkpoints"
        )
        attention = str(resolved("attention", config.attention))
        base = load_base(
            model,
            kind=config.adapter.kind,
            device=device,
            precision=precision(config),
            attention=attention,
            kernels=str(resolved("kernels", config.kernels)),
        )
        trainer = _build_trainer(config, base, settings, tokenizer, rows, eval_rows)
        _fit(trainer, out, started)
        _write_adapter(out, model, found["end_of_turn"]["ids"])
        details = _details(config, trainer, device, out)
        _write_json(out / FINISHED, details)
        shutil.rmtree(out / "checkpoints")  # Several times the adapter's size, and of no use any more.
        return details


def _finished(out: Path) -> dict[str, Any] | None:
    """What a run that was killed at its very end had to say."""
    try:
        details: dict[str, Any] = json.loads((out / FINISHED).read_text())
        whole = details["content"] == file_sha256(out / "adapter" / ADAPTER_WEIGHTS)
    except (OSError, ValueError, KeyError):
        return None
    return details if whole else None


def _build_trainer(
    config: TrainConfig,
    base: PreTrainedModel,
    settings: SFTConfig,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    eval_rows: Sequence[Row],
) -> SupervisedTrainer:
    from transformers import PrinterCallback

    from tunelift.stages.train.trainer import SupervisedTrainer

    try:
        trainer = SupervisedTrainer(
            base, settings, rows=rows, eval_rows=eval_rows, tokenizer=tokenizer, peft_config=lora_config(config)
        )
    except ValueError as error:
        if isinstance(config.adapter.targets, str):
            raise
        raise UserError(
            f"train.adapter.targets={list(config.adapter.targets)} does not fit this model: {error}",
            remedy="Set it to all-linear, or name linear layers of the model other than its output head.",
        ) from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _fit(trainer: SupervisedTrainer, out: Path, started: float) -> None:
    """Train to the last step, from the newest whole checkpoint if there is one; leave a checkpoint of the last step."""
    from peft.helpers import disable_input_dtype_casting

    from tunelift.stages.train import journal

    steps = trainer.args.max_steps
    checkpoint = checkpoints.newest(out / "checkpoints")
    done = checkpoints.step_of(checkpoint) if checkpoint else 0
    earlier = journal.cut_back(out / "metrics.jsonl", done)
    if done:
        console.say(f"train: goes on after step {done} of {steps}")
    if done >= steps:  # The Trainer would take one step more.
        return
    with (
        console.progress("train", total=steps, unit="steps", done=done) as bar,
        disable_input_dtype_casting(trainer.model),  # Autocast does it, which PEFT overlooks on a CPU: 12% of the time.
    ):
        notes = journal.Journal(out / "metrics.jsonl", bar, trainer, started - earlier)
        trainer.add_callback(notes)
        with notes.heeding_signals():
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def _write_adapter(out: Path, model: Path, turn_ends: Sequence[int]) -> None:
    """The last checkpoint's weights, with all that is needed to use them as they were trained."""
    last = checkpoints.newest(out / "checkpoints")
    if last is None:
        raise RuntimeError(f"no checkpoint of the last step in {out}")
    adapter = out / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    adapter.mkdir()
    shutil.copyfile(last / ADAPTER_WEIGHTS, adapter / ADAPTER_WEIGHTS)
    described = json.loads((last / "adapter_config.json").read_text())
    described["base_model_name_or_path"], described["revision"] = _public_name(model)
    if isinstance(described["target_modules"], list):
        described["target_modules"].sort()
    _write_json(adapter / "adapter_config.json", described)
    load_tokenizer(model).save_pretrained(adapter)
    generation = preflight.generation_config(model)
    stops = generation.get("eos_token_id")
    known = [] if stops is None else stops if isinstance(stops, list) else [stops]
    ends = [*turn_ends, *(token for token in known if token not in turn_ends)]
    _write_json(adapter / "generation_config.json", generation | {"eos_token_id": ends if len(ends) > 1 else ends[0]})


def _public_name(model: Path) -> tuple[str, str | None]:
    """Hub id and commit of a folder of the hub's cache; a folder's name otherwise, since its path is this machine's."""
    repository = model.parent.parent.name
    if model.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/"), model.name
    return model.resolve().name, None


def _details(config: TrainConfig, trainer: SupervisedTrainer, device: Device, out: Path) -> dict[str, Any]:
    """The run in numbers, from what was written while it ran, so that a resumed run tells the whole."""
    from tunelift.stages.train import journal

    lines = journal.read(out / "metrics.jsonl")
    steps = [line for line in lines if "loss" in line]
    evaluations = [line for line in lines if "eval_loss" in line]
    micro = micro_batch_size(config)
    return {
        "steps": steps[-1]["step"],
        "epochs": steps[-1]["epoch"],
        "train_loss": round(sum(line["loss"] for line in steps) / len(steps), 6),
        "eval_loss": round(evaluations[-1]["eval_loss"], 6) if evaluations else None,
        "first_step_seconds": steps[0]["seconds"],
        "seconds": lines[-1]["seconds"],
        "supervised_tokens": sum(line["supervised_tokens"] for line in steps),
        "micro_batch_size": micro,
        "accumulation": config.global_batch_size // micro,
        "trainable_parameters": sum(part.numel() for part in trainer.model.parameters() if part.requires_grad),
        "peak_memory_gib": peak_memory_gib(device),
        "content": file_sha256(out / "adapter" / ADAPTER_WEIGHTS),
    }


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
