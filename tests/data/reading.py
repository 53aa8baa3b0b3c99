"""Reads the embedded tool-call data for the tests."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tool_calls.flaws import FORMATS

ROOT = Path(__file__).resolve().parents[2]
RAW = ROOT / "data" / "tool_calls" / "raw"
HELDOUT = ROOT / "evals" / "tool_calls_heldout"
GOLDEN = ROOT / "evals" / "tool_calls_golden"


Record = dict[str, Any]
TURNS = {"sharegpt.jsonl": ("conversations", "from", "value"), "messages.jsonl": ("messages", "role", "content")}


def lines(file: str) -> dict[int, str]:
    """A raw file's records as text, by line."""
    text = (RAW / file).read_text(encoding="utf-8").splitlines()
    return {number: line.rstrip(",") for number, line in enumerate(text, start=1) if line not in ("[", "]")}


def user_and_reply(file: str, value: Record) -> tuple[str, str]:
    """A well-formed record's request with its date line, and its reply."""
    if file == "alpaca.json":
        return value["instruction"], value["output"]
    field, _, text = TURNS[file]
    system, user, reply = (turn[text] for turn in value[field])
    assert system == "Answer with one JSON tool call."
    return user, reply


@cache
def truth() -> Record:
    return json.loads((RAW.parent / "truth.json").read_text(encoding="utf-8"))


@cache
def clean() -> list[tuple[str, str, Record, str]]:
    """Date line, request, call and phrasing of every record in which nothing was planted."""
    flawed = {(flaw["file"], flaw["line"]) for flaw in truth()["flaws"]}
    rows = []
    for file in FORMATS:
        for number, line in lines(file).items():
            if (file, number) not in flawed:
                value = json.loads(line)
                user, reply = user_and_reply(file, value)
                today, request = user.split("\n", 1)
                rows.append((today, request, json.loads(reply), value["phrasing"]))
    return rows


@cache
def items() -> list[Record]:
    return [json.loads(line) for line in (HELDOUT / "items.jsonl").read_text(encoding="utf-8").splitlines()]


@cache
def schemas() -> dict[str, Record]:
    return {tool["name"]: tool["parameters"] for tool in json.loads((GOLDEN / "tools.json").read_text())}
