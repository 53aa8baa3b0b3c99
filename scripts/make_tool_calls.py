#!/usr/bin/env python3
"""Make the embedded data: requests in plain language, each with one JSON tool call.

    python scripts/make_tool_calls.py    # data/tool_calls and evals/tool_calls_heldout
    python scripts/make_tool_calls.py --variant tests --seed 5 --out /tmp/made    # other rows and flaws

Equal seeds give equal bytes. Phrasings and values are text files under scripts/tool_calls/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shutil
import sys
from collections import Counter
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tool_calls.flaws import FORMATS, KINDS, NOTED, Planter, Raw
from tool_calls.grammar import sentence_case, words
from tool_calls.rows import TOOLS_FILE, Row, heldout_rows, training_rows

ROOT = Path(__file__).resolve().parents[1]
SEED, HELDOUT_SEED = 50, 1
CONTRACTIONS = {
    "I'm": "I am",
    "it's": "it is",
    "we're": "we are",
    "I've": "I have",
    "I'll": "I will",
    "don't": "do not",
    "can't": "cannot",
    "won't": "will not",
}
ABOUT = (
    "Flaws planted in raw/. `line` counts from 1. `outcome` and `reason` are what "
    "curation to 256 tokens makes of the row when tool_calls_heldout is among its tasks; `noted` is what it lists of a "
    "row that it keeps."
)
TASK = """\
name: tool_calls_heldout
version: 1
role: target
description: >-
  A request in plain language becomes one JSON tool call. 150 generated items whose phrasings, names, cities,
  restaurants, texts and shapes of order ids do not occur in the training data.
licence: Apache-2.0
items: items.jsonl
items_sha256: {sha256}
"""


@dataclass(frozen=True)
class Placed:
    """A record and the line of the file that it stands on, from 1."""

    raw: Raw
    file: str
    line: int


def main() -> None:
    """Parse the command line and write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument(
        "--variant", choices=("main", "tests"), default="main", help="which shapes the planted flaws take"
    )
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of rows")
    parser.add_argument(
        "--out", type=Path, default=ROOT, help="folder that gets data/tool_calls and evals/tool_calls_heldout"
    )
    arguments = parser.parse_args()
    counts = make(arguments.out, arguments.seed, arguments.variant, arguments.scale)
    for name, count in counts.items():
        print(f"{name:24} {count:>6,}")


def make(out: Path, seed: int = SEED, variant: str = "main", scale: float = 1.0) -> dict[str, int]:
    """Write everything under `out`; the counts of records by file and of planted flaws by kind."""
    heldout = heldout_rows(HELDOUT_SEED if variant == "main" else seed)
    rows = training_rows(seed, heldout, scale)
    rng = random.Random(f"{variant}-{seed}")
    planted = Planter(rows, heldout, variant, rng, scale).plant()
    placed = _write_raw(rows, planted, out / "data" / "tool_calls" / "raw", rng)
    truth = _truth(placed, seed, variant)
    path = out / "data" / "tool_calls" / "truth.json"
    path.write_text(json.dumps(truth, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    _write_heldout(heldout, out / "evals" / "tool_calls_heldout")
    return {**truth["records"], **truth["planted"]}


def _write_raw(rows: list[Row], planted: list[tuple[Raw, str]], folder: Path, rng: random.Random) -> list[Placed]:
    """Deal the clean rows out to the three files, mix the flawed ones in, and write one record a line."""
    folder.mkdir(parents=True, exist_ok=True)
    placed = []
    for number, (file, form) in enumerate(FORMATS.items()):
        records = [Raw(row) for row in rows[number :: len(FORMATS)]] + [
            raw for raw, wanted in planted if wanted == form
        ]
        rng.shuffle(records)
        lines = [raw.text(form) for raw in records]
        is_list = file.endswith(".json")
        text = "[\n" + ",\n".join(lines) + "\n]\n" if is_list else "\n".join(lines) + "\n"
        (folder / file).write_text(text, encoding="utf-8")
        placed += [Placed(raw, file, line) for line, raw in enumerate(records, start=2 if is_list else 1)]
    return placed


def _truth(placed: list[Placed], seed: int, variant: str) -> dict[str, Any]:
    """Every planted flaw with its place; of two alike rows, the later one counts as the duplicate."""
    homes = {id(record.raw.row): record for record in placed if record.raw.kind is None}
    flaws: list[dict[str, Any]] = []
    for record in placed:
        if record.raw.kind is None:
            continue
        outcome, reason, _, _ = KINDS[record.raw.kind]
        flaw, twin = record, homes.get(id(record.raw.twin))
        if record.raw.kind in ("exact_duplicate", "near_duplicate") and twin and _place(twin) > _place(record):
            flaw, twin = twin, record
        entry = {"file": flaw.file, "line": flaw.line, "kind": record.raw.kind, "outcome": outcome, "reason": reason}
        if record.raw.kind in NOTED:
            entry["noted"] = NOTED[record.raw.kind]
        if twin:
            entry["twin"] = {"file": twin.file, "line": twin.line}
        flaws.append(entry)
    flaws.sort(key=lambda entry: (entry["file"], entry["line"]))
    return {
        "about": ABOUT,
        "seed": seed,
        "variant": variant,
        "records": dict(Counter(record.file for record in placed)),
        "clean": sum(record.raw.kind is None for record in placed),
        "planted": {kind: sum(entry["kind"] == kind for entry in flaws) for kind in KINDS},
        "flaws": flaws,
    }


def _place(record: Placed) -> tuple[str, int]:
    """In the order in which curation reads: by file name."""
    return record.file, record.line


def _write_heldout(rows: list[Row], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    order = random.Random(0).sample(rows, len(rows))
    lines = [json.dumps(_item(number, row), ensure_ascii=False) for number, row in enumerate(order, start=1)]
    content = ("\n".join(lines) + "\n").encode()
    (folder / "items.jsonl").write_bytes(content)
    # Tools, prompt and scorers are the golden set's, so that the two scores can be read side by side.
    golden = (TOOLS_FILE.parent / "task.yaml").read_text(encoding="utf-8")
    head = TASK.format(sha256=hashlib.sha256(content).hexdigest())
    (folder / "task.yaml").write_text(head + golden[golden.index("tools: tools.json") :], encoding="utf-8")
    shutil.copyfile(TOOLS_FILE, folder / "tools.json")


def _item(number: int, row: Row) -> dict[str, Any]:
    return {
        "id": f"heldout-{number:03d}",
        "today": row.today,
        "request": row.request,
        "accepted": _accepted(row),
        "tags": _tags(row),
        "cluster": row.phrasing,
    }


def _accepted(row: Row) -> list[dict[str, Any]]:
    """The canonical answer, then other right ones: written-out contractions, `next Monday` read as the week after."""
    answers = [row.call]
    arguments = row.call.get("arguments", {})
    text = arguments.get("text", "")
    for short, long in CONTRACTIONS.items():
        text = re.sub(rf"\b{short}\b", long, text)
        text = re.sub(rf"\b{sentence_case(short)}\b", sentence_case(long), text)
    if text != arguments.get("text", ""):
        answers.append({**row.call, "arguments": {**arguments, "text": text}})
    if re.search(r"\bnext (mon|tue|wed|thu|fri|sat|sun)", row.request, re.I) and "date" in arguments:
        later = date.fromisoformat(arguments["date"]) + timedelta(days=7)
        answers += [
            {**answer, "arguments": {**answer["arguments"], "date": later.isoformat()}} for answer in list(answers)
        ]
    return answers


def _tags(row: Row) -> list[str]:
    length = len(words(row.request))
    arguments = row.call.get("arguments", {})
    full_date = "date" in arguments and arguments["date"][:4] in row.request
    tags = {
        "short": length <= 7,
        "long": length >= 20,
        "relative_date": "date" in arguments and not full_date,
        "no_tool": row.call["tool"] is None,
    }
    return [tag for tag, holds in tags.items() if holds]


if __name__ == "__main__":
    main()
