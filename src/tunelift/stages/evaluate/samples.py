"""samples.jsonl while it grows: one line an answer, on disk as soon as it came, so that no item is asked twice."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tunelift.artifacts.store import write_durably

Sample = dict[str, Any]
Key = tuple[str, str]
"""Task and item."""


class Journal:
    """The answers so far, by task and item; those of a killed run are read back.

    Answers to other prompts than `prompts` are dropped, and so are failed requests, which are worth another try.
    """

    def __init__(self, path: Path, prompts: Mapping[Key, Sequence[Mapping[str, Any]]]) -> None:
        self._path = path
        self.samples: dict[Key, Sample] = {}
        for sample in _read(path):
            key = sample["task"], sample["id"]
            if sample["error"] is None and list(prompts.get(key, ())) == sample["prompt"]:
                self.samples[key] = sample
        # Written anew: a line that a kill has torn must not run into the next one.
        write_durably(path, "".join(map(_line, self.samples.values())))
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, sample: Sample) -> None:
        """Keep an answer, on disk before anything else happens."""
        self.samples[sample["task"], sample["id"]] = sample
        self._file.write(_line(sample))
        self._file.flush()

    def finish(self, samples: Sequence[Sample]) -> None:
        """Write the file in the order given, in place of the order in which the answers came."""
        self._file.close()
        write_durably(self._path, "".join(map(_line, samples)))


def _read(path: Path) -> list[Sample]:
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    samples = []
    for line in lines:
        try:
            sample = json.loads(line)
        except ValueError:
            continue  # Torn by a kill; the item is asked again.
        samples.append(sample)
    return samples


def _line(sample: Sample) -> str:
    return json.dumps(sample, ensure_ascii=False) + "\n"
