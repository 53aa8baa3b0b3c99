"""The stage as a whole: the account of rows, the files, the same bytes twice, and what a user hears when it fails."""

from __future__ import annotations

import contextlib
import errno
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stages.curate.conftest import kept_rows, pair, pairs, read_jsonl, request, write_jsonl
from tests.tiny import CHATML, tiny_tokenizer
from tests.wording import own_words
from tunelift.artifacts.records import file_sha256
from tunelift.errors import MachineError, UserError
from tunelift.runtime import worker
from tunelift.runtime.encoded import read_encoded
from tunelift.stages.curate import stage as stage_module
from tunelift.stages.curate.examine import Chunk, Examiner
from tunelift.stages.curate.passed import Passed
from tunelift.stages.curate.write import CountError, Ledger

WIDE = {"validation": 0.49}
"""For few rows: no split stays empty."""
FILES = (
    "train.jsonl",
    "validation.jsonl",
    "test.jsonl",
    "dropped.jsonl",
    "quarantine.jsonl",
    "duplicates.jsonl",
    "conflicts.jsonl",
    "pii.jsonl",
    "edits.jsonl",
    "stats.json",
    "README.md",
    "curation.html",
)


def test_sources_of_all_formats_become_one_data_set(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Dataset

    (tmp_path / "a.json").write_text(
        json.dumps([{"instruction": f"Add {own_words(n)}", "output": "Done."} for n in range(30)])
    )
    (tmp_path / "b.csv").write_text(
        "prompt,completion\n" + "".join(f"Say {own_words(n + 30)},{n}\n" for n in range(30))
    )
    talk = [
        {"conversations": [{"from": "human", "value": f"Talk {own_words(n + 60)}"}, {"from": "gpt", "value": "Yes."}]}
        for n in range(30)
    ]
    pq.write_table(pa.Table.from_pylist(talk), tmp_path / "c.parquet")
    Dataset.from_list(pairs(30)).save_to_disk(str(tmp_path / "saved"))
    sources = [
        {"path": str(tmp_path / "a.json"), "system": "Be brief."},
        tmp_path / "b.csv",
        tmp_path / "c.parquet",
        tmp_path / "saved",
    ]
    stats = run(*sources)
    assert {Path(file).name: counts["format"] for file, counts in stats["sources"].items()} == {
        "a.json": "alpaca",
        "b.csv": "prompt_completion",
        "c.parquet": "sharegpt",
        "saved": "messages",
    }
    assert stats["rows"] == {"read": 120, "kept": 120, "dropped": {}, "quarantined": {}}
    assert "b.csv: prompt_completion (30 of the first 30 rows)" in capsys.readouterr().err
    kept = kept_rows(tmp_path / "out")
    assert len({row["id"] for row in kept.values()}) == 120
    assert kept[f"{tmp_path}/a.json:1"]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert kept[f"{tmp_path}/saved:30"]["messages"][0]["content"] == request(29)


def test_each_row_ends_in_one_place_with_its_reason(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    long = pair("word " * 600)
    rows = [
        *pairs(40),
        pair(request(3).replace("3", " 3")),
        pair("Hi", ""),
        long,
        "{half",
        {"messages": [{"role": "asst", "content": "x"}]},
    ]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows))
    assert stats["rows"] == {
        "read": 45,
        "kept": 40,
        "dropped": {"empty_reply": 1, "exact_duplicate": 1, "too_long": 1},
        "quarantined": {"invalid_json": 1, "unknown_role": 1},
    }
    file = str(tmp_path / "a.jsonl")
    dropped = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert [row["reason"] for row in dropped] == ["empty_reply", "too_long", "exact_duplicate"]
    assert dropped[2] == {
        "source": f"{file}:41",
        "reason": "exact_duplicate",
        "evidence": {"duplicate_of": f"{file}:4"},
        "row": pair(request(3).replace("3", " 3")),
    }
    half, role = read_jsonl(tmp_path / "out" / "quarantine.jsonl")
    assert half["raw"] == "{half"
    assert role == {
        "file": file,
        "line": 45,
        "path": "$.messages[0].role",
        "reason": "unknown_role",
        "detail": "unknown role 'asst'",
        "raw": json.dumps(rows[-1]),
    }


def test_nulls_that_parquet_hides_in_arguments_are_warned_of(
    run,  # type: ignore[no-untyped-def]
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    shows = CHATML.replace(
        "+ '<|im_end|>'", "+ (message.tool_calls | tojson if message.tool_calls else '') + '<|im_end|>'"
    )
    calling = pair("Delete the label.")
    calling["messages"][1]["tool_calls"] = [{"function": {"name": "set", "arguments": {"label": None, "at": 1}}}]
    pq.write_table(pa.Table.from_pylist([*pairs(30), calling]), tmp_path / "a.parquet")
    stats = run(tmp_path / "a.parquet", template=shows)
    assert stats["edited"] == {"nulls": 1}
    assert "nulls were left out of tool calls' arguments in 1 rows" in capsys.readouterr().err
    row = kept_rows(tmp_path / "out")[f"{tmp_path / 'a.parquet'}:31"]
    assert row["edits"] == ["nulls"]


def test_splits_hold_messages_counts_and_lineage(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tools = [{"type": "function", "function": {"name": "x"}}]
    shows = "{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML
    stats = run(write_jsonl(tmp_path / "a.jsonl", [*pairs(60), {**pair("With tools"), "tools": tools}]), template=shows)
    kept = kept_rows(tmp_path / "out")
    row = kept[f"{tmp_path}/a.jsonl:1"]
    assert set(row) == {
        "id",
        "messages",
        "source",
        "group",
        "cluster",
        "tokens",
        "supervised_tokens",
        "training_rows",
        "split",
    }
    assert [tool["function"]["name"] for tool in kept[f"{tmp_path}/a.jsonl:61"]["tools"]] == ["x"]
    for split, counts in stats["splits"].items():
        rows = [row for row in kept.values() if row["split"] == split]
        assert counts == {
            "rows": len(rows),
            "tokens": sum(row["tokens"] for row in rows),
            "supervised_tokens": sum(row["supervised_tokens"] for row in rows),
            "training_rows": len(rows),
        }
        assert stats["lengths"][split]["tokens"]["max"] == max(row["tokens"] for row in rows)
    lines = [int(row["source"].rsplit(":", 1)[1]) for row in read_jsonl(tmp_path / "out" / "train.jsonl")]
    assert lines == sorted(lines), "rows stand in reading order"


def test_what_is_redacted_in_the_tools_definitions_stands_only_in_the_raw_row(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tools = [{"type": "function", "function": {"name": "mail", "description": "Writes to ann@b.de."}}]
    shows = "{% if tools %}{{ tools | tojson }}{% endif %}" + CHATML
    source = write_jsonl(tmp_path / "a.jsonl", [*pairs(60), {**pair("With tools"), "tools": tools}])
    run(source, template=shows, pii={"email": "redact"})
    out = tmp_path / "out"
    assert [path.name for path in out.iterdir() if path.is_file() and b"ann@b.de" in path.read_bytes()] == []
    assert "Writes to [EMAIL_1]." in "".join(
        (out / f"{split}.jsonl").read_text() for split in ("train", "validation", "test")
    )
    assert '"message":null' in (out / "pii.jsonl").read_text()
    assert "tools</span>" in (out / "curation.html").read_text()


def test_the_funnel_is_printed(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    rows = [*pairs(40), pair("Hi", "")]
    run(write_jsonl(tmp_path / "a.jsonl", rows), questions={"golden": ["Where is my bicycle?"]})
    shown = capsys.readouterr().err
    for piece in (
        "rows read",
        "dropped: empty_reply",
        "-1   1 supervised tokens\n",
        "supervised",
        "0.0% of the items of golden",
    ):
        assert piece in shown, shown


def test_tools_that_the_template_does_not_show_fail_the_curation(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tools = [{"type": "function", "function": {"name": "make_coffee"}}]
    source = write_jsonl(tmp_path / "a.jsonl", [*pairs(40), {**pair("With tools"), "tools": tools}])
    with pytest.raises(UserError, match="1 of 41 rows use tools") as caught:
        run(source)
    assert f"template_ignores_tools: 1 rows, first {source}:41" in caught.value.message
    assert "dropped.jsonl" in caught.value.remedy


def test_rows_of_each_turn_are_counted_and_the_account_stays_one_of_data_set_rows(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A template that marks the last reply makes a training row of each turn."""
    last = CHATML.replace("message['content'] +", "('!' if loop.last else '') + message['content'] +")
    rows = [{"messages": pair(request(n))["messages"] + pair(f"And {n}?")["messages"]} for n in range(60)]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), template=last)
    assert stats["rows"] == {"read": 60, "kept": 60, "dropped": {}, "quarantined": {}}
    folder, made = tmp_path / "out", tiny_tokenizer()
    made.chat_template = last
    for split, counts in stats["splits"].items():
        encoded = read_encoded(made, folder, split)
        assert counts["training_rows"] == len(encoded) == 2 * counts["rows"]
        assert counts["tokens"] == sum(map(len, encoded))
        assert counts["supervised_tokens"] == sum(row.rendered.supervised_tokens for row in encoded)
        assert stats["lengths"][split]["tokens"]["max"] == max(map(len, encoded))
        names = [row["id"] for row in read_jsonl(folder / f"{split}.jsonl")]
        assert [row.id for row in encoded] == [f"{name}#{number}" for name in names for number in (1, 2)]


def test_the_card_is_a_hub_card_with_sources_counts_and_decisions(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", pairs(60))
    run(source)
    card = (tmp_path / "out" / "README.md").read_text()
    front = yaml.safe_load(card.split("---")[1])
    assert front["license"] == "unknown"
    assert front["size_categories"] == ["n<1K"]
    assert [file["split"] for file in front["configs"][0]["data_files"]] == ["train", "validation", "test"]
    assert file_sha256(source) in card
    assert "seed 17: 10% of the groups to test" in card


GOOD, BROKEN = (
    st.integers(0, 15).map(lambda number: pair(request(number))),
    st.sampled_from(
        [
            b'{"half": ',
            b"\xff\xfe\xfd",
            b"[]",
            b"null",
            b'{"messages": 3}',
            b'{"messages": []}',
            b"{}",
            b'{"messages": [{"role": "user", "content": ""}]}',
        ]
    ),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mixed=st.lists(GOOD | BROKEN, max_size=30))
def test_any_mix_of_good_and_broken_lines_adds_up(run, tmp_path: Path, mixed: list) -> None:  # type: ignore[no-untyped-def]
    rows = [pair("Always there"), *mixed]
    out = tmp_path / "out"
    source, stats = write_jsonl(tmp_path / "a.jsonl", rows), None
    with contextlib.suppress(UserError):  # An empty split, from few rows.
        stats = run(source, max_quarantine_ratio=1, split={"validation": 0.49, "test": 0.4})
    written = {
        name: read_jsonl(out / f"{name}.jsonl") for name in ("train", "validation", "test", "dropped", "quarantine")
    }
    assert sum(map(len, written.values())) == len(rows)
    places = [row.get("source") or f"{row['file']}:{row['line']}" for entries in written.values() for row in entries]
    assert sorted(places) == sorted(f"{tmp_path}/a.jsonl:{line}" for line in range(1, len(rows) + 1))
    if stats:
        counts = stats["rows"]
        assert (
            counts["read"]
            == counts["kept"] + sum(counts["dropped"].values()) + sum(counts["quarantined"].values())
            == len(rows)
        )


def _lose(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Examiner.__call__

    def without_one(self: Examiner, chunk: Chunk) -> Any:
        source, rows = honest(self, chunk)
        return source, [row for row in rows if row.line != 7]

    monkeypatch.setattr(Examiner, "__call__", without_one)


def _repeat(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Ledger.keep

    def twice(self: Ledger, split: str, file: str, entry: bytes, lengths: list[tuple[int, int]]) -> None:
        for _ in range(2 if b'a.jsonl:7"' in entry else 1):
            honest(self, split, file, entry, lengths)

    monkeypatch.setattr(Ledger, "keep", twice)


def _forget_to_write(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = Passed.line
    monkeypatch.setattr(Passed, "line", lambda self, row: b"" if row == 6 else honest(self, row))


def test_what_max_length_loses_is_counted_in_supervised_tokens(
    run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # type: ignore[no-untyped-def]
    rows = [*pairs(40), pair("word " * 600, "It is done."), pair("Hi", ""), pair(request(3))]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    stats = run(source, max_truncated_ratio=0.1)
    lost = stats["truncation"]
    kept = sum(split["supervised_tokens"] for split in stats["splits"].values())
    assert (lost["rows"], lost["max_length"]) == (1, 512)
    assert lost["ratio"] == pytest.approx(lost["supervised_tokens"] / (kept + lost["supervised_tokens"]), abs=1e-6)
    assert lost["ratio_by_max_length"][str(lost["longest_row"])] == 0
    evidence = read_jsonl(tmp_path / "out/dropped.jsonl")[0]["evidence"]
    assert evidence == {
        "tokens": lost["longest_row"],
        "limit": 512,
        "supervised_tokens": lost["supervised_tokens"],
    }
    same_reply = kept // 40
    assert stats["dropped_supervised_tokens"] == {
        "too_long": lost["supervised_tokens"],
        "exact_duplicate": same_reply,
        "empty_reply": 1,
    }
    assert "lost to train.max_length=512: 1 rows, " in capsys.readouterr().err
    whole = run(source, max_length=lost["longest_row"], max_truncated_ratio=0)
    assert whole["truncation"]["rows"] == 0
    assert sum(split["supervised_tokens"] for split in whole["splits"].values()) == kept + lost["supervised_tokens"]


def test_more_lost_to_max_length_than_allowed_fails_with_the_rows(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", [*pairs(40), pair("word " * 600, "It is done.")])
    with pytest.raises(UserError, match=r"1 rows are longer than train\.max_length=512") as caught:
        run(source, max_truncated_ratio=0)
    assert f" {source}:41: " in caught.value.message
    assert f"All of them are in {tmp_path / 'out/dropped.jsonl'}." in caught.value.remedy
    assert read_jsonl(tmp_path / "out/dropped.jsonl")[0]["reason"] == "too_long"


def _skip_in_deciding(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = stage_module.write

    def one_less(passed: Passed, decided: Any, account: Any, ledger: Ledger) -> None:
        account.files.pop(), account.places.pop()
        honest(passed, decided, account, ledger)

    monkeypatch.setattr(stage_module, "write", one_less)


@pytest.mark.parametrize("sabotage", [_lose, _repeat, _forget_to_write, _skip_in_deciding])
def test_a_row_lost_or_counted_twice_fails_the_stage(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sabotage
) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", pairs(40))
    sabotage(monkeypatch)
    with pytest.raises(CountError, match="40 rows read"):
        run(source)


def test_two_runs_give_the_same_bytes_and_leftovers_of_a_killed_run_do_not_matter(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", [*pairs(60), "{half", pair("Hi", "")])
    first, second = tmp_path / "first", tmp_path / "second"
    run(source, out=first)
    second.mkdir()
    for name in FILES:
        (second / name).write_text("left over\n" * 500)
    run(source, out=second)
    for name in FILES:
        assert (first / name).read_bytes() == (second / name).read_bytes(), name


def test_another_seed_gives_another_split_of_the_same_rows(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", pairs(60))
    run(source, out=tmp_path / "one", seed=1)
    run(source, out=tmp_path / "two", seed=2)
    one, two = kept_rows(tmp_path / "one"), kept_rows(tmp_path / "two")
    assert {row["id"] for row in one.values()} == {row["id"] for row in two.values()}
    assert any(one[place]["split"] != two[place]["split"] for place in one)


def test_max_rows_takes_the_first_rows_over_the_sources_in_order(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first, second = write_jsonl(tmp_path / "a.jsonl", pairs(30)), write_jsonl(tmp_path / "b.jsonl", pairs(30, 100))
    stats = run(first, second, max_rows=45, split=WIDE)
    assert [counts["read"] for counts in stats["sources"].values()] == [30, 15]
    assert list(run(first, second, max_rows=30, split=WIDE)["sources"]) == [str(first)]


def test_too_many_broken_rows_name_the_commonest_reasons_with_places(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", [*pairs(8), "{half", "{half", "[]"])
    with pytest.raises(UserError, match="3 of 11 rows cannot be read") as caught:
        run(source)
    assert f"invalid_json: 2 rows, first {source}:9" in caught.value.message
    assert f"not_an_object: 1 rows, first {source}:11" in caught.value.message
    assert "if the file is one JSON list, name it .json" in caught.value.remedy
    assert "quarantine.jsonl" in caught.value.remedy
    assert run(source, max_quarantine_ratio=0.3, split=WIDE)["rows"]["kept"] == 8


def test_broken_rows_are_told_before_what_the_others_have_in_common(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    alike = [pair(f"Before I go to bed tonight, please set a timer for {n} minutes and call it tea") for n in range(30)]
    with pytest.raises(UserError, match="20 of 50 rows cannot be read"):
        run(write_jsonl(tmp_path / "a.jsonl", [*alike, *["{half"] * 20]))


def test_an_empty_data_set_shows_the_funnel(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", [pair("Hi", ""), pair("Ho", "")])
    with pytest.raises(UserError, match="No row is left after curation") as caught:
        run(source)
    assert "dropped: empty_reply" in caught.value.message
    assert f"empty_reply: 2 rows, first {source}:1" in caught.value.message


def test_it_runs_in_a_worker_process_from_json_arguments(tokenizer_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    source = write_jsonl(tmp_path / "a.jsonl", pairs(60))
    details = worker.run_isolated(
        "tunelift.stages.curate:curate",
        {
            "config": {"sources": [{"path": str(source)}]},
            "tokenizer_folder": str(tokenizer_folder),
            "max_length": 64,
            "questions": {},
            "seed": 1,
            "out": str(tmp_path / "out"),
        },
        tmp_path / "log",
        needs_torch=False,
    )
    assert details["rows"] == {"read": 60, "kept": 60, "dropped": {}, "quarantined": {}}
    assert len(details["content"]) == 64
    assert all((tmp_path / "out" / name).is_file() for name in FILES)


def test_a_full_disk_is_the_machines_trouble(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Ledger, "keep", fail)
    with pytest.raises(MachineError, match="disk is full"):
        run(write_jsonl(tmp_path / "a.jsonl", pairs(40)))


def test_importing_the_stage_loads_no_heavy_library() -> None:
    heavy = "torch transformers datasets pyarrow huggingface_hub"
    code = f"import sys, tunelift.stages.curate; print([name for name in {heavy.split()} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
