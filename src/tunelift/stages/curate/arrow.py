"""Values of Arrow as the same rows would have them in JSON: what its columns add or take away is undone, or told."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import orjson

KEPT_LEVELS = 2
"""Objects of the row's outer levels (the row, its messages) keep their nulls: there, null and absent differ."""
ARGUMENTS = "arguments"
"""The objects in which a null that is left out is told: it would be supervised. Elsewhere null is as good as absent."""
NULLS, NAMES, WHOLE, DAYS = "nulls", "class_names", "whole_numbers", "days"
"""What may be done to a row, as its `edits` have it."""
READ_AS = {
    NULLS: "arguments of tool calls without their nulls, which Parquet writes like fields that are not there",
    NAMES: "class labels as their names",
    WHOLE: "floats that are whole as integers",
    DAYS: "timestamps at midnight as days",
}
"""The same for people."""
EXACT = 2.0**53
"""Up to here, floats hold every integer."""
DAY_TICKS = {"s": 86_400, "ms": 86_400 * 10**3, "us": 86_400 * 10**6, "ns": 86_400 * 10**9}

Place = tuple[str, ...]
"""Of values: a column, and the names below it; "" for the elements of a list or map."""
Convert = Callable[[Any, int], Any]
"""From a value, and the levels of objects in it that keep their nulls."""


class AsJson:
    """Makes a row of Arrow what it would be in JSON, and says what it changed beside the form.

    - Dates, times and decimals are text; timestamps that are all midnight in their column are days (`days`).
    - Inner objects lose their nulls, since Arrow gives every object of a column the same keys (`nulls`).
    - Maps are objects.
    - Class labels of Hugging Face are their names (`class_names`).
    - A column of whole floats with gaps holds integers: pandas makes floats of such (`whole_numbers`).

    Args:
        schema: Of all columns, with what Hugging Face writes into its metadata.
        batches: Gives all rows with the columns asked for, which are those of floats and timestamps.
    """

    def __init__(self, schema: Any, batches: Callable[[list[str]], Iterable[Any]]) -> None:
        self._edits: set[str] = set()
        self._alike = _alike(schema, batches)
        features = _features(schema)
        self._columns = {one.name: self._of(one.type, features.get(one.name), (one.name,)) for one in schema}

    def __call__(self, row: dict[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
        """The row, and the edits.

        Raises:
            ValueError: it holds what JSON has no form for.
        """
        self._edits.clear()
        value = {name: self._columns[name](item, KEPT_LEVELS - 1) for name, item in row.items()}
        return value, tuple(sorted(self._edits))

    def _of(self, kind: Any, feature: Any, place: Place) -> Convert:
        from pyarrow import types

        if types.is_dictionary(kind):
            return self._of(kind.value_type, feature, place)
        if types.is_struct(kind):
            fields = {one.name: self._of(one.type, _inside(feature, one.name), (*place, one.name)) for one in kind}
            return self._struct(fields, told=ARGUMENTS in place)
        if types.is_map(kind):
            return _map(self._of(kind.item_type, None, (*place, "")))
        if _is_list(kind):
            element = self._of(kind.value_type, _inside(feature), (*place, ""))
            return lambda value, levels: [element(one, levels) for one in value] if _listed(value) else plain(value)
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" and feature.get("names"):
            return self._noting(NAMES, _named(feature["names"], place[0]))
        if place in self._alike:
            return self._noting(WHOLE, _whole) if types.is_floating(kind) else self._noting(DAYS, _day)
        return lambda value, levels: plain(value)

    def _struct(self, fields: dict[str, Convert], told: bool) -> Convert:
        def convert(value: Any, levels: int) -> Any:
            if not isinstance(value, dict):  # Null, or what `datasets` has decoded.
                return plain(value)
            held = {name: item for name, item in value.items() if item is not None or levels > 0}
            if told and len(held) < len(value):
                self._edits.add(NULLS)
            return {name: fields[name](item, levels - 1) for name, item in held.items()}

        return convert

    def _noting(self, edit: str, change: Callable[[Any], Any]) -> Convert:
        def convert(value: Any, levels: int) -> Any:
            if value is None:
                return None
            self._edits.add(edit)
            return change(value)

        return convert


def _listed(value: Any) -> bool:
    return isinstance(value, list)


def _map(item: Convert) -> Convert:
    def convert(value: Any, levels: int) -> Any:
        if not isinstance(value, list):
            return plain(value)
        names = [name for name, _ in value]
        if len(set(names)) < len(names) or not all(isinstance(name, str) for name in names):
            raise ValueError("a map has a key twice, or one that is no text")
        return {name: item(one, levels - 1) for name, one in value}  # Here, a null is one that was written.

    return convert


def _named(names: Sequence[str], column: str) -> Callable[[Any], Any]:
    def change(value: Any) -> Any:
        if value == -1:  # So Hugging Face writes that there is no label.
            return None
        if isinstance(value, int) and not 0 <= value < len(names):
            raise ValueError(f"{column!r} has the class {value}, and names for {len(names)} classes only")
        return names[value] if isinstance(value, int) else value

    return change


def _whole(value: float) -> int | None:
    return None if value != value else int(value)


def _day(value: Any) -> str:
    return str(value.date().isoformat())


def plain(value: Any) -> Any:
    """A value that nothing else is known of."""
    if isinstance(value, date | time):
        return value.isoformat()
    if isinstance(value, timedelta | Decimal | UUID):
        return str(value)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


# --- What Hugging Face says of columns ------------------------------------------------------------------------------


def _features(schema: Any) -> dict[str, Any]:
    """Its description of each column, empty without one."""
    try:
        described = orjson.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = described["info"]["features"]
    except (ValueError, KeyError, TypeError):
        return {}
    return features if isinstance(features, dict) else {}


def _inside(feature: Any, name: str | None = None) -> Any:
    """The description of what is in a list, or of an object's field."""
    if isinstance(feature, list):
        feature = next(iter(feature), None)
    elif isinstance(feature, dict) and isinstance(feature.get("_type"), str):
        feature = feature.get("feature")
    if name is None:
        return feature
    return feature.get(name) if isinstance(feature, dict) else None


# --- What only the whole column tells -------------------------------------------------------------------------------


@dataclass
class _Column:
    """What the values of one place have in common."""

    some: bool = False
    alike: bool = True
    """Numbers are whole, timestamps are midnight."""
    gaps: bool = False

    def add(self, values: Any) -> None:
        """Take in an array of floats or timestamps."""
        held = values.drop_null()
        self.gaps |= len(held) < len(values)
        if hasattr(held.type, "unit"):
            numbers = held.cast("int64").to_numpy()
            self.alike &= not (numbers % DAY_TICKS[held.type.unit]).any()
        else:
            numbers = held.to_numpy(zero_copy_only=False)
            self.gaps |= bool(np.isnan(numbers).any())
            numbers = numbers[~np.isnan(numbers)]
            self.alike &= bool(((np.abs(numbers) <= EXACT) & (numbers == np.floor(numbers))).all())
        self.some |= len(numbers) > 0


def _alike(schema: Any, batches: Callable[[list[str]], Iterable[Any]]) -> set[Place]:
    """Columns of floats that are all whole, with gaps, and places of timestamps that are all midnight."""
    from pyarrow import types

    columns = [one.name for one in schema if types.is_floating(one.type) or _holds_moments(one.type)]
    found: defaultdict[Place, _Column] = defaultdict(_Column)
    for batch in batches(columns) if columns else ():
        for name in columns:
            for place, values in _leaves(batch.column(name), (name,)):
                found[place].add(values)
    floats = {(one.name,) for one in schema if types.is_floating(one.type)}
    return {place for place, seen in found.items() if seen.some and seen.alike and (seen.gaps or place not in floats)}


def _leaves(values: Any, place: Place) -> Iterator[tuple[Place, Any]]:
    """The timestamps in an array, and a column of floats, each with its place."""
    from pyarrow import types

    kind = values.type
    if types.is_dictionary(kind):
        yield from _leaves(values.dictionary_decode(), place)
    elif types.is_struct(kind):
        for one, field in zip(values.flatten(), kind, strict=True):
            yield from _leaves(one, (*place, field.name))
    elif _is_list(kind):
        yield from _leaves(values.flatten(), (*place, ""))
    elif _is_moment(kind) or (types.is_floating(kind) and len(place) == 1):
        yield place, values


def _holds_moments(kind: Any) -> bool:
    from pyarrow import types

    if types.is_struct(kind):
        return any(_holds_moments(field.type) for field in kind)
    if types.is_dictionary(kind) or _is_list(kind):
        return _holds_moments(kind.value_type)
    return _is_moment(kind)


def _is_moment(kind: Any) -> bool:
    """Of another time zone, midnight is not a multiple of days."""
    from pyarrow import types

    return bool(types.is_timestamp(kind)) and kind.tz in (None, "UTC", "+00:00", "Etc/UTC")


def _is_list(kind: Any) -> bool:
    from pyarrow import types

    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))
