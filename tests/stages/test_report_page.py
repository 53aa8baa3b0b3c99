"""The report's page in a browser: it fits, keeps quiet, shows hostile text without running it, and finds answers."""

from __future__ import annotations

import json
import re

import pytest

from tests.stages.browsing import LOW_CONTRAST, fits, search
from tests.stages.report_fixture import build, make_evaluations, make_whole_run, rewrite, rows
from tunelift.stages.report.figures import cost_curve
from tunelift.stages.report.forest import Measure
from tunelift.stages.report.wording import probability

# --- Looks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_and_its_text_is_legible(opened, built, width, scheme):
    page = opened(built[0], width, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    for words, first in (("heldout-01", "heldout-010"), ("golden-0", "golden-001"), ("knowledge-00", "knowledge-001")):
        search(page, words, first)
        assert fits(page, width) == []
        assert page.evaluate(LOW_CONTRAST) == []


def test_the_answer_stands_in_the_first_screen(page, built):
    _, comparison = built
    says = comparison["verdicts"][0]["sentence"].split(" (")[0]
    assert page.locator("h1").inner_text().startswith(says)
    on_guards = comparison["verdict_on_guards"]
    assert "general_text" in on_guards and comparison["verdict"].endswith(on_guards)
    assert on_guards in page.locator("#verdict .lead").all_inner_texts()
    told = [" ".join(row.inner_text().split()) for row in page.locator(".board .forest-row:not(.forest-axis)").all()]
    expected = [(one["task"], one["verdict"]) for one in [*comparison["verdicts"], *comparison["guards"]]]
    assert len(told) == len(expected) == 4
    for row, (task, verdict) in zip(told, expected, strict=True):
        assert row.startswith(task) and row.endswith(verdict)
    assert page.locator(".board").bounding_box()["y"] + page.locator(".board").bounding_box()["height"] < 900


def test_the_gate_shows_each_claim_with_its_evidence(page, built):
    gate = built[1]["gate"]
    assert page.locator(".gate-title").inner_text().startswith("Gate passed" if gate["passed"] else "Gate failed")
    shown = page.locator(".gate li").all_inner_texts()
    assert len(shown) == len(gate["claims"]) == 3
    for text, claim in zip(shown, gate["claims"], strict=True):
        assert text.split()[0] == ("✓" if claim["held"] else "✗")
        assert claim["text"] in text and claim["reason"] in text


def test_the_tables_show_the_numbers_of_the_comparison(page, built):
    _, comparison = built
    targets = ["tool_calls_heldout", "tool_calls_golden"]
    for table, task in zip(page.locator("#results table").all(), targets, strict=True):
        for row, shown in zip(table.locator("tbody tr").all(), comparison["tasks"][task].values(), strict=True):
            measure = Measure(shown["bounded"], shown["lower_is_better"])
            assert [" ".join(cell.split()) for cell in row.locator("td").all_inner_texts()] == [
                f"{measure.mean(one['mean'])} {measure.interval(one['low'], one['high'])}"
                for arm, one in shown["arms"].items()
                if arm != "base-again"
            ]
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    drawn = " ".join(page.locator("#results").inner_text().split())
    for task in targets:
        for shown in comparison["tasks"][task].values():
            for pair in shown["pairs"]:
                p = pair["p"] if pair["p_adjusted"] is None else pair["p_adjusted"]
                numbers = f"{Measure().difference(pair['difference'])} {Measure().interval(pair['low'], pair['high'])}"
                assert f"{numbers}, {probability(p)}" in drawn


def test_a_guard_is_drawn_in_its_own_unit_with_its_margin_on_the_worse_side(page):
    row = page.locator(".board .forest-row", has_text="general_text")
    margin, zone = row.locator("line.margin"), row.locator("rect.beyond")
    zero, dot = row.locator("line.zero"), row.locator("circle.dot")
    at = {name: float(node.get_attribute(key)[:-1]) for name, node, key in (
        ("margin", margin, "x1"), ("zone", zone, "width"), ("zero", zero, "x1"), ("dot", dot, "cx")
    )}  # fmt: skip
    assert at["zone"] == at["margin"] < at["dot"] < at["zero"]  # More bits per byte is worse, so it lies on the left.
    assert "bits per byte, less is better" in page.locator(".board").inner_text()


def test_every_section_of_a_whole_run_is_there(page):
    sections = page.locator("main > section, main > header").evaluate_all("nodes => nodes.map(node => node.id)")
    assert sections == [
        *("verdict", "results", "guards", "slices", "judge", "answers"),
        *("cost", "arms", "training", "data", "reading", "origin"),
    ]
    links = page.locator("nav.top a").evaluate_all("nodes => nodes.map(node => node.hash.slice(1))")
    assert links == sections
    text = page.locator("main").inner_text()
    for fact in (
        "dequantized from Q4_1",
        "exact duplicate",
        "tunelift run runs/quickstart-1a2b3c4d/config.yaml",
        "source:data/tool_calls/raw/alpaca.jsonl",
        "bitsandbytes 0.50.2",
        "not training seeds",
        "items of tool_calls_golden 3 times so far",
        "yardstick-judge graded answers",
        "60 labelled items",
        "The base was asked everything twice",
        "Training cost",
    ):
        assert fact in text, fact
    assert page.locator("#cost .plot").count() == 1 and page.locator("#cost svg.spread").count() == 4
    assert page.locator("#training .plot").count() == 3 and page.locator(".funnel-row.kept").count() == 1


def test_the_theme_can_be_chosen_against_the_system(opened, built):
    page = opened(built[0], scheme="dark")
    colour = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(colour)
    page.click("#theme")
    assert page.evaluate(colour) != dark
    page.click("#theme")
    assert page.evaluate(colour) == dark


def test_it_prints_in_ink_on_white_with_everything_open(opened, built):
    page = opened(built[0], width=794, scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.locator("details:not([open])").count() == 0
    assert not page.locator("nav.top").is_visible() and not page.locator("#controls").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 794


@pytest.mark.parametrize("arms", [("tuned",), ("base", "prompted"), ("base", "tuned")])
def test_fewer_arms_and_no_artifacts_still_make_a_page(opened, tmp_path, arms):
    evaluations = make_evaluations(tmp_path / "e", items=12, arms=arms)
    out, _ = build(tmp_path, evaluations, lineage=[], environment={}, looks={})
    page = opened(out / "report.html", width=390)
    assert fits(page, 390) == []
    assert page.locator(".item").count() == 5
    assert page.locator("#training, #data, #guards, #judge, .gate").count() == 0


# --- Hostile text ---------------------------------------------------------------------------------------------------


def test_hostile_output_is_shown_and_not_run(page):
    text = ""
    search(page, "golden-0", "golden-001")
    for _ in range(2):
        text += page.locator("#list").inner_text()
        page.click("#next")
    assert "</script><script>window.pwned = 1; alert(1)</script>" in text
    assert '<img src=x onerror="window.pwned = 2">' in text and "&lt;b&gt;" in text and "{{ 7*7 }}" in text
    for code in ("U+0007 ×3", "U+0000", "U+001B", "U+202E", "U+200B", "U+FEFF", "U+2028", "U+D83D", "U+E0041"):
        assert code in text, code
    assert "empty" in text and "only white space, 6 characters" in text
    assert "cut: 40,000 more characters stand in samples.jsonl" in text
    assert page.evaluate("window.pwned") is None
    assert page.locator("#list script, #list img, #list svg").count() == 0


def test_even_injected_markup_would_not_run(page):
    """The page's policy allows its own script alone."""
    policy = page.locator("meta[http-equiv]").get_attribute("content")
    assert "default-src 'none'" in policy and re.search(r"script-src 'sha256-[\w+/=]+'(;|$)", policy)


def test_hostile_prompts_tags_ids_and_judges_are_text_too(opened, tmp_path):
    evil = "<img src=x onerror=alert(1)>\u202e\u0007</script>"
    run = make_whole_run(tmp_path / "run", items=24)
    for folder in run["evaluations"].values():
        samples = rows(folder)
        for row in samples:
            row["tags"] = [evil, "x" * 100_000] if int(row["id"][-1]) % 2 else []
            row["id"] += evil
            row["prompt"] = [{"role": "user", "content": evil + "y" * (1_000_000 if "001" in row["id"] else 0)}]
        rewrite(folder, samples)
    judgements = run["judge"] / "judgements.jsonl"
    lines = [json.loads(line) for line in judgements.read_text().splitlines()]
    for line in lines:
        line["id"] += evil
        for order in line.get("orders", ()):
            order["reason"] = evil
    judgements.write_text("".join(json.dumps(line) + "\n" for line in lines))
    out, _ = build(tmp_path, **run)
    assert (out / "report.html").stat().st_size <= 3_000_000
    page = opened(out / "report.html", width=390)
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    search(page, "golden-010", "golden-010<img src=x onerror=alert(1)>U+202E U+0007</script>")
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    assert fits(page, 390) == []
    assert "<img src=x onerror=alert(1)>U+202E" in page.locator("#slices").inner_text()
    assert "<img src=x onerror=alert(1)>U+202E" in page.locator("#arms").inner_text()
    assert "<img src=x onerror=alert(1)>U+202E" in page.locator(".item .judge").inner_text()
    assert page.locator("main img").count() == 0


@pytest.mark.parametrize(("items", "length"), [(500, 900), (4, 1_000_000)])
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
    page = opened(out / "report.html")
    assert "more characters stand in samples.jsonl" in page.locator("#list").inner_text()
    assert page.locator("#count").inner_text().endswith(f"of {2 * items} items")


def test_how_a_prompt_was_chosen_is_told(opened, tmp_path):
    evaluations = make_evaluations(tmp_path / "e", items=8)
    path = evaluations["prompted"] / "summary.json"
    candidates = [
        {"instruction": None, "few_shot": 0, "mean": 0.2, "n": 40},
        {"instruction": "Be brief.", "few_shot": 3, "mean": 0.45, "n": 40},
    ]
    summary = json.loads(path.read_text()) | {"prompt_search": {"candidates": candidates, "chosen": 1}}
    path.write_text(json.dumps(summary))
    out, _ = build(tmp_path, evaluations)
    page = opened(out / "report.html")
    page.locator("#arms summary", has_text="How its prompt was chosen").click()
    assert [" ".join(text.split()) for text in page.locator(".search-list li").all_inner_texts()] == [
        "45.0% 3 examples, 40 items chosen Be brief.",
        "20.0% 0 examples, 40 items the task's own instruction",
    ]


@pytest.mark.parametrize("crossing", [45.0, None])
def test_the_cost_curves_cross_where_tuning_has_paid(crossing):
    """Ours starts with the training; where it never pays, nothing is marked."""
    drawn = cost_curve((0.045, 0.001), (0.0, 0.002), crossing, "said in words")
    ours, theirs = re.findall(r'points="([^"]*)"', drawn)
    assert float(ours.split(",")[1].split()[0]) < 1000 == float(theirs.split(",")[1].split()[0])
    assert ("45 requests" in drawn) is (crossing is not None)


# --- Training -------------------------------------------------------------------------------------------------------


def test_training_shows_its_curves_and_the_step_that_was_kept(page):
    assert page.locator("#training .plot").count() == 3
    captions = page.locator("#training figcaption").all_inner_texts()
    assert "smoothed" in captions[0] and captions[1:] == ["Learning rate", "Gradient norm"]
    assert "all 120 steps were taken" in page.locator("#training").inner_text()


def test_answers_while_training_are_shown_as_text(page):
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    told = page.locator(".told")
    assert told.count() == 9
    assert "<script>window.pwned = 1" in told.first.inner_text()
    assert told.first.locator(".name", has_text="Step").all_inner_texts()[-1] == "Step 120"
    assert page.evaluate("window.pwned === undefined")
