"""The rows that passed every check that looks at a row alone: their texts on disk, a few numbers of each in memory."""

from __future__ import annotations

import mmap
import os
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from tunelift.runtime.supervision import is_supervised
from tunelift.stages.curate.similarity import Rows


@dataclass(frozen=True, slots=True)
class Facts:
    """What is remembered of a row that passed."""

    lengths: tuple[tuple[int, int], ...]
    """Tokens and supervised tokens of each row that training makes of it."""
    exact: int
    """64 bits of a hash of the whole conversation, up to Unicode form and white space; so are the next four."""
    prompt: int
    """Of all before the last reply."""
    reply: int
    """Of the last reply, less its thinking: rows that think otherwise do not contradict each other."""
    setting: int
    """Of the system messages and the tools: what one request may be answered differently by."""
    group: int
    """Of what decides the split."""
    stratum: str
    """The value to stratify by; empty without one."""


class Passed:
    """Rows in the order in which they were read; appended once, read at any place after.

    In memory some 100 bytes a row. On disk the row as the split files will have it, and as it was read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open("w+b")
        self._own = os.fstat(self._file.fileno())
        self._ends = array("Q")
        """Of each row, where its entry ends and where its raw text ends."""
        self._facts = {name: array("Q") for name in ("exact", "prompt", "reply", "setting", "group")}
        self._source = array("l")
        self._strata: dict[str, int] = {}
        self._stratum = array("l")
        self._lengths = array("l")
        self._rows_after = array("q")
        self._map: mmap.mmap | None = None

    def __len__(self) -> int:
        return len(self._source)

    def append(self, entry: bytes, raw: bytes, source: int, facts: Facts) -> None:
        """Add a row: its entry and its raw text (each one line of JSON), and the number of its source."""
        self._file.write(entry)
        self._file.write(raw)
        start = self._ends[-1] if self._ends else 0
        self._ends.extend((start + len(entry), start + len(entry) + len(raw)))
        for name, values in self._facts.items():
            values.append(getattr(facts, name))
        self._source.append(source)
        self._stratum.append(self._strata.setdefault(facts.stratum, len(self._strata)))
        for tokens, supervised in facts.lengths:
            self._lengths.extend((tokens, supervised))
        self._rows_after.append(len(self._lengths) // 2)

    def column(self, name: str) -> NDArray[np.uint64]:
        """`exact`, `prompt`, `reply`, `setting` or `group` of all rows; shape (rows,)."""
        return np.frombuffer(self._facts[name], dtype=np.uint64)

    @property
    def sources(self) -> NDArray[np.int32]:
        """The number of each row's source; shape (rows,)."""
        return np.asarray(self._source, dtype=np.int32)

    def strata(self, rows: Rows) -> list[str]:
        """The value to stratify by, of some rows."""
        names = list(self._strata)
        return [names[self._stratum[row]] for row in rows.tolist()]

    def lengths(self, row: int) -> list[tuple[int, int]]:
        """Tokens and supervised tokens of each row that training makes of it."""
        first = self._rows_after[row - 1] if row else 0
        pairs = self._lengths[2 * first : 2 * self._rows_after[row]]
        return list(zip(pairs[::2], pairs[1::2], strict=True))

    @property
    def tokens(self) -> NDArray[np.int64]:
        """Tokens of each row, over all that training makes of it; shape (rows,)."""
        return self._sums(0)

    @property
    def supervised(self) -> NDArray[np.int64]:
        """Supervised tokens likewise."""
        return self._sums(1)

    def _sums(self, column: int) -> NDArray[np.int64]:
        running = np.concatenate(([0], np.cumsum(np.asarray(self._lengths, dtype=np.int64)[column::2])))
        ends = np.asarray(self._rows_after, dtype=np.int64)
        sums: NDArray[np.int64] = running[ends] - running[np.concatenate(([0], ends))[:-1]]
        return sums

    def line(self, row: int) -> bytes:
        """The row as a line of a split file."""
        return self._bytes(2 * row)

    def raw(self, row: int) -> bytes:
        """The row as it was read, as one line of JSON."""
        return self._bytes(2 * row + 1)

    def _bytes(self, part: int) -> bytes:
        if self._map is None:
            self._file.flush()
            self._map = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return self._map[self._ends[part - 1] if part else 0 : self._ends[part]]

    def texts(self, rows: Rows) -> StoredTexts:
        """What users wrote and what is learnt, of some rows; they are numbered from 0."""
        self._file.flush()
        ends = np.concatenate(([0], np.frombuffer(self._ends, dtype=np.uint64))).astype(np.int64)
        return StoredTexts(self.path, np.stack((ends[2 * rows], ends[2 * rows + 1]), axis=1))

    def __enter__(self) -> Passed:
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the file; nothing needs it once the splits are written."""
        own = self._is_own()
        try:
            if self._map is not None:
                self._map.close()
            self._file.close()
        finally:  # On a full disk closing fails, and this file may be what fills it.
            if own:
                self.path.unlink(missing_ok=True)

    def _is_own(self) -> bool:
        """Whether the name still stands for this file: where a killed run was started again, it is the new run's."""
        try:
            return os.path.samestat(self._own, self.path.stat())
        except OSError:
            return False


class StoredTexts:
    """What users wrote and what is learnt, of rows on disk; can be pickled, since it reads them when asked.

    What is learnt is the assistant's thinking, its text and its tool calls, as JSON; a reply that is not supervised
    stands with what users wrote, as context.
    """

    def __init__(self, path: Path, spans: Rows) -> None:
        self._path, self._spans = path, spans
        self._map: mmap.mmap | None = None

    def __len__(self) -> int:
        return len(self._spans)

    def __getstate__(self) -> tuple[Path, Rows]:
        return self._path, self._spans

    def __setstate__(self, state: tuple[Path, Rows]) -> None:
        self._path, self._spans = state
        self._map = None

    def __call__(self, rows: Rows) -> list[tuple[str, str]]:
        return [_spoken(entry) for entry in self._entries(rows)]

    def prompts(self, rows: Rows) -> list[list[tuple[str, str]]]:
        """Of each row the role and the text of what the system and the user say."""
        return [
            [(one["role"], one["content"]) for one in entry["messages"] if one["role"] in ("system", "user")]
            for entry in self._entries(rows)
        ]

    def _entries(self, rows: Rows) -> list[dict[str, Any]]:
        if not len(rows):
            return []
        if self._map is None:
            with self._path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return [orjson.loads(self._map[start:end]) for start, end in self._spans[rows].tolist()]


def _spoken(entry: dict[str, Any]) -> tuple[str, str]:
    prompt: list[str] = []
    reply: list[str] = []
    for message in entry["messages"]:
        if message["role"] == "user":
            prompt.append(message["content"])
        elif message["role"] == "assistant":
            said = [message.get("reasoning_content", ""), *answer(message)]
            (reply if is_supervised(message) else prompt).extend(part for part in said if part)
    return "\n".join(prompt), "\n".join(reply)


def answer(message: dict[str, Any]) -> list[str]:
    """What the assistant says beside its thinking: its text, and its tool calls as JSON."""
    return [message["content"], *(orjson.dumps(call["function"]).decode() for call in message.get("tool_calls", ()))]
