"""Labelled items: what is wrong with one is told with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.stages.judge.bench import answers, config, pairs, write_lines
from tunelift.artifacts.provenance import FileHashes
from tunelift.artifacts.records import file_sha256
from tunelift.errors import UserError
from tunelift.stages.judge.labels import calibration_fingerprint, read_labels

GOOD = {"id": "x", "request": "q", "output": "o", "good": True}
PAIR = {"id": "x", "request": "q", "a": "1", "b": "2", "better": "tie"}


def test_both_kinds_are_read_in_order(tmp_path: Path) -> None:
    rows = answers(2, 1, arm="tuned") + pairs(1, 1)
    rows[0]["accepted"] = [{"n": 1}, "one"]
    labels = read_labels(write_lines(tmp_path / "l.jsonl", rows))
    assert [item.id for item in labels.answers] == ["good0", "good1", "bad0"]
    assert [(item.label, item.arm) for item in labels.answers] == [("good", "tuned")] * 2 + [("bad", "tuned")]
    assert labels.answers[0].accepted == ({"n": 1}, "one")
    assert [(item.id, item.better) for item in labels.pairs] == [("p0", "b"), ("t0", "tie")]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "no JSON"),
        ("[1]", "no JSON object"),
        (json.dumps({**GOOD, "good": "yes"}), "good='yes'"),
        (json.dumps({**GOOD, "good": 1}), "good=1"),
        (json.dumps({**GOOD, "id": 7}), "id=7"),
        (json.dumps({**GOOD, "god": True}), "no key `god`"),
        (json.dumps({"id": "x", "request": "q", "output": "o"}), "key `good` is missing"),
        (json.dumps({**PAIR, "better": "c"}), "better='c'"),
        (json.dumps({"id": "x", "request": "q", "a": "1", "b": "2"}), "key `better` is missing"),
        (json.dumps({"id": "x", "request": "q", "a": "1", "better": "a"}), "key `b` is missing"),
        (json.dumps({**GOOD, "id": "first"}), "stands on line 1 already"),
        ('{"id": "x", "request": "q", "output": "\\ud800", "good": true}', "no JSON"),
    ],
)
def test_a_wrong_line_is_told_with_its_number(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "l.jsonl"
    path.write_text(json.dumps({**GOOD, "id": "first"}) + "\n\n" + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        read_labels(path)
    assert caught.value.where == f"{path}:3"
    assert "docs/judging.md" in caught.value.remedy or "id of its own" in caught.value.remedy


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "none.jsonl"
    for reading in (
        lambda: read_labels(path),
        lambda: calibration_fingerprint(config(path), FileHashes(tmp_path / "hashes.json")),
    ):
        with pytest.raises(UserError, match="missing") as caught:
            reading()
        assert caught.value.where == str(path)


def test_the_fingerprint_is_the_files_hash(labelled: Path, tmp_path: Path) -> None:
    assert calibration_fingerprint(config(labelled), FileHashes(tmp_path / "h.json")) == file_sha256(labelled)
