"""Which arms are set against each other, and the paired difference of two of them on a task's items."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from tunelift.config.evaluation import Weights
from tunelift.stages.report.evidence import Asked, Missing
from tunelift.tasks.statistics import PairedDifference, compare, whichever

BASE = "base"
"""The arm that the tuned one came from: what was known before must not be forgotten."""


@dataclass(frozen=True)
class Pairing:
    """The arm that claims are about, and how differences from it are resampled."""

    focus: str
    noise_arm: str | None
    """The base asked again: it measures noise, and is no rival."""
    weights: Mapping[str, Weights]
    """By arm, whose weights answered."""
    samples: int
    seed: int

    def rivals(self, task: Asked) -> list[str]:
        """The arms that were asked the task, to be set against the focus arm; none if that was not."""
        if self.focus not in task.samples:
            return []
        return [arm for arm in task.samples if arm not in {self.focus, self.noise_arm}]

    def untuned(self, task: Asked) -> list[str]:
        """Whom a claim must beat: the rivals that ask the run's base model, with any prompt.

        Where there are none, the other untuned rivals. Another prompt of the tuned model is not what was there
        before, and a yardstick may be beyond what any tuning of this model can reach.
        """
        return self._rivals_on("base", task) or self._rivals_on("other", task)

    def _rivals_on(self, weights: Weights, task: Asked) -> list[str]:
        return [arm for arm in self.rivals(task) if self.weights[arm] == weights]

    def best_untuned(self, task: Asked, metric: str) -> str | None:
        """Of the arms that a claim must beat the one with the best mean, the first of equals.

        What an arm did not answer counts for it here: an arm is not passed over because its requests were refused, its
        answers never began or its prompts were not read.
        """
        better, arms = task.metrics[metric].better, self.untuned(task)

        def mean(arm: str) -> float:
            if task.unread.get(arm):
                return math.inf
            return better(fmean(task.scores(arm, metric, missing="best")))

        return max(arms, key=mean, default=None) if task.ids else None

    def best_of(self, task: Asked) -> str:
        """What the best untuned arm is the best of, in words."""
        return "the best arm on the base model" if self._rivals_on("base", task) else "the best untuned arm"

    def harmed(self, task: Asked) -> str | None:
        """Whom a guard task protects: the base if it was asked, else the best untuned arm."""
        return BASE if BASE in self.untuned(task) else self.best_untuned(task, task.primary)

    def set_against(self, task: Asked) -> str | None:
        """The rival that matters: on a guard task the one that was there before, elsewhere the best untuned arm."""
        return self.harmed(task) if task.role == "guard" else self.best_untuned(task, task.primary)

    def pair(
        self, task: Asked, metric: str, rival: str, items: Sequence[str] | None = None, first: str | None = None
    ) -> PairedDifference:
        """The focus arm (or `first`) less `rival`, on all items or on some.

        A missing answer may have been anything and counts against every claim, whosever it is: the interval reaches
        from where the first arm's are failures and the rival's the best score to where it is the other way round.
        """
        chosen, one = task.ids if items is None else items, first or self.focus

        def with_missing(ours: Missing, theirs: Missing) -> PairedDifference:
            scores = task.scores(one, metric, chosen, ours), task.scores(rival, metric, chosen, theirs)
            return compare_scores(task, metric, *scores, chosen, samples=self.samples, seed=self.seed)

        failed = with_missing("worst", "worst")
        if all(task.scores(arm, metric, chosen) == task.scores(arm, metric, chosen, "best") for arm in (one, rival)):
            return failed
        return whichever(failed, whichever(with_missing("worst", "best"), with_missing("best", "worst")))


def compare_scores(
    task: Asked,
    metric: str,
    first: Sequence[float],
    second: Sequence[float],
    items: Sequence[str],
    *,
    samples: int,
    seed: int,
) -> PairedDifference:
    """First minus second, scores of these items of the task, as its metric and its clusters want."""
    about = task.metrics[metric]
    return compare(
        first,
        second,
        about.kind,
        clusters=task.clusters_of(items),
        samples=samples,
        seed=seed,
        bounded=about.bounded,
    )
