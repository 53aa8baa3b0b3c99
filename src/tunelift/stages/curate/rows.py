"""What a row is on its way through curation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Line:
    """One row of a JSONL file before it is parsed, which any process may do."""

    file: str
    line: int
    data: bytes
    """Without white space around it; never empty."""


@dataclass(frozen=True)
class RawRow:
    """One row as it was read: a JSON object, and where it stands (`line` counts from 1)."""

    file: str
    line: int
    value: dict[str, Any]
    text: str = ""
    """As it stands in the file, where the file is text."""


@dataclass(frozen=True)
class Quarantined:
    """A row that could not be read: bytes, syntax or shape are wrong."""

    file: str
    line: int
    path: str
    """Where in the row, as a JSON path; `$` is the row itself."""
    reason: str
    """A short code, counted in stats.json."""
    detail: str
    """What is wrong, as a sentence."""
    raw: str
    """The row's text as it stands in the file."""

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Example:
    """A row as a conversation in the form that chat templates take."""

    file: str
    line: int
    raw: dict[str, Any]
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    group: str
    """Examples of one group share a split; empty without `group_by`, where it is the first user message at the end."""
    stratum: str = ""
    """What splits are to have like shares of; empty without such a field."""
    edits: tuple[str, ...] = ()
    """What was left out when it was read: `no_input`."""

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"

    @property
    def user_texts(self) -> list[str]:
        """What the user wrote, one entry a message."""
        return [message["content"] for message in self.messages if message["role"] == "user"]

    @property
    def conversation(self) -> dict[str, Any]:
        """As the split files have it."""
        return {"messages": self.messages, **({"tools": self.tools} if self.tools else {})}


@dataclass(frozen=True)
class Fault:
    """Why an example is dropped, or what is reported of it: a short code, and what shows it."""

    reason: str
    evidence: dict[str, Any]

    def in_words(self) -> str:
        """The evidence as a line for people."""
        words = [f"{key.replace('_', ' ')} {value}" for key, value in self.evidence.items()]
        return str(self.evidence["detail"]) if "detail" in self.evidence else ", ".join(words)
