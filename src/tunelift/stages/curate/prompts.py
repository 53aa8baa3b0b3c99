"""What rows ask, as hashed words without boilerplate, on disk: what held-out prompts are looked for in.

A prompt is what the user says in all turns. Words of a fixed instruction do not count, since they would make any two
short requests alike: a run of five words or more whose 3-grams stand in more than a tenth of the rows is taken out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunelift.stages.curate.contamination import WHOLE_INSIDE_WORDS
from tunelift.stages.curate.passed import StoredTexts
from tunelift.stages.curate.processes import Processes
from tunelift.stages.curate.similarity import (
    COMMON_LEAST_ROWS,
    COMMON_SAMPLE_ROWS,
    COMMON_SHARE,
    Hashes,
    Rows,
    Tokens,
    mixed,
    powers,
    three_grams,
    word_hashes,
)

Said = Sequence[tuple[str, str]]
"""Of one row the role and the text of what the system and the user say, in their order."""

BOILERPLATE_WORDS = WHOLE_INSIDE_WORDS
"""Common 3-grams that cover fewer words one after the other, such as "what is the", stay: they are language."""
READ_ROWS = 2_000
FEW_CHUNKS = 4
BLOCK_ROWS = 4_096
BLOCK_WORDS = 2**19
"""Of the rows that are looked through at a time, unless one row has more."""


class Stretches:
    """Hashes of any stretch of words inside a text: equal for equal words, wherever they stand."""

    def __init__(self, words: Hashes, offsets: Rows) -> None:
        sizes = np.diff(offsets)
        self._place = np.arange(len(words)) - np.repeat(offsets[:-1], sizes)
        power, self._inverse = powers(max(2**16, int(sizes.max(initial=0))).bit_length())
        self._sums = np.zeros(len(words) + 1, np.uint64)
        np.cumsum(mixed(words) * power[self._place], out=self._sums[1:])

    def of(self, starts: Rows, ends: Rows) -> Hashes:
        """Of the words from each start to before each end, which stand in one text; none is empty."""
        return mixed((self._sums[ends] - self._sums[starts]) * self._inverse[self._place[starts]])


class Asked(NamedTuple):
    """What some rows ask."""

    words: Hashes
    """Those of the system and the user, less the boilerplate, row after row."""
    sizes: Rows
    """Words of each row."""
    system: Rows
    """Of those, words of the system message."""
    opening: Rows
    """Of those, words of the system message and the first user message."""
    taken: Rows
    """Words of the user that were taken out."""
    setting: Hashes
    """The system message, with all its words; 0 without one."""
    first: Hashes
    """The first user message, with all its words; 0 if it has none."""
    whole: Hashes
    """All that the user says, likewise."""


def asked(conversations: Sequence[Said], common: Hashes) -> Asked:
    """What the rows ask; each row's part depends on nothing but itself.

    Args:
        common: As `common_grams` finds them.
    """
    spoken = word_hashes(text for said in conversations for _, text in said)
    taken = _boilerplate(spoken, common)
    begins = np.cumsum([0, *map(len, conversations)], dtype=np.int64)
    has_system = np.array([bool(said) and said[0][0] == "system" for said in conversations], bool)
    body = begins[:-1] + has_system
    after_first = np.minimum(body + 1, begins[1:])
    left = np.concatenate((np.zeros(1, np.int64), np.cumsum(~taken, dtype=np.int64)))[spoken.offsets]
    start, end = left[begins[:-1]], left[begins[1:]]
    places = spoken.offsets[begins]
    stretches, user = Stretches(spoken.hashes, places), spoken.offsets[body]
    return Asked(
        spoken.hashes[~taken],
        end - start,
        left[body] - start,
        left[after_first] - start,
        places[1:] - user - (end - left[body]),
        _whole(stretches, places[:-1], user),
        _whole(stretches, user, spoken.offsets[after_first]),
        _whole(stretches, user, places[1:]),
    )


def _whole(stretches: Stretches, starts: Rows, ends: Rows) -> Hashes:
    """The hashes of the words from each start to before each end; 0 where there are none."""
    found = np.zeros(len(starts), np.uint64)
    some = ends > starts
    found[some] = stretches.of(starts[some], ends[some])
    return found


def _boilerplate(spoken: Tokens, common: Hashes) -> NDArray[np.bool_]:
    """Which words are part of a fixed text."""
    covered = np.zeros(len(spoken.hashes), bool)
    if not len(common) or len(covered) < 3:
        return covered
    text = np.repeat(np.arange(len(spoken.offsets) - 1), np.diff(spoken.offsets))
    starts = np.flatnonzero(_among(three_grams(spoken.hashes), common) & (text[2:] == text[:-2]))
    for place in range(3):
        covered[starts + place] = True
    turns = np.flatnonzero((covered[1:] != covered[:-1]) | (text[1:] != text[:-1])) + 1
    runs = np.concatenate((np.zeros(1, np.int64), turns))
    lengths = np.diff(np.concatenate((runs, [len(covered)])))
    return np.repeat(covered[runs] & (lengths >= BOILERPLATE_WORDS), lengths)


def _among(values: Hashes, rising: Hashes) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = rising[np.minimum(np.searchsorted(rising, values), len(rising) - 1)] == values
    return found


def common_grams(conversations: Sequence[Said]) -> Hashes:
    """Rising hashes of the 3-grams of more than a tenth of the rows, and of more than ten."""
    spoken = word_hashes(text for said in conversations for _, text in said)
    if len(spoken.hashes) < 3:
        return np.empty(0, np.uint64)
    text = np.repeat(np.arange(len(spoken.offsets) - 1), np.diff(spoken.offsets))
    row = np.repeat(np.arange(len(conversations)), [len(said) for said in conversations])[text]
    inside = text[2:] == text[:-2]
    grams, row = three_grams(spoken.hashes)[inside], row[:-2][inside]
    order = np.lexsort((row, grams))
    grams, row = grams[order], row[order]
    new = np.ones(len(grams), bool)
    new[1:] = (grams[1:] != grams[:-1]) | (row[1:] != row[:-1])
    found, rows = np.unique(grams[new], return_counts=True)
    return found[rows > max(COMMON_SHARE * len(conversations), COMMON_LEAST_ROWS)]


class Prompts:
    """What all rows ask: the words in a file that nobody else sees, the rest in memory (some 70 bytes a row)."""

    def __init__(self, texts: StoredTexts, keys: Hashes, processes: Processes, folder: Path) -> None:
        """Read the rows.

        Args:
            keys: A hash of each row's content: boilerplate is told from the 4,000 with the smallest, so that it does
                not depend on the order of the rows.
            folder: For the file, which is removed when nothing uses it any more.
        """
        self.texts, rows = texts, len(texts)
        common = common_grams(texts.prompts(np.sort(np.argsort(keys, kind="stable")[:COMMON_SAMPLE_ROWS])))
        chunks = (np.arange(start, min(start + READ_ROWS, rows)) for start in range(0, rows, READ_ROWS))
        parts = []
        # The map outlives the file's closing, and the file its name.
        with tempfile.TemporaryFile(dir=folder) as file:
            for part in processes.map(_asker, (texts, common), chunks, few=FEW_CHUNKS):
                file.write(part.words.tobytes())
                parts.append(part._replace(words=part.words[:0]))
            file.flush()
            self._words: Hashes = np.empty(0, np.uint64)
            if file.tell():
                self._words = np.memmap(file, np.uint64, mode="r")
        columns = [np.concatenate(column) for column in zip(*(parts or [asked((), common)]), strict=True)]
        _, sizes, self.system, self.opening, self.taken, self._setting, self.first, self.whole = columns
        self.offsets: Rows = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def boilerplate(self) -> float:
        """Share of the users' words that were taken out."""
        taken = int(self.taken.sum())
        return taken / max(1, taken + int(self.offsets[-1]) - int(self.system.sum()))

    def shared_setting(self) -> NDArray[np.bool_]:
        """Whether a row's system message is an instruction, which more than ten rows have, and not its own text."""
        _, place, rows = np.unique(self._setting, return_inverse=True, return_counts=True)
        shared: NDArray[np.bool_] = rows[place] > COMMON_LEAST_ROWS
        return shared

    def read(self, rows: Rows, starts: Rows, ends: Rows) -> Tokens:
        """The words of each row from a place to before another, counted from the row's first."""
        sizes = ends - starts
        offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)))
        places = np.repeat(self.offsets[rows] + starts - offsets[:-1], sizes) + np.arange(offsets[-1])
        return Tokens(np.asarray(self._words[places]), offsets)

    def blocks(self, rows: Rows) -> Iterator[tuple[Rows, Tokens]]:
        """The rows, rising, in blocks, with all their words."""
        sizes = self.offsets[rows + 1] - self.offsets[rows]
        number = np.maximum(np.cumsum(sizes) // BLOCK_WORDS, np.arange(len(rows)) // BLOCK_ROWS)
        for block in np.split(rows, np.flatnonzero(np.diff(number)) + 1):
            if len(block):
                starts = np.zeros(len(block), np.int64)
                yield block, self.read(block, starts, self.offsets[block + 1] - self.offsets[block])


def _asker(texts: StoredTexts, common: Hashes) -> Callable[[Rows], Asked]:
    return lambda rows: asked(texts.prompts(rows), common)


def equal_rows(hashes: Hashes) -> Rows:
    """Each row with the next one of an equal hash, m × 2; a hash of 0 is equal to none."""
    order: Rows = np.argsort(hashes, kind="stable")
    ranked = hashes[order]
    same = np.flatnonzero((ranked[1:] == ranked[:-1]) & (ranked[1:] > 0))
    return np.stack((order[same], order[same + 1]), axis=1)


def joined_pairs(parts: Iterable[Rows]) -> Rows:
    """Pairs of rows, m × 2, part after part."""
    return np.concatenate([np.empty((0, 2), np.int64), *parts])
