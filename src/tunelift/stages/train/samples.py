"""samples.jsonl: how the model answers a few validation rows as it trains, beside how the base answers them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from tunelift.runtime import console
from tunelift.stages.train import journal
from tunelift.stages.train.answers import Asked
from tunelift.tasks.thinking import part

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

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Answer, if it is time."""
        if "loss" in (logs or {}) and state.global_step % self.every == 0:
            self.take(state.global_step)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Answer, unless it was done or a signal ended training."""
        self.catch_up(state.global_step, ended=True)

    def catch_up(self, step: int, *, ended: bool) -> None:
        """Answer after a step if it is due, or `ended` training, and was not done to its end."""
        taken = {line["id"] for line in journal.read(self.path) if line["step"] == step}
        if (ended or step % self.every == 0) and taken != {item.id for item in self.asked.task.items}:
            journal.cut_back(self.path, step - 1)
            self.take(step)

    def take(self, step: int) -> None:
        """Answer now, unless a stop cuts it short."""
        with self.trainer.cut_short_by_a_stop():
            items = self.asked.task.items
            if any(item.id not in self.base for item in items):
                with self.trainer.model.disable_adapter():
                    outputs = self.asked.answers(self.trainer)
                self.base = {item.id: output for item, output in zip(items, outputs, strict=True)}
            outputs = self.asked.answers(self.trainer)
            for item, opening, output in zip(items, self.asked.openings, outputs, strict=True):
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
                for who, text in (("base ", self.base[item.id]), ("tuned", output)):
                    parted = part(opening + text)
                    console.say(f"    {who}  {plain(parted.answer or parted.thinking or '')}")


def plain(text: str) -> str:
    """One short line without control characters: a model can write what would move a terminal's cursor."""
    line = "".join(character if character.isprintable() else " " for character in text)
    line = " ".join(line.split())
    return line if len(line) <= SHOWN_CHARACTERS else line[: SHOWN_CHARACTERS - 1] + "…"
