"""Arrow's columns as JSON would have held the rows: what they add or take away is undone, or told."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tunelift.config.curation import SourceConfig
from tunelift.stages.curate.read import parsed, read_source
from tunelift.stages.curate.rows import Quarantined, RawRow


def read(table: pa.Table, folder: Path) -> list[RawRow | Quarantined]:
    path = folder / "a.parquet"
    pq.write_table(table, path)
    return list(parsed(read_source(SourceConfig(path=str(path)))))


def column(values: pa.Array | pa.ChunkedArray, folder: Path, metadata: dict[str, str] | None = None) -> list[Any]:
    """The values of a column as they are read."""
    table = pa.table({"a": values})
    return [row.value["a"] for row in read(table.replace_schema_metadata(metadata), folder) if isinstance(row, RawRow)]


def edits(rows: list[RawRow | Quarantined]) -> list[tuple[str, ...]]:
    return [row.edits for row in rows if isinstance(row, RawRow)]


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([0.0, None, 2.0], [0, None, 2]),
        ([0.0, float("nan"), 2.0], [0, None, 2]),
        ([0.0, 1.0], [0.0, 1.0]),
        ([0.5, None, 2.0], [0.5, None, 2.0]),
        ([float("inf"), None], [float("inf"), None]),
        ([1e300, None], [1e300, None]),
        ([None, None], [None, None]),
    ],
)
def test_whole_floats_with_gaps_are_integers(values: list[float | None], found: list[Any], tmp_path: Path) -> None:
    read_back = column(pa.array(values, pa.float64()), tmp_path)
    assert list(map(repr, read_back)) == list(map(repr, found))


def test_a_number_that_is_not_whole_counts_wherever_it_stands(tmp_path: Path) -> None:
    values = [1.0, None] * 3000 + [0.5]
    assert column(pa.array(values), tmp_path)[0] == 1.0
    rows = read(pa.table({"a": values[:-1], "b": ["x"] * 6000}), tmp_path)
    assert edits(rows)[:2] == [("whole_numbers",), ()]


MIDNIGHT, NOON = datetime(2026, 3, 1), datetime(2026, 3, 2, 12)  # noqa: DTZ001


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC"])
def test_timestamps_that_are_all_midnight_are_days(unit: str, zone: str | None, tmp_path: Path) -> None:
    kind = pa.timestamp(unit, tz=zone)
    days = [moment.replace(tzinfo=UTC if zone else None) for moment in (MIDNIGHT, MIDNIGHT + timedelta(3))]
    assert column(pa.array([*days, None], kind), tmp_path) == ["2026-03-01", "2026-03-04", None]
    mixed = column(pa.array([*days, NOON.replace(tzinfo=days[0].tzinfo)], kind), tmp_path)
    assert all("T" in moment for moment in mixed)


def test_days_are_found_in_the_arguments_of_calls_and_before_1970(tmp_path: Path) -> None:
    kind = pa.list_(pa.struct({"arguments": pa.struct({"day": pa.timestamp("us"), "at": pa.timestamp("us")})}))
    value = [{"arguments": {"day": datetime(1960, 1, 2), "at": NOON}}]  # noqa: DTZ001
    rows = read(pa.table({"calls": pa.array([value, None, [None]], kind)}), tmp_path)
    assert [row.value["calls"] for row in rows if isinstance(row, RawRow)] == [
        [{"arguments": {"day": "1960-01-02", "at": "2026-03-02T12:00:00"}}],
        None,
        [None],
    ]
    assert edits(rows) == [("days",), (), ()]


def named(*names: str) -> dict[str, Any]:
    return {"names": list(names), "_type": "ClassLabel"}


@pytest.mark.parametrize("feature", [{"feature": named("no", "yes"), "_type": "List"}, [named("no", "yes")]])
def test_class_labels_are_their_names_also_in_lists_and_objects(feature: Any, tmp_path: Path) -> None:
    features = {"one": named("no", "yes"), "many": feature, "in": {"it": named("x", "y")}, "n": {"dtype": "int64"}}
    table = pa.Table.from_pylist([{"one": 1, "many": [0, 1], "in": {"it": 1}, "n": 1}, {"one": -1, "n": 0}])
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    rows = read(table, tmp_path)
    assert [row.value for row in rows if isinstance(row, RawRow)] == [
        {"one": "yes", "many": ["no", "yes"], "in": {"it": "y"}, "n": 1},
        {"one": None, "many": None, "in": None, "n": 0},
    ]
    assert edits(rows)[0] == ("class_names",)


def test_a_class_without_a_name_costs_its_row_only(tmp_path: Path) -> None:
    metadata = {"huggingface": json.dumps({"info": {"features": {"a": named("no", "yes")}}})}
    rows = read(pa.table({"a": [1, 2]}).replace_schema_metadata(metadata), tmp_path)
    assert isinstance(rows[0], RawRow)
    assert isinstance(rows[1], Quarantined)
    assert "'a' has the class 2, and names for 2 classes only" in rows[1].detail


@pytest.mark.parametrize("text", ["{", "[]", '{"info": 3}', '{"info": {"features": [1]}}'])
def test_other_metadata_does_no_harm(text: str, tmp_path: Path) -> None:
    assert column(pa.array([1, 2]), tmp_path, {"huggingface": text}) == [1, 2]


def test_class_labels_of_a_saved_folder_are_their_names(tmp_path: Path) -> None:
    from datasets import ClassLabel, Dataset, Features, Value

    features = Features({"text": Value("string"), "label": ClassLabel(names=["business", "sport"])})
    Dataset.from_list([{"text": "Hi", "label": 1}], features=features).save_to_disk(str(tmp_path / "saved"))
    (row,) = parsed(read_source(SourceConfig(path=str(tmp_path / "saved"))))
    assert isinstance(row, RawRow)
    assert (row.value, row.edits) == ({"text": "Hi", "label": "sport"}, ("class_names",))


def test_nulls_left_out_of_arguments_are_told_and_gaps_elsewhere_are_not(tmp_path: Path) -> None:
    def row(**arguments: Any) -> dict[str, Any]:
        call = {"function": {"name": "set", "arguments": arguments}}
        return {"messages": [{"role": "assistant", "content": None, "tool_calls": [call]}], "tools": [{"a": 1}]}

    other = {"messages": [{"role": "user", "content": "Hi", "tool_calls": None}], "tools": [{"b": 1}]}
    rows = read(pa.Table.from_pylist([row(label=None, at=1), row(label="x", at=2), other]), tmp_path)
    assert edits(rows) == [("nulls",), (), ()]
    first = rows[0]
    assert isinstance(first, RawRow)
    assert first.value["messages"][0]["tool_calls"] == [{"function": {"name": "set", "arguments": {"at": 1}}}]


def test_maps_are_objects_that_keep_their_nulls_and_a_doubled_key_costs_its_row(tmp_path: Path) -> None:
    kind = pa.map_(pa.string(), pa.string())
    assert column(pa.array([[("a", "x"), ("b", None)], [], None], kind), tmp_path) == [{"a": "x", "b": None}, {}, None]
    (bad,) = read(pa.table({"a": pa.array([[("a", "x"), ("a", "y")]], kind)}), tmp_path)
    assert isinstance(bad, Quarantined)
    assert "a map has a key twice" in bad.detail


def test_a_dictionary_column_holds_its_values(tmp_path: Path) -> None:
    assert column(pa.array(["late", "early", None]).dictionary_encode(), tmp_path) == ["late", "early", None]
