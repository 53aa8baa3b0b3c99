"""What a row is on its way through curation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


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
    """Examples of one group share a split."""

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"

    @property
    def user_texts(self) -> list[str]:
        """What the user wrote, one entry a message."""
        return [message["content"] for message in self.messages if message["role"] == "user"]


@dataclass(frozen=True)
class Fault:
    """Why an example is dropped: a short code, and what shows it."""

    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True)
class Dropped:
    """An example that was read and is not used."""

    example: Example
    fault: Fault
    supervised_tokens: int
    """What could have been learnt from it; 0 where the template cannot render it."""


@dataclass(frozen=True)
class Kept:
    """An example that is used, measured with the model's tokenizer and template."""

    example: Example
    split: str
    lengths: tuple[tuple[int, int], ...]
    """Tokens and supervised tokens of each row that training makes of it: one, or one an assistant turn."""


Outcome = Kept | Dropped | Quarantined
