"""What is known of a split's task before the data set is made, so that claims about it can be looked at."""

from __future__ import annotations

from tunelift.config.evaluation import SplitTaskConfig
from tunelift.tasks.scorers import build_scorers
from tunelift.tasks.task import AUTOMATIC, Task, primary_of


def task_ahead(config: SplitTaskConfig) -> Task:
    """The task without its items; where the rows decide on the scorers, with all that they may decide on.

    Raises:
        UserError: an unknown scorer, or a primary that is none of them.
    """
    name = config.name or config.from_split
    where = f"task {name}"
    names = tuple(dict.fromkeys(scorer for scorers in AUTOMATIC for scorer in scorers))
    scorers = build_scorers(
        names if config.scorers == "auto" else config.scorers, has_tools=True, where=lambda path: where
    )
    return Task(
        name=name,
        version=1,
        role="target",
        description="",
        licence="",
        items=(),
        scorers=scorers,
        primary=primary_of(config.primary, scorers, where),
        max_tokens=config.max_tokens,
        effect=config.effect,
    )
