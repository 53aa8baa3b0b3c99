"""The report's page in a browser: it fits, keeps quiet, and shows hostile text without running it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stages.report_fixture import build, make_artifacts, make_evaluations, rewrite, rows
from tunelift.stages.report.wording import interval, percent, points, probability

CHROMIUM = Path(shutil.which("chromium") or "/usr/bin/chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
BEYOND_THE_EDGE = """width => [...document.querySelectorAll("main *")]
  .filter(node => !node.closest(".scroll, thead, select") && node.getBoundingClientRect().right > width + 1)
  .map(node => node.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], dict[str, Path]]:
    root = tmp_path_factory.mktemp("report")
    evaluations = make_evaluations(root / "evaluations")
    out, comparison = build(root, evaluations, **make_artifacts(root / "artifacts"))
    return out, comparison, evaluations


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def opened(chromium: Any, built: Any) -> Iterator[Any]:
    """A function that opens the report; at the end nothing may have complained, asked the network, or popped up."""
    trouble: list[str] = []
    pages = []

    def open_page(width: int = 1280, scheme: str = "light", path: Path = built[0] / "report.html") -> Any:
        page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        page.on("console", lambda message: trouble.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
        page.on("dialog", lambda dialog: (trouble.append("dialog"), dialog.dismiss()))
        page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:")) else trouble.append(request.url),
        )
        page.goto(path.as_uri())
        pages.append(page)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert trouble == []


def show_hostile(page: Any) -> None:
    page.fill("#query", "golden-0")
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator(".item-head").first).to_contain_text("golden-001")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_is_quiet(opened, width, scheme):
    page = opened(width, scheme)
    for _ in range(2):
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        outside = page.evaluate(BEYOND_THE_EDGE, width)
        assert outside == []
        show_hostile(page)


def test_hostile_output_is_shown_and_not_run(opened):
    page = opened()
    show_hostile(page)
    text = page.locator("#list").inner_text()
    assert "</script><script>window.pwned = 1; alert(1)</script>" in text
    assert '<img src=x onerror="window.pwned = 2">' in text and "&lt;b&gt;" in text and "{{ 7*7 }}" in text
    for code in ("U+0007 ×3", "U+0000", "U+001B", "U+202E", "U+200B", "U+FEFF", "U+2028", "U+D83D", "U+E0041"):
        assert code in text, code
    assert "empty" in text and "only white space, 6 characters" in text
    assert "cut: 40,000 more characters stand in samples.jsonl" in text
    assert page.evaluate("window.pwned") is None
    assert page.locator("#list script, #list img, #list svg").count() == 0


def test_even_injected_markup_would_not_run(opened):
    """The page's policy allows its own script alone."""
    page = opened()
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy and re.search(r"script-src 'sha256-[\w+/=]+'(;|$)", policy)


def test_filters_and_search_show_what_they_say(opened, built):
    _, _, evaluations = built
    exact = {
        arm: {row["id"]: row["scores"]["exact_match"] for row in rows(folder) if row["task"] == "tool_calls_golden"}
        for arm, folder in evaluations.items()
    }
    losses = sorted(item for item, score in exact["tuned"].items() if score < exact["prompted"][item])
    wins = sum(score > exact["prompted"][item] for item, score in exact["tuned"].items())
    page = opened()
    page.select_option("#task", label="tool_calls_golden")
    page.select_option("#rival", "prompted")
    assert page.locator("#outcome button[value=win]").inner_text() == f"Wins {wins}"
    page.click("#outcome button[value=loss]")
    assert sorted(page.locator(".item-head span:nth-child(2)").all_inner_texts()) == losses
    page.click("#outcome button[value=all]")
    page.fill("#query", "no such words")
    expect = pytest.importorskip("playwright.sync_api").expect
    expect(page.locator("#count")).to_have_text("No item matches.")
    page.fill("#query", "GOLDEN-017")
    expect(page.locator("#count")).to_have_text("1 to 1 of 1 items")
    assert page.locator(".item").count() == 1


def test_pages_turn_by_keyboard(opened):
    page = opened()
    assert page.locator(".item").count() == 10
    page.focus("#next")
    page.keyboard.press("Enter")
    assert page.locator("#page").inner_text() == "Page 2 of 30"
    assert page.locator(".item-head span:nth-child(2)").first.inner_text() == "heldout-011"


def test_the_page_shows_the_numbers_of_the_comparison(opened, built):
    _, comparison, _ = built
    page = opened()
    assert page.locator("h1").inner_text().startswith("tuned answers 61.3% of tool_calls_heldout exactly")
    tables = page.locator("#results table").all()
    for table, metrics in zip(tables, comparison["tasks"].values(), strict=True):
        for row, shown in zip(table.locator("tbody tr").all(), metrics.values(), strict=True):
            cells = [" ".join(cell.split()) for cell in row.locator("td").all_inner_texts()]
            arms = [
                f"{percent(value['mean'])} {interval(value['low'], value['high'])}" for value in shown["arms"].values()
            ]
            pairs = [
                f"{points(pair['difference'])} {interval(pair['low'], pair['high'])}, {probability(pair['p'])}"
                for pair in shown["pairs"]
            ]
            assert cells == arms + pairs


def test_the_page_tells_where_everything_came_from(opened):
    text = opened().locator("main").inner_text()
    for fact in (
        "dequantized from Q4_1",
        "merged into the dequantized 4-bit base",
        "exact duplicate",
        "tunelift run runs/quickstart-1a2b3c4d/config.yaml",
        "source:data/tool_calls/raw/alpaca.jsonl",
        "bitsandbytes 0.50.2",
        "not training seeds",
        "items of tool_calls_golden 3 times so far",
        "0.9972",
    ):
        assert fact in text, fact


def test_the_theme_can_be_chosen_against_the_system(opened):
    page = opened(scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) != dark
    page.click("#theme")
    assert page.evaluate(colour) == dark


@pytest.mark.parametrize("arms", [("tuned",), ("base", "prompted"), ("base", "tuned")])
def test_fewer_arms_and_no_artifacts_still_make_a_page(opened, tmp_path, arms):
    evaluations = make_evaluations(tmp_path / "e", items=12)
    out, _ = build(tmp_path, {arm: evaluations[arm] for arm in arms}, lineage=[], environment={}, looks={})
    page = opened(path=out / "report.html")
    assert page.locator(".item").count() == 10
    assert page.locator("#training, #data").count() == 0


@pytest.mark.parametrize(("items", "length"), [(500, 900), (30, 90_000)])
def test_the_page_stays_under_3_mb(opened, tmp_path, items, length):
    """1,000 items of long answers, or a few of endless ones: strings are cut, and the page says so."""
    evaluations = make_evaluations(tmp_path / "e", items=items)
    for folder in evaluations.values():
        samples = rows(folder)
        for row in samples:
            row["output"] = (row["output"] + " é<") * (length // (len(row["output"]) + 3))
        rewrite(folder, samples)
    out, _ = build(tmp_path, evaluations)
    assert (out / "report.html").stat().st_size <= 3_000_000
    page = opened(path=out / "report.html")
    assert "more characters stand in samples.jsonl" in page.locator("#list").inner_text()
