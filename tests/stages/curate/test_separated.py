"""CSV: a quotation mark that belongs to the text costs its own row only; a genuine field may have many lines."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunelift.errors import UserError
from tunelift.stages.curate.rows import Quarantined, RawRow
from tunelift.stages.curate.separated import from_csv


def read(text: str) -> list[RawRow | Quarantined]:
    return list(from_csv(io.BytesIO(text.encode()), "a.csv", "a.csv"))


def texts(text: str) -> dict[int, str]:
    """By line, the first field of each row, and the reason of one that could not be read."""
    return {
        row.line: row.reason if isinstance(row, Quarantined) else next(iter(row.value.values())) for row in read(text)
    }


STRAY = "stray_quote"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_mark_at_the_beginning_of_a_text_does_not_swallow_the_rows_up_to_the_next_one(
    delimiter: str, end: str
) -> None:
    lines = [
        "text,label",
        "Nice lamp,pos",
        '"The cord is short,neg',
        "Late parcel,neg",
        'Would order again",pos',
        "Fine,pos",
    ]
    rows = read(end.join(line.replace(",", delimiter) for line in lines))
    assert [(row.line, row.value) for row in rows if isinstance(row, RawRow)] == [
        (2, {"text": "Nice lamp", "label": "pos"}),
        (4, {"text": "Late parcel", "label": "neg"}),
        (5, {"text": 'Would order again"', "label": "pos"}),
        (6, {"text": "Fine", "label": "pos"}),
    ]
    (stray,) = (row for row in rows if isinstance(row, Quarantined))
    assert (stray.line, stray.reason, stray.raw) == (3, STRAY, f'"The cord is short{delimiter}neg')
    assert stray.detail == (
        "a quotation mark opens on line 3 and closes on line 5, but the lines up to there are rows without it; "
        "lines 4 to 5 are read as such"
    )


def test_of_two_lines_both_are_set_aside_since_the_second_may_end_a_field() -> None:
    (stray, row) = read('text,label\n"The cord is short,neg\nWould order again",pos\nFine,pos\n')
    assert isinstance(stray, Quarantined)
    assert (stray.reason, stray.raw.count("\n")) == (STRAY, 1)
    assert row.line == 4


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ('"Short,neg\nLate,neg\nAgain,pos\nFine,pos\n', {2: STRAY, 3: "Late", 4: "Again", 5: "Fine"}),
        ('Nice,"pos\nLate,neg\nAgain,pos"\nFine,pos\n', {2: STRAY, 3: "Late", 4: "Again", 5: "Fine"}),
        ('Nice,pos\n"Short,neg', {2: "Nice", 3: STRAY}),
        # Up to a row that is quoted as it should be, and its field of two lines.
        (
            '"Short,neg\nLate,neg\n"Good, thanks",pos\n"Two\nlines, here",neg\nFine,pos\n',
            {2: STRAY, 3: "Late", 4: "Good, thanks", 5: "Two\nlines, here", 7: "Fine"},
        ),
        # One mark after the other.
        ('"Short,neg\n"Late,neg\nAgain,pos\n', {2: STRAY, 3: STRAY, 4: "Again"}),
        # A line that is no row either costs itself alone.
        ('"Short,neg\nLate,neg\n\nhm\nAgain,pos\n', {2: STRAY, 3: "Late", 5: "wrong_columns", 6: "Again"}),
        ('"Short,neg\n"",pos\nLate,neg\n', {2: STRAY, 3: "", 4: "Late"}),
    ],
)
def test_no_row_behind_a_stray_mark_is_lost(body: str, found: dict[int, str]) -> None:
    assert texts(f"text,label\n{body}") == found


FIELDS = [
    "Dear Bob, hello\nThanks Ann",
    "Dear Bob,\nThanks Ann",
    "It is late.\nAgain.",
    "name,age\nAnn,3\nBob,4",
    'He said "no",\nand left',
    'He said "no",and left\nagain',
    '{"a": 1,\n"b": 2}',
    "a\n\nb",
    "for x in y:\n    f(x,y)\nend",
]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("delimiter", [",", "\t"])
@pytest.mark.parametrize("place", [0, 1])
def test_a_genuine_field_of_several_lines_stays_one_row(field: str, delimiter: str, place: int) -> None:
    record = [field, "pos"] if place == 0 else ["pos", field]
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter).writerows([["text", "label"], record, ["Fine", "pos"]])
    rows = read(stream.getvalue())
    assert [list(row.value.values()) for row in rows if isinstance(row, RawRow)] == [record, ["Fine", "pos"]]


@given(
    table=st.lists(st.lists(st.sampled_from(["x", "12", "Ann"]), min_size=3, max_size=3), min_size=2, max_size=5),
    place=st.integers(0, 2),
)
def test_a_table_with_as_many_columns_inside_a_field_is_no_stray_mark(table: list[list[str]], place: int) -> None:
    record = ["q", "w", "e"]
    record[place] = "\n".join(",".join(line) for line in table)
    stream = io.StringIO()
    csv.writer(stream).writerows([["a", "b", "c"], record])
    assert [list(row.value.values()) for row in read(stream.getvalue()) if isinstance(row, RawRow)] == [record]


CELLS = st.text(st.sampled_from("ab1 "), min_size=1, max_size=6).map(lambda text: f"x{text}x")


@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=3, max_size=12), marked=st.sets(st.integers(0, 11), max_size=4))
def test_only_rows_with_a_mark_can_be_lost(rows: list[tuple[str, str]], marked: set[int]) -> None:
    lines = [f"{chr(34) * (number in marked)}{one},{two}" for number, (one, two) in enumerate(rows)]
    found = read("\n".join(["text,label", *lines]))
    read_rows = {row.line - 2: tuple(row.value.values()) for row in found if isinstance(row, RawRow)}
    assert {number: rows[number] for number in range(len(rows)) if number not in marked}.items() <= read_rows.items()
    assert len(found) == len(rows)


def test_where_blanks_follow_the_commas_of_the_header_they_do_not_tell_prose() -> None:
    found = texts('text, label\n"Short, neg\nLate, neg\nAgain", pos\n')
    assert found == {2: STRAY, 3: "Late", 4: 'Again"'}


def test_a_field_that_is_never_closed_and_no_row_refuses_the_file() -> None:
    with pytest.raises(UserError, match="never closed") as caught:
        read('text,label\nNice,pos\n"Dear Bob\nhello\nthere\n')
    assert caught.value.where == "a.csv:3"


def test_a_file_with_one_column_has_no_rows_to_tell_from_lines() -> None:
    assert texts('text\n"one\ntwo\nthree"\n') == {2: "one\ntwo\nthree"}
