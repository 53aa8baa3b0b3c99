"""From the `scorers:` of a task to its `Scorer`s."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from tunelift.config.section import Section
from tunelift.errors import UserError
from tunelift.tasks.scorers import fields, overlap, structured, text, tool_calls
from tunelift.tasks.scorers.base import VERSION, Place, Rule, Scorer, fixed, of_the_answer
from tunelift.tasks.scorers.json_values import AnswerOptions
from tunelift.tasks.scorers.outside import OutsideOptions
from tunelift.tasks.scorers.own import own
from tunelift.tasks.scorers.published import EvaluateOptions, published

SCORERS: dict[str, Rule] = {
    "exact_match": Rule(text.exact_match, AnswerOptions),
    "regex": Rule(text.regex, text.RegexOptions),
    "contains": Rule(text.contains, text.ContainsOptions),
    "not_contains": Rule(text.not_contains, text.NotContainsOptions),
    "length": Rule(text.length, text.LengthOptions),
    "number": Rule(text.number, text.NumberOptions),
    "valid_json": fixed("binary", structured.valid_json, compares=False),
    "schema_valid": Rule(
        structured.schema_valid, structured.SchemaOptions, needs_tools=lambda options: options.schema_file is None
    ),
    "field_precision": Rule(fields.field_precision, AnswerOptions),
    "field_recall": Rule(fields.field_recall, AnswerOptions),
    "field_f1": Rule(fields.field_f1, AnswerOptions),
    "tool_call": Rule(tool_calls.tool_call, tool_calls.ToolCallOptions),
    "right_tool": fixed("binary", tool_calls.right_tool),
    "chrf": Rule(overlap.chrf, overlap.ChrfOptions),
    "bleu": Rule(overlap.bleu, overlap.BleuOptions),
    "rouge1": Rule(overlap.rouge("rouge1"), overlap.RougeOptions),
    "rouge2": Rule(overlap.rouge("rouge2"), overlap.RougeOptions),
    "rougeL": Rule(overlap.rouge("rougeL"), overlap.RougeOptions),
    "evaluate": Rule(published, EvaluateOptions),
}
"""By the name that task files use. Beside these, `module:function` is a scorer of one's own."""

OWN = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
METRIC_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
S = TypeVar("S", bound=BaseModel)
Entry = str | Mapping[str, Any]
Where = Callable[[Sequence[str | int]], str]
"""From a path below `scorers` to the file and line on which it stands."""


def build_scorers(
    entries: Sequence[Entry],
    *,
    folder: Path = Path(),
    has_tools: bool = False,
    where: Where = lambda path: "",
) -> tuple[Scorer, ...]:
    """The scorers that the entries name: a name, or {scorer, name, its options}.

    Args:
        entries: As in task.yaml.
        folder: Files that options name are relative to it.
        has_tools: Whether items come with schemas of tools.
        where: Names an entry's, or its option's, place in messages.

    Raises:
        UserError: an unknown scorer or option, a wrong value, a missing file, or two metrics of one name.
    """
    built: list[Scorer] = []
    for position, entry in enumerate(entries):
        scorer = _build(entry, folder, has_tools, _below(where, position))
        if scorer.name in {other.name for other in built}:
            raise UserError(
                f"Two scorers have the name {scorer.name!r}: it stands twice.",
                where=where((position,)),
                remedy="Name each once, or give one a name of its own: {scorer: …, name: …}.",
            )
        built.append(scorer)
    return tuple(built)


def _below(where: Where, position: int) -> Where:
    return lambda path: where((position, *path))


def _build(entry: Entry, folder: Path, has_tools: bool, where: Where) -> Scorer:
    settings = {"scorer": entry} if isinstance(entry, str) else entry
    kind = settings.get("scorer") if isinstance(settings, Mapping) else None
    if not isinstance(kind, str):
        raise UserError(
            f"{entry!r} names no scorer.",
            where=where(()),
            remedy="Write a name, such as `exact_match`, or `{scorer: number, tolerance: 0.01}`.",
        )
    rule = _rule(kind, where)
    given = {key: value for key, value in settings.items() if key not in {"scorer", "name"}}
    options = validated(rule.options, given, where, what=f"the scorer {kind}")
    if rule.needs_tools(options) and not has_tools:
        raise UserError(
            f"The scorer `{kind}` needs the tools' schemas.",
            where=where(()),
            remedy="Name their file as `tools:`, name a JSON schema as `schema:` beside the scorer, or leave it out.",
        )
    bound = rule.bind(options, Place(folder, where(())))
    described = options.model_dump(mode="json", by_alias=True, exclude_defaults=True) | dict(bound.identity)
    return Scorer(
        name=_name(settings.get("name"), kind, options, where),
        kind=bound.kind,
        function=of_the_answer(bound.function),
        identity={"scorer": kind, "options": described, "version": VERSION},
        lower_is_better=bound.lower_is_better,
        bounded=bound.bounded,
        written=bound.written,
        compares=bound.compares,
        strict=bound.strict,
        sees=bound.sees,
        outside=bound.outside,
    )


def _rule(kind: str, where: Where) -> Rule:
    if kind in SCORERS:
        return SCORERS[kind]
    if OWN.fullmatch(kind):
        return Rule(lambda options, place: own(kind, options, place), OutsideOptions)
    near = difflib.get_close_matches(kind, SCORERS, n=1)
    raise UserError(
        f"There is no scorer `{kind}`.",
        where=where(("scorer",)),
        remedy=f"Did you mean `{near[0]}`?"
        if near
        else f"The scorers are {', '.join(SCORERS)}, or your own as module:function.",
    )


def _name(given: Any, kind: str, options: Section, where: Where) -> str:
    usual = kind.rpartition(":")[2]
    if isinstance(options, EvaluateOptions):
        usual = options.result or Path(options.metric).name
    name = usual if given is None else given
    if not isinstance(name, str) or not METRIC_NAME.fullmatch(name):
        raise UserError(
            f"name={name!r} is no name for a metric.",
            where=where(("name",)),
            remedy="Use up to 60 letters, digits and . _ -, beginning with a letter or digit.",
        )
    return name


def validated(
    section: type[S],
    content: Any,
    where: Where,
    *,
    what: str,
    written: Callable[[Sequence[str | int]], str | None] = lambda _: None,
) -> S:
    """`content` as a `section`; `written` tells how a number was written.

    Raises:
        UserError: the first thing that is wrong, with its place and the nearest name.
    """
    try:
        return section.model_validate(content)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    # A misspelt key may also be missing under its right name: the spelling is what helps.
    problem = next((one for one in problems if one["type"] == "extra_forbidden"), problems[0])
    location = problem["loc"]
    raise UserError(
        _explained(problem, location, what, written(location)),
        where=where(location),
        remedy=_remedy(section, problem, location),
    )


def _explained(problem: Any, location: Sequence[Any], what: str, written: str | None) -> str:
    field = ".".join(str(part) for part in location)
    if problem["type"] == "extra_forbidden":
        return f"There is no key `{field}` for {what}."
    if problem["type"] == "missing":
        return f"The key `{field}` is missing for {what}."
    message = problem["msg"].removeprefix("Value error, ")
    return f"{field}={written or repr(problem['input'])}: {message}." if field else f"{message}."


def _remedy(section: type[BaseModel], problem: Any, location: Sequence[Any]) -> str:
    holder = section
    for part in location[:-1]:
        inner = holder.model_fields[part].annotation if part in holder.model_fields else None
        holder = next((one for one in _sections(inner)), holder)
    known = [field.alias or name for name, field in holder.model_fields.items()]
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(location[-1]), known, n=1)
        return f"Did you mean `{near[0]}`?" if near else f"The keys are {', '.join(known) or 'none at all'}."
    if problem["type"] == "string_type" and isinstance(problem["input"], (bool, int, float)):
        return "Put it in quotes."
    field = next((f for name, f in holder.model_fields.items() if location and location[-1] in {name, f.alias}), None)
    example = f" For example: `{location[-1]}: {field.examples[0]}`." if field and field.examples else ""
    return ("Add it." if problem["type"] == "missing" else "Correct it.") + example


def _sections(annotation: Any) -> list[type[BaseModel]]:
    found = [one for one in (annotation, *get_args(annotation)) if isinstance(one, type)]
    return [one for one in found if issubclass(one, BaseModel)]
