"""`tunelift explain`: what became of a raw row, from the files of a data set."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.project import call_here, make_project
from tests.stages.curate.curated import ALPACA, MESSAGES, make_curated
from tunelift import cli, runs
from tunelift.errors import UserError
from tunelift.explaining import explain


class Curated(SimpleNamespace):
    """As much of a run as explaining looks at."""

    def tell(self, place: str) -> str:
        return explain(self, place)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("curated")
    return {"out": out, **make_curated(out, text="\x1b[31m")}


@pytest.fixture
def run(stats: dict[str, Any]) -> Curated:
    config = SimpleNamespace(curate=SimpleNamespace(max_rows=None, split=SimpleNamespace(group_by=None)))
    return Curated(curated=lambda: SimpleNamespace(path=stats["out"]), folder=Path("runs/my run"), config=config)


def facts(told: str) -> dict[str, str]:
    """By name; what belongs to the same name is joined."""
    found: dict[str, str] = {}
    name = ""
    for line in told.splitlines():
        if line.startswith("  "):
            name = line[2:20].strip() or name
            found[name] = f"{found[name]}; {line[21:]}" if name in found else line[21:]
    return found


def test_a_row_that_was_kept_is_told_with_its_split_length_edits_and_next_command(run: Curated) -> None:
    told = run.tell(f"{MESSAGES}:3")
    assert told.startswith(f"{MESSAGES}:3 was kept, in train.")
    assert facts(told) == {
        "row": "number 3 of train, id d4735e3a265e16ee",
        "length": "134 tokens, 21 of them learnt",
        "edited": "unicode, email",
        "personal data": "email l…@example.com␛[31m in message 2 (redact)",
        "group": "3 more rows of train have its first message",
        "cluster": "7 more rows of train are alike, ask the same or have one key with it",
    }
    assert told.endswith("tunelift render 'runs/my run' --id d4735e3a265e16ee --split train")


def test_rows_of_one_field_are_told_by_its_name(run: Curated) -> None:
    run.config.curate.split.group_by = "phrasing"
    assert facts(run.tell(f"{MESSAGES}:3"))["group"] == "3 more rows of train have its phrasing"


def test_near_duplicates_are_told_from_both_sides(run: Curated, stats: dict[str, Any]) -> None:
    first = facts(run.tell(f"{MESSAGES}:2"))["near duplicates"].split("; ")
    assert len(first) == stats["duplicates"]["near"] == 3
    assert first[0] == f"{MESSAGES}:163 (0.83) was dropped because of this one"
    other = run.tell(f"{MESSAGES}:163")
    assert f"{MESSAGES}:163 was dropped." in other
    assert facts(other)["near duplicates"] == f"{MESSAGES}:2 (0.83) stands for this one"
    assert other.endswith(f"tunelift explain 'runs/my run' {MESSAGES}:2")
    assert "stays too: only values differ" in facts(run.tell(f"{MESSAGES}:4"))["near duplicates"]


def test_other_answers_to_the_same_prompt_are_told(run: Curated) -> None:
    assert facts(run.tell(f"{MESSAGES}:7"))["same prompt"] == f'{MESSAGES}:8 in train answers: {{"on": False}}␛[31m'


def test_what_was_reported_and_kept_is_told(run: Curated) -> None:
    assert facts(run.tell(f"{MESSAGES}:6"))["flagged"] == "refusal"


def test_mended_text_is_told_before_and_after(run: Curated) -> None:
    assert facts(run.tell(f"{MESSAGES}:8"))["mended"].startswith("'donâ€™t")
    assert "is now 'don’t" in facts(run.tell(f"{MESSAGES}:8"))["mended"]


def test_every_row_read_is_found_where_it_is(run: Curated, stats: dict[str, Any]) -> None:
    outcomes = [run.tell(f"{MESSAGES}:{line}").splitlines()[0] for line in range(1, stats["sources"][MESSAGES]["read"])]
    assert sum("was kept" in line for line in outcomes) == stats["rows"]["kept"]
    assert all("was kept" in line or "was dropped" in line for line in outcomes)


def test_a_dropped_row_is_told_with_reason_evidence_and_remedy(run: Curated, stats: dict[str, Any]) -> None:
    import orjson

    for line in (stats["out"] / "dropped.jsonl").read_bytes().splitlines():
        entry = orjson.loads(line)
        told = facts(run.tell(entry["source"]))
        assert told["reason"].startswith(entry["reason"] + ". ")
        assert set(told) >= {key.replace("_", " ") for key in entry["evidence"]}
        assert "raw" in told
    assert facts(run.tell(f"{MESSAGES}:173"))["remedy"] == "Raise train.max_length."


def test_a_row_that_could_not_be_read_is_told_with_where_and_what(run: Curated) -> None:
    told = facts(run.tell(f"{ALPACA}:21"))
    assert told["where"] == "$.messages[1].content" and told["what"] == "is a number, must be text␛[31m"
    assert told["reason"].startswith("wrong_type. ")


def test_a_row_cannot_steer_the_terminal(run: Curated) -> None:
    for place in (f"{MESSAGES}:3", f"{MESSAGES}:163", f"{ALPACA}:21"):
        assert "\x1b" not in run.tell(place)


@pytest.mark.parametrize(
    "name", ["messages.jsonl", "raw/messages.jsonl", f"./{MESSAGES}", str(Path(MESSAGES).resolve())]
)
def test_the_file_may_be_named_by_any_path_or_its_end(run: Curated, name: str) -> None:
    assert run.tell(f"{name}:3").startswith(f"{MESSAGES}:3 was kept")


def test_a_data_set_or_folder_stands_for_the_one_source_in_it(run: Curated, tmp_path: Path) -> None:
    import orjson

    def curated_from(*sources: str) -> None:
        (tmp_path / "stats.json").write_bytes(orjson.dumps({"sources": {name: {} for name in sources}}))

    for name in ("train", "validation", "test", "dropped", "quarantine"):
        (tmp_path / f"{name}.jsonl").touch()
    run.curated = lambda: SimpleNamespace(path=tmp_path)
    curated_from("hub:owner/name/train", "data/a.jsonl", "data/b.jsonl")
    with pytest.raises(UserError, match="There is no row") as caught:
        run.tell("hub:owner/name:3")
    assert caught.value.where == "hub:owner/name/train:3"
    with pytest.raises(UserError, match="2 sources are called data"):
        run.tell("data:3")


def test_a_line_inside_a_record_that_could_not_be_read_names_the_record_and_the_reason(
    run: Curated, tmp_path: Path
) -> None:
    import orjson

    record = {"file": "a.csv", "line": 3, "path": "$", "reason": "stray_quote", "detail": "x", "raw": '"b,n\nc",p'}
    other = {**record, "file": "a.json"}
    (tmp_path / "stats.json").write_bytes(orjson.dumps({"sources": {"a.csv": {}, "a.json": {}}}))
    for name in ("train", "validation", "test", "dropped"):
        (tmp_path / f"{name}.jsonl").touch()
    (tmp_path / "train.jsonl").write_bytes(b'{"source":"a.csv:6"}\n{"source":"a.json:6"}\n')
    (tmp_path / "quarantine.jsonl").write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in (record, other)))
    run.curated = lambda: SimpleNamespace(path=tmp_path)
    told = run.tell("a.csv:4")
    assert told.startswith("Line 4 is in the record that begins on line 3.")
    assert facts(told)["reason"].startswith("stray_quote. A quotation mark")
    assert "twice inside a quoted field" in facts(told)["remedy"]
    for place in ("a.csv:5", "a.json:4"):
        with pytest.raises(UserError, match="No row begins on this line"):
            run.tell(place)


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("nowhere.jsonl:3", r"(?s)nowhere\.jsonl is no source.*data/raw/alpaca\.json\n.*data/raw/messages\.jsonl"),
        (f"{MESSAGES}:9999", r"There is no row: the last row that was read from it is on line 225"),
        (f"{ALPACA}:5", r"(?s)No row begins on this line: it is blank.*next to it are those of lines 1 and 11"),
        (MESSAGES, "names no row"),
        (f"{MESSAGES}:0", "names no row"),
        (f"{MESSAGES}:²", "names no row"),
        (":3", "names no row"),
    ],
)
def test_what_names_no_row_is_one_clear_error(run: Curated, place: str, says: str) -> None:
    with pytest.raises(UserError) as caught:
        run.tell(place)
    assert re.search(says, str(caught.value)), str(caught.value)
    assert caught.value.remedy


def test_a_name_that_two_sources_have_lists_both(run: Curated, stats: dict[str, Any], tmp_path: Path) -> None:
    import orjson

    sources = {"a/x.jsonl": {}, "b/x.jsonl": {}}
    (tmp_path / "stats.json").write_bytes(orjson.dumps({"sources": sources}))
    run.curated = lambda: SimpleNamespace(path=tmp_path)
    with pytest.raises(UserError, match=r"2 sources are called x.jsonl:\n  a/x.jsonl\n  b/x.jsonl"):
        run.tell("x.jsonl:3")


def test_a_place_inside_a_message_is_not_the_row(tmp_path: Path, run: Curated) -> None:
    """A tool call's arguments may hold a `source` of their own."""
    import orjson

    make_curated(tmp_path, rows=20)
    lines = (tmp_path / "train.jsonl").read_bytes().splitlines()
    row = orjson.loads(lines[0]) | {"tools": [{"source": f"{MESSAGES}:4", "group": "0"}]}
    (tmp_path / "train.jsonl").write_bytes(b"\n".join([orjson.dumps(row), *lines[1:]]) + b"\n")
    run.curated = lambda: SimpleNamespace(path=tmp_path)
    assert facts(run.tell(f"{MESSAGES}:4"))["row"].startswith("number 4 of train")


def test_the_command_explains_and_never_curates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    make_project(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs, "run_isolated", call_here)
    assert cli.main(["explain", "config.yaml", "rows.jsonl:65"]) == 2
    assert "The run has no data set yet." in capsys.readouterr().err
    assert not list((tmp_path / "runs/store").glob("curate/*"))
    assert cli.main(["curate", "config.yaml"]) == 0
    capsys.readouterr()
    assert cli.main(["explain", "config.yaml", "rows.jsonl:65"]) == 0
    assert "could not be read" in capsys.readouterr().out
