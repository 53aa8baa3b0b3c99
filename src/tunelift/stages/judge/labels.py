"""The judge's examination paper: items that people have labelled, read and checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from tunelift.artifacts.provenance import FileHashes
from tunelift.config.evaluation import JudgeConfig
from tunelift.config.section import Section
from tunelift.errors import UserError

SHAPES = (
    'Write {"id", "request", "output", "good": true|false} for an answer, or '
    '{"id", "request", "a", "b", "better": "a"|"b"|"tie"} for a pair; docs/judging.md says more.'
)


class _Labelled(BaseModel):
    # No `Section`: its check of each field hides from pydantic that a list came out of JSON, so that no tuple took it.
    model_config = Section.model_config


class LabelledAnswer(_Labelled):
    """One answer, good or not."""

    id: str
    """Unlike that of any other item."""
    request: str
    """What was asked."""
    accepted: tuple[Any, ...] = ()
    """Right answers that the judge is shown as reference."""
    output: str
    """The answer."""
    good: bool
    """Whether people find it good."""
    arm: str | None = None
    """Whose answer it is; the judge does not see it."""

    @property
    def label(self) -> str:
        """What a right verdict is."""
        return "good" if self.good else "bad"


class LabelledPair(_Labelled):
    """Two answers to one request."""

    id: str
    """Unlike that of any other item."""
    request: str
    """What was asked."""
    accepted: tuple[Any, ...] = ()
    """Right answers that the judge is shown as reference."""
    a: str
    """One answer."""
    b: str
    """The other."""
    better: Literal["a", "b", "tie"]
    """Which of them people find better."""


@dataclass
class Labels:
    """The items of both kinds, in the file's order."""

    answers: list[LabelledAnswer] = field(default_factory=list)
    pairs: list[LabelledPair] = field(default_factory=list)


def calibration_fingerprint(config: JudgeConfig, hashes: FileHashes) -> str:
    """sha256 of the labelled items.

    Raises:
        UserError: the file is missing.
    """
    path = Path(config.calibration.items)
    try:
        return hashes.sha256(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def read_labels(path: Path) -> Labels:
    """Read the labelled items.

    Raises:
        UserError: a missing file or a malformed line, with file, line and remedy.
    """
    import orjson

    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise _unreadable(path, error) from error
    labels = Labels()
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise UserError(f"This is no JSON: {error}.", where=where, remedy=SHAPES) from error
        if not isinstance(row, dict):
            raise UserError("The line is no JSON object.", where=where, remedy=SHAPES)
        item = _item(row, line, where)
        first = seen.setdefault(item.id, number)
        if first != number:
            raise UserError(
                f"The id {item.id!r} stands on line {first} already.",
                where=where,
                remedy="Give each item an id of its own.",
            )
        if isinstance(item, LabelledPair):
            labels.pairs.append(item)
        else:
            labels.answers.append(item)
    return labels


def _item(row: dict[str, Any], line: bytes, where: str) -> LabelledAnswer | LabelledPair:
    kind: type[LabelledAnswer | LabelledPair] = LabelledPair if {"a", "b", "better"} & set(row) else LabelledAnswer
    try:
        # Strict: "false" in quotes would become a label.
        return kind.model_validate_json(line, strict=True)
    except ValidationError as error:
        raise UserError(_first_problem(error.errors()), where=where, remedy=SHAPES) from error


def _first_problem(problems: Sequence[Any]) -> str:
    problem = problems[0]
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"There is no key `{key}`."
    if problem["type"] == "missing":
        return f"The key `{key}` is missing."
    return f"{key}={problem['input']!r}: {problem['msg']}."


def _unreadable(path: Path, error: OSError) -> UserError:
    what = "The file is missing." if isinstance(error, FileNotFoundError) else f"It cannot be read: {error.strerror}."
    return UserError(
        what,
        where=str(path),
        remedy="Correct judge.calibration.items; docs/judging.md says what it is, and how to come by answers to label.",
    )
