"""What curation makes of the planted flaws: each is found for its reason, and nothing else is dropped."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from make_tool_calls import make
from tests.tiny import tiny_tokenizer
from tunelift.config.curation import CurateConfig
from tunelift.stages.curate import curate

SYSTEM = "Answer with one JSON tool call."
LONGEST = 1000
"""In the tiny tokenizer's tokens: between the longest clean row and the shortest pasted mail thread."""
VARIANTS = {"main": 50, "tests": 11}
"""Each kind of flaw in two shapes; the seed of the second is its own."""
GREETED_TWICE = 2
"""Of 1,720 clean rows so many may be near duplicates by chance: the generator puts the same opener before one twice."""
Place = tuple[str, int]


class Curated:
    """The data of one variant, and the files of its curation."""

    def __init__(self, folder: Path, variant: str) -> None:
        make(folder, VARIANTS[variant], variant)
        self.out = folder / "out"
        self.out.mkdir()
        tiny_tokenizer().save_pretrained(folder / "tokenizer")
        raw = folder / "data" / "tool_calls" / "raw"
        items = (folder / "evals" / "tool_calls_heldout" / "items.jsonl").read_text(encoding="utf-8").splitlines()
        sources = [{"path": str(file), "system": SYSTEM} for file in sorted(raw.iterdir())]
        curate(
            CurateConfig.model_validate({"sources": sources, "split": {"group_by": "phrasing"}}),
            tokenizer_folder=folder / "tokenizer",
            max_length=LONGEST,
            max_truncated_ratio=1,
            questions={"heldout": [json.loads(line)["request"] for line in items]},
            seed=17,
            out=self.out,
        )
        self.truth: dict[str, Any] = json.loads((raw.parent / "truth.json").read_text(encoding="utf-8"))
        self.stats: dict[str, Any] = json.loads((self.out / "stats.json").read_text())
        self.kept = {_place(row["source"]): row for split in self.stats["splits"] for row in self.read(split)}
        self.reasons = {_place(row["source"]): row["reason"] for row in self.read("dropped")}
        self.reasons |= {(Path(row["file"]).name, row["line"]): row["reason"] for row in self.read("quarantine")}

    def read(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def _place(source: str) -> Place:
    file, line = source.rsplit(":", 1)
    return Path(file).name, int(line)


@pytest.fixture(scope="module", params=list(VARIANTS))
def curated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Curated:
    return Curated(tmp_path_factory.mktemp(request.param), request.param)


def test_every_planted_flaw_is_found_for_its_reason(curated: Curated) -> None:
    wrong = [
        (flaw, curated.reasons.get((flaw["file"], flaw["line"]), "kept"))
        for flaw in curated.truth["flaws"]
        if curated.reasons.get((flaw["file"], flaw["line"])) != flaw["reason"]
    ]
    assert wrong == []
    assert Counter(flaw["outcome"] for flaw in curated.truth["flaws"])["dropped"] >= 160


def test_nothing_else_is_dropped(curated: Curated) -> None:
    planted = {(flaw["file"], flaw["line"]) for flaw in curated.truth["flaws"]}
    others = {place: reason for place, reason in curated.reasons.items() if place not in planted}
    assert set(others.values()) <= {"near_duplicate"}, others
    assert len(others) <= GREETED_TWICE, others


def test_what_is_kept_with_a_flaw_is_listed(curated: Curated) -> None:
    pii = {(_place(row["source"]), row["kind"]) for row in curated.read("pii")}
    conflicting = {_place(row["source"]) for line in curated.read("conflicts") for row in line["rows"]}
    noted = Counter()  # type: ignore[var-annotated]
    for flaw in curated.truth["flaws"]:
        place = flaw["file"], flaw["line"]
        if flaw.get("noted") == "conflict":
            assert place in conflicting, flaw
            assert (flaw["twin"]["file"], flaw["twin"]["line"]) in conflicting, flaw
        elif "noted" in flaw:
            assert (place, flaw["noted"]) in pii, flaw
        noted[flaw.get("noted")] += 1
    assert noted["conflict"] == 16
    assert len(conflicting) == 2 * noted["conflict"]
    assert Counter(kind for _, kind in pii) == {"email": noted["email"], "secret": noted["secret"]}


def test_secrets_are_gone_and_the_reply_agrees_with_the_request(curated: Curated) -> None:
    for flaw in curated.truth["flaws"]:
        if flaw.get("noted") != "secret":
            continue
        row = curated.kept[flaw["file"], flaw["line"]]
        user, reply = row["messages"][1]["content"], row["messages"][2]["content"]
        assert row["edits"] == ["secret"]
        assert "[SECRET_1]" in user
        assert "[SECRET_1]" in json.dumps(json.loads(reply))
        assert "EXAMPLE" not in user + reply


def test_the_splits_hold_no_pair_of_alike_rows(curated: Curated) -> None:
    assert curated.stats["leakage"]["pairs"] == 0
    groups: dict[str, set[str]] = {}
    for split in curated.stats["splits"]:
        for row in curated.read(split):
            groups.setdefault(row["group"], set()).add(split)
    assert {len(splits) for splits in groups.values()} == {1}
