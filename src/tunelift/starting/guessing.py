"""What a path on the command line stands for as a source, and which of its fields are prompt and reply."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from tunelift.config.curation import SourceConfig
from tunelift.errors import UserError
from tunelift.stages.curate.detection import DETECTION_ROWS, shape_of
from tunelift.stages.curate.files import HUB, compression, kind_of
from tunelift.stages.curate.formats import FIELDS, parsed_json
from tunelift.stages.curate.read import parsed, read_source
from tunelift.stages.curate.rows import RawRow
from tunelift.stages.curate.tables import is_saved_folder

PROMPTS = (
    "prompt", "question", "query", "request", "instruction", "input", "source", "user", "utterance", "message",
    "sentence", "review", "document", "article", "body", "content", "text",
)  # fmt: skip
REPLIES = (
    "completion", "response", "answer", "reply", "output", "assistant", "target", "label", "labels", "class",
    "category", "intent", "sentiment", "summary", "highlights", "translation", "solution",
)  # fmt: skip
"""Names of the fields that are asked and learnt, the clearest first."""
QUESTIONS = ("prompt", "question", "query", "request", "instruction")
CONTEXTS = ("input", "context", "passage", "document", "article", "paragraph")
"""Names of the fields that may ask, and of those with the text that it is asked about, the clearest first."""
OPTIONS = "Say which is which: --prompt FIELD --completion FIELD."


def source_of(
    data: str,
    prompt: str | None = None,
    completion: str | None = None,
    split: str | None = None,
    config: str | None = None,
) -> SourceConfig:
    """The source that `data` is, with its format and fields.

    Args:
        data: A file, a folder, a glob, or hub:owner/name.
        prompt: The field that is asked, if the user says so.
        completion: The field that is learnt.
        split: Of a data set with several, if not `train`.
        config: Of a hub data set with several.

    Raises:
        UserError: it cannot be read, or nobody can tell its format, with the fields that it has.
    """
    if (prompt is None) != (completion is None):
        raise UserError("--prompt and --completion go together.", remedy=OPTIONS)
    path = _path(data)
    given = {name: value for name, value in (("split", split), ("config", config)) if value is not None}
    source = SourceConfig(path=path, **given)
    rows = islice((row for row in parsed(read_source(source)) if isinstance(row, RawRow)), 2000)
    first = [row.value for row in islice(rows, DETECTION_ROWS)]
    if not first:
        raise UserError(
            "None of its rows can be read.",
            where=path,
            remedy="Is it one JSON object a line (.jsonl), one JSON list (.json), or CSV with a header (.csv)?",
        )
    if prompt is not None and completion is not None:
        _check_there((prompt, completion), first, path)
        return _named(source, "prompt_completion", {"prompt": prompt, "completion": completion})
    votes = Counter(shape for row in first if (shape := shape_of(row)))
    if not votes:
        return _guessed(source, first)
    shape = votes.most_common(1)[0][0]
    if shape in ("messages", "sharegpt"):
        return _named(source, shape, {})
    return _asked(source, _lowered(first), first, *FIELDS[shape][:2])


def _path(data: str) -> str:
    """A folder stands for its files, if they are of one kind."""
    path = Path(data).expanduser()
    if data.startswith(HUB) or not path.is_dir() or is_saved_folder(path):
        return data
    # As a glob sees them, which knows hidden files no more than that .JSONL is .jsonl.
    files = [file for file in path.rglob("*") if file.is_file() and kind_of(file) and not _hidden(file, path)]
    suffixes = Counter(file.name[-len(f"{kind_of(file)}{compression(file)}") :] for file in files)
    folder = glob.escape(str(path))
    if not suffixes:
        raise UserError(
            "The folder holds no file that can be read.",
            where=data,
            remedy="Files may be .jsonl, .json, .csv (also as .gz or .zst) or .parquet.",
        )
    if len(suffixes) > 1:
        found = ", ".join(f"{count} {suffix}" for suffix, count in suffixes.most_common())
        raise UserError(
            f"The folder holds files of several kinds: {found}.",
            where=data,
            remedy=f"Name a file, or quote a glob: tunelift init '{folder}/**/*{suffixes.most_common(1)[0][0]}'.",
        )
    deep = any(file.parent != path for file in files)
    return str(Path(folder) / ("**/*" if deep else "*")) + next(iter(suffixes))


def _hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _guessed(source: SourceConfig, rows: Sequence[Mapping[str, Any]]) -> SourceConfig:
    names = _lowered(rows)
    for name in names:
        for ours, key in (("messages", "role"), ("conversations", "from")):
            if _share(rows, name, lambda value, key=key: _are_turns(value, key)) > 0.5:
                return _named(source, "messages" if ours == "messages" else "sharegpt", {ours: name})
    prompt = _first(PROMPTS, names, rows)
    completion = _first([name for name in REPLIES if prompt is None or name != names[prompt]], names, rows)
    if prompt is None or completion is None:
        fields = ", ".join(repr(name) for name in list(names)[:12])
        raise UserError(
            f"Which field is asked and which is learnt is not clear; the fields are {fields}.",
            where=source.path,
            remedy=OPTIONS,
        )
    return _asked(source, names, rows, prompt, completion)


def _asked(
    source: SourceConfig, names: Mapping[str, str], rows: Sequence[Mapping[str, Any]], prompt: str, completion: str
) -> SourceConfig:
    """With the text that the question is about, if there is one: without it, the model would learn to guess."""
    about = _about(names, rows, (prompt, completion))
    # Alpaca takes labels that are no text where another field is named for its output.
    learnt = completion != "output" or _is_text(rows, completion)
    if about is not None and "tools" not in names.values() and _is_text(rows, prompt) and learnt:
        if names[about] == "input":
            prompt = _first(("instruction",), names, rows) or prompt
        if names[prompt] in QUESTIONS:
            return _named(source, "alpaca", {"instruction": prompt, "input": about, "output": completion})
    if names[prompt] == "instruction":
        return _named(source, "alpaca", {"instruction": prompt, "output": completion})
    return _named(source, "prompt_completion", {"prompt": prompt, "completion": completion})


def _about(names: Mapping[str, str], rows: Sequence[Mapping[str, Any]], taken: Sequence[str]) -> str | None:
    """The field with the clearest of the names of `CONTEXTS`, if it holds text and nothing else."""
    for clear in CONTEXTS:
        for name, lower in names.items():
            values = [row.get(name) for row in rows]
            if (
                lower == clear
                and name not in taken
                and any(values)
                and all(isinstance(one, str | None) for one in values)
            ):
                return name
    return None


def _is_text(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    return _share(rows, name, lambda value: isinstance(value, str)) > 0.5


def _lowered(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """The names of all fields, with how they compare."""
    return {name: name.strip().lower() for row in rows for name in row}


def _first(wanted: Sequence[str], names: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> str | None:
    """The field with the clearest of these names whose values are text or, for labels, numbers."""
    for clear in wanted:
        for name, lower in names.items():
            if lower == clear and _share(rows, name, lambda value: isinstance(value, str | int | float)) > 0.5:
                return name
    return None


def _share(rows: Sequence[Mapping[str, Any]], name: str, holds: Any) -> float:
    return sum(bool(holds(row.get(name))) for row in rows) / len(rows)


def _are_turns(value: Any, key: str) -> bool:
    turns = parsed_json(value)
    return isinstance(turns, list) and bool(turns) and isinstance(turns[0], dict) and key in turns[0]


def _named(source: SourceConfig, shape: Any, fields: dict[str, str]) -> SourceConfig:
    named = {ours: own for ours, own in fields.items() if ours != own}
    return source.model_copy(update={"format": shape, "fields": named})


def _check_there(fields: Sequence[str], rows: Sequence[Mapping[str, Any]], path: str) -> None:
    for field in fields:
        if not any(field in row for row in rows):
            there = ", ".join(repr(name) for name in dict.fromkeys(name for row in rows for name in row))
            raise UserError(f"No row has the field {field!r}.", where=path, remedy=f"The fields are {there}.")
