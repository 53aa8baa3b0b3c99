"""The split: stable, grouped, and in the shares asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.stages.curate.conftest import kept_rows, pair, pairs, request, write_jsonl
from tests.wording import own_words
from tunelift.config.curation import SplitConfig
from tunelift.errors import UserError
from tunelift.stages.curate.split import split_of

COUNT = 10_000


def test_shares_are_as_configured() -> None:
    config = SplitConfig(validation=0.1, test=0.2)
    splits = [split_of(f"group {number}", config, 17) for number in range(COUNT)]
    # Binomial standard deviation at p=0.2 and n=10,000 is 40.
    assert splits.count("test") == pytest.approx(2000, abs=160)
    assert splits.count("validation") == pytest.approx(1000, abs=120)


def test_raising_the_validation_share_moves_rows_out_of_train_only() -> None:
    low, high = SplitConfig(validation=0.1, test=0.1), SplitConfig(validation=0.3, test=0.1)
    moves = {(split_of(str(number), low, 1), split_of(str(number), high, 1)) for number in range(COUNT)}
    assert moves == {("train", "train"), ("train", "validation"), ("validation", "validation"), ("test", "test")}


def test_adding_and_reordering_rows_moves_none(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def splits(name: str, rows: list[dict]) -> dict[str, str]:
        out = tmp_path / name
        run(write_jsonl(tmp_path / f"{name}.jsonl", rows), out=out)
        return {row["id"]: row["split"] for row in kept_rows(out).values()}

    few, more = splits("few", pairs(60)), splits("more", pairs(60, start=500) + pairs(60)[::-1])
    assert {row: more[row] for row in few} == few
    assert set(few.values()) == {"train", "validation", "test"}


def test_rows_with_one_request_share_a_split_and_so_do_rows_of_one_named_group(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = pairs(60) + [pair(request(number).replace(" ", "  "), "Another reply.") for number in range(60)]
    run(write_jsonl(tmp_path / "a.jsonl", rows))
    by_group: dict[str, set[str]] = {}
    for row in kept_rows(tmp_path / "out").values():
        by_group.setdefault(row["group"], set()).add(row["split"])
    assert len(by_group) == 60
    assert {len(splits) for splits in by_group.values()} == {1}

    named = [{**row, "topic": number % 30} for number, row in enumerate(rows)]
    run(write_jsonl(tmp_path / "b.jsonl", named), split={"group_by": "topic"})
    by_topic: dict[int, set[str]] = {}
    for place, row in kept_rows(tmp_path / "out").items():
        by_topic.setdefault((int(place.rsplit(":", 1)[1]) - 1) % 30, set()).add(row["split"])
    assert len(by_topic) == 30
    assert {len(splits) for splits in by_topic.values()} == {1}


def test_requests_that_cleaning_or_redaction_makes_equal_share_a_split(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    redacted = [pair(f"Tell u{number}@example.com about it", own_words(number, 12)) for number in range(12)]
    mended = [pair("Isn\u2019t it" + "\x00" * number, own_words(100 + number, 12)) for number in range(12)]
    rows = [*redacted, *mended, *pairs(60)]
    run(write_jsonl(tmp_path / "a.jsonl", rows), pii={"email": "redact"})
    by_request: dict[str, set[tuple[str, str]]] = {}
    for row in kept_rows(tmp_path / "out").values():
        by_request.setdefault(row["messages"][0]["content"], set()).add((row["group"], row["split"]))
    assert {"Tell [EMAIL_1] about it", "Isn\u2019t it"} <= by_request.keys()
    assert {len(places) for places in by_request.values()} == {1}


def test_a_row_without_the_group_field_is_quarantined(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [{**row, "topic": f"t{number}"} for number, row in enumerate(pairs(60))] + [
        pair("No topic"),
        {**pair("List"), "topic": []},
    ]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), split={"group_by": "topic"})
    assert stats["rows"]["quarantined"] == {"missing_field": 1, "wrong_type": 1}


@pytest.mark.parametrize(
    ("split", "name", "remedy"),
    [
        ({"validation": 1e-9}, "validation", "raise curate.split.validation"),
        ({"validation": 0.49, "test": 0.4}, "train", "lower curate.split"),
    ],
)
def test_an_empty_split_that_is_needed_says_what_to_change(
    run, tmp_path: Path, split: dict, name: str, remedy: str
) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UserError, match=f"The {name} split is empty") as caught:
        run(write_jsonl(tmp_path / "a.jsonl", pairs(60) if name == "validation" else [pair(VALIDATION)]), split=split)
    assert remedy in caught.value.remedy


def test_an_empty_split_of_a_set_that_was_mostly_dropped_shows_the_funnel_and_what_drops(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [pair(VALIDATION), *(pair(VALIDATION + more) for more in (" please", " now", ", thanks"))]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match="The train split is empty") as caught:
        run(source, split={"validation": 0.49, "test": 0.4})
    assert "dropped: near_duplicate" in caught.value.message
    assert f"near_duplicate: 3 rows, first {source}:2" in caught.value.message
    assert caught.value.remedy.startswith("To keep such rows: raise curate.duplicates.threshold")
    assert "Or add rows, lower curate.split.validation" in caught.value.remedy


VALIDATION = next(
    text
    for text in (f"Track the order {number}" for number in range(1000))
    if split_of(text, SplitConfig(validation=0.49, test=0.4), 17) == "validation"
)


def test_an_empty_test_split_is_a_warning(run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    run(write_jsonl(tmp_path / "a.jsonl", pairs(60)), split={"test": 1e-9})
    assert "warning: the test split is empty" in capsys.readouterr().err
    run(write_jsonl(tmp_path / "a.jsonl", pairs(60)), split={"test": 0})
    assert "warning" not in capsys.readouterr().err
