"""The flaws planted in the raw data: all of them listed, each where the truth file says."""

from __future__ import annotations

import json
import re
from collections import Counter

from tests.data.reading import FORMATS, RAW, TURNS, items, lines, truth, user_and_reply
from tool_calls.flaws import KINDS
from tool_calls.grammar import words


def found_flaws() -> dict[tuple[str, int], str]:
    """Flaws that can be seen without knowing where they were planted, by their place."""
    found: dict[tuple[str, int], str] = {}
    seen: dict[tuple[str, str], tuple[str, int]] = {}
    for file in sorted(FORMATS):
        for number, line in lines(file).items():
            kind = broken(file, line)
            if kind is None:
                user, reply = user_and_reply(file, json.loads(line))
                kind = judged(user, reply) or ("exact_duplicate" if (user, reply) in seen else None)
                seen.setdefault((user, reply), (file, number))
            if kind:
                found[(file, number)] = kind
    return found


def broken(file: str, line: str) -> str | None:
    """What keeps a line from being a request with its reply."""
    try:
        value = json.loads(line)
    except json.JSONDecodeError:
        return "half_line" if not line.endswith("}") else "invalid_json"
    if not isinstance(value, dict):
        return "not_an_object"
    if file == "alpaca.json":
        if "output" not in value or "instruction" not in value:
            return "missing_field"
        return None if isinstance(value["output"], str) else "content_not_text"
    field, role, text = TURNS[file]
    if field not in value:
        return "missing_field"
    turns = value[field]
    if {turn[role] for turn in turns} - {"system", "user", "human", "assistant", "gpt"}:
        return "unknown_role"
    if turns[-1][role] in ("user", "human"):
        return "ends_without_reply"
    return None if all(isinstance(turn[text], str) for turn in turns) else "content_not_text"


def judged(user: str, reply: str) -> str | None:
    """What is wrong with a request or its reply."""
    if not reply.strip():
        return "empty_reply"
    if len(words(user)) > 1000:
        return "far_too_long"
    if len(words(user)) > 250:
        return "too_long"
    if re.search(r"\S@\S+\.\w", user):
        return "email_address"
    if re.search(r"AKIA|sk-test", user):
        return "secret_key"
    request = user.split("\n", 1)[1]
    if any(item["request"] == request for item in items()):
        return "leaked_item"
    if any(
        " ".join(words(item["request"])) in " ".join(words(request))
        for item in items()
        if len(words(item["request"])) >= 8
    ):
        return "leaked_item_edited"
    return "refusal" if not reply.startswith("{") else None


def test_the_truth_file_lists_every_planted_flaw() -> None:
    listed = {(flaw["file"], flaw["line"]): flaw["kind"] for flaw in truth()["flaws"]}
    assert len(listed) == len(truth()["flaws"])
    assert Counter(listed.values()) == truth()["planted"] == {kind: count for kind, (_, _, count, _) in KINDS.items()}
    visible = {place: kind for place, kind in listed.items() if kind not in ("near_duplicate", "conflict")}
    found = found_flaws()
    unlisted = {place: kind for place, kind in found.items() if visible.get(place) != kind}
    assert unlisted == {}
    assert {place: kind for place, kind in visible.items() if place not in found} == {}


def test_twins_are_where_the_truth_file_says() -> None:
    for flaw in truth()["flaws"]:
        if flaw["kind"] not in ("exact_duplicate", "near_duplicate", "conflict"):
            continue
        twin = flaw["twin"]
        here = user_and_reply(flaw["file"], json.loads(lines(flaw["file"])[flaw["line"]]))
        there = user_and_reply(twin["file"], json.loads(lines(twin["file"])[twin["line"]]))
        assert (here[0] == there[0]) == (flaw["kind"] != "near_duplicate"), flaw
        assert (here[1] == there[1]) == (flaw["kind"] != "conflict"), flaw
        if flaw["kind"] != "conflict":
            assert (flaw["file"], flaw["line"]) > (twin["file"], twin["line"]), flaw


def test_planted_addresses_and_keys_are_no_real_ones() -> None:
    text = "".join((RAW / file).read_text(encoding="utf-8") for file in FORMATS)
    hosts = set(re.findall(r"[\w.+-]+@([\w.-]+\w)", text))
    assert hosts == {"example.com", "example.org", "mail.example.net"}
    assert all("EXAMPLE" in key for key in re.findall(r"\b(?:AKIA|sk-test-)\w+", text))
