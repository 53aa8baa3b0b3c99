"""A scorer of the user's own, `module:function`: called as function(output, item, task, **arguments)."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from tunelift.artifacts.records import file_sha256
from tunelift.errors import UserError
from tunelift.tasks.scorers.base import Bound, Place
from tunelift.tasks.scorers.outside import OutsideOptions, checked

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task


def own(reference: str, options: OutsideOptions, place: Place) -> Bound:
    """The function that `module:function` names, from the working directory or an installed module.

    The source of the function's module enters the scorer's identity: a changed scorer never reuses old scores.
    What that module imports does not.

    Raises:
        UserError: it cannot be imported, has no source, or is no function.
    """
    module_name, _, function_name = reference.partition(":")
    module = _import(module_name, place)
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(
            f"The module {module_name} has no function {function_name!r}.",
            where=place.where,
            remedy=f"Write it in {module.__file__ or module_name}, or correct the name.",
        )
    sources = {name: _source(name, place) for name in {module_name, getattr(function, "__module__", module_name)}}

    def call(output: str, item: Item, task: Task) -> float:
        return checked(
            lambda: function(output, item, task, **options.arguments),
            options,
            what=f"The scorer {reference}",
            item=item,
            where=_line(function) or place.where,
        )

    return Bound(options.kind, call, {"source": sources}, options.lower_is_better, options.bounded, outside=True)


def _import(name: str, place: Place) -> ModuleType:
    here = Path.cwd()
    local = next((path for path in _candidates(here, name) if path.is_file()), None)
    sys.path.insert(0, str(here))
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        raise UserError(
            f"There is no module {missing!r}."
            if name == missing or name.startswith(f"{missing}.")
            else f"The module {name} imports {missing!r}, which is not there.",
            where=place.where,
            remedy=f"Put {name.replace('.', '/')}.py into the folder that you run tunelift in ({here}), or install it.",
        ) from error
    except Exception as error:
        raise UserError(
            f"The module {name} cannot be imported: {type(error).__name__}: {error}.",
            where=str(local or place.where),
            remedy="Correct it; `python -c 'import " + name + "'` shows the same.",
        ) from error
    finally:
        sys.path.remove(str(here))
    if local and module.__file__ and Path(module.__file__).resolve() != local.resolve():
        raise UserError(
            f"Another module is called {name} already: {module.__file__}.",
            where=place.where,
            remedy=f"Give {local} a name of its own.",
        )
    return module


def _candidates(folder: Path, name: str) -> tuple[Path, Path]:
    path = folder.joinpath(*name.split("."))
    return path.with_name(f"{path.name}.py"), path / "__init__.py"


def _source(module: str, place: Place) -> str:
    try:
        file = inspect.getsourcefile(sys.modules[module])
    except (KeyError, TypeError):
        file = None
    if file is None or not Path(file).is_file():
        raise UserError(
            f"The module {module} has no Python source, so changes to it would go unnoticed.",
            where=place.where,
            remedy="Wrap it in a module of your own.",
        )
    return file_sha256(Path(file))


def _line(function: Callable[..., Any]) -> str:
    try:
        return f"{inspect.getsourcefile(function)}:{inspect.getsourcelines(function)[1]}"
    except (OSError, TypeError):
        return ""
