"""The Berkeley Function-Calling Leaderboard's `simple` and `multiple` questions out of bfcl-eval's data files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from zipfile import ZipFile

from benchmarks.candidates import Candidate

DATA = "bfcl_eval/data"
JSON_TYPES = {"dict": "object", "float": "number", "tuple": "array"}
"""Python's names of types, which BFCL's schemas use, as JSON Schema's."""


def simple(wheel: ZipFile) -> Iterator[Candidate]:
    """One function to call, Python's flavour."""
    return _questions(wheel, "BFCL_v4_simple_python.json")


def multiple(wheel: ZipFile) -> Iterator[Candidate]:
    """Two to four functions, of which one serves."""
    return _questions(wheel, "BFCL_v4_multiple.json")


def read(wheel: ZipFile, file: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """A file's questions with their answers, as they are."""
    answers = {row["id"]: row for row in _rows(wheel, f"{DATA}/possible_answer/{file}")}
    for row in _rows(wheel, f"{DATA}/{file}"):
        yield row, answers[row["id"]]


def _questions(wheel: ZipFile, file: str) -> Iterator[Candidate]:
    for row, answer in read(wheel, file):
        [[message]] = row["question"]
        [call] = answer["ground_truth"]
        [(name, values)] = call.items()
        functions = [{**function, "parameters": json_schema(function["parameters"])} for function in row["function"]]
        fields = {
            "id": row["id"],
            "request": message["content"],
            "functions": functions,
            "accepted": [{"tool": name, "arguments": values}],
        }
        yield Candidate(fields, group=name)


def json_schema(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter's description with JSON Schema's names of types; `any` allows anything."""
    written = dict(schema)
    kind = JSON_TYPES.get(schema.get("type", "any"), schema.get("type", "any"))
    written["type"] = kind
    if kind == "any":
        del written["type"]
    if "properties" in schema:
        written["properties"] = {name: json_schema(part) for name, part in schema["properties"].items()}
    if "items" in schema:
        written["items"] = json_schema(schema["items"])
    return written


def _rows(wheel: ZipFile, member: str) -> Iterator[dict[str, Any]]:
    return (json.loads(line) for line in wheel.read(member).decode().split("\n") if line.strip())
