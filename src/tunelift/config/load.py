"""A YAML file, what it extends and the command line's `key=value` to a checked `Config`.

Every value remembers its file and line, so that a mistake is reported where it was written.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from tunelift.config.problems import EXTENDS, Key, Problem, problems_of
from tunelift.config.schema import Config
from tunelift.config.yaml12 import Loader
from tunelift.errors import UserError

COMMAND_LINE = "command line"
"""Where an override stands."""
MAX_EXTENDS = 5
"""Longest chain of files that extend one another."""
SCHEMA_REMEDY = "Mend what is named above; configs/schema.json describes every field."


@dataclass(frozen=True)
class Node:
    """A value and where it was written; inside, mappings and lists hold nodes again."""

    value: Any
    where: str
    written: str | None = None
    """The text that a number or a truth value was read from, such as `695e0514`, which as a number is infinite."""

    def plain(self) -> Any:
        """The value without its places."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def at(self, path: Sequence[Key]) -> Node:
        """The node at `path`, or the innermost on the way to it that is there."""
        inner = self.child(path[0]) if path else None
        return inner.at(path[1:]) if inner else self

    def place(self, path: Sequence[Key]) -> str:
        """Where the value at `path` was written, or the innermost part of it that is there."""
        return self.at(path).where

    def written_at(self, path: Sequence[Key]) -> str | None:
        """The text that the number at `path` was read from."""
        return self.at(path).written

    def child(self, key: Key) -> Node | None:
        """The element of that name or number, if there is one."""
        if isinstance(self.value, dict):
            return self.value.get(key)
        in_list = isinstance(self.value, list) and isinstance(key, int) and key < len(self.value)
        return self.value[key] if in_list else None


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read, extend, override and check a config.

    Args:
        path: The YAML file.
        overrides: `section.field=value`, the value written as in YAML.

    Raises:
        UserError: anything that is wrong, each problem with its place.
    """
    tree = read_with_extends(path, ())
    for override in overrides:
        tree = apply_override(tree, override)
    return _checked(path, tree)


def _checked(path: Path, tree: Node) -> Config:
    """The config in `tree`; what the command line gives a text field is text, as the shell takes quotes away."""
    data = tree.plain()
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        problems = problems_of(error, data, tree.written_at)
    typed = [(problem.path, tree.at(problem.path)) for problem in problems if problem.wants_text]
    typed = [(key, node) for key, node in typed if node.where.startswith(COMMAND_LINE)]
    if not typed:
        raise _user_error(path, tree, problems)
    for key, node in typed:
        tree = _set(tree, [str(part) for part in key], Node(node.written, node.where), done="")
    return _checked(path, tree)


def json_schema() -> dict[str, Any]:
    """The JSON Schema that editors check config files against.

    A file may leave to the file it extends what a config must have, so nothing outside of lists is required.
    """
    schema = Config.model_json_schema()
    properties = schema["properties"]
    schema.pop("required", None)
    for field in properties.values():
        if "$ref" not in field:
            continue
        schema["$defs"][field["$ref"].rsplit("/", 1)[-1]].pop("required", None)
        if "default" in field:  # `report:` with nothing under it means the defaults.
            field["anyOf"] = [{"$ref": field.pop("$ref")}, {"type": "null"}]
    extends = {"type": "string", "description": "Another config, relative to this file; what stands here overrides it."}
    schema["properties"] = {EXTENDS: extends, **properties}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


# Reading


def read_with_extends(path: Path, chain: tuple[Path, ...]) -> Node:
    """The file at `path` over the file that it extends; `chain` holds the files that led here."""
    tree = read_yaml(path)
    parent = tree.value.pop(EXTENDS, None)
    if parent is None:
        return tree
    if not isinstance(parent.value, str):
        raise UserError(
            f"{EXTENDS}: expected one file name, got {parent.plain()!r}.",
            where=parent.where,
            remedy=f"Write, for example, `{EXTENDS}: base.yaml`.",
        )
    chain = (*chain, path.resolve())
    target = path.parent / parent.value
    if target.resolve() in chain:
        names = " -> ".join(file.name for file in (*chain, target))
        raise UserError(f"{EXTENDS}: a circle: {names}.", where=parent.where, remedy=f"Take one `{EXTENDS}` out.")
    if len(chain) >= MAX_EXTENDS:
        raise UserError(
            f"{EXTENDS}: more than {MAX_EXTENDS} files in a row.", where=parent.where, remedy="Join some of the files."
        )
    if not target.exists():
        raise UserError(
            f"{EXTENDS}: there is no file {target}.",
            where=parent.where,
            remedy="The name is relative to the file that it stands in.",
        )
    return merged(read_with_extends(target, chain), tree)


def merged(below: Node, above: Node) -> Node:
    """`above` over `below`: mappings key by key, anything else as a whole."""
    if not (isinstance(below.value, dict) and isinstance(above.value, dict)):
        return above
    value = dict(below.value)
    for key, node in above.value.items():
        value[key] = merged(value[key], node) if key in value else node
    return replace(above, value=value)


def read_yaml(path: Path) -> Node:
    """The file's top-level mapping, with places."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"There is no config {path}.", remedy=_files_nearby(path)) from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder, not a config.", remedy=_files_nearby(path / "x")) from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"Not UTF-8: byte 0x{error.object[error.start]:02x}.",
            where=f"{path}:{error.object[: error.start].count(10) + 1}",
            remedy="Save the file as UTF-8.",
        ) from None
    except OSError as error:
        raise UserError(
            f"Cannot read {path}: {error.strerror}.", remedy="Check the file and its permissions."
        ) from None
    tree = _parse(text, str(path))
    if tree is None or tree.value is None:
        raise UserError("The file is empty.", where=str(path), remedy="A config needs at least: name, model, curate.")
    if not isinstance(tree.value, dict):
        raise UserError(
            f"Expected `key: value` lines at the top, got {_kind(tree.value)}.",
            where=tree.where,
            remedy="A config begins with, for example, `name: my-run`.",
        )
    return tree


def _parse(text: str, file: str, line: bool = True) -> Node | None:
    """The one YAML document in `text`; `file` names it, `line` says whether lines mean anything there."""
    try:
        loader = Loader(text)
        try:
            root = loader.get_single_node()
            return None if root is None else _node(loader, root, file, line, ())
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise UserError(
            f"Not valid YAML: {what}.",
            where=f"{file}:{mark.line + 1}" if mark and line else file,
            remedy="Check indentation, colons, quotes and brackets on this line and the one above."
            if line
            else "Check quotes and brackets, and put the whole argument in single quotes for the shell.",
        ) from None
    except RecursionError:
        raise UserError("Nested too deeply.", where=file, remedy="Check the brackets.") from None
    except yaml.YAMLError as error:  # A character that YAML does not allow: no line is given.
        where = getattr(error, "position", None)
        number = f":{text[:where].count(chr(10)) + 1}" if isinstance(where, int) and line else ""
        raise UserError(
            f"Not valid YAML: {str(error).splitlines()[0]}.",
            where=file + number,
            remedy="Take the unusual character out.",
        ) from None


def _node(loader: Any, node: yaml.Node, file: str, line: bool, above: tuple[yaml.Node, ...]) -> Node:
    """A YAML node as a value with places; `above` are the nodes that hold it."""
    where = f"{file}:{node.start_mark.line + 1}" if line else file
    if any(node is holder for holder in above):
        raise UserError("A value holds itself through an alias.", where=where, remedy="Write the value out.")
    above = (*above, node)
    if isinstance(node, yaml.SequenceNode):
        return Node([_node(loader, item, file, line, above) for item in node.value], where)
    if not isinstance(node, yaml.MappingNode):
        try:
            value = loader.construct_object(node)
            return Node(value, where, None if value is None or isinstance(value, str) else node.value)
        except (ValueError, OverflowError) as error:
            raise UserError(
                f"{node.value!r} is not a value: {error}.", where=where, remedy="Put it in quotes."
            ) from None
    section: dict[str, Node] = {}
    for key_node, value_node in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else "?"
        place = f"{file}:{key_node.start_mark.line + 1}" if line else file
        if key in section:
            raise UserError(
                f"{key}: the key is there twice (first at {section[key].where}).",
                where=place,
                remedy="Keep one of the two.",
            )
        # The key's line, since a section begins there.
        section[key] = replace(_node(loader, value_node, file, line, above), where=place)
    return Node(section, where)


def _kind(value: Any) -> str:
    return "a list" if isinstance(value, list) else f"{value!r}"


def _files_nearby(path: Path) -> str:
    """A remedy that names the configs beside a missing one, the likeliest first."""
    import difflib

    folder = path.parent
    try:
        found = (file.name for file in folder.iterdir() if file.suffix in {".yaml", ".yml"})
        names = sorted(name for name in found if not name.startswith("."))
    except OSError:
        return f"There is no folder {folder} either; check the path and the folder that you are in."
    here = "this folder" if folder == Path() else str(folder)
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f"Did you mean {folder / close[0]}?"
    return (
        f"In {here} there are: {', '.join(names[:8])}."
        if names
        else f"There is no .yaml file in {here}; check the path."
    )


# Overriding


def apply_override(tree: Node, override: str) -> Node:
    """The tree with one `section.field=value` set; a list's element is its number: `curate.sources.0.path=x.jsonl`."""
    dotted, equals, text = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(
            f"{override!r} is not `section.field=value`.",
            where=COMMAND_LINE,
            remedy="For example: train.learning_rate=1e-4",
        )
    where = f"{COMMAND_LINE}, {override if '@' not in override else f'{dotted}=…'}"  # A URL in it may hold a password.
    value = _parse(text, where, line=False) or Node(None, where)
    return _set(tree, keys, value, done="")


def _set(tree: Node, keys: Sequence[str], value: Node, done: str) -> Node:
    """`tree` with `value` at `keys`; `done` is the dotted path so far, for messages."""
    if not keys:
        return value
    key, held = keys[0], tree.value
    path = f"{done}.{key}" if done else key
    if isinstance(held, list):
        if not key.isdecimal() or int(key) >= len(held):
            raise UserError(
                f"{done} is a list of {len(held)}; {key!r} is not one of its numbers.",
                where=value.where,
                remedy=f"Count from 0, or set the whole list: {done}='[...]'",
            )
        items = list(held)
        items[int(key)] = _set(held[int(key)], keys[1:], value, path)
        return replace(tree, value=items)
    # A scalar gives way to a section, so that `model.id=x` works over `model:`; the schema judges the result.
    mapping = dict(held) if isinstance(held, dict) else {}
    mapping[key] = _set(mapping.get(key, Node(None, value.where)), keys[1:], value, path)
    return replace(tree, value=mapping)


# Reporting


def _user_error(path: Path, tree: Node, problems: list[Problem]) -> UserError:
    """All problems as one error, each with its place."""
    places = [tree.place(problem.path) for problem in problems]
    if len(problems) == 1:
        return UserError(problems[0].text, where=places[0], remedy=SCHEMA_REMEDY)
    lines = "".join(f"\n  {place}: {problem.text}" for place, problem in zip(places, problems, strict=True))
    return UserError(f"{len(problems)} problems in {path}:{lines}", remedy=SCHEMA_REMEDY)
