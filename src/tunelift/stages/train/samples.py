"""samples.jsonl: how the model answers a few validation rows as it trains, beside how the base answers them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from tunelift.runtime import console
from tunelift.stages.train import journal
from tunelift.stages.train.answers import Asked

if TYPE_CHECKING:
    from transformers import TrainerControl, TrainerState, TrainingArguments

    from tunelift.stages.train.trainer import SupervisedTrainer

FILE = "samples.jsonl"
SHOWN_CHARACTERS = 84


class Samples(TrainerCallback):
    """Answers every so many steps and at the end. Register it after the journal, whose steps it must not lengthen.

    Each line of the file: `step`, `id`, `prompt` (messages), `expected`, `base_output`, `output`.

    Args:
        path: The file, cut back to the step that training goes on from.
        asked: The rows.
        every: Steps between answers.
        trainer: Its model answers; with the adapter switched off it is the base.
    """

    def __init__(self, path: Path, asked: Asked, every: int, trainer: SupervisedTrainer) -> None:
        self.path, self.asked, self.every, self.trainer = path, asked, every, trainer
        self.base: dict[str, str] = {line["id"]: line["base_output"] for line in journal.read(path)}
        self.seconds = 0.0

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Answer, if it is time."""
        if "loss" in (logs or {}) and (state.global_step % self.every == 0 or state.global_step >= state.max_steps):
            self.take(state.global_step)

    def take(self, step: int) -> None:
        """Answer now."""
        started = time.monotonic()
        items = self.asked.task.items
        if any(item.id not in self.base for item in items):
            with self.trainer.model.disable_adapter():
                outputs = self.asked.answers(self.trainer)
            self.base = {item.id: output for item, output in zip(items, outputs, strict=True)}
        for item, output in zip(items, self.asked.answers(self.trainer), strict=True):
            line = {
                "step": step,
                "id": item.id,
                "prompt": list(item.prompt),
                "expected": item.accepted[0],
                "base_output": self.base[item.id],
                "output": output,
            }
            journal.append(self.path, line)
            console.say(f"train: step {step}, {item.id}: {plain(item.question)}")
            console.say(f"    base   {plain(self.base[item.id])}")
            console.say(f"    tuned  {plain(output)}")
        self.seconds += time.monotonic() - started


def plain(text: str) -> str:
    """One short line without control characters: a model can write what would move a terminal's cursor."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"
