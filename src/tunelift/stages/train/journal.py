"""metrics.jsonl, the progress line, and the end by signal: what the Trainer tells, step by step."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from tunelift.artifacts.jsonl import read_lines
from tunelift.config.schema import TrainConfig
from tunelift.runtime import console
from tunelift.runtime.console import Bar
from tunelift.runtime.weights import Device, peak_memory_gib
from tunelift.stages.train import checkpoints
from tunelift.stages.train.best import Standing, standing
from tunelift.stages.train.health import PATIENCE_STEPS, BadStep, LossWatch

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from tunelift.stages.train.trainer import SupervisedTrainer


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; none if it is not there. A torn last line is left out."""
    lines: list[dict[str, Any]] = []
    for line in read_lines(path) if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def cut_back(path: Path, step: int) -> list[dict[str, Any]]:
    """Forget what came after `step`; returns the lines that are left."""
    kept = [line for line in read(path) if line["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    temporary.replace(path)
    return kept


def append(path: Path, line: Mapping[str, Any]) -> None:
    """One more line, handed to the system before this returns: a process killed after it has written it."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


@dataclass(frozen=True)
class Meter:
    """What a step's arithmetic is held against."""

    peak_flops_per_second: float
    step_flops: Callable[[Sequence[int], int], float]
    """Model FLOPs of a step, from its rows' lengths and its supervised tokens."""

    def mfu(self, lengths: Sequence[int], scored: int, seconds: float) -> float:
        """Model FLOPs utilisation, as a share."""
        return self.step_flops(lengths, scored) / seconds / self.peak_flops_per_second


class Journal(TrainerCallback):
    """Appends to metrics.jsonl, moves the progress line, watches over the loss, and keeps the right checkpoints.

    All that it goes by stands in metrics.jsonl, so that after a kill it decides as it would have.

    Args:
        path: The metrics file, cut back to the step that training goes on from.
        lines: What the file holds.
        bar: Shows the steps.
        trainer: Knows how many tokens and positions a step had.
        config: The limits.
        started: `time.monotonic()` at which training began, moved back by what earlier, killed runs took.
        device: Whose memory is told.
        meter: For MFU; none where the architecture's shape is not known.
    """

    def __init__(
        self,
        path: Path,
        lines: list[dict[str, Any]],
        bar: Bar,
        trainer: SupervisedTrainer,
        config: TrainConfig,
        started: float,
        device: Device,
        meter: Meter | None,
    ) -> None:
        self.path, self.lines, self.bar, self.trainer, self.config = path, lines, bar, trainer, config
        self.started, self.device, self.meter = started, device, meter
        self.watch = LossWatch(config.max_loss_ratio, (line["loss"] for line in lines if "loss" in line))
        self.step_started = time.monotonic()

    def best(self, as_of: int | None = None) -> Standing:
        """How the evaluations up to a step, or all of them, stand."""
        if self.trainer.measure is None:
            return Standing()
        lines = [line for line in self.lines if as_of is None or line["step"] <= as_of]
        return standing(lines, self.trainer.measure, self.config.best.min_delta)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the time."""
        self.step_started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate at the end as well; on a signal, write a checkpoint and stop."""
        control.should_evaluate = self.owes_evaluation(state.global_step)
        self.trainer.end_if_stopping()

    def owes_evaluation(self, step: int) -> bool:
        """Whether that step is to be evaluated and was not, which a signal may have cut short."""
        due = step % self.config.eval_steps == 0 or step >= self.trainer.args.max_steps
        done = any("eval_loss" in line and line["step"] == step for line in self.lines)
        return due and bool(self.trainer.eval_rows) and not done

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Write a step's or an evaluation's numbers.

        Raises:
            BadStep: the loss has exploded.
        """
        logs = logs or {}
        if "eval_loss" in logs:
            self._write(state, {key: value for key, value in logs.items() if key.startswith("eval_")})
        if "loss" not in logs:
            return
        numbers = self._numbers(logs)
        self._write(state, numbers)
        self.bar.advance(note=live_line(numbers))
        if self.watch.exploded:
            raise BadStep(
                f"The loss has exploded: smoothed, it is {self.watch.smoothed:.3g} at step {state.global_step}, was "
                f"{self.watch.lowest:.3g} at its lowest and above {self.watch.limit:.3g} for {PATIENCE_STEPS} steps.",
                remedy="Lower train.learning_rate, or raise train.warmup_ratio; train.max_loss_ratio sets the limit.",
                sound_step=self.watch.sound_step,
                step=state.global_step,
                loss=logs["loss"],
                grad_norm=logs["grad_norm"],
            )

    def _numbers(self, logs: dict[str, Any]) -> dict[str, float]:
        tokens, seconds = self.trainer.step_tokens, max(time.monotonic() - self.step_started, 1e-9)
        numbers: dict[str, float] = {
            "loss": logs["loss"],
            "loss_smoothed": self.watch.see(logs["loss"]),
            "learning_rate": logs["learning_rate"],
            "grad_norm": logs["grad_norm"],
            "supervised_tokens": tokens,
            "tokens_per_second": round(tokens / seconds, 1),
            "memory_gib": peak_memory_gib(self.device),
            **self.trainer.step_positions.as_json(),
        }
        if self.meter:
            numbers["mfu"] = round(self.meter.mfu(self.trainer.step_lengths, tokens, seconds), 4)
        return numbers

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Say what was found; write a checkpoint of a new best step; end when patience is over."""
        line, measure = self.lines[-1], self.trainer.measure
        told = f"train: step {state.global_step}, validation loss {line['eval_loss']:.4f}"
        if measure and measure.key != "eval_loss":
            told += f", {measure.words} {line[measure.key]:.4f}"
        best = self.best()
        if measure and best.step is not None:
            new = best.step == state.global_step
            told += ", the best so far" if new else f"; the best is {best.value:.4f} at step {best.step}"
            control.should_save = control.should_save or new
        if best.patience_is_over(self.config.best):
            told += f"; no better for {best.waited} evaluations, so training ends"
            control.should_save = control.should_training_stop = True
        console.say(told)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The Trainer has written everything: mark it whole, then delete what is not needed any more."""
        folder = Path(str(args.output_dir))
        with self.path.open("rb") as file:
            os.fsync(file.fileno())  # The checkpoint goes with the metrics up to it.
        checkpoints.mark_complete(checkpoints.at(folder, state.global_step))
        checkpoints.rotate(
            folder, self.config.keep_checkpoints, best=self.best().step, sound_step=self.watch.sound_step
        )

    def _write(self, state: TrainerState, values: dict[str, float]) -> None:
        line = {"step": state.global_step, "epoch": round(state.epoch or 0, 4), **values}
        line["seconds"] = round(time.monotonic() - self.started, 3)
        append(self.path, line)
        self.lines.append(line)

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """On SIGTERM finish the step, write a checkpoint, and end as SIGTERM ends a process.

        What is done between steps breaks off; a resume makes up for it.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        trainer = self.trainer

        def stop(number: int, frame: Any) -> None:
            trainer.stopping = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
        if trainer.stopping:
            os.kill(os.getpid(), signal.SIGTERM)


def live_line(numbers: Mapping[str, float]) -> str:
    """A step in few characters: loss (smoothed), learning rate, gradient norm, supervised tokens/s, MFU, memory."""
    parts = [
        f"loss {_digits(numbers['loss'])} ({_digits(numbers['loss_smoothed'])})",
        f"lr {numbers['learning_rate']:.1e}".replace("e-0", "e-"),
        f"grad {numbers['grad_norm']:.2g}",
        f"{_short(numbers['tokens_per_second'])} tok/s",
    ]
    if "mfu" in numbers:
        parts.append(f"MFU {numbers['mfu']:.0%}")
    return " ".join([*parts, f"{numbers['memory_gib']:.{0 if numbers['memory_gib'] >= 10 else 1}f} GiB"])


def _digits(loss: float) -> str:
    return f"{loss:.3f}" if loss < 10 else f"{loss:.2f}"


def _short(rate: float) -> str:
    return f"{rate / 1000:.1f}k" if rate >= 1000 else f"{rate:.0f}"
