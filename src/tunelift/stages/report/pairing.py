"""Which arms are set against each other, and the paired difference of two of them on a task's items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from tunelift.stages.report.evidence import Asked
from tunelift.tasks.statistics import PairedDifference, compare

BASE = "base"
"""The arm that the tuned one came from: what was known before must not be forgotten."""


@dataclass(frozen=True)
class Pairing:
    """The arm that claims are about, and how differences from it are resampled."""

    focus: str
    noise_arm: str | None
    """The base asked again: it measures noise, and is no rival."""
    samples: int
    seed: int

    def rivals(self, task: Asked) -> list[str]:
        """The untuned arms that were asked the task; none if the focus arm was not."""
        if self.focus not in task.samples:
            return []
        return [arm for arm in task.samples if arm not in {self.focus, self.noise_arm}]

    def best_untuned(self, task: Asked, metric: str) -> str | None:
        """The rival with the best mean; the first of equals."""
        better, rivals = task.metrics[metric].better, self.rivals(task)
        return max(rivals, key=lambda arm: better(fmean(task.scores(arm, metric))), default=None) if task.ids else None

    def harmed(self, task: Asked) -> str | None:
        """Whom a guard task protects: the base if it was asked, else the best untuned arm."""
        return BASE if BASE in self.rivals(task) else self.best_untuned(task, task.primary)

    def set_against(self, task: Asked) -> str | None:
        """The rival that matters: on a guard task the one that was there before, elsewhere the best untuned arm."""
        return self.harmed(task) if task.role == "guard" else self.best_untuned(task, task.primary)

    def pair(
        self, task: Asked, metric: str, rival: str, items: Sequence[str] | None = None, first: str | None = None
    ) -> PairedDifference:
        """The focus arm (or `first`) less `rival`, on all items or on some."""
        chosen, about = task.ids if items is None else items, task.metrics[metric]
        return compare(
            task.scores(first or self.focus, metric, chosen),
            task.scores(rival, metric, chosen),
            about.kind,
            clusters=task.clusters_of(chosen),
            samples=self.samples,
            seed=self.seed,
            bounded=about.bounded,
        )
