"""The account of a curation: the sentence, the funnel, and the data set card."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.stages.curate.curated import make_curated
from tunelift.config.curation import CurateConfig
from tunelift.stages.curate.card import data_set_card, funnel, verdict
from tunelift.stages.curate.decisions import decisions


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return make_curated(tmp_path_factory.mktemp("curated"))


def config(**options: Any) -> CurateConfig:
    return CurateConfig.model_validate({"sources": [{"path": "a.jsonl"}], **options})


def front(config: CurateConfig, stats: dict[str, Any]) -> dict[str, Any]:
    return yaml.safe_load(data_set_card(config, stats, {"a.jsonl": "f" * 64}, "c0ffee", 512, 17).split("---")[1])


def test_the_sentence_says_what_is_kept_and_what_leaks(stats: dict[str, Any]) -> None:
    assert verdict(stats) == (
        f"160 of {stats['rows']['read']} rows are kept; no pair of rows above 0.6 similarity lies in two splits; "
        "no validation or test prompt is asked in another split, leaving out 12% of the words of prompts, which more "
        "than a tenth of the rows share; 16% of the items of tool_calls_heldout stood in the rows that could be read "
        "and none is left"
    )
    leaking = stats | {"leakage": stats["leakage"] | {"pairs": 2}, "contaminated_items": {}}
    assert "rows are kept; 2 pairs of rows above 0.6 similarity lie in two splits; no val" in verdict(leaking)
    asked = stats["leakage"]["prompts"] | {"held_out": 16, "in_other_split": {"validation": 1, "test": 4}}
    reported = leaking | {"leakage": stats["leakage"] | {"prompts": asked}}
    assert verdict(reported).endswith(
        "; 5 of 16 validation and test prompts are asked in another split, leaving out 12% of the words of prompts, "
        "which more than a tenth of the rows share"
    )
    few = stats | {"leakage": stats["leakage"] | {"prompts": stats["leakage"]["prompts"] | {"boilerplate": 0.1}}}
    assert "no validation or test prompt is asked in another split; 16%" in verdict(few)
    clean = stats | {"contaminated_items": {"golden": {"items": 60, "found": 0}}}
    assert verdict(clean).endswith("; no evaluation item stood in the rows that could be read")
    all_read = clean | {"rows": stats["rows"] | {"quarantined": {}}}
    assert verdict(all_read).endswith("; no evaluation item stood in the rows read")


@pytest.mark.parametrize(
    ("validation", "test", "told"),
    [
        ((8, 8), (30, 30), []),
        ((1, 1), (30, 30), ["validation has 1 row, so its loss says little, and no step or prompt can be chosen"]),
        ((9, 3), (30, 30), ["validation has 9 rows in 3 groups"]),
        ((8, 8), (1, 1), ["test has 1 row, and as a task can show no difference at all"]),
        ((8, 8), (30, 12), ["test has 30 rows in 12 groups, and as a task can show only differences above 44 points"]),
        ((8, 8), (0, 0), []),
        ((2, 1), (1, 1), ["validation has 2 rows in 1 group,", "test has 1 row,"]),
    ],
)
def test_what_few_held_out_rows_are_worth_is_told(
    validation: tuple[int, int], test: tuple[int, int], told: list[str], stats: dict[str, Any]
) -> None:
    held = {"validation": validation, "test": test}
    splits = {split: stats["splits"][split] | {"rows": rows} for split, (rows, _) in held.items()}
    apart = {split: groups for split, (_, groups) in held.items()}
    few = stats | {"splits": stats["splits"] | splits, "groups": stats["groups"] | {"in_split": apart}}
    lines = [line for line in funnel(few) if "few rows" in line]
    assert len(lines) == len(told) and all(text in line for text, line in zip(told, lines, strict=True))
    card = data_set_card(config(), few, {}, "c0ffee", 512, 17)
    assert all(text in card for text in told)


def test_the_funnel_adds_up_and_tells_every_finding(stats: dict[str, Any]) -> None:
    lines = funnel(stats)
    counts = {
        line[:36].strip(): int(line[36:46].replace(",", ""))
        for line in lines
        if re.fullmatch(r" +-?[\d,]+", line[36:46])
    }
    lost = sum(count for name, count in counts.items() if name.startswith(("dropped", "quarantined")))
    assert counts["rows read"] + lost == counts["rows kept"] == 160
    text = "\n".join(lines)
    for finding in (
        "edited: unicode in 3 rows, email in 3 rows",
        "flagged, kept: refusal 1",
        "personal data: email 3 in 3 rows (redact), secret 9 in",
        "near duplicates: 3 clusters, the largest of 4 rows; 1 pairs kept",
        "conflicts: 1 prompts with several answers, 2 rows",
        "contamination: 16.0% of the items of tool_calls_heldout",
        "leakage: 0 pairs of rows above 0.6 similarity lie in two splits (812 pairs compared, 3 rows moved)",
        (
            "prompts: 0 of 16 held-out ones are asked in another split (over 50% of their words; 2 rows moved, 0 "
            "dropped), leaving out 12% of the words of prompts, which more than a tenth of the rows share"
        ),
        "nearly asked: 25.0% of 8 held-out prompts have a training prompt with over 50% of their words, in runs of 3",
    ):
        assert finding in text, finding
    nothing = {key: {} for key in ("edited", "flagged", "pii", "contamination")}
    plain = stats | nothing | {"duplicates": dict.fromkeys(stats["duplicates"], 0), "conflicts": {"prompts": 0}}
    assert not [line for line in funnel(plain) if "edited" in line or "near dup" in line or "conflicts" in line]


@pytest.mark.parametrize(("rows", "category"), [(999, "n<1K"), (1000, "1K<n<10K"), (12_345_678, "10M<n<100M")])
def test_size_categories_are_the_hubs(stats: dict[str, Any], rows: int, category: str) -> None:
    many = stats | {"rows": stats["rows"] | {"kept": rows}}
    assert front(config(), many)["size_categories"] == [category]


@pytest.mark.parametrize(
    ("licences", "licence", "name", "says"),
    [
        (("Apache-2.0", "apache-2.0"), "apache-2.0", None, "Licence of all sources: apache-2.0."),
        (("mit", "cc-by-4.0"), "other", "cc-by-4.0, mit", "| b.jsonl | unknown | cc-by-4.0 |"),
        (("mit", None), "unknown", None, "The licence of `b.jsonl` is not stated"),
    ],
    ids=str,
)
def test_a_licence_is_stated_only_where_every_source_states_it(
    stats: dict[str, Any], licences: tuple[str | None, ...], licence: str, name: str | None, says: str
) -> None:
    sources = [{"path": path, "licence": one} for path, one in zip(("a.jsonl", "b.jsonl"), licences, strict=True)]
    card = data_set_card(config(sources=sources), stats, {"a.jsonl": "f" * 64}, "c0ffee", 512, 17)
    told = yaml.safe_load(card.split("---")[1])
    assert (told["license"], told.get("license_name")) == (licence, name)
    assert says in card and "c0ffee" in card and "f" * 64 in card


def test_a_licence_changes_no_row_and_so_no_fingerprint() -> None:
    stated = config(sources=[{"path": "a.jsonl", "licence": "mit"}])
    assert stated.identity() == config().identity()


def test_languages_and_counts_stand_in_the_front_matter(stats: dict[str, Any]) -> None:
    told = front(config(clean={"languages": ["en", "de"]}), stats)
    assert told["language"] == ["en", "de"] and "language" not in front(config(), stats)
    counts = {split["name"]: split["num_examples"] for split in told["dataset_info"]["splits"]}
    assert counts == {split: stats["splits"][split]["rows"] for split in ("train", "validation", "test")}


def test_the_hubs_loader_takes_the_folder_by_its_card(tmp_path: Path) -> None:
    from datasets import load_dataset

    out = tmp_path / "out"
    stats = make_curated(out, rows=40)
    (out / "README.md").write_text(data_set_card(config(), stats, {}, "c0ffee", 512, 17))
    loaded = load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {
        split: counts["rows"] for split, counts in stats["splits"].items()
    }


CHANGES: dict[str, tuple[Any, str]] = {
    "max_rows": (50, "Only the first 50 rows were read."),
    "sources": ([{"path": "a", "system": "Be brief.", "fields": {"prompt": "q"}}], "other names: q as prompt."),
    "clean.unicode": (False, ""),
    "clean.whitespace": (False, ""),
    "clean.refusals": ("report", "refuse or speak as an AI model stay and are listed as flagged"),
    "clean.cut_off": ("off", ""),
    "clean.languages": (["en"], "Rows in other languages than en are dropped"),
    "clean.min_reply_words": (3, "fewer than 3 words"),
    "clean.max_reply_words": (900, "more than 900 words"),
    "clean.reply_schema": ("s.json", "JSON Schema `s.json`"),
    "pii.email": ("redact", "placeholder, the same for equal values in a conversation: e-mail addresses, payment"),
    "pii.secret": ("drop", "Rows are dropped for keys, tokens and passwords."),
    "pii.ip": ("off", "Not looked for: public IP addresses."),
    "duplicates.near": ("report", "they stay and are listed"),
    "duplicates.on": ("prompt", "word 3-grams of what the user wrote overlap"),
    "duplicates.threshold": (0.8, "overlap by 0.8 or more"),
    "duplicates.keep_values": (False, ""),
    "keep_rows": (9000, "at most 9,000 are kept"),
    "keep_tokens": (10**6, "at most 1,000,000 tokens are kept"),
    "min_reply_tokens": (4, "fewer than 4 supervised tokens"),
    "contamination_ngram": (10, "word 10-grams"),
    "contamination_overlap": (0.3, "more than 30% of the words"),
    "split.test": (0.04, "4% of the groups to test"),
    "split.validation": (0.06, "6% to validation"),
    "split.group_by": ("phrasing", "a hash of the field `phrasing`"),
    "split.stratify_by": ("label", "values of the field `label` in like shares"),
    "split.max_group_ratio": (0.5, "more than 50% of the rows"),
}  # fmt: skip


@pytest.mark.parametrize("key", CHANGES)
def test_each_rule_in_force_is_told(key: str) -> None:
    """A rule that is set otherwise reads otherwise; one that is off is not told."""
    value, says = CHANGES[key]
    section, _, name = key.rpartition(".")
    changed = decisions(config(**({section: {name: value}} if section else {name: value})), 512, 17)
    assert changed != decisions(config(), 512, 17)
    assert says in "\n".join(changed), json.dumps(changed, indent=1)


def test_weights_are_told() -> None:
    sources = [{"path": "a", "weight": 3}, {"path": "b", "weight": 1}]
    assert any("`a` 3, `b` 1" in rule for rule in decisions(config(sources=sources), 512, 17))
