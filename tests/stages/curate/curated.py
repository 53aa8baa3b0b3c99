"""What a curation leaves, made up: every file in its form, with a row for every reason, and counts that add up."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tunelift.stages.curate.histogram import histogram

SPLITS = ("train", "validation", "test")
SYSTEM = "Answer with one JSON tool call."
MESSAGES, ALPACA = "data/raw/messages.jsonl", "data/raw/alpaca.json"
EVIDENCE: dict[str, dict[str, Any]] = {
    "exact_duplicate": {"duplicate_of": f"{MESSAGES}:1"},
    "near_duplicate": {"duplicate_of": f"{MESSAGES}:2", "jaccard": 0.83},
    "contaminated": {"task": "tool_calls_heldout", "item": 20, "overlap": 1.0, "span": "rinse the aquarium filter"},
    "too_long": {"tokens": 1_240, "limit": 256, "supervised_tokens": 31},
    "refusal": {"found": "I'm sorry, but I can't help with that"},
    "cut_off": {"detail": "the JSON is not closed"},
    "wrong_language": {"language": "de", "score": 0.98, "allowed": ["en"]},
    "pii_secret": {"message": 1, "masked": "AKIA…MPLE"},
    "not_sampled": {"keep_rows": 140},
    "empty_reply": {"message": 2},
}
OUT_OF_THE_DATA = {"span", "found", "masked"}
UNREADABLE = {
    "invalid_json": ("$", "unexpected end of data, at column 31", '{"messages": [{"role": "user", '),
    "missing_field": ("$.output", "the field 'output' is missing", '{"instruction": "Lights at 20%.", "input": ""}'),
    "wrong_type": ("$.messages[1].content", "is a number, must be text", '{"messages": [{"role": "user"}, 7]}'),
}
ROOMS = ("kitchen", "bedroom", "office", "hallway", "garage", "attic")


def make_curated(out: Path, rows: int = 160, text: str = "") -> dict[str, Any]:
    """Write the files of a curation that keeps `rows` rows and drops each of the reasons above a few times.

    Args:
        text: Stands in every text that comes out of the data: hostile, long, or nothing.

    Returns:
        The content of stats.json.
    """
    out.mkdir(parents=True, exist_ok=True)
    made: dict[str, list[dict[str, Any]]] = {name: [] for name in (*SPLITS, "dropped", "quarantine", "pii", "edits")}
    for number in range(rows):
        split = "test" if number % 20 == 19 else "validation" if number % 10 == 9 else "train"
        made[split].append(_kept(number, text))
    line = rows
    for index, (reason, evidence) in enumerate(EVIDENCE.items()):
        for copy in range(2 + index):
            line += 1
            evidence = {key: value + text if key in OUT_OF_THE_DATA else value for key, value in evidence.items()}
            row = {"messages": _messages(2 if reason == "near_duplicate" else line, text, f"dropped {copy}")}
            made["dropped"].append({"source": f"{MESSAGES}:{line}", "reason": reason, "evidence": evidence, "row": row})
    for index, (reason, (path, detail, raw)) in enumerate(UNREADABLE.items()):
        for copy in range(1 + index):
            entry = {"file": ALPACA, "line": 1 + 10 * index + copy, "path": path, "reason": reason}
            made["quarantine"].append({**entry, "detail": detail + text, "raw": raw + text})
    for number, masked in enumerate(("l…@example.com", "g…@example.org", "n…@example.net")):
        found = {"kind": "email", "action": "redact", "message": 1, "masked": masked + text}
        made["pii"].append({"source": f"{MESSAGES}:{3 + number}", **found})
    for number in (8, 9):
        change = {"message": 1, "before": f"donâ€™t{text}", "after": f"don’t{text}"}
        made["edits"].append({"source": f"{MESSAGES}:{number}", **change})
    near = [entry["source"] for entry in made["dropped"] if entry["reason"] == "near_duplicate"]
    made["duplicates"] = [
        *({"kept": f"{MESSAGES}:2", "source": place, "jaccard": 0.83, "outcome": "dropped"} for place in near),
        {"kept": f"{MESSAGES}:4", "source": f"{MESSAGES}:10", "jaccard": 0.71, "outcome": "values_differ"},
        {"kept": f"{MESSAGES}:5", "source": f"{MESSAGES}:6", "jaccard": 0.64, "outcome": "reported"},
    ]
    made["conflicts"] = [
        {
            "prompt": f"Turn the kitchen light off{text}"[:300],
            "rows": [
                {"source": f"{MESSAGES}:{number}", "split": "train", "reply": f'{{"on": {number == 7}}}{text}'[:300]}
                for number in (7, 8)
            ],
        }
    ]
    for name, entries in made.items():
        (out / f"{name}.jsonl").write_bytes(b"".join(orjson.dumps(entry) + b"\n" for entry in entries))
    stats = _stats(made)
    (out / "stats.json").write_bytes(orjson.dumps(stats, option=orjson.OPT_INDENT_2) + b"\n")
    return stats


def _messages(number: int, text: str, more: str = "") -> list[dict[str, str]]:
    room, at = ROOMS[number % len(ROOMS)], f"{7 + number % 12}:{number * 7 % 60:02}"
    ask = f"Today is Monday 2027-04-05.\nPlease switch the light in the {room} {'on' if number % 2 else 'off'} at {at}"
    reply = json.dumps({"tool": "control_device", "arguments": {"room": room, "on": bool(number % 2), "time": at}})
    return [
        {"role": "system", "content": SYSTEM},
        {"role": "user", "content": f"{ask}{', ' if more else ''}{more}{text}"},
        {"role": "assistant", "content": reply + text},
    ]


def _kept(number: int, text: str) -> dict[str, Any]:
    messages = _messages(number, text)
    row = {
        "id": hashlib.sha256(str(number).encode()).hexdigest()[:16],
        "messages": messages,
        "source": f"{MESSAGES}:{number + 1}",
        "group": hashlib.sha256(str(number % 40).encode()).hexdigest()[:16],
        "cluster": hashlib.sha256(str(number % 20).encode()).hexdigest()[:16],
        "tokens": 60 + number * 37 % 140 + (900 if number % 41 == 0 else 0),
        "supervised_tokens": 20 + number * 13 % 25,
        "training_rows": 1,
    }
    if number in (2, 3, 4):
        row["edits"] = ["unicode", "email"]
    if number == 5:
        row["flags"] = ["refusal"]
    return row


def _stats(made: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    kept = [row for split in SPLITS for row in made[split]]
    dropped = Counter(entry["reason"] for entry in made["dropped"])
    quarantined = Counter(entry["reason"] for entry in made["quarantine"])
    read = len(kept) + dropped.total() + quarantined.total()
    lengths = {
        split: {key: np.array([row[key] for row in made[split]]) for key in ("tokens", "supervised_tokens")}
        for split in SPLITS
    }
    return {
        "rows": {
            "read": read,
            "kept": len(kept),
            "dropped": dict(dropped.most_common()),
            "quarantined": dict(quarantined.most_common()),
        },
        "splits": {
            split: {
                "rows": len(made[split]),
                **{key: int(values.sum()) for key, values in lengths[split].items()},
                "training_rows": len(made[split]),
            }
            for split in SPLITS
        },
        "dropped_supervised_tokens": {reason: 31 * count for reason, count in dropped.most_common()},
        "truncation": {
            "max_length": 256,
            "rows": dropped["too_long"],
            "supervised_tokens": 31 * dropped["too_long"],
            "ratio": 0.0134,
            "ratio_by_max_length": {"256": 0.0134, "1240": 0.0},
            "longest_row": 1240,
        },
        "contamination": {"tool_calls_heldout": 0.16, "tool_calls_golden": 0.0},
        "contaminated_items": {
            "tool_calls_heldout": {"items": 150, "found": 24},
            "tool_calls_golden": {"items": 60, "found": 0},
        },
        "sources": {
            MESSAGES: {
                "format": "messages",
                "read": len(kept) + dropped.total(),
                "kept": len(kept),
                "dropped": dict(dropped.most_common()),
                "quarantined": {},
            },
            ALPACA: {
                "format": "alpaca",
                "read": quarantined.total(),
                "kept": 0,
                "dropped": {},
                "quarantined": dict(quarantined.most_common()),
            },
        },
        "lengths": {
            split: {
                key: {name: int(np.quantile(values, share)) for name, share in QUANTILES.items()} if len(values) else {}
                for key, values in both.items()
            }
            for split, both in lengths.items()
        },
        "histograms": {
            split: {key: histogram(values) for key, values in both.items()} for split, both in lengths.items()
        },
        "edited": {"unicode": 3, "email": 3},
        "flagged": {"refusal": 1, "foreign_mark": 1},
        "foreign_marks": {"</s>": 2, "[/INST]": 1},
        "perhaps_placeholders": {"None": 2},
        "redacted_replies": {"replies": 2, "test_answers": 1, "placeholders": {"[EMAIL_1]": 2}},
        "pii": {
            "email": {
                "action": "redact",
                "rows": 3,
                "found": 3,
                "samples": [entry["masked"] for entry in made["pii"]],
            },
            "secret": {"action": "drop", "rows": dropped["pii_secret"], "found": 9, "samples": ["AKIA…MPLE"]},
        },
        "duplicates": {
            "exact": dropped["exact_duplicate"],
            "near": dropped["near_duplicate"],
            "values_differ": 1,
            "clusters": 3,
            "largest": 1 + dropped["near_duplicate"],
        },
        "conflicts": {"prompts": len(made["conflicts"]), "rows": 2},
        "groups": {
            "count": 40,
            "in_split": {split: len(np.unique(both["tokens"])) for split, both in lengths.items()},
            "largest": 0.025,
            "joined": {
                "by": "prompts",
                "rows": 6,
                "groups": 3,
                "example": ["data/raw/messages.jsonl:9", "data/raw/messages.jsonl:12"],
            },
        },
        "leakage": {
            "threshold": 0.6,
            "compared": 812,
            "moved": 3,
            "pairs": 0,
            "prompts": {
                "handling": "join",
                "ngram": 8,
                "overlap": 0.5,
                "held_out": len(made["validation"]) + len(made["test"]),
                "in_other_split": {"validation": 0, "test": 0},
                "moved": 2,
                "dropped": 0,
                "boilerplate": 0.1204,
                "close": {"prompts": len(made["test"]), "found": 2, "share": 0.25, "ngram": 3, "overlap": 0.5},
            },
        },
        "mix": {
            MESSAGES: {"weight": 3.0, "passed": len(kept) + dropped["not_sampled"], "kept": len(kept)},
            ALPACA: {"weight": 1.0, "passed": 0, "kept": 0},
        },
    }


QUANTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
