"""Reading: what is good is read, what is bad is set aside with its place, what is bad as a whole says what to do."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.conftest import pair, pairs, write_jsonl
from tunelift.artifacts.provenance import FileHashes
from tunelift.artifacts.records import file_sha256
from tunelift.config.curation import SourceConfig
from tunelift.errors import UserError
from tunelift.stages.curate import documents, source_fingerprint, tables
from tunelift.stages.curate.files import refuse_overlap
from tunelift.stages.curate.read import parse, parsed, read_source
from tunelift.stages.curate.reasons import remedy
from tunelift.stages.curate.rows import Line, Quarantined, RawRow


def read(path: Path, **options: str) -> list[RawRow | Quarantined]:
    return list(parsed(read_source(SourceConfig(path=str(path), **options))))


def faults(rows: list[RawRow | Quarantined]) -> list[tuple[int, str, str]]:
    return [(row.line, row.reason, row.detail) for row in rows if isinstance(row, Quarantined)]


def values(rows: list[RawRow | Quarantined]) -> list[tuple[int, dict]]:
    return [(row.line, row.value) for row in rows if isinstance(row, RawRow)]


def test_a_bad_line_of_jsonl_is_quarantined_with_its_text_and_reading_goes_on(tmp_path: Path) -> None:
    half = json.dumps(pair("half"))[:30]
    path = write_jsonl(
        tmp_path / "a.jsonl", ["", {"a": 1}, half, b'{"a": "caf\xe9"}', "[1, 2]", '{"a": NaN}', {"a": 2}]
    )
    rows = read(path)
    assert values(rows) == [(2, {"a": 1}), (7, {"a": 2})]
    assert faults(rows) == [
        (3, "invalid_json", "unexpected end of data, at column 31"),
        (4, "not_utf8", "byte 0xe9 at position 11 is not UTF-8"),
        (5, "not_an_object", "the row is a list, not an object"),
        (6, "invalid_json", "unexpected character, expected a JSON value, at column 7"),
    ]
    raw = [row.raw for row in rows if isinstance(row, Quarantined)]
    assert raw[:2] == [half, '{"a": "caf\\xe9"}']


def test_a_byte_order_mark_windows_line_ends_and_a_missing_last_newline_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}')
    assert values(read(path)) == [(1, {"a": 1}), (3, {"a": 2})]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_utf16_file_is_refused_as_a_whole(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes("instruction,output\nx,y\n".encode("utf-16"))
    with pytest.raises(UserError, match="UTF-16") as caught:
        read(path)
    assert "iconv -f UTF-16 -t UTF-8" in caught.value.remedy


def test_a_json_list_gives_its_elements_with_their_lines_and_sets_bad_ones_aside(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(
        b'[\n  {"a": "x\\n,]"},\n 7,\n\n {"a": "caf\xe9"},\n{"a": "\\ud800"},\n'
        b'{"a": 123456789012345678901234},\n {"a":\n 2}\n]'
    )
    rows = read(path)
    assert values(rows) == [(2, {"a": "x\n,]"}), (8, {"a": 2})]
    bad = [(3, "not_an_object"), (5, "not_utf8"), (6, "invalid_json"), (7, "invalid_json")]
    assert [fault[:2] for fault in faults(rows)] == bad
    assert rows[2].raw == '{"a": "caf\\xe9"}'  # type: ignore[union-attr]


UNTRUE = [
    ('{"a": 1180591620717411303424}', "Integer exceeds 64-bit range"),
    ('{"a": [-9223372036854775809]}', "Integer exceeds 64-bit range"),
    ('{"a": [{"b": 1, "c": ": ", "b": 2}]}', "the key 'b' stands twice in one object"),
    ('{"a" :"x","a" :"y"}', "the key 'a' stands twice in one object"),
    ('{"a"  :1,"a" \t:2}', "the key 'a' stands twice in one object"),
    (r'{"a\\":1,"a\\":2}', r"the key 'a\\' stands twice in one object"),
]
TRUE = [
    {"a": 18446744073709551615, "b": 0.12345678901234567890, "c": "1180591620717411303424"},
    {"a": {"a": [{"a": ':"a":'}, {"a": '"a": "a":'}]}, "b": ": ", '"': '\\":'},
]


def test_what_would_be_changed_without_a_word_is_quarantined_in_both_forms_of_json(tmp_path: Path) -> None:
    rows = [*(text for text, _ in UNTRUE), *map(json.dumps, TRUE)]
    listed = tmp_path / "a.json"
    listed.write_text("[\n" + ",\n".join(rows) + "]")
    for found in (read(write_jsonl(tmp_path / "a.jsonl", rows)), read(listed)):
        assert [(reason, detail) for _, reason, detail in faults(found)] == [("invalid_json", one) for _, one in UNTRUE]
        assert [value for _, value in values(found)] == TRUE


@pytest.mark.parametrize(
    ("value", "column"),
    [("NaN", 17), ("-Infinity", 18), ("Infinity", 17), ("[1, NaN]", 21), ("1e999", 17)],
)
def test_what_json_has_no_number_for_costs_its_row_of_a_list_only(value: str, column: int, tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    rows = ['{"a": "NaN, Infinity"}', f'{{"b": "ü", "a": {value}}}', '{\n  "b": 1,\n  "a": NaN}', '{"a": 2}']
    for text, indent in (
        ("[\n" + ",\n".join(rows) + "]", 0),
        ('{"mean": NaN,\n"data": [' + ",\n  ".join(rows) + "]}", 2),
    ):
        path.write_text(text)
        found = read(path)
        assert [row.value["a"] for row in found if isinstance(row, RawRow)] == ["NaN, Infinity", 2]
        (one, other) = (row for row in found if isinstance(row, Quarantined))
        assert one.detail.endswith(f"at line 3, column {column + indent}")
        assert (one.line, one.reason) == (3, "invalid_json")
        assert (other.line, other.detail[-19:]) == (4, "at line 6, column 8")


def test_an_integer_longer_than_python_reads_costs_its_row_only(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1},\n{"a": ' + "9" * 5000 + "}]")
    assert [(row.line, isinstance(row, RawRow)) for row in read(path)] == [(1, True), (2, False)]


GLUED = '{"a": "}{"}{"b": {"c": 1}} {"d": [{}]}'


def test_objects_that_lack_a_line_break_between_them_are_counted(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [{"a": 1}, GLUED, {"a": 2}])
    assert values(read(path)) == [(1, {"a": 1}), (3, {"a": 2})]
    assert faults(read(path)) == [(2, "several_objects", "3 objects stand on one line: the second begins at column 12")]
    assert "a line of its own" in remedy("several_objects")


@pytest.mark.parametrize(
    "line", ['{"a": 1}x', '{"a": 1}{"b": ', '{"a": 1}[2]', '{"a": 1},{"a": 2}', '{"a": 1}' + "{" * 3000]
)
def test_an_object_with_something_else_behind_it_is_no_json(line: str, tmp_path: Path) -> None:
    ((_, reason, detail),) = faults(read(write_jsonl(tmp_path / "a.jsonl", [line])))
    assert (reason, detail) == ("invalid_json", "unexpected content after document, at column 9")


TURNS = [
    ("messages", [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]),
    ("messages", [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": []}]),
    ("conversations", [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]),
]


@pytest.mark.parametrize(("name", "turns"), TURNS)
def test_a_bare_list_of_turns_is_a_row(name: str, turns: list[dict], tmp_path: Path) -> None:
    listed = tmp_path / "a.json"
    listed.write_text(json.dumps([turns, turns]))
    assert values(read(listed)) == [(1, {name: turns}), (2, {name: turns})]
    (row,) = read(write_jsonl(tmp_path / "a.jsonl", [json.dumps(turns)]))
    assert isinstance(row, RawRow)
    assert (row.value, row.text) == ({name: turns}, json.dumps(turns))
    double = json.dumps(turns)[:-2] + ', "value": 1, "value": 2}]'
    assert faults(read(write_jsonl(tmp_path / "a.jsonl", [double])))[0][1] == "invalid_json"


@pytest.mark.parametrize(
    "row", [[], ["Hi", "Hello"], [{"role": "user"}], [{"role": "user", "content": "Hi"}, 3], [{"a": 1}]]
)
def test_any_other_list_is_no_row_and_the_remedy_says_how_to_wrap_it(row: list, tmp_path: Path) -> None:
    found = faults(read(write_jsonl(tmp_path / "a.jsonl", [json.dumps(row)])))
    assert found == [(1, "not_an_object", "the row is a list, not an object")]
    assert '{"messages": [' in remedy("not_an_object")


def test_elements_that_share_a_line_are_told_apart_by_number(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1}, {"a": 2},\n\n{"a": 3}]')
    assert [row.line for row in read(path)] == [1, 2, 3]


ROWS = st.lists(
    st.dictionaries(st.text(max_size=5), st.text() | st.integers(-9, 9) | st.none(), max_size=3), max_size=5
)


@given(rows=ROWS, indent=st.none() | st.integers(0, 2), key=st.sampled_from([None, "data", "train"]))
def test_any_json_list_is_read_back_whole(rows: list[dict], indent: int | None, key: str | None) -> None:
    document = rows if key is None else {"version": [{"data": 1}], key: rows, "after": {}}
    text = json.dumps(document, indent=indent)
    read_back = [row for row in documents.from_json(text.encode(), "a.json", "a.json") if isinstance(row, RawRow)]
    assert [row.value for row in read_back] == rows
    assert len({row.line for row in read_back}) == len(rows)
    if indent is not None:
        assert all(text.split("\n")[row.line - 1].strip().startswith("{") for row in read_back)


@pytest.mark.parametrize(
    ("content", "where", "message"),
    [
        ('[{"a": 1},\n {"a" 2}]', ":2:7", "not JSON"),
        ('{"a": 1}\n{"a": 2}\n', ":2:1", "not JSON"),
        ('{"rows": []}', "", "an object with the keys 'rows'"),
        ('{"data": [], "train": []}', "", "an object with the keys 'data', 'train'"),
        ('{"data": [1], "b" : 3 ,\n"c": [{}], "data": [2] }', "", "'data' stands twice"),
        ("3", "", "a number"),
        ('{"data": NaN}', "", "an object with the keys 'data'"),
        ("[" * 5000, "", "usable JSON"),
    ],
)
def test_a_json_file_without_a_list_of_rows_names_the_fault(
    tmp_path: Path, content: str, where: str, message: str
) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.where == f"{path}{where}"
    assert caught.value.remedy


def test_csv_keeps_quoted_newlines_and_quarantines_ragged_records(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        b'\xef\xbb\xbfinstruction,output\r\n"two\nlines, one field",ok\r\n'
        b'short\r\n\r\na,b,c\r\ncaf\xe9,x\r\n"x"y,z\r\nlast,one\r\n'
    )
    rows = read(path)
    assert values(rows) == [
        (2, {"instruction": "two\nlines, one field", "output": "ok"}),
        (9, {"instruction": "last", "output": "one"}),
    ]
    assert faults(rows)[0] == (4, "wrong_columns", "the record has 1 fields, the header has 2")
    assert [fault[:2] for fault in faults(rows)[1:]] == [(6, "wrong_columns"), (7, "not_utf8"), (8, "invalid_csv")]
    assert rows[2].raw == "a,b,c"  # type: ignore[union-attr]


def test_a_csv_header_may_be_quoted_over_lines_and_stand_below_blank_ones(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('\n\n"in\nstruction",output\na,b\n')
    assert values(read(path)) == [(5, {"in\nstruction": "a", "output": "b"})]


def test_csv_separated_by_semicolons_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("prompt;completion\nHi, you;Hello\n")
    assert values(read(path)) == [(2, {"prompt": "Hi, you", "completion": "Hello"})]


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b'instruction,output\na,b\n"never closed\nc\nd\n', "never closed", 3),
        (b"output,output\na,b\n", "'output' more than once", 1),
        (b"instruction\rok,output\ra,b\r", "header cannot be read", 1),
        (b"instruction,r\xe9ponse\na,b\n", "header is not UTF-8", 1),
    ],
)
def test_csv_that_would_lose_rows_is_refused(tmp_path: Path, content: bytes, message: str, line: int) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=message) as caught:
        read(path)
    assert caught.value.where == f"{path}:{line}"


def test_parquet_rows_come_back_without_the_nulls_that_arrow_adds(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    tools = [{"name": "a", "parameters": {"x": 1}}, {"name": "b", "parameters": {"y": 2}}]
    pq.write_table(pa.Table.from_pylist([{"output": None, "tools": tools}, {"output": "x", "tools": None}]), path)
    assert values(read(path)) == [(1, {"output": None, "tools": tools}), (2, {"output": "x", "tools": None})]


def test_dates_times_and_decimals_of_parquet_are_text(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    day, moment = date(2026, 1, 2), datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    held = {"day": [day], "moment": moment, "time": time(3, 4), "price": Decimal("1.50"), "long": timedelta(hours=2)}
    pq.write_table(pa.Table.from_pylist([{"calls": [{"arguments": held}], "day": day}]), path)
    arguments = {
        "day": ["2026-01-02"],
        "moment": "2026-01-02T03:04:05+00:00",
        "time": "03:04:00",
        "price": "1.50",
        "long": "2:00:00",
    }
    assert values(read(path)) == [(1, {"calls": [{"arguments": arguments}], "day": "2026-01-02"})]


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], ["output", "output"]), path)
    with pytest.raises(UserError, match="more than one column 'output'") as caught:
        read(path)
    assert caught.value.where == str(path)


def test_parquet_text_that_is_no_utf8_costs_its_row_only(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    column = pa.array([b"good", b"caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"a": column}), path)
    rows = read(path)
    assert values(rows) == [(1, {"a": "good"})]
    assert faults(rows) == [(2, "not_utf8", "byte 0xe9 is not UTF-8")]


def test_a_file_that_is_no_parquet_says_so(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    path.write_text('{"a": 1}\n')
    with pytest.raises(UserError, match="Parquet") as caught:
        read(path)
    assert ".jsonl" in caught.value.remedy


def test_a_folder_saved_by_datasets_is_read_with_its_split(tmp_path: Path) -> None:
    from datasets import Dataset, DatasetDict

    single, several = tmp_path / "single", tmp_path / "several"
    Dataset.from_list(pairs(2)).save_to_disk(str(single))
    DatasetDict({"train": Dataset.from_list(pairs(2)), "extra": Dataset.from_list(pairs(1, 7))}).save_to_disk(
        str(several)
    )
    assert values(read(single)) == list(enumerate(pairs(2), start=1))
    assert values(read(several, split="extra")) == [(1, pairs(1, 7)[0])]
    with pytest.raises(UserError, match="no split 'test'") as caught:
        read(several, split="test")
    assert caught.value.remedy == "Set split to one of: train, extra."


def frames(content: bytes) -> bytes:
    """zstd in two frames, as files that were appended to have."""
    half = len(content) // 2
    return b"".join(zstandard.ZstdCompressor().compress(part) for part in (content[:half], content[half:]))


PRESSED: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".zst": frames}


@pytest.mark.parametrize("pressed", PRESSED)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'\xef\xbb\xbf{"a": "1"}\n\n{"a": "2"}\n'),
        ("a.JSON", b'[{"a": "1"},\n\n{"a": "2"}]'),
        ("a.csv", b"a\n1\n2\n"),
    ],
)
def test_a_compressed_text_file_reads_as_what_it_holds(tmp_path: Path, pressed: str, name: str, content: bytes) -> None:
    plain, path = tmp_path / name, tmp_path / f"{name}{pressed}"
    plain.write_bytes(content)
    path.write_bytes(PRESSED[pressed](content))
    assert values(read(path)) == values(read(plain))
    assert len(values(read(path))) == 2
    assert {row.file for row in read(path)} == {str(path)}


def cut(content: bytes) -> bytes:
    return content[:-6]


def turned(content: bytes) -> bytes:
    """With bits of the middle turned over."""
    middle = len(content) // 2
    return content[:middle] + bytes(byte ^ 0xFF for byte in content[middle : middle + 9]) + content[middle + 9 :]


@pytest.mark.parametrize("damage", [cut, turned, lambda content: b'{"a": 1}\n', lambda content: content + b"more"])
@pytest.mark.parametrize("pressed", PRESSED)
def test_a_damaged_archive_is_one_message(tmp_path: Path, pressed: str, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / f"a.jsonl{pressed}"
    lines = "".join(json.dumps({"a": number * 7919 % 1000}) + "\n" for number in range(5000))
    path.write_bytes(damage(PRESSED[pressed](lines.encode())))
    with pytest.raises(UserError, match="archive is damaged") as caught:
        read(path)
    assert caught.value.where == str(path)
    assert f"-t {path}" in caught.value.remedy


def test_utf16_in_an_archive_is_refused_with_the_whole_command(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress('{"a": 1}'.encode("utf-16")))
    with pytest.raises(UserError, match="UTF-16") as caught:
        read(path)
    assert f"gzip -dc {path} | iconv -f UTF-16 -t UTF-8 > {tmp_path / 'utf8-a.jsonl'}" in caught.value.remedy


def test_a_glob_reads_its_files_in_the_order_of_their_names_and_needs_one(tmp_path: Path) -> None:
    for name in ("b/c/2.jsonl", "b/1.jsonl", "a.jsonl"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        write_jsonl(tmp_path / name, [{"name": name}])
    (tmp_path / "b/0.jsonl").write_text("\n")
    rows = read(tmp_path / "**/*.jsonl")
    assert [row.file for row in rows] == [str(tmp_path / name) for name in ("a.jsonl", "b/1.jsonl", "b/c/2.jsonl")]
    assert [row.line for row in rows] == [1, 1, 1]
    with pytest.raises(UserError, match="No file matches") as caught:
        read(tmp_path / "*.json")
    assert "**" in caught.value.remedy
    (tmp_path / "b/notes.txt").write_text("")
    with pytest.raises(UserError, match=r"'.txt' cannot be read, and the glob matches .*notes.txt"):
        read(tmp_path / "b/*")


def test_a_file_whose_name_has_brackets_is_no_glob(tmp_path: Path) -> None:
    assert values(read(write_jsonl(tmp_path / "a[1].jsonl", [{"a": 1}]))) == [(1, {"a": 1})]


def test_a_globs_fingerprint_follows_names_and_contents(tmp_path: Path) -> None:
    source = SourceConfig(path=str(tmp_path / "*.jsonl"))
    write_jsonl(tmp_path / "a.jsonl", pairs(1))
    seen = {source_fingerprint(source)}
    write_jsonl(tmp_path / "b.jsonl", pairs(2))
    seen.add(source_fingerprint(source))
    (tmp_path / "b.jsonl").rename(tmp_path / "c.jsonl")
    seen.add(source_fingerprint(source))
    write_jsonl(tmp_path / "c.jsonl", pairs(3))
    seen.add(source_fingerprint(source))
    assert len(seen) == 4


def test_a_file_in_two_sources_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", pairs(1))
    alone, both = SourceConfig(path=str(path)), SourceConfig(path=str(tmp_path / "*.jsonl"))
    refuse_overlap([alone, SourceConfig(path="hub:owner/name")])
    with pytest.raises(UserError, match=r"a\.jsonl belongs to two sources"):
        refuse_overlap([alone, both])


def test_lines_of_jsonl_are_handed_out_unparsed_and_parse_alike_anywhere(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", [' {"a": 1} ', "{", b"\xff"])
    lines = list(read_source(SourceConfig(path=str(path))))
    assert lines == [Line(str(path), 1, b'{"a": 1}'), Line(str(path), 2, b"{"), Line(str(path), 3, b"\xff")]
    assert [parse(line) for line in lines if isinstance(line, Line)] == read(path)


@pytest.mark.parametrize("depth", [201, 600, 1100, 100_000])
def test_a_row_that_is_nested_too_deep_to_be_written_is_quarantined(tmp_path: Path, depth: int) -> None:
    line = '{"a": ' + "[" * depth + "]" * depth + "}"
    rows = read(write_jsonl(tmp_path / "a.jsonl", [line, {"a": 1}, '{"a": ' + "[" * 150 + "]" * 150 + "}"]))
    assert faults(rows) == [(1, "nested_too_deep", "the row is nested more than 200 levels deep")]
    assert rows[0].raw == line  # type: ignore[union-attr]
    assert len(rows) == 3
    path = tmp_path / "a.json"
    path.write_text(f'[{line}, {{"a": 1}}]')
    if depth < 900:
        assert [fault[1] for fault in faults(read(path))] == ["nested_too_deep"]
    else:
        with pytest.raises(UserError, match="not usable JSON"):
            read(path)


def test_a_long_bad_line_is_kept_whole(tmp_path: Path) -> None:
    line = '{"a": "' + "x" * 2_000_000
    (row,) = read(write_jsonl(tmp_path / "a.jsonl", [line]))
    assert isinstance(row, Quarantined) and row.raw == line


def test_a_saved_folder_with_a_text_that_is_no_utf8_loses_that_row_only(tmp_path: Path) -> None:
    import pyarrow as pa
    from datasets import Dataset

    column = pa.array([b"good", b"caf\xe9", b"fine"], pa.binary()).view(pa.string())
    Dataset(pa.table({"a": column, "b": [1, 2, 3]})).save_to_disk(str(tmp_path / "saved"))
    rows = read(tmp_path / "saved")
    assert values(rows) == [(1, {"a": "good", "b": 1}), (3, {"a": "fine", "b": 3})]
    assert faults(rows) == [(2, "not_utf8", "byte 0xe9 is not UTF-8")]
    assert json.loads(rows[1].raw) == {"a": "caf\\xe9", "b": 2}  # type: ignore[union-attr]


def test_a_missing_file_is_answered_with_the_nearest_name(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train_rows.jsonl", pairs(1))
    with pytest.raises(UserError, match="no such file") as caught:
        read(tmp_path / "train_row.jsonl")
    assert caught.value.remedy == f"Did you mean {tmp_path / 'train_rows.jsonl'}?"
    with pytest.raises(UserError, match=r"folder .* does not exist"):
        read(tmp_path / "nowhere" / "a.jsonl")


def test_a_folder_without_a_data_set_is_answered_with_its_files(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", pairs(1))
    with pytest.raises(UserError, match="no data set") as caught:
        read(tmp_path)
    assert caught.value.remedy == "Name one of its files: rows.jsonl."


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.txt", {}, "type '.txt'"),
        ("a.jsonl", {"revision": "main"}, "revision='main' means nothing"),
        ("a.jsonl", {"split": "test"}, "split='test' means nothing"),
        ("empty.jsonl", {}, "no rows"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, name: str, options: dict[str, str], message: str) -> None:
    (tmp_path / name).write_text("" if "empty" in name else "{}\n")
    with pytest.raises(UserError, match=message) as caught:
        read(tmp_path / name, **options)
    assert caught.value.remedy


def test_an_unreadable_file_is_the_users_to_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", pairs(1))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UserError, match="Permission denied") as caught:
        read(path)
    assert caught.value.where == str(path)


def test_a_source_enters_the_fingerprint_by_what_it_holds(tmp_path: Path) -> None:
    from datasets import Dataset

    hashes = FileHashes(tmp_path / "hashes.json")
    path = write_jsonl(tmp_path / "a.jsonl", pairs(1))
    assert source_fingerprint(SourceConfig(path=str(path)), hashes) == file_sha256(path)
    Dataset.from_list(pairs(2)).save_to_disk(str(tmp_path / "saved"))
    folder = SourceConfig(path=str(tmp_path / "saved"))
    before = source_fingerprint(folder, hashes)
    assert before == source_fingerprint(folder)
    (tmp_path / "saved" / "state.json").write_text("{}")
    assert source_fingerprint(folder, hashes) != before


def test_a_hub_data_set_is_read_at_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = {}

    def load(name: str, config: str | None, *, split: str, revision: str) -> datasets.Dataset:
        asked.update(name=name, config=config, split=split, revision=revision)
        return datasets.Dataset.from_list(pairs(2))

    monkeypatch.setattr(datasets, "load_dataset", load)
    commit = "0123456789abcdef0123456789abcdef01234567"
    source = SourceConfig(path="hub:owner/name", revision=commit, split="extra")
    rows = list(read_source(source))
    assert asked == {"name": "owner/name", "config": None, "split": "extra", "revision": commit}
    assert [(row.file, row.line) for row in rows] == [("hub:owner/name/extra", 1), ("hub:owner/name/extra", 2)]
    assert source_fingerprint(source) == commit
    (first, _) = read_source(source.model_copy(update={"config": "main"}))
    assert (asked["config"], first.file) == ("main", "hub:owner/name/main/extra")


def test_the_hub_out_of_reach_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx
    from huggingface_hub import HfApi

    def fail(*_: object, **__: object) -> None:
        raise httpx.ConnectError("no route")

    monkeypatch.setattr(HfApi, "dataset_info", fail)
    with pytest.raises(UserError, match="cannot be reached") as caught:
        list(read_source(SourceConfig(path="hub:owner/name")))
    assert "full commit" in caught.value.remedy
    with pytest.raises(UserError, match="no data set id"):
        list(read_source(SourceConfig(path="hub:name")))


def test_a_hub_data_set_that_does_not_load_is_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def fail(*_: object, **__: object) -> None:
        raise ValueError("Unknown split 'x'. Should be one of ['train'].\nmore")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(UserError, match=r"Unknown split 'x'. Should be one of \['train'\].") as caught:
        list(tables.from_hub("owner/name", None, "x", "0" * 40))
    assert caught.value.where == "hub:owner/name"


def test_configs_that_are_to_be_chosen_from_are_listed(tmp_path: Path) -> None:
    for name in ("main", "socratic"):
        (tmp_path / name).mkdir()
        write_jsonl(tmp_path / name / "train.jsonl", pairs(2))
    head = "".join(f"- config_name: {name}\n  data_files: {name}/*.jsonl\n" for name in ("main", "socratic"))
    (tmp_path / "README.md").write_text(f"---\nconfigs:\n{head}---\n")
    for config in (None, "other"):
        with pytest.raises(UserError, match=r"\['main', 'socratic'\]") as caught:
            list(tables.from_hub(str(tmp_path), config, "train", "0" * 40))
        assert "--config" in caught.value.remedy
    assert len(list(tables.from_hub(str(tmp_path), "socratic", "train", "0" * 40))) == 2


def test_a_config_means_nothing_for_a_file(tmp_path: Path) -> None:
    source = SourceConfig(path=str(write_jsonl(tmp_path / "a.jsonl", pairs(2))), config="main")
    with pytest.raises(UserError, match="config='main' means nothing for a local source"):
        list(read_source(source))
