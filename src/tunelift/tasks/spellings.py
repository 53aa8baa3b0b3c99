"""Right answers that count as equal though a reader may tell them apart: by case, marks or white space."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunelift.tasks.scorers import canonical_text
from tunelift.tasks.scorers.tool_calls import calls_of

MOST = 200
"""Characters of a text that may be a label or a value; longer ones are prose, and not looked at."""
CODE = re.compile(r"\S*(?:[a-z0-9][A-Z]|[A-Z]\S*[0-9_./\\:-]|[0-9_./\\:-]\S*[A-Z])\S*")
"""A word with capitals inside, or with capitals and digits or signs: a name of a file, a key, a unit, no usual word."""
Path = tuple[Any, ...]


@dataclass(frozen=True)
class Alike:
    """Two texts of different answers that count as one."""

    first: str
    second: str
    where: tuple[str, str]
    """Of each."""


@dataclass
class Spellings:
    """What was seen of answers so far."""

    alike: dict[tuple[Path, str], Alike] = field(default_factory=dict)
    """The first pair of each text, by its path in the answer and what it counts as."""
    coded: list[tuple[str, str]] = field(default_factory=list)
    """Texts inside JSON and calls in which case probably means something, behind the place of their answer."""
    _forms: dict[tuple[Path, str], dict[str, str]] = field(default_factory=lambda: defaultdict(dict))

    def note(self, where: str, accepted: Sequence[Any]) -> None:
        """Look at the answers that are right in one place, such as an item or a row."""
        texts = [pair for answer in accepted for pair in texts_of(answer) if len(pair[1]) <= MOST]
        keys = [(path, canonical_text(text)) for path, text in texts]
        several = Counter(keys)
        for key, (path, text) in zip(keys, texts, strict=True):
            if path and CODE.fullmatch(text):
                self.coded.append((where, text))
            if several[key] > 1:
                continue  # Both spellings are right here.
            known, written = self._forms[key], text.strip()
            if known and written not in known:
                first, place = next(iter(known.items()))
                self.alike.setdefault(key, Alike(first, written, (place, where)))
            known.setdefault(written, where)


def texts_of(answer: Any) -> Iterator[tuple[Path, str]]:
    """Each text of an answer with its path: a tool's name stands for its call, and None for any place in a list."""
    calls = calls_of(answer) if isinstance(answer, (dict, list)) else None
    if calls:
        for call in calls:
            yield from _inside(call.arguments, (call.name,))
    else:
        yield from _inside(answer, ())


def _inside(value: Any, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, Mapping):
        for key, entry in value.items():
            yield from _inside(entry, (*path, key))
    elif isinstance(value, list):
        for entry in value:
            yield from _inside(entry, (*path, None))
