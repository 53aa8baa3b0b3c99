"""Fields beside the conversation that other tools go by: followed, refused or reported, and never passed over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.curate.conftest import kept_rows, pairs, read_jsonl, request, write_jsonl
from tunelift.config.curation import SourceConfig, SplitConfig
from tunelift.errors import UserError
from tunelift.stages.curate.other_fields import RULES, judge, watched
from tunelift.stages.curate.reasons import meaning, remedy
from tunelift.stages.curate.rows import ShapeError

Run = Callable[..., dict[str, Any]]
WIDE = {"validation": 0.3, "test": 0.3}
ALL = frozenset(RULES)


def row(number: int, **more: Any) -> dict[str, Any]:
    return {"prompt": request(number), "completion": f"Reply {number}", **more}


def said(value: dict[str, Any]) -> tuple[str | None, list[str]]:
    """The reason for leaving the row out, and its flags."""
    fault, flags = judge(value, ALL, [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}])
    return (fault.reason if fault else None), list(flags)


@pytest.mark.parametrize(
    "value",
    [
        *({"label": value} for value in (False, "false", "False")),
        *({field: value} for field in ("kto_tag", "is_correct", "weight") for value in (False, 0, 0.0, "False")),
    ],
)
def test_a_reply_that_the_row_calls_wrong_is_left_out(value: dict[str, Any]) -> None:
    assert said(value) == ("undesirable", [])


@pytest.mark.parametrize(
    "value",
    [
        *({"label": value} for value in (True, "true", "positive", "", None)),
        *({"kto_tag": value} for value in (True, 1, "1", None, "", float("nan"))),
        *({"images": value} for value in (None, [], "", "[]", [None], {"bytes": None, "path": None})),
        *({"mask_history": value} for value in (False, None, "false")),
        {"train_on_inputs": False},
        *({"weight": value} for value in (1, 1.0, None)),
        {"chosen": None},
        {"name": 7},
    ],
)
def test_what_speaks_for_a_row_or_says_nothing_leaves_it_alone(value: dict[str, Any]) -> None:
    assert said(value) == (None, [])


@pytest.mark.parametrize(
    "value",
    [{"rating": 1}, {"label": 0}, {"chosen": "a"}, {"rejected": "b"}, {"weight": 0.5}, {"weight": 2}, {"score": 0}],
)
def test_what_only_the_user_can_judge_is_flagged(value: dict[str, Any]) -> None:
    (field,) = value
    flag = f"not_followed_{field}"
    assert said(value) == (None, [flag])
    assert repr(field) in meaning(flag) and f"ignore_fields: [{field}]" in remedy(flag)


@pytest.mark.parametrize(
    ("value", "path", "reason"),
    [
        ({"images": ["a.jpg"]}, "$.images", "needs_media"),
        ({"image": {"bytes": b"\x89PNG", "path": None}}, "$.image", "needs_media"),
        ({"audios": "a.wav"}, "$.audios", "needs_media"),
        ({"mask_history": "some"}, "$.mask_history", "loss_not_followed"),
        ({"train_on_turns": [1]}, "$.train_on_turns", "loss_not_followed"),
        ({"assistant_masks": [0, 1, 1]}, "$.assistant_masks", "loss_not_followed"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(value: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(ShapeError) as caught:
        said(value)
    assert (caught.value.path, caught.value.reason) == (path, reason)


@given(st.sampled_from(sorted(RULES)), st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text()))
def test_any_value_of_any_such_field_has_an_outcome(field: str, value: Any) -> None:
    try:
        reason, flags = said({field: value})
    except ShapeError as error:
        assert error.path == f"$.{field}"  # noqa: PT017
    else:
        assert reason in (None, "undesirable") and len(flags) <= 1


def test_a_masked_history_leaves_the_last_turn_supervised(run: Run, tmp_path: Path) -> None:
    talk = {"instruction": "And now?", "output": "Half past", "history": [["When?", "At nine"], ["Sure?", "Yes"]]}
    rows = [talk | {"mask_history": True}, *(_alpaca(number) for number in range(30))]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), split=WIDE)
    assert stats["context"] == {"rows": 1, "turns": 2}
    (made,) = (one for source, one in kept_rows(tmp_path / "out").items() if source.endswith(":1"))
    assert [one.get("weight") for one in made["messages"]] == [None, 0, None, 0, None, None]


def _alpaca(number: int) -> dict[str, Any]:
    return {"instruction": request(number), "output": "Done."}


def test_rows_are_left_out_or_reported_with_their_field(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        *(row(number) for number in range(60)),
        row(60, label=False),
        row(61, images=["shelf.jpg"]),
        row(62, rating=1, chosen="other"),
        row(63, rating=5),
    ]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), split=WIDE)
    assert stats["rows"]["dropped"] == {"undesirable": 1}
    assert stats["rows"]["quarantined"] == {"needs_media": 1}
    assert stats["flagged"] == {"not_followed_rating": 2, "not_followed_chosen": 1}
    (dropped,) = read_jsonl(tmp_path / "out/dropped.jsonl")
    assert dropped["evidence"] == {"field": "label", "value": False}
    (quarantined,) = read_jsonl(tmp_path / "out/quarantine.jsonl")
    assert (quarantined["line"], quarantined["path"]) == (62, "$.images")
    told = capsys.readouterr().err
    assert "2 rows hold 'rating', and are supervised whatever it says" in told
    assert "not_followed_rating 2" in (tmp_path / "out/README.md").read_text()
    flags = {source.rpartition(":")[2]: one.get("flags") for source, one in kept_rows(tmp_path / "out").items()}
    assert flags["63"] == ["not_followed_chosen", "not_followed_rating"] and flags["1"] is None


@pytest.mark.parametrize(
    ("source", "split"),
    [
        ({"fields": {"prompt": "text", "completion": "label"}}, {}),
        ({"fields": {"prompt": "text"}}, {"stratify_by": "label"}),
        ({"fields": {"prompt": "text"}, "ignore_fields": ["label"]}, {}),
    ],
)
def test_a_field_that_the_config_reads_or_ignores_is_left_alone(
    run: Run, tmp_path: Path, source: dict[str, Any], split: dict[str, Any]
) -> None:
    rows = [{"text": request(number), "completion": "Done.", "label": number % 2 == 0} for number in range(60)]
    path = str(write_jsonl(tmp_path / "a.jsonl", rows))
    stats = run({"path": path, **source}, split={**WIDE, **split})
    assert stats["rows"]["kept"] == 60 and stats["flagged"] == {}


def test_labels_of_a_csv_are_texts_and_mean_the_same(run: Run, tmp_path: Path) -> None:
    lines = [f"{request(number)},Reply {number},{number != 3},[]" for number in range(40)]
    (tmp_path / "a.csv").write_text("prompt,completion,label,images\n" + "\n".join(lines) + "\n")
    stats = run(tmp_path / "a.csv", split=WIDE)
    assert stats["rows"]["dropped"] == {"undesirable": 1} and stats["rows"]["quarantined"] == {}


def test_ignore_fields_takes_only_fields_that_are_looked_at() -> None:
    with pytest.raises(UserError, match="ignore_fields names 'raiting'") as caught:
        watched(SourceConfig(path="a.jsonl", ignore_fields=("raiting",)), SplitConfig())
    assert "rating" in caught.value.remedy


def test_pictures_of_a_message_are_told_by_its_path(run: Run, tmp_path: Path) -> None:
    rows = pairs(30)
    rows[4]["messages"][0]["images"] = ["shelf.jpg"]
    rows[5]["messages"][0]["images"] = []
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), split=WIDE)
    assert stats["rows"]["quarantined"] == {"needs_media": 1}
    (entry,) = read_jsonl(tmp_path / "out/quarantine.jsonl")
    assert entry["path"] == "$.messages[0].images"


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("<image>How many cups stand there?", ["media_placeholder"]),
        ("Listen: <audio>", ["media_placeholder"]),
        ("What does `<image>` mean?", []),
        ("Why does <video>a</video> not play?", []),
        ('<audio src="a.ogg"></audio>', []),
        ("1 < 2 and <b>bold</b>", []),
    ],
)
def test_a_mark_for_a_picture_without_one_is_reported(text: str, flags: list[str]) -> None:
    assert judge({}, ALL, [{"role": "user", "content": text}, {"role": "assistant", "content": "<image>"}]) == (
        None,
        tuple(flags),
    )
