"""Which variables of a chat template are switches: `off` or 0 in place of false would not switch them off."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

WORDS = frozenset({"off", "on", "no", "yes", "false", "true", "n", "y"})
"""YAML 1.2 reads all but a bare false and true as text, and to a template any text is true."""
NAMED_AS_SWITCH = re.compile(r"(enable|disable|is|add|use|with|no|show|include|keep|strip|do)_")
UNDECIDED, SWITCHED, USED = "undecided", "switched", "used"
TESTS = dict.fromkeys(("defined", "undefined", "none"), UNDECIDED)
TESTS |= dict.fromkeys(("true", "false", "boolean"), SWITCHED)
"""What a test of a variable says of its use."""


def no_switch(parsed: Any, name: str, value: Any) -> bool:
    """Whether `value`, which is neither true, false nor none, cannot be what a template's variable is to be.

    Args:
        parsed: The template, as Jinja parses it.
    """
    if value is None or isinstance(value, bool):
        return False
    uses = {use for alias in _aliases(parsed, name) for use in _uses(parsed, alias, value)}
    if USED in uses:  # Written out, computed with, or compared with this very value.
        return False
    is_word = isinstance(value, str) and value.strip().lower() in WORDS
    return is_word or SWITCHED in uses or NAMED_AS_SWITCH.match(name) is not None


def _aliases(parsed: Any, name: str) -> set[str]:
    """The variable, and those that are set to it, or to it where it has a value."""
    from jinja2 import nodes

    names, before = {name}, set[str]()
    while names != before:
        before = set(names)
        names |= {
            assign.target.name
            for assign in parsed.find_all(nodes.Assign)
            if isinstance(assign.target, nodes.Name) and _holds(assign.node, before)
        }
    return names


def _holds(node: Any, names: set[str]) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.CondExpr):
        return _holds(node.expr1, names) or _holds(node.expr2, names)
    if isinstance(node, nodes.And | nodes.Or):
        return _holds(node.left, names) or _holds(node.right, names)
    if _is_default(node):
        return _holds(node.node, names)
    return isinstance(node, nodes.Name) and node.name in names


def _uses(node: Any, name: str, value: Any, asked: bool = False) -> Iterator[str]:
    """How each place below a node uses a variable; `asked`: only whether the node is true counts."""
    from jinja2 import nodes

    if isinstance(node, nodes.Name):
        yield from [SWITCHED if asked else USED] * (node.name == name and node.ctx == "load")
    elif _is_alias(node, name):
        yield UNDECIDED  # What the other name is used for counts; that of a namespace or a macro is not followed.
    elif isinstance(node, nodes.Test):
        for use in _uses(node.node, name, value):
            yield TESTS.get(node.name, use) if use == USED else use
    elif isinstance(node, nodes.Compare):
        sides = [node.expr, *(operand.expr for operand in node.ops)]
        constants = [constant.value for side in sides for constant in _constants(side)]
        is_used = any(use for side in sides for use in _uses(side, name, value))
        yield from [_compared(constants, value)] * is_used
    else:
        for child, inner in _parts(node, asked):
            yield from _uses(child, name, value, inner)


def _is_alias(node: Any, name: str) -> bool:
    from jinja2 import nodes

    if isinstance(node, nodes.Assign) and isinstance(node.target, nodes.Name):
        return _holds(node.node, {name})
    return isinstance(node, nodes.Keyword) and _holds(node.value, {name})


def _parts(node: Any, asked: bool) -> Iterator[tuple[Any, bool]]:
    """The parts of a node, each with whether only its truth counts."""
    from jinja2 import nodes

    for child in node.iter_child_nodes():
        if isinstance(node, nodes.If | nodes.CondExpr):
            yield child, child is node.test
        elif isinstance(node, nodes.Not):
            yield child, True
        else:
            passed_on = isinstance(node, nodes.And | nodes.Or) or _is_default(node)
            yield child, asked and passed_on


def _is_default(node: Any) -> bool:
    from jinja2 import nodes

    return isinstance(node, nodes.Filter) and node.name in {"default", "d"}


def _constants(node: Any) -> Iterator[Any]:
    from jinja2 import nodes

    if isinstance(node, nodes.Const):
        yield node
    yield from node.find_all(nodes.Const)


def _compared(constants: list[Any], value: Any) -> str:
    if constants and all(isinstance(constant, bool) for constant in constants):
        return SWITCHED
    numbers = any(isinstance(constant, int | float) and not isinstance(constant, bool) for constant in constants)
    is_one = any(constant == value and type(constant) is type(value) for constant in constants)
    word = isinstance(value, str) and value.strip().lower() in WORDS
    return USED if is_one or not constants or (numbers and not isinstance(value, str)) or not word else UNDECIDED
