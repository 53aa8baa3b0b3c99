"""A small project: a tiny model, a few rows, a task and a config. The whole pipeline runs on it in a minute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from tests.tiny import make_tiny_model
from tests.wording import own_words
from tunelift.artifacts.records import file_sha256
from tunelift.runtime import worker

ROOMS = ("kitchen", "bedroom", "office", "hallway", "garage")
TOOLS = [
    {
        "name": "switch",
        "description": "Switch a light.",
        "parameters": {
            "type": "object",
            "properties": {"room": {"type": "string", "enum": list(ROOMS)}, "on": {"type": "boolean"}},
            "required": ["room", "on"],
            "additionalProperties": False,
        },
    }
]
SYSTEM = "Answer with one JSON tool call."


def make_project(folder: Path, **sections) -> Path:
    """Write the project below `folder` and return its config; `sections` replace parts of the config."""
    make_tiny_model(folder / "model")
    (folder / "data").mkdir()
    rows = [_row(number) for number in range(64)]
    write_lines(folder / "data/rows.jsonl", [*rows, "{broken", {"messages": []}])
    _saved_dataset(folder / "data/saved", [_row(number) for number in range(64, 72)])
    _task(folder / "task")
    _guards(folder)
    config = {
        "name": "tiny",
        "model": {"id": "model"},
        "curate": {
            "sources": [{"path": "data/rows.jsonl"}, {"path": "data/saved"}],
            "split": {"validation": 0.2, "test": 0.15},
        },
        "train": {
            "adapter": {"rank": 4, "alpha": 8},
            "learning_rate": 1e-3,
            "epochs": 0.5,
            "global_batch_size": 4,
            "max_length": 256,
            "eval_steps": 3,
            "save_steps": 2,
            "eval_rows": 8,
        },
        "merge": {"parity_rows": 4},
        "engine": {"cpu_kv_cache_gib": 1, "max_num_seqs": 8},
        "evaluate": {
            "tasks": ["task", {"from_split": "test", "max_tokens": 8}, "colours", "prose"],
            "few_shot": 2,
            "max_items": 5,
            "noise_floor": True,
        },
        "report": {"bootstrap_samples": 200},
        "tracking": {"wandb": "off"},
    }
    for name, values in sections.items():
        config[name] = {**config[name], **values} if isinstance(config.get(name), dict) else values
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


def call_here(target: str, arguments: dict[str, Any], *_: object, **__: object) -> dict[str, Any]:
    """Instead of a process of its own, which takes seconds to start."""
    return worker.call(target, arguments)


def _row(number: int) -> dict:
    room, on = ROOMS[number % len(ROOMS)], number % 2 == 0
    reply = json.dumps({"tool": "switch", "arguments": {"room": room, "on": on}})
    ask = f"Request {number}: light in the {room} {'on' if on else 'off'}, for {own_words(number)}"
    return {
        "messages": [
            {"role": "system", "content": SYSTEM},
            {"role": "user", "content": ask},
            {"role": "assistant", "content": reply},
        ]
    }


def _task(folder: Path) -> None:
    folder.mkdir()
    (folder / "tools.json").write_text(json.dumps(TOOLS))
    items = [
        {
            "id": f"item-{number}",
            "request": f"Light {number} {room} please",
            "accepted": [{"tool": "switch", "arguments": {"room": room, "on": True}}],
        }
        for number, room in enumerate(ROOMS)
    ]
    write_lines(folder / "items.jsonl", items)
    task = {
        "name": "lights",
        "version": 1,
        "role": "target",
        "description": "Lights on and off.",
        "licence": "Apache-2.0",
        "items": "items.jsonl",
        "items_sha256": file_sha256(folder / "items.jsonl"),
        "tools": "tools.json",
        "prompt": {"system": SYSTEM, "user": "{request}", "instructed": "Use a tool:\n{tools}"},
        "scorers": ["exact_match", "valid_json", "schema_valid", "right_tool", "field_f1"],
        "primary": "exact_match",
        "max_tokens": 8,
    }
    (folder / "task.yaml").write_text(yaml.safe_dump(task, sort_keys=False))


def _guards(folder: Path) -> None:
    """A multiple-choice task and a text, on which a tuned model must not be worse."""
    colours = [
        {"id": f"c{number}", "thing": thing, "choices": ["red", "green"], "right": number % 2, "kind": thing[0]}
        for number, thing in enumerate(("blood", "grass", "a fire engine", "a lime", "a ruby", "a frog"))
    ]
    prose = [
        {"id": f"p{number}", "text": f"It rained for {number + 2} days, and the river rose over the meadow. " * 2}
        for number in range(6)
    ]
    about = {"version": 1, "role": "guard", "licence": "Apache-2.0", "items": "items.jsonl"}
    choice = {
        "kind": "choice",
        "description": "The colour of a thing.",
        "prompt": {"user": "Which colour has {thing}?", "choice": "{choice}"},
        "scorers": ["accuracy", "accuracy_norm"],
        "primary": "accuracy",
        "slices": ["kind"],
        "margin": 0.1,
    }
    text = {
        "kind": "perplexity",
        "description": "Plain prose.",
        "scorers": ["bits_per_byte"],
        "primary": "bits_per_byte",
        "margin": 0.05,
    }
    for name, items, task in (("colours", colours, choice), ("prose", prose, text)):
        (folder / name).mkdir()
        write_lines(folder / name / "items.jsonl", items)
        task |= {"name": name, **about, "items_sha256": file_sha256(folder / name / "items.jsonl")}
        (folder / name / "task.yaml").write_text(yaml.safe_dump(task, sort_keys=False))


def _saved_dataset(folder: Path, rows: list[dict]) -> None:
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(str(folder))


def write_lines(path: Path, rows: list) -> None:
    """JSON Lines; a string is written as it is."""
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
