"""metrics.jsonl, the progress line, and the end by signal: what the Trainer tells, step by step."""

from __future__ import annotations

import json
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from tunelift.errors import MachineError
from tunelift.runtime.console import Bar
from tunelift.stages.train.checkpoints import mark_complete

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from tunelift.stages.train.trainer import SupervisedTrainer


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics file; none if it is not there. A torn last line is left out."""
    lines: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines


def cut_back(path: Path, step: int) -> float:
    """Forget what came after `step`; returns the seconds that training had taken until then."""
    kept = [line for line in read(path) if line["step"] <= step]
    temporary = path.with_suffix(".tmp")
    temporary.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
    temporary.replace(path)
    return float(kept[-1]["seconds"]) if kept else 0.0


class Journal(TrainerCallback):
    """Appends to metrics.jsonl and moves the progress bar.

    Args:
        path: The metrics file.
        bar: Shows the steps.
        trainer: Knows how many tokens and positions a step had.
        started: `time.monotonic()` at which training began, moved back by what earlier, killed runs took.
    """

    def __init__(self, path: Path, bar: Bar, trainer: SupervisedTrainer, started: float) -> None:
        self.path, self.bar, self.trainer, self.started = path, bar, trainer, started
        self.step_started = time.monotonic()
        self.stopping = False
        self.eval_note = ""

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Take the time."""
        self.step_started = time.monotonic()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Evaluate at the end as well; on a signal, write a checkpoint and stop."""
        due = control.should_evaluate or state.global_step >= state.max_steps
        control.should_evaluate = due and bool(self.trainer.eval_rows)
        if self.stopping:
            control.should_save = control.should_training_stop = True

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
            MachineError: the gradient is not finite.
        """
        logs = logs or {}
        if "eval_loss" in logs:
            self.eval_note = f" · validation {logs['eval_loss']:.3f}"
            self._write(state, {"eval_loss": logs["eval_loss"], "eval_accuracy": logs["eval_accuracy"]})
        if "loss" not in logs:
            return
        if not math.isfinite(logs["grad_norm"]):
            raise MachineError(
                f"The gradient of step {state.global_step} is not finite.", remedy="Lower train.learning_rate."
            )
        tokens, seconds = self.trainer.step_tokens, time.monotonic() - self.step_started
        self._write(
            state,
            {key: logs[key] for key in ("loss", "learning_rate", "grad_norm")}
            | {"supervised_tokens": tokens, "tokens_per_second": round(tokens / seconds, 1)}
            | self.trainer.step_positions.as_json(),
        )
        self.bar.note(
            f"loss {logs['loss']:.3f}{self.eval_note} · lr {logs['learning_rate']:.1e}"
            f" · {tokens / seconds:,.0f} supervised tokens/s"
        )
        self.bar.advance()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """The Trainer has written everything."""
        mark_complete(Path(str(args.output_dir)) / f"checkpoint-{state.global_step}")

    def _write(self, state: TrainerState, values: dict[str, float]) -> None:
        line = {"step": state.global_step, "epoch": round(state.epoch or 0, 4), **values}
        line["seconds"] = round(time.monotonic() - self.started, 3)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    @contextmanager
    def heeding_signals(self) -> Iterator[None]:
        """On SIGTERM finish the step, write a checkpoint, and end as SIGTERM ends a process."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def stop(number: int, frame: Any) -> None:
            self.stopping = True

        before = signal.signal(signal.SIGTERM, stop)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
        if self.stopping:
            os.kill(os.getpid(), signal.SIGTERM)
