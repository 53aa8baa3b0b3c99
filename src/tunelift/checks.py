"""What stages would refuse of a config, asked before any of them runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tunelift.config.evaluation import NOISE_ARM, ArmConfig, SplitTaskConfig
from tunelift.config.schema import Config
from tunelift.engines.endpoint import read_key
from tunelift.stages import evaluate, judge, report
from tunelift.tasks.ahead import task_ahead
from tunelift.tasks.task import Task, distinct, load_task

Selection = Callable[[ArmConfig], Task | None]
"""The task on which an arm's prompt is chosen."""


def check_evaluable(config: Config, tasks: Sequence[Task], selection: Selection) -> None:
    """Refuse, before hours of training, what cannot be asked, claimed or judged.

    Raises:
        UserError: the first of it.
    """
    arms = config.evaluate.resolved_arms()
    report.check_declared(config.gate, tasks, arms)
    if config.judge:
        judge.check(config.judge, tasks, [arm.name for arm in arms if arm.name != NOISE_ARM])
    for arm in arms:
        evaluate.check_askable(arm, tasks, selection(arm), has_tokenizer=arm.endpoint is None)


def check_keys(config: Config) -> None:
    """Refuse an endpoint whose API key is not set here.

    Raises:
        UserError: naming the environment variable.
    """
    arms = config.evaluate.resolved_arms()
    for endpoint in (*(arm.endpoint for arm in arms), config.judge and config.judge.endpoint):
        if endpoint:
            read_key(endpoint)


def tasks_ahead(config: Config, folder_tasks: Sequence[Task]) -> list[Task]:
    """The tasks in the config's order as far as they are known before the data set is made.

    Raises:
        UserError: a split's scorer or primary is wrong, or two tasks have one name.
    """
    folders = iter(folder_tasks)
    return distinct(
        task_ahead(task) if isinstance(task, SplitTaskConfig) else next(folders) for task in config.evaluate.tasks
    )


def selection_ahead(arm: ArmConfig) -> Task | None:
    """A folder's task; the validation split's is known once the data set is made.

    Raises:
        UserError: the folder holds no sound task.
    """
    return load_task(Path(arm.search.on)) if arm.search and arm.search.on != "validation" else None
