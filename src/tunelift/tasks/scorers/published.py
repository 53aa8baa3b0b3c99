"""Any metric of the `evaluate` library, from a local folder (which needs no network) or by name (which does)."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tunelift.artifacts.records import file_sha256
from tunelift.errors import UserError
from tunelift.tasks.scorers.base import Bound, Place, written
from tunelift.tasks.scorers.outside import OutsideOptions, checked

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task


class EvaluateOptions(OutsideOptions):
    """Options of `evaluate`. A metric is code that runs here: use what you trust."""

    metric: str = Field(min_length=1, examples=["metrics/my_metric"])
    """A folder `…/<name>` with `<name>.py` in it, relative to the task; or a name on the hub, such as `rouge`."""
    result: str | None = None
    """Which of its results to take, such as `rougeL`; not needed when it gives one."""
    config: str | None = None
    """The metric's configuration, if it has several."""
    revision: str | None = None
    """Hub commit, tag or branch of a metric named on the hub."""
    divide_by: float = Field(1.0, gt=0)
    """Its highest value, such as 100, so that scores come to lie in [0, 1]."""


def published(options: EvaluateOptions, place: Place) -> Bound:
    """The metric of one output against one accepted answer at a time; the accepted answer that scores best counts."""
    local = _folder(options, place)
    metric = _load(str(local or options.metric), options.config, options.revision, place.where)
    _check_texts(metric, options, place)
    best = min if options.lower_is_better else max

    def one(output: str, right: str) -> float:
        found = metric.compute(predictions=[_sound(output)], references=[_sound(right)], **options.arguments)
        return float(_pick(found, options, place)) / options.divide_by

    def function(output: str, item: Item, task: Task) -> float:
        return checked(
            lambda: best(one(output, written(right)) for right in item.accepted),
            options,
            what=f"The metric {options.metric}",
            item=item,
            where=place.where,
        )

    identity = {"metric": _sources(metric, local)}
    return Bound(options.kind, function, identity, options.lower_is_better, options.bounded, outside=True)


def _folder(options: EvaluateOptions, place: Place) -> Path | None:
    """The metric's folder, if it is one; None for a name on the hub."""
    folder = (place.folder / options.metric).resolve()
    if folder.is_dir():
        if not (folder / f"{folder.name}.py").is_file():
            raise UserError(
                f"The folder {folder} has no {folder.name}.py.",
                where=place.where,
                remedy="A metric of `evaluate` is a folder with a script of the same name.",
            )
        return folder
    if options.metric.startswith((".", "/", "~")) or options.metric.count("/") > 1:
        raise UserError(
            f"There is no folder {folder}.", where=place.where, remedy="Correct metric, relative to the task's folder."
        )
    return None


@cache
def _load(path: str, config: str | None, revision: str | None, where: str) -> Any:
    import evaluate  # type: ignore[import-untyped]

    try:
        # In memory: one item at a time through files would be slow, and two runs at once would wait for each other.
        return evaluate.load(path, config_name=config, revision=revision, keep_in_memory=True)
    except Exception as error:  # It lets the errors of the hub's client, of Python's import and of the script through.
        reason = str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
        local = Path(path).is_dir()
        raise UserError(
            f"The metric {path} cannot be loaded: {reason}.",
            where=where,
            remedy="Correct its script."
            if local
            else "Check the name and the network; without network, download the metric's folder, "
            "put it beside the task, and name it as `metric: metrics/<name>`.",
        ) from error


def _check_texts(metric: Any, options: EvaluateOptions, place: Place) -> None:
    shapes = metric.features if isinstance(metric.features, list) else [metric.features]
    for shape in shapes:
        if set(shape) == {"predictions", "references"} and all(
            getattr(shape[name], "dtype", None) in {"string", "large_string"} for name in shape
        ):
            return
    raise UserError(
        f"The metric {options.metric} does not compare one text with one text: it takes {shapes[0]}.",
        where=place.where,
        remedy="Use one that does; or call it in a scorer of your own (`scorer: module:function`).",
    )


def _pick(found: Any, options: EvaluateOptions, place: Place) -> Any:
    results = found if isinstance(found, Mapping) else {}
    name = options.result or (next(iter(results)) if len(results) == 1 else None)
    if name not in results:
        raise UserError(
            f"The metric {options.metric} gives {', '.join(results) or 'nothing'}"
            + (f", and no {name!r}." if name else ", so one must be chosen."),
            where=place.where,
            remedy=f"Set `result: {next(iter(results), '…')}`, say.",
        )
    value = results[name]
    return value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value


def _sources(metric: Any, folder: Path | None) -> dict[str, str]:
    """What the metric is made of, by content: its folder's files, or the script that came from the hub."""
    if folder is None:
        script = inspect.getsourcefile(type(metric))
        return {Path(script).name: file_sha256(Path(script))} if script else {}
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): file_sha256(path) for path in files}


def _sound(text: str) -> str:
    """Without lone surrogates, which Arrow cannot store."""
    return text.encode("utf-8", "replace").decode("utf-8")
