"""Tools' results in the order of the calls that they answer: most chat templates show no ids, only the order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunelift.stages.curate.rows import Fault

Message = dict[str, Any]


def ordered_results(messages: Sequence[Message]) -> tuple[list[Message], Fault | None]:
    """The messages with each turn's tool results in the order of its calls, or the fault that keeps them from it.

    Results are joined to calls by `tool_call_id`: `tool_result_unknown` for an id that none of the turn's calls has,
    `tool_result_twice` for two results (or two calls) with one id, `tool_result_missing` for a call without a result.
    Where neither has ids, a result's `name` tells its call if all names differ, else its position does. Calls that end
    the conversation need no result.
    """
    ordered = list(messages)
    for place, message in enumerate(messages):
        calls = message.get("tool_calls")
        end = place + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        if not calls or end == place + 1:
            continue
        results = ordered[place + 1 : end]
        named = [call["function"]["name"] for call in calls]
        if all(call.get("id") for call in calls) and any(result.get("tool_call_id") for result in results):
            wanted = [call["id"] for call in calls]
            found = _with_ids(results, wanted)
            if fault := _unmatched(wanted, found, place):
                return ordered, fault
        elif len(set(named)) == len(named) and sorted(named) == sorted(str(one.get("name")) for one in results):
            wanted, found = named, [result["name"] for result in results]
        else:
            continue
        by_id = dict(zip(found, results, strict=True))
        ordered[place + 1 : end] = [by_id[identity] for identity in wanted]
    return ordered, None


def _with_ids(results: Sequence[Message], wanted: Sequence[str]) -> list[str]:
    """The call that each result answers; one without an id answers the first call that no other does."""
    given = [result.get("tool_call_id") for result in results]
    free = iter([identity for identity in wanted if identity not in given])
    return [identity or next(free, "") for identity in given]


def _unmatched(wanted: Sequence[str], found: Sequence[str], place: int) -> Fault | None:
    unknown = next((identity for identity in found if identity not in wanted), None)
    if unknown is not None:
        return Fault("tool_result_unknown", {"message": place, "id": unknown, "calls": ", ".join(wanted)})
    twice = next((identity for identity in wanted if max(found.count(identity), wanted.count(identity)) > 1), None)
    if twice is not None:
        return Fault("tool_result_twice", {"message": place, "id": twice})
    missing = next((identity for identity in wanted if identity not in found), None)
    return Fault("tool_result_missing", {"message": place, "id": missing}) if missing is not None else None
