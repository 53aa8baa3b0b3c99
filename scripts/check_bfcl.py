"""Compare this project's rule on tool calls with the checker of bfcl-eval, on right and on spoilt answers.

    python scripts/check_bfcl.py [--questions 200] [--all]

Takes 200 questions each of BFCL's `simple` (Python) and `multiple`, answers each rightly and with every mutation that
applies, and lets both judge: the scorer `{scorer: tool_call, values: possible, text: loose}`, and `ast_checker` of
bfcl-eval 2026.3.23, imported from its wheel. Prints how often they agree, and every kind of disagreement with its
reason. Exit code 1 when a disagreement has no known reason.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import types
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarks import bfcl
from benchmarks.mutations import Arguments, Calls, Values, chosen, outputs
from benchmarks.table import BFCL
from fetch_benchmarks import REPOSITORY, opened
from tunelift.errors import TuneliftError
from tunelift.tasks.scorers import Scorer, build_scorers
from tunelift.tasks.task import Item

RULE = {"scorer": "tool_call", "values": "possible", "text": "loose"}
FILES = {"simple_python": "BFCL_v4_simple_python.json", "multiple": "BFCL_v4_multiple.json"}


@dataclass(frozen=True)
class Judged:
    """One answer and what both said."""

    question: str
    mutation: str
    calls: Calls
    values: Values
    """The possible ones."""
    ours: bool
    theirs: bool
    error: str
    """bfcl-eval's type of error."""
    check: Callable[[Calls], bool]
    """bfcl-eval's judgement of other calls."""


def main() -> int:
    """Compare; returns the exit code."""
    parser = argparse.ArgumentParser(description="Compare the tool_call scorer with bfcl-eval's checker.")
    parser.add_argument("--questions", type=int, default=200, help="of each kind")
    parser.add_argument("--wheels", type=Path, default=REPOSITORY / "runs" / "wheels", help="where downloads stay")
    parser.add_argument("--all", action="store_true", help="print every disagreement, not three of a kind")
    arguments = parser.parse_args()
    try:
        with opened(BFCL, arguments.wheels) as wheel, their_checker(wheel) as check:
            judged = [
                one for category in FILES for one in judge(wheel, category, arguments.questions, check, our_rule())
            ]
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return report(judged, everything=arguments.all)


def our_rule() -> Scorer:
    """The scorer that the fetched BFCL tasks use."""
    [scorer] = build_scorers([RULE])
    return scorer


@contextmanager
def their_checker(wheel: ZipFile) -> Iterator[Callable[..., dict[str, Any]]]:
    """`ast_checker`, without the rest of the package.

    Its module imports a table of models, and with it the clients of all vendors, to learn whose function names lose
    their dots. Answers here are nobody's, so a table of one model stands in.
    """
    with tempfile.TemporaryDirectory() as folder:
        wheel.extractall(folder, [name for name in wheel.namelist() if name.endswith(".py")])
        table = types.ModuleType("bfcl_eval.constants.model_config")
        vars(table)["MODEL_CONFIG_MAPPING"] = {"anyone": types.SimpleNamespace(underscore_to_dot=False)}
        sys.modules[table.__name__] = table
        sys.path.insert(0, folder)
        try:
            from bfcl_eval.constants.enums import Language
            from bfcl_eval.eval_checker.ast_eval.ast_checker import ast_checker

            yield lambda functions, calls, answers, category: ast_checker(
                functions, calls, answers, Language.PYTHON, category, "anyone"
            )
        finally:
            sys.path.remove(folder)


def judge(
    wheel: ZipFile, category: str, count: int, check: Callable[..., dict[str, Any]], rule: Scorer
) -> Iterator[Judged]:
    """Both judgements of every answer to the first `count` questions."""
    for number, (row, answer) in enumerate(bfcl.read(wheel, FILES[category])):
        if number == count:
            return
        [(name, values)] = answer["ground_truth"][0].items()
        [function] = [function for function in row["function"] if function["name"] == name]
        described = function["parameters"]["properties"]
        item = Item(row["id"], (), (), ({"tool": name, "arguments": values},), "")

        def theirs(calls: Calls, row: Any = row, right: Any = answer["ground_truth"]) -> dict[str, Any]:
            return check(row["function"], [{called: given} for called, given in calls], right, category)

        for mutation, calls in outputs(name, values, described):
            verdict = theirs(calls)
            yield Judged(
                question=row["id"],
                mutation=mutation,
                calls=calls,
                values=values,
                ours=rule.function(written(calls), item, None) == 1.0,  # type: ignore[arg-type]
                theirs=verdict["valid"],
                error=str(verdict.get("error_type", "")),
                check=lambda calls, theirs=theirs: theirs(calls)["valid"],
            )


def written(calls: Calls) -> str:
    """The calls as a model here writes them."""
    spelled = [{"tool": name, "arguments": arguments} for name, arguments in calls]
    return json.dumps(spelled[0] if len(spelled) == 1 else spelled, ensure_ascii=False)


def report(judged: list[Judged], *, everything: bool) -> int:
    """Print the comparison; 1 when a disagreement has no known reason."""
    print(f"{'answers':45} {'n':>5} {'both right':>10} {'both wrong':>10} {'only ours':>9} {'only bfcl':>9}")
    for mutation in dict.fromkeys(one.mutation for one in judged):
        cells = Counter((one.ours, one.theirs) for one in judged if one.mutation == mutation)
        counts = [cells[True, True], cells[False, False], cells[True, False], cells[False, True]]
        print(f"{mutation:45} {sum(counts):5} {counts[0]:10} {counts[1]:10} {counts[2]:9} {counts[3]:9}")
    disagreements = [(one, reason(one)) for one in judged if one.ours != one.theirs]
    print(f"\n{len(judged)} answers, {len(judged) - len(disagreements)} judged alike, {len(disagreements)} not:")
    for why, count in Counter(why for _, why in disagreements).most_common():
        print(f"\n{count} × {why}")
        of_kind = [one for one, other in disagreements if other == why]
        for one in of_kind if everything else of_kind[:3]:
            here, there = "right" if one.ours else "wrong", "right" if one.theirs else one.error
            print(f"    {one.question}, {one.mutation}: {here} here; bfcl-eval: {there}")
            print(f"      answer   {written(one.calls)[:200]}")
            print(f"      possible {str(one.values)[:200]}")
    unexplained = sum(why == UNEXPLAINED for _, why in disagreements)
    return 1 if unexplained else 0


UNEXPLAINED = "no known reason"


def reason(one: Judged) -> str:
    """Why the two disagree: the first difference without which bfcl-eval would say what is said here."""
    for why, without in REASONS.items():
        calls = [(name, without(arguments, one.values)) for name, arguments in one.calls]
        # Compared as text: 5.0 == 5 in Python.
        if repr(calls) != repr(one.calls) and one.check(calls) == one.ours:
            return why
    return UNEXPLAINED


def _deep(rewrite: Callable[[Any], Any]) -> Callable[[Any, Values], Any]:
    """`rewrite` for each value inside a value."""

    def inside(value: Any, values: Values) -> Any:
        if isinstance(value, dict):
            return {key: inside(entry, values) for key, entry in value.items()}
        if isinstance(value, list):
            return [inside(entry, values) for entry in value]
        return rewrite(value)

    return inside


def _whole_numbers(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _with_their_closing_marks(arguments: Arguments, values: Values) -> Arguments:
    """Texts as the possible value has them that they equal but for closing marks."""
    return {
        name: next((text for text in values.get(name, ()) if _bare(text) == _bare(value) is not None), value)
        for name, value in arguments.items()
    }


def _bare(value: Any) -> str | None:
    return value.rstrip(" .!?").lower() if isinstance(value, str) else None


def _with_what_may_be_left_out(arguments: Arguments, values: Values) -> Arguments:
    return chosen(values, 0) | arguments


def _without_empty_lists(arguments: Arguments, values: Values) -> Arguments:
    return {name: value for name, value in arguments.items() if value != []} | {
        name: ["something else"] for name, value in arguments.items() if value == []
    }


REASONS: dict[str, Callable[[Any, Values], Any]] = {
    "closing ! and ? do not count here, as elsewhere in canonical texts; bfcl-eval removes only , . / - _ * ^": (
        _with_their_closing_marks
    ),
    "5.0 is the whole number 5 here, as in JSON Schema; bfcl-eval wants Python's int": _deep(_whole_numbers),
    "the question contradicts itself: a parameter may be left out by its possible values and may not by its schema; "
    "here the values decide, in bfcl-eval the schema": _with_what_may_be_left_out,
    'bfcl-eval takes any empty list for the "" that marks what may be left out': _without_empty_lists,
}
"""Each with what takes the difference away from an answer."""


if __name__ == "__main__":
    sys.exit(main())
