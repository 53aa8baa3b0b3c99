"""Which of the model's layers the adapter reaches, told before training; parts of a setting that reach none."""

from __future__ import annotations

import difflib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Any

from tunelift.errors import UserError

TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?:P?<\w+>|<?[=!]|[a-zA-Z-]*:|>))?|[|)]", re.DOTALL)
"""Of a regular expression: an escape, a set, the beginning of a group, a bar, the end of a group."""


def reached(model: Any) -> dict[str, tuple[int, int]]:
    """By kind of layer, such as `q_proj`, how many have an adapter and how many the model has.

    Args:
        model: PEFT's, with its adapter.
    """
    names = [name for name, _ in model.get_base_model().named_modules()]
    adapted = Counter(map(_kind, layers_with_adapter(model)))
    there = Counter(map(_kind, names))
    last = Counter(kind.rsplit(".", 1)[-1] for kind in adapted)
    found = {}
    for kind, count in adapted.items():
        parts = kind.split(".")
        unique = last[parts[-1]] == 1
        found[".".join(parts[-1:] if unique else parts[-2:])] = (count, there[kind])
    return dict(sorted(found.items()))


def layers_with_adapter(model: Any) -> list[str]:
    """Their names in the base."""
    from peft.tuners.lora import LoraLayer

    return [name for name, module in model.get_base_model().named_modules() if isinstance(module, LoraLayer)]


def _kind(name: str) -> str:
    """A module's name without the numbers of its layers."""
    return ".".join(part for part in name.split(".") if not part.isdigit())


def in_words(found: dict[str, tuple[int, int]]) -> str:
    """As one line."""
    return ", ".join(f"{kind} {count} of {there}" for kind, (count, there) in found.items()) + " layers"


def matches(name: str, wanted: str) -> bool:
    """Whether PEFT takes a module of this name where a setting names `wanted`."""
    return name == wanted or name.endswith(f".{wanted}")


def did_you_mean(wanted: str, names: Iterable[str]) -> str:
    """The nearest of the names' ends of as many parts; empty if none is near."""
    parts = wanted.count(".") + 1
    ends = {".".join(name.split(".")[-parts:]) for name in names}
    near = difflib.get_close_matches(wanted, sorted(ends), n=1)
    return f"Did you mean {near[0]}?" if near else ""


def refuse_dead_alternatives(
    field: str, pattern: str, layers: Iterable[str], known: Iterable[str], form: str = "{}"
) -> None:
    """Refuse a regular expression of which one alternative, such as a misspelt name, matches nothing.

    Args:
        field: The setting, for the message.
        pattern: Its value.
        layers: Names of which each alternative has to match one.
        known: Names to choose the nearest from.
        form: What PEFT makes of the pattern; matched against whole names.

    Raises:
        UserError: naming the alternative.
    """
    for alternative, alone in alternatives(pattern):
        try:
            single = re.compile(form.format(alone))
        except re.error:  # It speaks of a group that only another alternative has.
            continue
        if not any(single.fullmatch(name) for name in layers):
            words = re.findall(r"[\w-]+", re.sub(r"\\\W", ".", alternative))
            raise UserError(
                f"{field}={pattern} has the alternative `{alternative}`, which matches no layer.",
                remedy=(did_you_mean(words[-1], known) if words else "") or "Take it out, or correct it.",
            )


def alternatives(pattern: str) -> Iterator[tuple[str, str]]:
    """Each alternative of a regular expression, with the expression that has it alone in its group.

    Around an alternative inside of another one, that one stands alone as well.
    """
    opened, groups = [[0]], []
    for token in TOKEN.finditer(pattern):
        if token[0] == "|":
            opened[-1].append(token.start())
        elif token[0].startswith("("):
            opened.append([token.end()])
        elif token[0] == ")":
            groups.append([*opened.pop(), token.start()])
    groups.append([*opened[0], len(pattern)])
    spans = [
        (edges[0], edges[-1], first + (place > 0), last)
        for edges in groups
        for place, (first, last) in enumerate(pairwise(edges))
        if len(edges) > 2
    ]
    for group in spans:
        around = [span for span in spans if span == group or (span[2] <= group[0] and group[1] <= span[3])]
        left_out = [range(start, first) for start, _, first, _ in around]
        left_out += [range(last, end) for _, end, _, last in around]
        alone = (sign for place, sign in enumerate(pattern) if not any(place in part for part in left_out))
        yield pattern[group[2] : group[3]], "".join(alone)
