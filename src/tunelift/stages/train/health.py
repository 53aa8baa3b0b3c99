"""Is the loss still sane? And if not: which rows were in the step, told in a file before the run ends."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.errors import MachineError

if TYPE_CHECKING:
    from tunelift.stages.train.trainer import SupervisedTrainer

SMOOTHING = 0.9
"""Weight of the past in the smoothed loss; the last ten steps make up two thirds of it."""
BEGINNING_STEPS = 10
"""The mean loss of so many steps is where it began."""
FLOOR_NATS = 0.5
"""How far above its beginning a loss must be: of small losses, twice the lowest may be noise."""
PATIENCE_STEPS = 10
"""For so many steps in a row; a few hard batches end no run."""
FILE = "bad_step.json"
SHOWN_IDS = 8
HISTORY_STEPS = 50


class BadStep(Exception):
    """A step after which going on makes no sense."""

    def __init__(self, what: str, *, remedy: str, sound_step: int | None = None, **numbers: float) -> None:
        super().__init__(what)
        self.what, self.remedy, self.numbers = what, remedy, numbers
        self.sound_step = sound_step
        """The last step before things went wrong; None if that is the last one taken."""


class LossWatch:
    """The smoothed loss, and whether it has exploded. Fed the same losses it says the same, so a resume goes on alike.

    Smoothed is the exponential moving average with the bias of its first steps taken out (Adam's, arXiv 1412.6980,
    section 3). Exploded is a loss that, smoothed, was for `PATIENCE_STEPS` steps in a row above `ratio` times its
    lowest, and above its beginning by `FLOOR_NATS`: a run whose loss rises again after it fell below where it began has
    not exploded.

    Args:
        ratio: Of `train.max_loss_ratio`; None never finds that it exploded.
    """

    def __init__(self, ratio: float | None, losses: Iterable[float] = ()) -> None:
        self.ratio = ratio
        self.smoothed = 0.0
        self.lowest = math.inf
        self.steps = self.steps_above = 0
        self.sound_step = 0
        """The last step whose weights are known to have given a loss that was not too high, smoothed or not."""
        self._sum = self._beginning = 0.0
        for loss in losses:
            self.see(loss)

    def see(self, loss: float) -> float:
        """Take in the next step's loss; returns the smoothed loss, in nats as it."""
        self.steps += 1
        if self.steps <= BEGINNING_STEPS:
            self._beginning += (loss - self._beginning) / self.steps
        self._sum = SMOOTHING * self._sum + (1 - SMOOTHING) * loss
        self.smoothed = self._sum / (1 - SMOOTHING**self.steps)
        self.lowest = min(self.lowest, self.smoothed)
        self.steps_above = self.steps_above + 1 if self.smoothed > self.limit else 0
        if max(loss, self.smoothed) <= self.limit:
            self.sound_step = self.steps - 1  # A step's loss is that of the weights before it.
        return self.smoothed

    @property
    def limit(self) -> float:
        """Above it a smoothed loss is too high."""
        if self.ratio is None or self.steps < BEGINNING_STEPS:
            return math.inf
        return max(self.ratio * self.lowest, self._beginning + FLOOR_NATS)

    @property
    def exploded(self) -> bool:
        """It was too high for too long."""
        return self.steps_above >= PATIENCE_STEPS


def tell(
    trainer: SupervisedTrainer, bad: BadStep, out: Path, lines: Sequence[Mapping[str, Any]], kept: int | None
) -> MachineError:
    """Write the step's rows to a file and return the error to raise.

    The file holds `step`, `what`, `learning_rate`, `loss` and `grad_norm` as far as known, `rows` [{`id`, `tokens`,
    `supervised_tokens`, `loss`}] with each row's own loss by the weights as they now are (null if not finite), and the
    last lines of the metrics.

    Args:
        trainer: Knows the step's rows.
        bad: What went wrong.
        out: The output folder.
        lines: Of metrics.jsonl.
        kept: The step of the newest whole checkpoint from before things went wrong.
    """
    step = int(bad.numbers.pop("step", trainer.state.global_step + 1))
    numbers = trainer.order.rows_of_step(step)
    losses = trainer.row_losses(numbers)
    rows: list[dict[str, Any]] = [
        {
            "id": trainer.rows[number].id,
            "tokens": len(trainer.rows[number]),
            "supervised_tokens": trainer.rows[number].rendered.supervised_tokens,
            "loss": losses.get(number),
        }
        for number in numbers
    ]
    rows.sort(key=lambda row: -math.inf if row["loss"] is None else -row["loss"])
    found = {
        "step": step,
        "what": bad.what,
        "learning_rate": trainer.current_learning_rate(),
        **{name: value if math.isfinite(value) else str(value) for name, value in bad.numbers.items()},
        "rows": rows,
        "before": list(lines[-HISTORY_STEPS:]),
    }
    path = out / FILE
    path.write_text(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    ids = [str(row["id"]) for row in rows]
    more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
    left = f"The checkpoint of step {kept} is kept" if kept else "No checkpoint was written yet"
    return MachineError(
        f"{bad.what} Its rows: {', '.join(ids[:SHOWN_IDS])}{more}.",
        where=str(path),
        remedy=f"{bad.remedy} The file has each row's loss, the highest first. {left}; other settings or data start "
        "anew, the same ones go on from the newest checkpoint and most likely come to the same step.",
    )
