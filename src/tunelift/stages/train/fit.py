"""The steps themselves: from where, with which micro-batch, watched by what, until when; and which step is kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.config.schema import TrainConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.weights import Device, casting_by_autocast_alone, is_out_of_memory
from tunelift.stages.train import checkpoints, health, probe
from tunelift.stages.train.answers import Asked
from tunelift.stages.train.best import Measure, Standing, standing
from tunelift.stages.train.settings import resolved

if TYPE_CHECKING:
    from tunelift.stages.train.journal import Meter
    from tunelift.stages.train.trainer import SupervisedTrainer


@dataclass(frozen=True)
class Outcome:
    """How training ended."""

    checkpoint: Path
    """Whose weights become the adapter."""
    steps: int
    """That were taken."""
    why_stopped: str
    best: Standing
    measure: Measure | None
    micro_batch: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """For the artifact's details."""
        kept: dict[str, Any] = {
            "step": checkpoints.step_of(self.checkpoint),
            "by": "last",
            "why_stopped": self.why_stopped,
        }
        if self.measure:
            kept |= {"by": self.measure.key, "value": self.best.value}
        return {"kept": kept, "micro_batch": self.micro_batch}


def fit(
    trainer: SupervisedTrainer,
    config: TrainConfig,
    *,
    model: Path,
    device: Device,
    samples: Asked | None,
    out: Path,
    started: float,
) -> Outcome:
    """Train to the end, from the newest whole checkpoint if there is one.

    Raises:
        MachineError: memory ran out, or a step was bad; checkpoints stay.
    """
    from tunelift.stages.train import journal
    from tunelift.stages.train.samples import FILE as SAMPLES
    from tunelift.stages.train.samples import Samples

    steps, folder, metrics = trainer.args.max_steps, out / "checkpoints", out / "metrics.jsonl"
    (out / health.FILE).unlink(missing_ok=True)
    before = journal.read(metrics)
    checkpoint = checkpoints.resumable(folder, lambda step: _best(before, trainer.measure, config, step).step)
    done = checkpoints.step_of(checkpoint) if checkpoint else 0
    lines = journal.cut_back(metrics, done)
    if samples:
        journal.cut_back(out / SAMPLES, done)
    earlier = float(lines[-1]["seconds"]) if lines else 0.0
    if done:
        console.say(f"train: goes on after step {done} of {steps}")
    with casting_by_autocast_alone(trainer.model):
        micro = probe.settle(trainer, out, probe=bool(resolved("memory_probe", config.memory_probe)))
        with console.progress("train", total=steps, unit="steps", done=done, lean=True) as bar:
            meter = _meter(trainer, model, device)
            notes = journal.Journal(metrics, lines, bar, trainer, config, started - earlier, device, meter)
            trainer.add_callback(notes)
            answers = None
            if samples and config.samples.every:
                answers = Samples(out / SAMPLES, samples, config.samples.every, trainer)
                trainer.add_callback(answers)
            if checkpoint:
                trainer.stand_at(checkpoint)
                if notes.owes_evaluation(done):
                    trainer.evaluate()
            over = _best(lines, trainer.measure, config, done).patience_is_over(config.best)
            ended = done >= steps or over
            if checkpoint and answers:
                answers.catch_up(done, ended=ended)
            if not ended:  # The Trainer would take one step more.
                with notes.heeding_signals():
                    _train(trainer, checkpoint, out, micro, lines)
    return _outcome(trainer, config, lines, folder, steps, micro)


def _train(
    trainer: SupervisedTrainer, checkpoint: Path | None, out: Path, micro: dict[str, Any], lines: list[dict[str, Any]]
) -> None:
    failed: Callable[[], Exception] | None = None
    cause: BaseException | None = None
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except health.BadStep as bad:
        told = bad
        failed, cause = (lambda: health.tell(trainer, told, out, lines, _kept(out, told.sound_step))), bad
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        failed = lambda: probe.ran_out(trainer, out, micro, _kept(out))  # noqa: E731
    # Outside of the handlers: an exception that is being handled keeps the memory of its frames.
    if failed:
        trainer.model.zero_grad()
        raise failed() from cause


def _kept(out: Path, up_to: int | None = None) -> int | None:
    newest = checkpoints.newest(out / "checkpoints", up_to)
    return checkpoints.step_of(newest) if newest else None


def _best(lines: Sequence[dict[str, Any]], measure: Measure | None, config: TrainConfig, step: int) -> Standing:
    if measure is None:
        return Standing()
    return standing([line for line in lines if line["step"] <= step], measure, config.best.min_delta)


def _outcome(
    trainer: SupervisedTrainer,
    config: TrainConfig,
    lines: list[dict[str, Any]],
    folder: Path,
    steps: int,
    micro: dict[str, Any],
) -> Outcome:
    taken = max(line["step"] for line in lines)
    best = _best(lines, trainer.measure, config, taken)
    why = f"all {steps} steps were taken"
    if taken < steps:
        why = f"no better {trainer.measure.words if trainer.measure else ''} in {best.waited} evaluations"
    kept = checkpoints.at(folder, best.step if best.step is not None else taken)
    if trainer.measure and best.step is not None:
        console.say(
            f"train: the adapter is that of step {best.step} of {taken}, with the best {trainer.measure.words}, "
            f"{best.value:.4f}; {why}"
        )
    if not checkpoints.is_complete(kept):
        raise RuntimeError(f"no whole checkpoint {kept}")
    return Outcome(kept, taken, why, best, trainer.measure, micro)


def _meter(trainer: SupervisedTrainer, model: Path, device: Device) -> Meter | None:
    """None for an architecture whose FLOPs are not known: training goes on without MFU."""
    from tunelift.runtime.flops import training_flops
    from tunelift.runtime.peak import matmul_flops_per_second
    from tunelift.runtime.shape import read_shape
    from tunelift.stages.train.journal import Meter

    with suppress(UserError):
        shape = read_shape(model)
        adapters = sum(part.numel() for part in trainer.model.parameters() if part.requires_grad)
        return Meter(
            matmul_flops_per_second(device),
            lambda lengths, scored: training_flops(shape, lengths, scored, adapters).model,
        )
    return None
