"""What an untuned model must be told to have a fair chance: the labels, the keys, the kind of answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tunelift.starting import recipe
from tunelift.starting.shapes import MOST_VALUES, kind_of, typical
from tunelift.starting.survey import Survey, estimate

PLAIN = re.compile(r"[^,;\"“”„«»、，\n]*[^,;\"“”„«»、，.!?。…\s]")
"""A label that stands between commas without a doubt where it ends."""
LABEL_TOKENS = 2000
"""Of all labels together, by estimate; more, or more than a quarter of the model's context, are not listed."""
MOST_LABEL_SHOTS = 16
"""Examples in a prompt that is searched for: as many as there are labels, up to so many."""
LEAST_SEARCHED = 10
"""Rows of validation with which a prompt is searched: the search takes 8, and curation may drop some."""
VALUES = (MOST_VALUES, 10, 0)
"""How many different texts of a field a JSON form names at most: fewer where it would be too long."""
LONGEST_FORM = 1500
"""Characters of a JSON form; a longer one is no instruction."""


@dataclass(frozen=True)
class Instruction:
    """A system message for the arms that were not tuned."""

    text: str | None
    """None where nothing needs to be said, or nothing can be."""
    why: str = ""
    others: tuple[str, ...] = ()
    """Other wordings, for a search."""


def instruction(seen: Survey, context: int, replies: Sequence[str]) -> Instruction:
    """What the replies show that every answer must be; with the rows' own system message before it, if all share one.

    Rows whose system messages differ keep them: an instruction would take their place.

    Args:
        seen: The data.
        context: The model's, in tokens.
        replies: Short ones of rows that are trained on, one of which may be shown.
    """
    wordings = _wordings(seen, context, replies)
    if not wordings:
        return Instruction(None)
    own = next(iter(seen.systems), "")
    if own and _names_all(own, seen):
        return Instruction(None)
    if len(seen.systems) > 1:
        why = "The rows' system messages differ, and an instruction would take their place: name there what is wanted"
        return Instruction(None, why)
    texts = [f"{own.rstrip()}\n\n{wording}" if own else wording for wording in wordings]
    return Instruction(texts[0], "Untuned arms are told what training teaches the tuned one", tuple(texts[1:]))


def _wordings(seen: Survey, context: int, replies: Sequence[str]) -> list[str]:
    """The instruction, the clearest wording first; none where the replies are free text or native calls."""
    nearly_all = recipe.NEARLY_ALL * seen.usable
    match recipe.name_of(recipe.scorers(seen).value[0]):
        case "exact_match" if recipe.has_labels(seen) and _tokens(labels(seen)) <= min(LABEL_TOKENS, context // 4):
            return _of_labels(labels(seen), recipe.spelling_counts(seen))
        case "exact_match":
            return _of_short(replies)
        case "number":
            example = typical(replies)
            such = f" such as {example}" if example and not example.isdecimal() else ""
            return [f"Answer with a number{such} and nothing else."]
        case "field_f1":
            return _of_form(seen)
        case "tool_call" if seen.kinds["calls_in_text"] + recipe.no_calls(seen) >= nearly_all > seen.tools:
            return _of_form(seen)
        case _:
            return []


def labels(seen: Survey) -> list[str]:
    """The labels as they are written: numbers by size, others the commonest first."""
    found = sorted(seen.replies, key=lambda label: (-seen.replies[label], label))
    with suppress(ValueError):  # They are texts.
        found = sorted(found, key=float)
    return [seen.written.get(label, label) for label in found]


def _tokens(found: Sequence[str]) -> float:
    return estimate("\n".join(found))


def _of_labels(found: Sequence[str], spelling_counts: bool) -> list[str]:
    quote = next((mark for mark in "\"'`|" if not any(mark in label for label in found)), '"')
    quoted = quote if any("\n" in label for label in found) else ""
    lines = "\n".join(f"{quoted}{label}{quoted}" for label in found)
    without = f", without the {quoted} around it" if quoted else ""
    marks = " Upper and lower case and all marks count." if spelling_counts else ""
    listed = f"Answer with one of these labels, word for word{without}, and nothing else{'.' * bool(marks)}{marks}"
    asked = f"Which of these labels fits? Write the label as it stands here{without}, without any other word.{marks}"
    if all(PLAIN.fullmatch(label) for label in found):
        return [f"Answer with one of: {', '.join(found)}.{marks}", f"{asked}\n{lines}"]
    return [f"{listed}:\n{lines}" if not marks else f"{listed} The labels:\n{lines}", f"{asked}\n{lines}"]


def _of_short(replies: Sequence[str]) -> list[str]:
    """What can be said for sure of short replies, with one of them; none that says more than the replies show."""
    example, kind = typical(replies), kind_of(replies)
    if example is None:
        return []
    if kind:
        return [f"Answer with {kind} such as {example} and nothing else."]
    return [f"Answer in the form of this example, which answers another request, and with nothing else: {example}"]


def _of_form(seen: Survey) -> list[str]:
    shape = seen.shape
    what = " or ".join(f"a JSON {kind}" for kind in ("object", "list") if shape.kinds[kind])
    fence = next(iter(seen.fences), "") if seen.fences.total() >= recipe.NEARLY_ALL * seen.usable else ""
    if fence:
        what += f" in a code fence ({fence} before it, ``` after it)"
    form = next((form for most in VALUES if len(form := shape.written(most)) <= LONGEST_FORM), "")
    if not form or not (shape.fields or shape.entries):
        return [f"Answer with {what} and nothing else."]
    remarks = ["Leave out keys that do not apply."] if shape.optional else []
    if not shape.kinds["object"]:
        several, none = max(shape.sizes) > 1, 0 in shape.sizes
        may = " or ".join(["have several entries"] * several + ["be empty"] * none)
        remarks += [f"The list may {may}."] if may else []
    return [" ".join([f"Answer with {what} of this form and nothing else: {form}{'.' * bool(remarks)}", *remarks])]


def _names_all(text: str, seen: Survey) -> bool:
    """Whether the rows' own system messages name every label or key already."""
    if recipe.has_labels(seen):
        wanted: Sequence[str] = labels(seen)
    else:
        shape = seen.shape.entries if seen.shape.entries and not seen.shape.fields else seen.shape
        wanted = [*shape.fields, "JSON"] if shape.fields else []
    case = re.NOFLAG if recipe.spelling_counts(seen) else re.IGNORECASE
    return bool(wanted) and all(
        all(re.search(rf"(?<!\w){re.escape(one)}(?!\w)", system, case) for one in wanted)
        for system in (seen.systems or {text: 1})
    )


def searched(seen: Survey, sizes: recipe.Lengths, share: float) -> list[int]:
    """Numbers of examples that the arm `prompted` tries; none where its prompt is not searched for.

    For labels alone: six examples may not show each of them. A search costs some hundred requests.

    Args:
        share: Of the rows that goes to validation.
    """
    if not recipe.has_labels(seen) or int(share * seen.groups) < LEAST_SEARCHED:
        return []
    most = min(MOST_LABEL_SHOTS, max(recipe.MOST_SHOTS, len(seen.replies)))
    shots = recipe.few_shot(sizes, most)
    return sorted({0, (shots + 1) // 2, shots}) if shots else []
