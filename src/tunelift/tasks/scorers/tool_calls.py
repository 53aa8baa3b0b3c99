"""Rules on tool calls: when two sets of calls are the same."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import model_validator

from tunelift.tasks.scorers.attempts import attempts_call, names_of
from tunelift.tasks.scorers.base import Bound, Place, written
from tunelift.tasks.scorers.calls import ENVELOPE, UNREADABLE, Call, calls_of, parse_calls
from tunelift.tasks.scorers.json_values import AnswerOptions, NotJsonError, canonical_json, parse_json

if TYPE_CHECKING:
    from tunelift.tasks.task import Item, Task

__all__ = ["Call", "ToolCallOptions", "calls_of", "parse_calls", "right_tool", "tool_call"]


def right_tool(output: str, item: Item, task: Task) -> float:
    """The output names the tools of an accepted answer (none for {"tool": null}), whatever the arguments."""
    known = _known(item, task)
    try:
        given = _names(parse_json(output), known)
    except NotJsonError:
        given = _names_of(parse_calls(output, known=known))
    if given is None:
        return 0.0
    return float(any(not isinstance(right, str) and _names(right, known) == given for right in item.accepted))


def _names(value: Any, known: Collection[str]) -> list[Any] | None:
    """The tools that a JSON value names, whatever else is in it."""
    if isinstance(value, dict) and "tool" in value:
        return [] if value["tool"] is None else [value["tool"]]
    return _names_of(calls_of(value, known))


def _names_of(calls: list[Call] | None) -> list[Any] | None:
    return None if calls is None else sorted(call.name for call in calls)


def _known(item: Item, task: Task) -> frozenset[str]:
    """Names of tools: those of the item or task, and those that an accepted answer calls without arguments."""
    answers = [entry for right in item.accepted for entry in (right if isinstance(right, list) else [right])]
    bare = [one for one in answers if isinstance(one, dict) and "name" in one and one.keys() <= {"name", *ENVELOPE}]
    return names_of([*_tools(item, task), *bare])


def _tools(item: Item, task: Task) -> Sequence[Any]:
    """The item's own tools, or the task's; none where a script judges without a task."""
    return getattr(item, "tools", None) or getattr(task, "tools", None) or ()


class ToolCallOptions(AnswerOptions):
    """Options of `tool_call`."""

    check: Literal["calls", "names"] = "calls"
    """`calls`: names and arguments; `names`: names alone."""
    values: Literal["exact", "possible"] = "exact"
    """`possible`: accepted arguments are lists of possible values, in which "" means that it may be left out, as in
    BFCL's possible_answer; accepted calls may then also be written {"name": {"parameter": [values]}}."""
    text: Literal["canonical", "loose"] = "canonical"
    """`loose`: also blind to spaces and , . / - _ * ^ in texts, as BFCL's checker is."""

    @model_validator(mode="after")
    def _one_of_both(self) -> ToolCallOptions:
        if self.strict and self.text == "loose":
            raise ValueError("strict and text=loose contradict each other; remove one of them")
        return self


def tool_call(options: ToolCallOptions, place: Place) -> Bound:
    """The output makes the accepted calls, all and no other, in any order and any of the usual spellings.

    Accepted are one call or a list. {"tool": null} asks for just that (or []); [], or a text without a call, is right
    when none is made or attempted, whatever the output says.
    """

    def normal(value: Any) -> str:
        return canonical_json(_loosened(value) if options.text == "loose" else value, strict=options.strict)

    def alike(given: Call, wanted: Call) -> bool:
        if given == UNREADABLE:
            return False
        if given.name != wanted.name or options.check == "names":
            return given.name == wanted.name
        if normal(given.beside) != normal(wanted.beside):
            return False
        if options.values == "possible":
            return _possible_arguments(given.arguments, wanted.arguments, normal)
        return normal(given.arguments) == normal(wanted.arguments)

    def function(output: str, item: Item, task: Task) -> float:
        known = _known(item, task)
        given = parse_calls(output, options.find, known)
        for answer in item.accepted:
            wanted = _accepted(answer, options, known)
            if given is not None and wanted is not None and _pair_up(given, wanted, alike):
                return 1.0
            none_wanted = answer == [] or (isinstance(answer, str) and wanted is None)
            if none_wanted and _makes_none(output, given, _tools(item, task), known):
                return 1.0
        return 0.0

    return Bound("binary", function, written=lambda answer: _written(answer, options), strict=options.strict)


def _makes_none(output: str, given: list[Call] | None, tools: Sequence[Any], known: Collection[str]) -> bool:
    if given is not None:
        return not given
    return not parse_calls(output, "anywhere", known) and not attempts_call(output, tools)


def _accepted(answer: Any, options: ToolCallOptions, known: Collection[str] = ()) -> list[Call] | None:
    if isinstance(answer, str):
        return parse_calls(answer, options.find, known)
    if options.values == "possible":
        answer = [_spelled(entry) for entry in (answer if isinstance(answer, list) else [answer])]
        answer = answer[0] if len(answer) == 1 else answer
    return calls_of(answer, known)


def _spelled(entry: Any) -> Any:
    """{"name": {"parameter": [values]}} as {"name", "arguments"}; anything else as it is."""
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, arguments),) = entry.items()
        if isinstance(arguments, dict):
            return {"name": name, "arguments": arguments}
    return entry


def _pair_up(given: Sequence[Call], wanted: Sequence[Call], alike: Callable[[Call, Call], bool]) -> bool:
    """Whether each given call can have a wanted one of its own (augmenting paths: one may fit several)."""
    if len(given) != len(wanted):
        return False
    fits = [[position for position, call in enumerate(wanted) if alike(one, call)] for one in given]
    holder: dict[int, int] = {}

    def place_call(index: int, tried: set[int]) -> bool:
        for position in fits[index]:
            if position not in tried:
                tried.add(position)
                if position not in holder or place_call(holder[position], tried):
                    holder[position] = index
                    return True
        return False

    return all(place_call(index, set()) for index in range(len(given)))


def _possible_arguments(given: dict[str, Any], wanted: dict[str, Any], normal: Callable[[Any], str]) -> bool:
    for name, values in wanted.items():
        values = values if isinstance(values, list) else [values]
        if name not in given:
            if "" not in values:
                return False
        elif not any(_possible(given[name], value, normal) for value in values):
            return False
    return set(given) <= set(wanted)


def _possible(given: Any, wanted: Any, normal: Callable[[Any], str]) -> bool:
    """Inside an object, too, values are lists of possible ones; inside a list, objects are."""
    if isinstance(wanted, dict):
        return isinstance(given, dict) and _possible_arguments(given, wanted, normal)
    if isinstance(wanted, list) and any(isinstance(entry, dict) for entry in wanted):
        return (
            isinstance(given, list)
            and len(given) == len(wanted)
            and all(_possible(one, entry, normal) for one, entry in zip(given, wanted, strict=True))
        )
    return normal(given) == normal(wanted)


def _loosened(value: Any) -> Any:
    """As BFCL's standardize_string does it to texts (gorilla, ast_checker.py)."""
    if isinstance(value, str):
        return re.sub(r"[ \,\.\/\-\_\*\^]", "", value).replace("'", '"')
    if isinstance(value, dict):
        return {key: _loosened(entry) for key, entry in value.items()}
    return [_loosened(entry) for entry in value] if isinstance(value, list) else value


def _written(answer: Any, options: ToolCallOptions) -> str:
    calls = _accepted(answer, options)
    if options.values == "exact" or not calls:
        return written(answer)
    spelled = [{"name": call.name, "arguments": _chosen(call.arguments)} for call in calls]
    return json.dumps(spelled[0] if len(spelled) == 1 else spelled, ensure_ascii=False)


def _chosen(possible: dict[str, Any]) -> dict[str, Any]:
    """The first possible value of each; what may be left out is."""
    chosen = {}
    for name, values in possible.items():
        values = values if isinstance(values, list) else [values]
        if values and "" not in values:
            first = values[0]
            chosen[name] = (
                _chosen(first)
                if isinstance(first, dict)
                else [_chosen(entry) if isinstance(entry, dict) else entry for entry in first]
                if isinstance(first, list)
                else first
            )
    return chosen
