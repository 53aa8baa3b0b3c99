"""How a JSON answer differs from the expected one, field by field, as the scorers see it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from tunelift.stages.report.evidence import Json
from tunelift.tasks.scorers.json_values import NotJsonError, canonical_json, parse_json
from tunelift.tasks.scorers.tool_calls import calls_of, parse_calls

DEEPEST = 12
"""Below this, and in longer lists than `LONGEST_LIST`, a value is compared as a whole."""
LONGEST_LIST = 40
MOST_ROWS = 30
"""Differences that are listed; the rest is counted."""

_FENCED = re.compile(r"```(?:json)?\s*([\s\S]*?)```")
_ABSENT = object()
"""Stands where an expected call has no like among those that were given."""

Same = Callable[[Any], str]
"""Equal texts for values that a scorer takes for equal."""


class Leaf(NamedTuple):
    """A value at the end of a path."""

    shown: str
    """As JSON."""
    same: str
    """Equal for values that count as equal."""


Leaves = Mapping[str, Leaf]
"""By path."""


def field_differences(
    accepted: Sequence[Any], output: str, *, strict: bool = False, as_calls: bool = False
) -> Json | None:
    """The differences from the accepted answer that is nearest.

    Fields are equal where the scorers take them for equal: 1.0 and 1, and texts that differ in case, white space or
    closing marks, unless `strict`. `as_calls`, so are the spellings of a call.

    Returns:
        `rows`, at most `MOST_ROWS` of `path`, `kind` (missing, differs or extra), `expected` and `got` as JSON; `total`
        of them, and how many fields are `equal`. None where either is no JSON object or list, or nothing differs.
    """
    read = _calls if as_calls else _tree
    got = read(output)
    wanted = [] if got is None else [tree for right in accepted if (tree := read(right)) is not None]
    same: Same = _strictly if strict else canonical_json
    found = [_compared(tree, got, same) for tree in wanted]
    nearest = min(found, key=lambda one: len(one[0]), default=None)
    if nearest is None or not nearest[0]:
        return None
    rows, equal = nearest
    return {"rows": rows[:MOST_ROWS], "total": len(rows), "equal": equal}


def _strictly(value: Any) -> str:
    """Only numbers of equal value are alike."""
    whole = int(value) if isinstance(value, float) and value.is_integer() else value
    return json.dumps(whole, ensure_ascii=False, sort_keys=True)


def _tree(answer: Any) -> Any:
    """The JSON object or list; None for anything else."""
    if isinstance(answer, dict | list):
        return answer
    if not isinstance(answer, str):
        return None
    fenced = _FENCED.search(answer)
    for candidate in (answer, *([fenced[1]] if fenced else [])):
        try:
            value = parse_json(candidate)
        except NotJsonError:
            continue
        if isinstance(value, dict | list):
            return value
    return None


def _calls(answer: Any) -> Any:
    """Calls in one spelling, a single one without a list; what is no call, as it is."""
    calls = parse_calls(answer) if isinstance(answer, str) else calls_of(answer)
    if calls is None:
        return _tree(answer)
    same = [{"name": call.name, "arguments": call.arguments} for call in calls]
    return same[0] if len(same) == 1 else same


def _compared(expected: Any, got: Any, same: Same) -> tuple[list[Json], int]:
    wanted, given = _leaves(expected, same), _leaves(_aligned(expected, got, same), same)
    rows: list[Json] = []
    for path, leaf in wanted.items():
        if path not in given:
            rows.append({"path": path, "kind": "missing", "expected": leaf.shown})
        elif given[path].same != leaf.same:
            rows.append({"path": path, "kind": "differs", "expected": leaf.shown, "got": given[path].shown})
    equal = len(wanted) - len(rows)
    rows += [{"path": path, "kind": "extra", "got": leaf.shown} for path, leaf in given.items() if path not in wanted]
    return rows, equal


def _leaves(value: Any, same: Same, path: str = "", depth: int = 0) -> dict[str, Leaf]:
    if value is _ABSENT:
        return {}
    is_long = isinstance(value, list) and len(value) > LONGEST_LIST
    if not isinstance(value, dict | list) or not value or is_long or depth >= DEEPEST:
        shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return {path or "the whole answer": Leaf(shown, same(value))}
    named = (
        ((f"[{place}]", inner) for place, inner in enumerate(value, 1))
        if isinstance(value, list)
        else ((f".{key}" if path else key, inner) for key, inner in value.items())
    )
    found: dict[str, Leaf] = {}
    for name, inner in named:
        found |= _leaves(inner, same, path + name, depth + 1)
    return found


def _aligned(expected: Any, got: Any, same: Same, depth: int = 0) -> Any:
    """What was given, with calls that may come in any order set beside those that they are most like."""
    if depth >= DEEPEST:
        return got
    if isinstance(expected, dict) and isinstance(got, dict):
        return {
            key: _aligned(expected[key], value, same, depth + 1) if key in expected else value
            for key, value in got.items()
        }
    if not all(_is_list_of_objects(one) for one in (expected, got)):
        return got
    wanted, given = ([_leaves(one, same) for one in values] for values in (expected, got))
    alike = [
        (sum(path in other and other[path].same == leaf.same for path, leaf in one.items()), at, place)
        for at, one in enumerate(wanted)
        for place, other in enumerate(given)
    ]
    placed: dict[int, int] = {}
    for _, at, place in sorted(alike, key=lambda one: -one[0]):
        if at not in placed and place not in placed.values():
            placed[at] = place
    left = [one for place, one in enumerate(got) if place not in placed.values()]
    beside = [
        _aligned(one, got[placed[at]], same, depth + 1) if at in placed else _ABSENT for at, one in enumerate(expected)
    ]
    return [*beside, *left]


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and len(value) <= LONGEST_LIST and all(isinstance(one, dict) for one in value)
