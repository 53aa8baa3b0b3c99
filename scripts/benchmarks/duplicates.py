"""Records with planted near duplicates, and what each tool makes of them; see bench_duplicates.py.

    python scripts/benchmarks/duplicates.py SIDE RECORDS.jsonl ANSWER.json PROCESSES

runs one side in this process, so that its memory is its own.
"""

from __future__ import annotations

import json
import multiprocessing
import random
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

PERMUTATIONS, BANDS = 128, 32
"""Those of curate, for all sides."""
VOCABULARY, FAMILY = 50_000, 10
PROMPT_SHARE = 0.4
CHUNK = 2_000

_ROWS: list[tuple[str, str]] = []
"""What the processes of a side have in common with the one that started them, which forks them."""


@dataclass
class Planted:
    """Records as (prompt, reply), shuffled, and which of them belong together."""

    rows: list[tuple[str, str]] = field(default_factory=list)
    copies: list[tuple[int, int]] = field(default_factory=list)
    """Records of which one is the other with 2–5% of its words edited."""
    variants: list[int] = field(default_factory=list)
    """Records that differ from others in numbers alone."""


def plant(records: int, words: int, seed: int = 1) -> Planted:
    """Zipf-distributed words; 5% of the records are edited copies, 1% (at most 1,000) variants in numbers."""
    rng = random.Random(seed)
    vocabulary = _vocabulary(rng)
    shares = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))
    copies = records // 20
    families = max(1, min(records // 100, 1000) // FAMILY)
    originals = records - copies - families * FAMILY
    texts = [rng.choices(vocabulary, cum_weights=shares, k=words) for _ in range(originals)]
    kinds = [("original", number) for number in range(originals)]
    for number in rng.sample(range(originals), copies):
        texts.append(_edited(texts[number], vocabulary, rng))
        kinds.append(("copy", number))
    for _ in range(families):
        base = rng.choices(vocabulary, cum_weights=shares, k=words)
        places = rng.sample(range(words), 3)
        for _ in range(FAMILY):
            texts.append([str(rng.randrange(10**6)) if place in places else word for place, word in enumerate(base)])
            kinds.append(("variant", 0))
    order = list(range(len(texts)))
    rng.shuffle(order)
    now = {before: place for place, before in enumerate(order)}
    cut = int(words * PROMPT_SHARE)
    planted = Planted([(" ".join(texts[before][:cut]), " ".join(texts[before][cut:])) for before in order])
    for before, (kind, original) in enumerate(kinds):
        if kind == "copy":
            planted.copies.append((now[original], now[before]))
        elif kind == "variant":
            planted.variants.append(now[before])
    return planted


def _vocabulary(rng: random.Random) -> list[str]:
    letters = "abcdefghijklmnopqrstuvwxyz"
    made: dict[str, None] = {}
    while len(made) < VOCABULARY:
        made["".join(rng.choices(letters, k=rng.randint(2, 9)))] = None
    return list(made)


def _edited(text: list[str], vocabulary: list[str], rng: random.Random) -> list[str]:
    """2–5% of the words replaced, taken out, or with another beside them."""
    edited = list(text)
    count = max(1, round(rng.uniform(0.02, 0.05) * len(text)))
    for place in sorted(rng.sample(range(len(text)), count), reverse=True):
        word = rng.choice(vocabulary)
        edited[place : place + 1] = rng.choice(([word], [], [edited[place], word]))
    return edited


def read(path: Path) -> list[tuple[str, str]]:
    """The records of a file."""
    with path.open(encoding="utf-8") as file:
        return [(row["prompt"], row["reply"]) for row in map(json.loads, file)]


def tunelift(rows: list[tuple[str, str]], processes: int) -> dict[str, Any]:
    """The near-duplicate step of curate."""
    from tunelift.config.curation import DuplicatesConfig
    from tunelift.stages.curate.near import choose, joined, near_duplicates
    from tunelift.stages.curate.similarity import common_shingles

    _ROWS[:] = rows
    config = DuplicatesConfig()
    started = time.perf_counter()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        common = common_shingles(_texts, len(rows), config.on)
        chunks = [(start, min(start + CHUNK, len(rows)), config.on, common) for start in range(0, len(rows), CHUNK)]
        known = joined(list(pool.map(_sketch, chunks)))
        pairs = near_duplicates(_texts, known, config, common, pool.map)
        dropped = choose(pairs, len(rows))
    return {"seconds": time.perf_counter() - started, "dropped": sorted(dropped)}


def _texts(numbers: Any) -> list[tuple[str, str]]:
    return [_ROWS[number] for number in numbers]


def _sketch(chunk: tuple[int, int, Any, Any]) -> Any:
    from tunelift.stages.curate.near import sketch

    start, end, on, common = chunk
    return sketch(_ROWS[start:end], on, common)


def datasketch(rows: list[tuple[str, str]], processes: int) -> dict[str, Any]:
    """MinHash in as many processes, and MinHashLSH with as many permutations and bands: unverified candidates."""
    from datasketch import MinHashLSH

    _ROWS[:] = rows
    started = time.perf_counter()
    index = MinHashLSH(params=(BANDS, PERMUTATIONS // BANDS), num_perm=PERMUTATIONS)
    dropped = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
        spans = [(start, min(start + CHUNK, len(rows))) for start in range(0, len(rows), CHUNK)]
        for (start, _), hashes in zip(spans, pool.map(_minhashes, spans), strict=True):
            for number, minhash in enumerate(hashes, start):
                if index.query(minhash):
                    dropped.append(number)
                index.insert(number, minhash)
    return {"seconds": time.perf_counter() - started, "dropped": dropped}


def _minhashes(span: tuple[int, int]) -> list[Any]:
    from datasketch import MinHash

    return list(MinHash.generator(map(_grams, _ROWS[span[0] : span[1]]), num_perm=PERMUTATIONS))


def _grams(row: tuple[str, str]) -> Iterator[bytes]:
    words = f"{row[0]} {row[1]}".lower().split()
    return iter({" ".join(words[start : start + 3]).encode() for start in range(len(words) - 2)})


SIDES = {"tunelift": tunelift, "datasketch": datasketch}

if __name__ == "__main__":
    side, records, answer, processes = sys.argv[1:]
    Path(answer).write_text(json.dumps(SIDES[side](read(Path(records)), int(processes))))
