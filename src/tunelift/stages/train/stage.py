"""One adapter from a base model and a data set; the same code on a GPU and on a CPU."""

from __future__ import annotations

import json
import shutil
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.artifacts.records import file_sha256
from tunelift.config.schema import TrainConfig
from tunelift.runtime import console, tokenizer_files
from tunelift.runtime.attention import by_row
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import Row, read_encoded
from tunelift.runtime.modeling import read_generation_config
from tunelift.runtime.vocabulary import add_tokens, fit_embeddings, start_embeddings
from tunelift.runtime.weights import Device, load_base, machine_trouble, one_gpu, peak_memory_gib
from tunelift.stages.train import checkpoints, preflight
from tunelift.stages.train.adapters import adapter_for, check_took_hold, explained, serving_needs
from tunelift.stages.train.answers import ask_for_choice, ask_for_samples, refuse_too_few_rows
from tunelift.stages.train.fit import Outcome, fit
from tunelift.stages.train.packing import padded_if_rows_mix
from tunelift.stages.train.reach import in_words, reached
from tunelift.stages.train.settings import packing, precision, resolved, sft_config, total_steps

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast
    from trl import SFTConfig

    from tunelift.stages.train.trainer import SupervisedTrainer

ADAPTER_WEIGHTS = "adapter_model.safetensors"
FINISHED = "training.json"
"""Written when the adapter is: a run that is killed after it does not train again."""


def train(
    config: TrainConfig,
    *,
    model: Path,
    dataset: Path,
    seed: int,
    device: Device,
    out: Path,
    template: str | None = None,
) -> dict[str, Any]:
    """Train an adapter into `out`; checkpoints in it of a killed run with the same arguments are gone on from.

    Writes `adapter/` (fp32 safetensors, tokenizer, chat template, generation config), `metrics.jsonl`,
    `preflight.json`, `micro_batch.json`, and `samples.jsonl` if `train.samples.every` is set. `template` is the chat
    template to train and save in place of the model's own.

    Returns:
        `precision` (what training computed in), `steps`, `epochs`, `train_loss` (mean over all steps, nats per
        supervised token), `eval_loss` (at the step that was kept), `seconds` and `first_step_seconds` (with loading),
        `supervised_tokens` (seen in all epochs),
        `padding_share` (of the positions computed), `micro_batch_size`, `accumulation`, `micro_batch` (how it came
        about), `kept` {`step`, `by`, `value`, `why_stopped`}, `adapted_layers` {kind: {`layers`, `of`}} (how many of
        the model's have an adapter), `trainable_parameters`, `peak_memory_gib`, `serving`
        (what serving the adapter unmerged takes: `max_lora_rank`, and `merged_only`, why it cannot be), and `content`,
        the sha256 of the adapter's weights.

    Raises:
        UserError: the data set, the model or the config cannot be trained on.
        MachineError: out of memory or disk, or a loss that is not finite or has exploded.
    """
    started = time.monotonic()
    if device == "cuda":
        one_gpu()
    with machine_trouble(out):
        finished = _finished(out)
        if finished:
            shutil.rmtree(out / "checkpoints", ignore_errors=True)  # It may have been killed while it removed them.
            return finished
        tokenizer = load_tokenizer(model, template)
        added = add_tokens(tokenizer, config.added_tokens)
        rows = read_encoded(tokenizer, dataset, "train")
        eval_rows = read_encoded(tokenizer, dataset, "validation", config.eval_rows, seed)
        found = preflight.check(tokenizer, model, rows, eval_rows, config.max_length)
        found |= preflight.plan_batches(config, rows, seed)
        found |= {name: preflight.by_curation(dataset, name) for name in ("truncation", "added_tokens")}
        _write_json(out / "preflight.json", found)
        preflight.show(found)
        tokenizer.pad_token = found["padding"]
        ends = found["end_of_turn"]["ids"]
        refuse_too_few_rows(config, dataset)
        measure, asked = ask_for_choice(config, tokenizer, dataset, seed, ends)
        samples = ask_for_samples(config, tokenizer, dataset, seed, ends)
        settings = sft_config(
            config, device=device, steps=total_steps(config, len(rows)), seed=seed, checkpoints=out / "checkpoints"
        )
        attention = str(resolved("attention", config.attention))
        if packing(config) and device == "cpu":
            attention = by_row(attention)
        base = load_base(
            model,
            kind=config.adapter.kind,
            device=device,
            precision=precision(config),
            attention=attention,
        )
        fit_embeddings(base, tokenizer)
        start_embeddings(base, added)
        config = _settle_packing(config, base, rows, found, seed, out)
        trainer = _build_trainer(
            config, base, list(added), settings, tokenizer, rows, eval_rows, asked=asked, measure=measure
        )
        outcome = fit(trainer, config, model=model, device=device, samples=samples, out=out, started=started)
        untouched = load_tokenizer(model, template, config.added_tokens)  # Its padding token is the model's own.
        _write_adapter(out, outcome.checkpoint, model, untouched, ends)
        details = _details(config, outcome, trainer, device, out)
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


def _settle_packing(
    config: TrainConfig, base: PreTrainedModel, rows: Sequence[Row], found: dict[str, Any], seed: int, out: Path
) -> TrainConfig:
    """`config`, or if this model would mix packed rows, without packing; preflight.json is then set right."""
    settled = padded_if_rows_mix(config, base, rows)
    if settled is not config:
        _write_json(out / "preflight.json", found | preflight.plan_batches(settled, rows, seed))
    return settled


def _build_trainer(
    config: TrainConfig,
    base: PreTrainedModel,
    added: Sequence[int],
    settings: SFTConfig,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    eval_rows: Sequence[Row],
    **choice: Any,
) -> SupervisedTrainer:
    from transformers import PrinterCallback

    from tunelift.stages.train.trainer import SupervisedTrainer

    adapter = adapter_for(config, base, added)
    with explained(config), warnings.catch_warnings():
        # `check_took_hold` refuses them.
        warnings.filterwarnings("ignore", message="The following .* keys did not match any targeted module")
        trainer = SupervisedTrainer(
            base,
            settings,
            rows=rows,
            eval_rows=eval_rows,
            tokenizer=tokenizer,
            packing=packing(config),
            peft_config=adapter,
            **choice,
        )
    console.say(f"train: adapters on {in_words(check_took_hold(config, trainer.model))}")
    trainer.remove_callback(PrinterCallback)
    return trainer


def _write_adapter(
    out: Path, checkpoint: Path, model: Path, tokenizer: PreTrainedTokenizerFast, turn_ends: Sequence[int]
) -> None:
    """A checkpoint's weights, with all that is needed to use them as they were trained."""
    adapter = out / "adapter"
    shutil.rmtree(adapter, ignore_errors=True)
    adapter.mkdir()
    shutil.copyfile(checkpoint / ADAPTER_WEIGHTS, adapter / ADAPTER_WEIGHTS)
    described = json.loads((checkpoint / "adapter_config.json").read_text())
    described["base_model_name_or_path"], described["revision"] = _public_name(model)
    for names in ("target_modules", "exclude_modules"):
        if isinstance(described[names], list):
            described[names].sort()
    _write_json(adapter / "adapter_config.json", described)
    tokenizer_files.save(tokenizer, model, adapter)
    generation = _that_loads(read_generation_config(model))
    stops = generation.get("eos_token_id")
    known = [] if stops is None else stops if isinstance(stops, list) else [stops]
    ends = [*turn_ends, *(token for token in known if token not in turn_ends)]
    _write_json(adapter / "generation_config.json", generation | {"eos_token_id": ends if len(ends) > 1 else ends[0]})


def _that_loads(generation: dict[str, Any]) -> dict[str, Any]:
    """A base's generation config, or its token ids alone where transformers would refuse to load the rest."""
    from transformers import GenerationConfig

    try:
        GenerationConfig.from_dict(dict(generation))
    except (ValueError, TypeError, AttributeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        console.warn(
            f"of the model's generation_config.json only token ids are kept, since its values conflict: {reason}"
        )
        return {key: value for key, value in generation.items() if key.endswith("_token_id")}
    return generation


def _public_name(model: Path) -> tuple[str, str | None]:
    """Hub id and commit of a folder of the hub's cache; a folder's name otherwise, since its path is this machine's."""
    repository = model.parent.parent.name
    if model.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/"), model.name
    return model.resolve().name, None


def _details(
    config: TrainConfig, outcome: Outcome, trainer: SupervisedTrainer, device: Device, out: Path
) -> dict[str, Any]:
    """The run in numbers, from what was written while it ran, so that a resumed run tells the whole."""
    from tunelift.stages.train import journal

    lines = journal.read(out / "metrics.jsonl")
    steps = [line for line in lines if "loss" in line]
    positions = sum(line["positions"] for line in steps)
    kept = checkpoints.step_of(outcome.checkpoint)
    evaluations = [line for line in lines if "eval_loss" in line and line["step"] <= kept]
    return {
        "precision": precision(config),
        "steps": steps[-1]["step"],
        "epochs": steps[-1]["epoch"],
        "train_loss": round(sum(line["loss"] for line in steps) / len(steps), 6),
        "eval_loss": round(evaluations[-1]["eval_loss"], 6) if evaluations else None,
        "first_step_seconds": steps[0]["seconds"],
        "seconds": lines[-1]["seconds"],
        "supervised_tokens": sum(line["supervised_tokens"] for line in steps),
        "padding_share": round(sum(line["padding_share"] * line["positions"] for line in steps) / positions, 6),
        "micro_batch_size": outcome.micro_batch["micro_batch_size"],
        "accumulation": outcome.micro_batch["accumulation"],
        **outcome.to_json(),
        "adapted_layers": {kind: {"layers": n, "of": all_} for kind, (n, all_) in reached(trainer.model).items()},
        "trainable_parameters": sum(part.numel() for part in trainer.model.parameters() if part.requires_grad),
        "peak_memory_gib": peak_memory_gib(device),
        "serving": serving_needs(json.loads((out / "adapter" / "adapter_config.json").read_text())),
        "content": file_sha256(out / "adapter" / ADAPTER_WEIGHTS),
    }


def _write_json(path: Path, value: Any) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(path)
