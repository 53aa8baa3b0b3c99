"""YAML 1.2's scalars with PyYAML, which follows 1.1: what editors show as text is text, in reading and in writing.

`wandb: off`, `name: 2026-01-31`, `revision: 12:34` and `1234_5678` are text, `1e-4` is a number, `0100` is a hundred.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

FORMS = {
    "bool": (re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), "tTfF"),
    "int": (re.compile(r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$"), "-+0123456789"),
    "float": (
        re.compile(
            r"^(?:[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
        ),
        "-+.0123456789",
    ),
}
"""YAML 1.2's core schema (section 10.3.2): for each type its form and its first characters."""
REPLACED = {"bool", "int", "float", "timestamp"}
"""YAML 1.1's types that are not taken over."""


class Loader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Reads plain scalars by YAML 1.2."""


class Dumper(yaml.SafeDumper):
    """Puts text in quotes that `Loader` would take for something else."""


_AS_1_1 = yaml.SafeLoader.yaml_implicit_resolvers
for _class in (Loader, Dumper):
    # What is text for 1.1 alone is quoted all the same, so that other tools read it alike.
    replaced = REPLACED if _class is Loader else set()
    _class.yaml_implicit_resolvers = {
        first: [one for one in resolvers if one[0].rsplit(":", 1)[-1] not in replaced]
        for first, resolvers in _AS_1_1.items()
    }
    for _type, (_form, _first) in FORMS.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_type}", _form, list(_first))


def _whole_number(loader: Any, node: yaml.ScalarNode) -> int:
    text = node.value
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


Loader.add_constructor("tag:yaml.org,2002:int", _whole_number)


def dump(value: Any) -> str:
    """`value` as YAML that reads back as itself."""
    return yaml.dump(value, Dumper=Dumper, sort_keys=False, allow_unicode=True)
