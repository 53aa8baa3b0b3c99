"""curation.html in a browser: it shows what the files hold, fits, keeps quiet, and runs nothing that a row holds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.stages.browsing import LOW_CONTRAST, Open, fits
from tests.stages.curate.curated import ALPACA, MESSAGES, make_curated
from tunelift.config.curation import CurateConfig
from tunelift.stages.curate.card import verdict
from tunelift.stages.curate.decisions import decisions
from tunelift.stages.curate.page import PAGE, funnel_steps, write_curation_page
from tunelift.stages.curate.samples import read_samples

EVIL = "<script>window.pwned = 1; alert(1)</script><img src=x onerror=alert(2)>\x07\x1b\u202e\u200b{{ 7*7 }}"
RULES = decisions(CurateConfig.model_validate({"sources": [{"path": MESSAGES}, {"path": ALPACA}]}), 256, 17)


def write(out: Path) -> Path:
    hashes = {MESSAGES: "f" * 64, ALPACA: "e" * 64}
    write_curation_page(out, name="quickstart", decisions=RULES, sources=hashes, content="c0ffee")
    return out / PAGE


@pytest.fixture(scope="module")
def stats(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    out = tmp_path_factory.mktemp("curated")
    return {**make_curated(out), "page": write(out), "out": out}


@pytest.fixture
def page(opened: Open, stats: dict[str, Any]) -> Any:
    return opened(stats["page"])


def open_all(page: Any) -> None:
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_its_text_is_legible(opened: Open, stats: dict[str, Any], width: int, scheme: str) -> None:
    page = opened(stats["page"], width, scheme)
    open_all(page)
    assert fits(page, width) == []
    assert page.evaluate(LOW_CONTRAST) == []


def test_the_first_sentence_is_the_finding(page: Any, stats: dict[str, Any]) -> None:
    assert page.locator("h1").inner_text().lower() == verdict(stats).lower() + "."


def test_what_words_are_left_out_of_account_is_told_if_there_are_any(opened: Open, tmp_path: Path) -> None:
    make_curated(tmp_path)
    stats = orjson.loads((tmp_path / "stats.json").read_bytes())
    for share, told in ((0.0, ""), (0.62, "; all this, leaving out 62% of the words of prompts")):
        stats["leakage"]["prompts"]["boilerplate"] = share
        (tmp_path / "stats.json").write_bytes(orjson.dumps(stats))
        text = opened(write(tmp_path)).locator("body").inner_text()
        assert told in text and ("all this" in text) is bool(told)


def test_every_section_is_there_and_linked(page: Any) -> None:
    sections = page.locator("main > section, main > header").evaluate_all("nodes => nodes.map(node => node.id)")
    assert sections == [
        *("verdict", "funnel", "lengths", "sources", "reasons", "duplicates"),
        *("conflicts", "edits", "personal", "contamination", "decisions", "origin"),
    ]
    assert page.locator("nav.top a").evaluate_all("nodes => nodes.map(node => node.hash.slice(1))") == sections


def test_the_funnel_adds_up_in_rows_and_in_tokens(page: Any, stats: dict[str, Any]) -> None:
    read, *lost, kept = funnel_steps(stats)
    assert read["rows"] == kept["rows"] + sum(step["rows"] for step in lost)
    assert read["tokens"] == kept["tokens"] + sum(step["tokens"] or 0 for step in lost)
    shown = [" ".join(text.split()) for text in page.locator(".step:not(.head)").all_inner_texts()]
    assert len(shown) == len(lost) + 2
    assert shown[0] == f"read {read['rows']} 100% {read['tokens']:,} 100%"
    assert shown[-1] == f"kept {kept['rows']} 69.3% {kept['tokens']:,} {100 * kept['tokens'] / read['tokens']:.1f}%"
    assert "quarantined: wrong type 3 1.3% not known" in shown
    widths = page.locator(".step.kept .funnel-bar").evaluate_all("nodes => nodes.map(node => node.style.width)")
    assert [float(width[:-1]) for width in widths] == pytest.approx(
        [100 * kept["rows_share"], 100 * kept["tokens_share"]], abs=0.01
    )


def test_each_reason_opens_from_the_funnel_with_places_evidence_and_rows(page: Any, stats: dict[str, Any]) -> None:
    page.locator(".step a", has_text="too long").click()
    shown = page.locator("#dropped-too_long")
    assert shown.get_attribute("open") is not None
    text = shown.inner_text()
    for piece in ("5 dropped", "Raise train.max_length.", f"{MESSAGES}:170", "1240", "Today is Monday", "user"):
        assert piece in text, piece
    assert shown.locator(".sample").count() == 5
    counts = {
        f"{kind}-{reason}": count
        for kind in ("dropped", "quarantined")
        for reason, count in stats["rows"][kind].items()
    }
    for name, count in counts.items():
        assert page.locator(f"#{name} .sample").count() == min(count, 5), name


def test_histograms_draw_every_bin_that_holds_rows(page: Any, stats: dict[str, Any]) -> None:
    bins = sum(bool(count) for both in stats["histograms"].values() for one in both.values() for count in one["counts"])
    assert page.locator(".histogram rect").count() == bins
    edges = stats["histograms"]["train"]["tokens"]["edges"]
    assert page.locator(".histogram").first.locator(".ticks span").first.inner_text() == f"{edges[0]}"


def test_a_pair_marks_the_words_that_differ_and_no_other(page: Any) -> None:
    pair = page.locator("#duplicates .twins", has_text=f"{MESSAGES}:10")
    assert pair.locator("summary").inner_text().startswith("0.71")
    assert pair.locator("mark").all_inner_texts() == ["10:21", '"10:21"}}', "16:03", '"16:03"}}']
    assert "Both stay: only values differ" in page.locator("#duplicates").inner_text()


def test_conflicts_personal_data_contamination_and_origin_are_shown(page: Any) -> None:
    open_all(page)
    told = {
        name: page.locator(f"#{name}").inner_text() for name in ("conflicts", "personal", "contamination", "origin")
    }
    assert "1 prompt has several answers, in 2 rows" in told["conflicts"]
    assert '{"on": True}' in told["conflicts"] and f"{MESSAGES}:8" in told["conflicts"]
    assert "l…@example.com" in told["personal"] and "replaced" in told["personal"] and "AKIA…MPLE" in told["personal"]
    assert "24 of 150 items were found" in told["contamination"]
    assert "rinse the aquarium filter" in page.locator("#contamination mark").all_inner_texts()
    assert "c0ffee" in told["origin"] and "f" * 64 in told["origin"]
    assert page.locator("#decisions li").count() == len(RULES)


def test_it_is_used_by_keyboard_alone(page: Any) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#reasons summary").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#reasons details").first.get_attribute("open") is not None
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_it_prints_in_ink_on_white_with_everything_open(opened: Open, stats: dict[str, Any]) -> None:
    page = opened(stats["page"], width=794, scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("details:not([open])").count() == 0 and not page.locator("nav.top").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 794


@pytest.mark.parametrize("length", [1, 20_000])
def test_hostile_text_is_shown_cut_and_never_run(opened: Open, tmp_path: Path, length: int) -> None:
    """Also a megabyte of it in each text, which must not make the page long."""
    make_curated(tmp_path, rows=20, text=EVIL * length)
    file = write(tmp_path)
    assert file.stat().st_size < 2_000_000
    page = opened(file, width=390)
    open_all(page)
    text = page.locator("main").inner_text()
    assert "<script>window.pwned = 1; alert(1)</script>" in text and "{{ 7*7 }}" in text
    for code in ("U+0007", "U+001B", "U+202E", "U+200B"):
        assert code in text
    assert page.evaluate("window.pwned") is None
    assert page.locator("main script, main img").count() == 0
    assert fits(page, 390) == []


def test_a_policy_lets_its_own_script_run_and_nothing_else(page: Any) -> None:
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "unsafe-inline'; script" in policy


def test_rows_of_any_shape_are_shown(opened: Open, tmp_path: Path) -> None:
    stats = make_curated(tmp_path, rows=20)
    rows: list[Any] = [
        {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": None}, "no message", None]},
        {"instruction": "Do it", "input": "", "output": 7, "meta": {"a": [1]}},
        {"messages": "no list"},
        {"messages": [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "f"}}]}] * 40},
        {},
    ]
    entries = [
        {"source": f"{MESSAGES}:{n}", "reason": "empty_reply", "evidence": {}, "row": r} for n, r in enumerate(rows)
    ]
    (tmp_path / "dropped.jsonl").write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in entries))
    (tmp_path / "stats.json").write_bytes(orjson.dumps({**stats, "contaminated_items": {}, "contamination": {}}))
    page = opened(write(tmp_path))
    open_all(page)
    text = page.locator("#dropped-empty_reply").inner_text()
    for piece in ("Hi", "no message", "Do it", '{"a":[1]}', "no list", '"name":"f"', "… 28 more"):
        assert piece in text, piece


def test_a_curation_without_findings_has_no_empty_sections(opened: Open, tmp_path: Path) -> None:
    stats = make_curated(tmp_path, rows=20)
    for name in ("dropped", "quarantine", "duplicates", "conflicts", "pii", "edits"):
        (tmp_path / f"{name}.jsonl").write_bytes(b"")
    nothing: dict[str, Any] = {
        "rows": {"read": 20, "kept": 20, "dropped": {}, "quarantined": {}},
        **{
            key: {}
            for key in (
                "dropped_supervised_tokens",
                "edited",
                "flagged",
                "foreign_marks",
                "perhaps_placeholders",
                "pii",
                "contamination",
            )
        },
        "contaminated_items": {},
        "truncation": stats["truncation"] | {"rows": 0},
    }
    del stats["mix"]
    (tmp_path / "stats.json").write_bytes(orjson.dumps(stats | nothing))
    page = opened(write(tmp_path), width=390)
    assert fits(page, 390) == []
    found = page.locator("main > section").evaluate_all("nodes => nodes.map(node => node.id)")
    assert found == ["funnel", "lengths", "sources", "decisions", "origin"]


def test_the_same_files_give_the_same_page(stats: dict[str, Any], tmp_path: Path) -> None:
    make_curated(tmp_path)
    assert write(tmp_path).read_bytes() == stats["page"].read_bytes()


def test_memory_holds_samples_and_not_the_files(tmp_path: Path) -> None:
    """40 MB of rows, of which a handful is shown."""
    make_curated(tmp_path, rows=20)
    for name in ("dropped", "train"):
        lines = (tmp_path / f"{name}.jsonl").read_bytes()
        with (tmp_path / f"{name}.jsonl").open("ab") as file:
            for _ in range(20_000_000 // len(lines)):
                file.write(lines)
    tracemalloc.start()
    samples = read_samples(tmp_path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert all(len(entries) <= 5 for entries in samples.dropped.values())
    assert peak < 4_000_000, f"{peak / 1e6:.1f} MB"
