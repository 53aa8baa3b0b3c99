"""The embedded tool-call data: made from its seed, correct in its labels, and apart from what it is judged by."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from datetime import date, timedelta
from pathlib import Path

import jsonschema
import pytest
import yaml

import make_tool_calls
from tests.data.reading import (
    FORMATS,
    GOLDEN,
    HELDOUT,
    RAW,
    ROOT,
    Record,
    clean,
    items,
    lines,
    schemas,
    truth,
    user_and_reply,
)
from tool_calls import dates
from tool_calls.context import Lists
from tool_calls.flaws import KINDS
from tool_calls.grammar import TOOLS, load_templates, split_slots, word_ngrams, words
from tool_calls.rows import heldout_rows, training_rows

# --- made from its seed ----------------------------------------------------------------------------------------------


def test_the_seed_gives_the_committed_bytes(tmp_path: Path) -> None:
    make_tool_calls.make(tmp_path)
    made = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert len(made) == 7
    different = [str(path) for path, content in made.items() if (ROOT / path).read_bytes() != content]
    assert different == [], "run python scripts/make_tool_calls.py"


def test_another_seed_and_variant_give_other_rows_and_other_flaws(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        make_tool_calls.make(tmp_path / folder, seed=5, variant="tests", scale=0.3)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert [
        str(file) for file in files if (tmp_path / "a" / file).read_bytes() != (tmp_path / "b" / file).read_bytes()
    ] == []
    made = json.loads((tmp_path / "a" / "data" / "tool_calls" / "truth.json").read_text(encoding="utf-8"))
    assert set(made["planted"]) == set(KINDS)
    assert "AKIA" in (RAW / "alpaca.json").read_text(encoding="utf-8")
    assert "AKIA" not in (tmp_path / "a" / "data" / "tool_calls" / "raw" / "alpaca.json").read_text(encoding="utf-8")


def test_about_two_thousand_records_in_three_formats() -> None:
    counts = {file: len(lines(file)) for file in FORMATS}
    assert counts == truth()["records"]
    assert 1900 <= sum(counts.values()) <= 2100
    assert min(counts.values()) > 600
    share = len(truth()["flaws"]) / sum(counts.values())
    assert 0.12 <= share <= 0.15


def test_the_readme_states_the_counts() -> None:
    readme = (ROOT / "data" / "README.md").read_text(encoding="utf-8")
    for file, count in truth()["records"].items():
        assert re.search(rf"/{re.escape(file)}`.*\| {count} \|", readme), (file, count)
    planted = [int(count) for count in re.findall(r"^\| [^|]+ \| (\d+) \| (?:kept|dropped|quarantined)", readme, re.M)]
    assert sorted(planted) == sorted(truth()["planted"].values())
    templates = Counter(template.tool is None for template in load_templates("train"))
    assert f"{templates[False]:,} request templates" in readme
    assert f"and {templates[True]} for" in readme


# --- variety ---------------------------------------------------------------------------------------------------------


def test_every_tool_has_many_phrasings() -> None:
    counts = Counter(template.tool for template in load_templates("train"))
    assert set(counts) == {*TOOLS, None} == {*schemas(), None}
    assert min(counts.values()) >= 100
    assert counts[None] >= 200
    used = Counter(phrasing.rsplit("-", 1)[0] for phrasing in {row[3] for row in clean()})
    assert min(used.values()) >= 80


def test_tools_are_balanced() -> None:
    counts = Counter(call["tool"] for _, _, call, _ in clean())
    assert all(0.055 <= counts[tool] / len(clean()) <= 0.075 for tool in TOOLS), counts
    assert 0.10 <= counts[None] / len(clean()) <= 0.14
    dated = sum("date" in call.get("arguments", {}) for _, _, call, _ in clean())
    assert 0.28 <= dated / len(clean()) <= 0.45


def test_no_phrasing_stands_twice() -> None:
    texts = Counter(template.text.lower() for subset in ("train", "heldout") for template in load_templates(subset))
    assert [text for text, count in texts.items() if count > 1] == []


# --- correct labels --------------------------------------------------------------------------------------------------


def check_call(call: Record) -> None:
    """The call fits its tool's schema and keeps the conventions of the golden set."""
    if call["tool"] is None:
        assert call == {"tool": None}
        return
    assert list(call) == ["tool", "arguments"]
    arguments = call["arguments"]
    jsonschema.validate(arguments, schemas()[call["tool"]])
    order = [name for name in schemas()[call["tool"]]["properties"] if name in arguments]
    assert list(arguments) == order
    assert not arguments.get("order_id", "").startswith("#")
    if call["tool"] == "control_device":
        allowed = ("open", "close") if arguments["device"] == "blinds" else ("on", "off")
        assert arguments["action"] in allowed
        assert "level" not in arguments or arguments["action"] in ("open", "on")
    if call["tool"] == "convert_currency":
        assert arguments["from"] != arguments["to"]
        assert re.fullmatch("[A-Z]{3}", arguments["from"])
        assert re.fullmatch("[A-Z]{3}", arguments["to"])


def test_every_answer_fits_its_schema_and_the_conventions() -> None:
    for _, _, call, _ in clean():
        check_call(call)
    for item in items():
        for call in item["accepted"]:
            check_call(call)


def test_replies_are_one_line_of_json_as_python_writes_it() -> None:
    flawed = {(flaw["file"], flaw["line"]) for flaw in truth()["flaws"]}
    for file in FORMATS:
        for number, line in lines(file).items():
            if (file, number) not in flawed:
                reply = user_and_reply(file, json.loads(line))[1]
                assert reply == json.dumps(json.loads(reply), ensure_ascii=False), (file, number)


def plain(text: str) -> str:
    """Without case, apostrophes and white space, as typing changes them."""
    return re.sub(r"['’\s]", "", text.lower())


@pytest.mark.parametrize(
    ("tool", "argument"), [("set_reminder", "text"), ("create_event", "title"), ("set_timer", "label")]
)
def test_free_text_is_copied_from_the_request(tool: str, argument: str) -> None:
    rows = [
        (request, call["arguments"][argument])
        for _, request, call, _ in clean()
        if call["tool"] == tool and argument in call["arguments"]
    ]
    assert len(rows) > 50
    spoken = {"nap", "tea", "eggs", "bread"}  # said in another word
    missing = [row for row in rows if plain(row[1]) not in plain(row[0]) and row[1] not in spoken]
    assert missing == []


def test_names_and_order_ids_are_copied_from_the_request() -> None:
    for _, request, call, phrasing in clean():
        for argument in ("order_id", "to", "restaurant"):
            value = call.get("arguments", {}).get(argument)
            if value and call["tool"] != "convert_currency":
                assert plain(value) in plain(request), (phrasing, request, value)


def expected_dates(today: date, request: str) -> set[date] | None:
    """Read a date out of a request, independently of the generator; None when its words are none of these."""
    text = request.lower()
    if match := re.search(r"\d{4}-\d\d-\d\d", text):
        return {date.fromisoformat(match[0])}
    months = {name[:3].lower(): number for number, name in enumerate(dates.MONTHS, start=1)}
    pattern = "|".join(f"{name.lower()}|{name[:3].lower()}" for name in dates.MONTHS)
    found = re.search(rf"\b(\d{{1,2}})(?:st|nd|rd|th)? (?:of )?({pattern})\b(?: (20\d\d))?", text)
    if found is None and (other := re.search(rf"\b({pattern}) (\d{{1,2}})(?:st|nd|rd|th)?\b(?:, (20\d\d))?", text)):
        month, day, year = other[1], other[2], other[3]
    elif found:
        day, month, year = found[1], found[2], found[3]
    else:
        return relative_dates(today, text)
    candidate = date(int(year or today.year), months[month[:3]], int(day))
    return {candidate if year or candidate > today else candidate.replace(year=today.year + 1)}


def relative_dates(today: date, text: str) -> set[date] | None:
    counts = {
        "a": 1,
        "one": 1,
        "two": 2,
        "three": 3,
        "four": 4,
        "five": 5,
        "six": 6,
        "seven": 7,
        "eight": 8,
        "nine": 9,
        "ten": 10,
        "fourteen": 14,
        "twenty-one": 21,
    }
    if re.search(r"\bd\w+ \w+ (tomorrow|tmrw|tmr|tomoz)\b", text):  # a typo is no other date
        return {today + timedelta(days=2)}
    if match := re.search(r"\b(?:in )?([\w-]+) (day|week)s?( from (now|today))\b", text) or re.search(
        r"\bin ([\w-]+) (day|week)s?\b", text
    ):
        count = int(match[1]) if match[1].isdigit() else counts.get(match[1])
        return None if count is None else {today + timedelta(days=count * (7 if match[2] == "week" else 1))}
    if re.search(r"\b(tomorrow|tmrw|tmr|tomoz)\b", text):
        return {today + timedelta(days=1)}
    if re.search(r"\b(today|tonight|tonite|2nite|this (morning|afternoon|evening))\b", text):
        return {today}
    if match := re.search(r"\bthe (\d{1,2})(st|nd|rd|th)\b", text):
        return {day for day in (today + timedelta(days=ahead) for ahead in range(1, 62)) if day.day == int(match[1])}
    names = "|".join(f"{name.lower()}|{name[:3].lower()}" for name in dates.WEEKDAYS)
    if re.search(rf"\b({names}),? (\d{{1,2}}\b(?![:.])|\w{{3,}} \d{{1,2}}\b)", text):
        return None  # a weekday with a date whose month is misspelt
    if matches := set(re.findall(rf"\b({names})\b", text)):
        following = [today + timedelta(days=ahead) for ahead in range(1, 8)]
        return {
            day
            for day in following
            if any(dates.WEEKDAYS[day.weekday()].lower().startswith(name[:3]) for name in matches)
        }
    return None


def test_dates_are_what_the_words_say() -> None:
    read, wrong = 0, []
    rows = [(today, request, [call]) for today, request, call, _ in clean()]
    rows += [(f"Today is {item['today']}.", item["request"], item["accepted"]) for item in items()]
    for line, request, calls in rows:
        weekday, day = re.fullmatch(r"Today is (\w+) (\d{4}-\d\d-\d\d)\.", line).groups()  # type: ignore[union-attr]
        today = date.fromisoformat(day)
        assert weekday == dates.WEEKDAYS[today.weekday()]
        value = calls[0].get("arguments", {}).get("date")
        if value is None:
            continue
        expected = expected_dates(today, request)
        read += expected is not None
        assert date.fromisoformat(value) >= today
        if expected is not None and date.fromisoformat(value) not in expected:
            wrong.append((line, request, value, sorted(map(str, expected))))
    assert wrong == []
    assert read > 450


def test_requests_without_a_date_give_none() -> None:
    for today, request, call, phrasing in clean():
        if call["tool"] in ("get_weather", "set_reminder") and "date" not in call["arguments"]:
            day = date.fromisoformat(today.split()[-1].rstrip("."))
            assert expected_dates(day, request) is None, (phrasing, request)


# --- apart from what it is judged by ---------------------------------------------------------------------------------


def golden_ngrams() -> set[tuple[str, ...]]:
    requests = [
        json.loads(line)["request"] for line in (GOLDEN / "items.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return {gram for request in requests for gram in word_ngrams(request)}


def test_no_phrasing_shares_five_words_in_a_row_with_a_golden_item() -> None:
    golden, shared = golden_ngrams(), []
    for template in load_templates("train") + load_templates("heldout"):
        variants = {template.text} if "[" not in template.text else set(alternatives(template.text))
        for variant in variants:
            for is_slot, part in split_slots(variant):
                shared += [
                    (template.name, " ".join(gram)) for gram in (() if is_slot else word_ngrams(part)) if gram in golden
                ]
    assert shared == [], "reword these templates"


def alternatives(text: str) -> list[str]:
    """All readings of a phrasing's `[a|b]`."""
    match = re.search(r"\[([^\]]*)\]", text)
    if match is None:
        return [text]
    return [
        full
        for choice in match[1].split("|")
        for full in alternatives(text[: match.start()] + choice + text[match.end() :])
    ]


def test_no_request_shares_five_words_in_a_row_with_a_golden_item() -> None:
    golden = golden_ngrams()
    made = [(phrasing, request) for _, request, _, phrasing in clean()] + [
        (item["cluster"], item["request"]) for item in items()
    ]
    shared = sorted({(name, " ".join(gram)) for name, request in made for gram in word_ngrams(request) & golden})
    assert shared == [], "reword these templates"


def test_heldout_phrasings_and_values_are_not_the_training_ones() -> None:
    train, heldout = (Lists(subset, random.Random(0)).rows for subset in ("train", "heldout"))
    assert set(train) == set(heldout)
    for name, rows in heldout.items():
        values = (
            {row[0] for row in rows}
            if name in ("people", "tasks", "orders", "asks", "order_shapes", "restaurants")
            else {row[-1] for row in rows}
        )
        values |= {part for row in rows for part in row} if name == "cities" else set()
        known = {part.lower() for row in train[name] for part in row}
        assert {value for value in values if value.lower() in known} == set(), name
    texts = {template.text.lower() for template in load_templates("train")}
    assert [template.name for template in load_templates("heldout") if template.text.lower() in texts] == []


def test_no_heldout_request_shares_five_words_in_a_row_with_a_training_request() -> None:
    trained = {gram for _, request, _, _ in clean() for gram in word_ngrams(request)}
    shared = [(item["cluster"], " ".join(gram)) for item in items() for gram in word_ngrams(item["request"]) & trained]
    assert shared == []
    requests = {tuple(words(request)) for _, request, _, _ in clean()}
    assert [item["id"] for item in items() if tuple(words(item["request"])) in requests] == []


def test_heldout_task() -> None:
    described = yaml.safe_load((HELDOUT / "task.yaml").read_text(encoding="utf-8"))
    assert described["items_sha256"] == hashlib.sha256((HELDOUT / "items.jsonl").read_bytes()).hexdigest()
    golden = yaml.safe_load((GOLDEN / "task.yaml").read_text(encoding="utf-8"))
    for key in ("prompt", "scorers", "primary", "cluster", "max_tokens"):
        assert described[key] == golden[key], key
    assert (HELDOUT / "tools.json").read_bytes() == (GOLDEN / "tools.json").read_bytes()
    assert len(items()) == len({item["id"] for item in items()}) == 150
    assert len({item["cluster"] for item in items()}) >= 130
    assert all(list(item) == ["id", "today", "request", "accepted", "tags", "cluster"] for item in items())
    tools = Counter(item["accepted"][0]["tool"] for item in items())
    assert tools == {**dict.fromkeys(TOOLS, 10), None: 20}


@pytest.mark.parametrize("seed", [2, 3])
def test_other_seeds_keep_to_the_schemas_as_well(seed: int) -> None:
    held = heldout_rows(seed)
    for row in held + training_rows(seed, held, scale=0.2):
        check_call(row.call)


def test_fixed_arguments_of_a_phrasing_may_be_several_words() -> None:
    fixed = {template.text: template.fixed for template in load_templates("train")}
    dye = next(text for text in fixed if text.startswith("The box for the hair dye"))
    assert fixed[dye] == {"label": "hair dye"}
    half = next(text for text in fixed if text.startswith("Half light in the"))
    assert fixed[half] == {"device": "light", "action": "on", "level": 50}
