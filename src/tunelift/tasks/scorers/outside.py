"""What scorers that run other people's code share: their failures told in words, their results checked."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from tunelift.config.section import Section
from tunelift.errors import UserError
from tunelift.tasks.scorers.base import Kind

if TYPE_CHECKING:
    from tunelift.tasks.task import Item


class OutsideOptions(Section):
    """What is to be known about scores that are not ours."""

    kind: Kind = "graded"
    """`binary`: every score is 0 or 1 (or a bool), which sharper statistics may use."""
    lower_is_better: bool = False
    """Such as an error rate."""
    bounded: bool = True
    """Scores lie in [0, 1], which is checked; false for any other range."""
    arguments: dict[str, Any] = Field({}, examples=["{strict: true}"])
    """Handed over with every call."""


def checked(call: Callable[[], Any], options: OutsideOptions, *, what: str, item: Item, where: str) -> float:
    """The score that `call` gives.

    Raises:
        UserError: it failed, or gave what is no score. A silent 0 would look like a wrong answer of the model.
    """
    try:
        value = call()
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{what} failed on item {item.id!r}: {type(error).__name__}: {error}.",
            where=_place(error) or where,
            remedy="Make it return a score for any output, whatever a model may write; return 0 for what is wrong.",
        ) from error
    number = float(value) if isinstance(value, (bool, int, float)) or hasattr(value, "__float__") else math.nan
    fits = number in {0.0, 1.0} if options.kind == "binary" else 0 <= number <= 1 or not options.bounded
    if not fits or not math.isfinite(number):
        raise UserError(
            f"{what} gave {value!r} on item {item.id!r}, which is no {_expected(options)}.",
            where=where,
            remedy="Correct it, or say what it gives: `kind: binary` or `graded`, `bounded: false` for any range.",
        )
    return number


def _expected(options: OutsideOptions) -> str:
    if options.kind == "binary":
        return "0 or 1"
    return "number from 0 to 1" if options.bounded else "finite number"


def _place(error: Exception) -> str:
    """File and line at which it failed."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
