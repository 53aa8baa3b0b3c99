"""Wrong input through the real command: one message that names it, with a remedy; mended, the same project works."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.command import CURATE, DONE, USER, copied, good_rows, is_told, lines, tunelift
from tests.project import write_lines

OFFLINE = {"HF_HUB_OFFLINE": "1"}
REFUSED = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "0"}
"""Nothing listens there."""
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")


@dataclass(frozen=True)
class Fault:
    """How to break a project, and what the command says then."""

    name: str
    breaks: Callable[[Path], object]
    says: tuple[str, ...]
    arguments: tuple[str, ...] = CURATE
    environment: dict[str, str] = field(default_factory=dict)


def long_row(folder: Path) -> dict:
    """A good row with a question of some 1,500 tokens."""
    row = json.loads(json.dumps(good_rows(folder)[0]))
    row["messages"][1]["content"] += " please" * 700
    return row


def edit(path: str, old: str, new: str) -> Callable[[Path], object]:
    """Replace `old`, which must be there, in a file of the project."""

    def breaks(folder: Path) -> None:
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new, 1))

    return breaks


def gone(*paths: str) -> Callable[[Path], object]:
    def breaks(folder: Path) -> None:
        for path in paths:
            whole = folder / path
            shutil.rmtree(whole) if whole.is_dir() else whole.unlink()

    return breaks


def unreadable(path: str) -> Callable[[Path], object]:
    """A file that opens and cannot be read, even by root."""

    def breaks(folder: Path) -> None:
        (folder / path).unlink()
        (folder / path).symlink_to("/proc/self/mem")

    return breaks


def folder_instead(path: str) -> Callable[[Path], object]:
    def breaks(folder: Path) -> None:
        (folder / path).unlink()
        (folder / path).mkdir()

    return breaks


def cut(path: str, keep: int) -> Callable[[Path], object]:
    """The first `keep` bytes; with a negative number, all but so many."""
    return lambda folder: (folder / path).write_bytes((folder / path).read_bytes()[:keep])


def written(path: str, content: str | bytes) -> Callable[[Path], object]:
    raw = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / path).write_bytes(raw)


def nothing(folder: Path) -> None:
    """The fault is in the command or its surroundings."""


def pickled(folder: Path) -> None:
    (folder / "model/model.safetensors").rename(folder / "model/pytorch_model.bin")


def sees(folder: Path) -> None:
    path = folder / "model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"vision_config": {"hidden_size": 32}}))


def runs_is_a_file(folder: Path) -> None:
    shutil.rmtree(folder / "runs")
    (folder / "runs").write_text("a note")


CONFIG_FAULTS = [
    Fault(
        "no config", nothing, ("There is no config cofig.yaml.", "Did you mean config.yaml?"), ("plan", "cofig.yaml")
    ),
    Fault("a folder as config", nothing, ("data is a folder, not a config.",), ("plan", "data")),
    Fault("unreadable config", unreadable("config.yaml"), ("Cannot read config.yaml: Input/output error.",)),
    Fault(
        "config in UTF-16", written("config.yaml", "name: x".encode("utf-16")), ("config.yaml:1: Not UTF-8: byte 0xff",)
    ),
    Fault("no YAML", edit("config.yaml", "name: tiny", "name: [tiny"), ("config.yaml:2: Not valid YAML",)),
    Fault(
        "unknown key",
        edit("config.yaml", "learning_rate", "lerning_rate"),
        ("train.lerning_rate: unknown key; did you mean `learning_rate`?",),
    ),
    Fault(
        "wrong type",
        edit("config.yaml", "epochs: 0.5", "epochs: many"),
        ("train.epochs: expected a number, got 'many'",),
    ),
    Fault(
        "a number that is none",
        nothing,
        ("train.learning_rate: expected a finite number, got .inf.",),
        (*CURATE, "train.learning_rate=.inf"),
    ),
    Fault(
        "no micro-batch",
        nothing,
        ("train.micro_batch_size: expected a value greater than or equal to 1 or 'auto', got 0.",),
        (*CURATE, "train.micro_batch_size=0"),
    ),
    Fault(
        "override without a value",
        nothing,
        ("command line: 'train.epochs' is not `section.field=value`.",),
        (*CURATE, "train.epochs"),
    ),
    Fault(
        "override of nothing",
        nothing,
        ("command line, train.epoch=2: train.epoch: unknown key; did you mean `epochs`?",),
        (*CURATE, "train.epoch=2"),
    ),
    Fault(
        "a row longer than the model can read",
        nothing,
        ("train.max_length=9999 is longer than the model's context of 512.", "Set train.max_length to 512"),
        (*CURATE, "train.max_length=9999"),
    ),
    Fault(
        "two tasks of one name",
        nothing,
        ("Two of evaluate.tasks have the name 'lights'.",),
        (*CURATE, "evaluate.tasks=[task, task]"),
    ),
]
MODEL_FAULTS = [
    Fault("no model", gone("model"), ("model.id='model' is no folder here and no hub id", "Check the path")),
    Fault(
        "a name that is no hub id",
        nothing,
        ("model.id=my model/x: This is no id of the hub: ",),
        (*CURATE, "model.id=my model/x"),
    ),
    Fault(
        "a file as model",
        nothing,
        ("model.id='data/rows.jsonl' is a file, not a model's folder.",),
        (*CURATE, "model.id=data/rows.jsonl"),
    ),
    Fault("no config.json", gone("model/config.json"), ("model/config.json: The file is missing.",)),
    Fault(
        "half a config.json",
        cut("model/config.json", 40),
        ("model/config.json: The file is damaged", "download it again"),
    ),
    Fault("a model for images", sees, ("model.id=model reads more than text", "gemma-3-1b-it")),
    Fault("pickled weights", pickled, ("only pickled ones, which can run code", "save_pretrained()")),
    Fault("no weights", gone("model/model.safetensors"), ("model: The folder holds no *.safetensors weights.",)),
    Fault(
        "weights that are none",
        written("model/model.safetensors", "version https://git-lfs.github.com/spec/v1\n"),
        ("model/model.safetensors: The weights file is damaged", "download it again"),
    ),
    Fault(
        "half of the weights",
        cut("model/model.safetensors", -50_000),
        ("model/model.safetensors: The weights file is damaged: it has", "bytes and should have"),
    ),
    Fault(
        "weights that cannot be read",
        folder_instead("model/model.safetensors"),
        ("model/model.safetensors", "cannot be read"),
    ),
    Fault(
        "no chat template", gone("model/chat_template.jinja"), ("model: The model has no chat template.", "instruct")
    ),
    Fault(
        "no tokenizer",
        gone("model/tokenizer.json", "model/tokenizer_config.json"),
        ("model: The folder holds no tokenizer.", "Copy tokenizer.json"),
    ),
    Fault(
        "half a tokenizer",
        cut("model/tokenizer.json", 500),
        ("model: The model's tokenizer cannot be loaded: ", "Copy tokenizer.json"),
    ),
    Fault(
        "a chat template that is none",
        written("model/chat_template.jinja", "{% for message in %}"),
        ("No row is left after curation.", "template_refused: 64 rows, first data/rows.jsonl:1", "The chat template"),
    ),
    Fault(
        "hub id, offline",
        nothing,
        ("model.id=owner/absent: The hub cannot be reached (HF_HUB_OFFLINE is set)", "local folder"),
        (*CURATE, "model.id=owner/absent"),
        OFFLINE,
    ),
    Fault(
        "hub id, connection refused",
        nothing,
        ("model.id=owner/absent: The hub cannot be reached (ConnectError", "local folder"),
        (*CURATE, "model.id=owner/absent"),
        REFUSED,
    ),
]
DATA_FAULTS = [
    Fault("no data file", gone("data/rows.jsonl"), ("data/rows.jsonl: There is no such file.",)),
    Fault(
        "data file misnamed",
        lambda folder: (folder / "data/rows.jsonl").rename(folder / "data/row.jsonl"),
        ("data/rows.jsonl: There is no such file.", "Did you mean data/row.jsonl?"),
    ),
    Fault(
        "unreadable data",
        unreadable("data/rows.jsonl"),
        ("data/rows.jsonl: The file cannot be read (Input/output error).",),
    ),
    Fault("a folder as data", folder_instead("data/rows.jsonl"), ("data/rows.jsonl: The folder is no data set",)),
    Fault("empty data file", written("data/rows.jsonl", ""), ("data/rows.jsonl: The source has no rows.",)),
    Fault(
        "data in UTF-16",
        lambda folder: (folder / "data/rows.jsonl").write_text((folder / "data/rows.jsonl").read_text(), "utf-16"),
        ("data/rows.jsonl: The file is not UTF-8 text but UTF-16.", "iconv -f UTF-16 -t UTF-8 data/rows.jsonl"),
    ),
    Fault(
        "data of an unknown kind",
        nothing,
        ("config.yaml: Files of the type '.yaml' cannot be read.",),
        (*CURATE, "curate.sources=[{path: config.yaml}]"),
    ),
    Fault(
        "hub data set, offline",
        nothing,
        ("hub:owner/absent: The hub cannot be reached (HF_HUB_OFFLINE is set)", "name a file"),
        (*CURATE, "curate.sources=[{path: 'hub:owner/absent'}]"),
        OFFLINE,
    ),
    Fault(
        "hub data set, connection refused",
        nothing,
        ("hub:owner/absent: The hub cannot be reached", "refused", "name a file"),
        (*CURATE, "curate.sources=[{path: 'hub:owner/absent'}]"),
        REFUSED,
    ),
    Fault(
        "mostly broken lines",
        lambda folder: write_lines(folder / "data/rows.jsonl", [*good_rows(folder)[:20], *['{"messages": [{"ro'] * 44]),
        ("44 of 64 rows cannot be read", "invalid_json: 44 rows, first data/rows.jsonl:21", "quarantine.jsonl"),
    ),
    Fault(
        "wrong shape",
        lambda folder: write_lines(folder / "data/rows.jsonl", [{"text": f"row {n}"} for n in range(20)]),
        ("data/rows.jsonl", "'text'"),
    ),
    Fault(
        "nothing left after curation",
        nothing,
        (
            "No row is left after curation.",
            "too_long: 64 rows, first data/rows.jsonl:1 (tokens ",
            "Raise train.max_length.",
        ),
        (*CURATE, "train.max_length=16"),
    ),
    Fault(
        "one row longer than the limit",
        lambda folder: write_lines(folder / "data/rows.jsonl", [*good_rows(folder), long_row(folder)]),
        (
            "1 rows are longer than train.max_length=256. They hold ",
            " data/rows.jsonl:65: ",
            "lost by train.max_length: 256: ",
            "; or drop them by setting train.max_truncated_ratio to 0.",
        ),
    ),
    Fault(
        "too few rows for a validation split",
        lambda folder: write_lines(folder / "data/rows.jsonl", good_rows(folder)[:2]),
        ("The validation split is empty: none of the 2 rows kept fell into it.", "raise curate.split.validation"),
        (*CURATE, "curate.split.validation=0.01"),
    ),
]
TASK_FAULTS = [
    Fault("no task", gone("task"), ("task/task.yaml: The file is missing.", "correct evaluate.tasks")),
    Fault(
        "changed items",
        edit("task/items.jsonl", "kitchen", "Kitchen"),
        ("task/items.jsonl: The items file changed: its sha256 is", "Restore the file"),
    ),
    Fault("half an item", cut("task/items.jsonl", -20), ("task/items.jsonl:5: This is no JSON", "Correct the line")),
    Fault(
        "an item without an answer",
        edit("task/items.jsonl", '"accepted"', '"acepted"'),
        ("task/items.jsonl:1: The item has no list `accepted`", "Is `acepted` meant"),
    ),
    Fault(
        "an unknown scorer",
        edit("task/task.yaml", "- exact_match", "- exact_mach"),
        ("task/task.yaml:16: There is no scorer `exact_mach`.", "Did you mean `exact_match`?"),
    ),
]
FOLDER_FAULTS = [
    Fault("a file instead of runs/", runs_is_a_file, ("runs: A file stands where a folder is needed.", "Move it away")),
]


SLOW = {
    "half a tokenizer",
    "a chat template that is none",
    "empty data file",
    "wrong shape",
    "too few rows for a validation split",
}
"""They load the tokenizer first; the tests of curation hold them too."""


@linux_only
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(fault, id=fault.name.replace(" ", "_"), marks=[pytest.mark.slow] if fault.name in SLOW else [])
        for fault in (*CONFIG_FAULTS, *MODEL_FAULTS, *DATA_FAULTS, *TASK_FAULTS, *FOLDER_FAULTS)
    ],
)
def test_one_message_names_the_fault_and_the_mended_project_works(fault: Fault, curated: Path, project: Path) -> None:
    fault.breaks(project)
    is_told(tunelift(project, *fault.arguments, **fault.environment), USER, *fault.says)
    if fault.breaks is not nothing:
        copied(curated, project)
        mended = tunelift(project, *CURATE)
        assert mended.returncode == DONE, mended.stderr


def test_half_a_json_line_is_set_aside_with_its_place_and_the_run_goes_on(project: Path) -> None:
    write_lines(project / "data/rows.jsonl", [*good_rows(project)[:63], '{"messages": [{"role": "user", "con'])
    result = tunelift(project, *CURATE)
    assert result.returncode == DONE, result.stderr
    assert "quarantined: invalid_json" in result.stderr
    (dataset,) = (project / "runs").glob("tiny-*/stages/curate")
    (aside,) = map(json.loads, lines(dataset / "quarantine.jsonl"))
    assert (aside["file"], aside["line"], aside["raw"]) == (
        "data/rows.jsonl",
        64,
        '{"messages": [{"role": "user", "con',
    )
