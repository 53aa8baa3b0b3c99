"""The curate stage as a whole, all checks on: rows a second and peak memory, at one size and at ten times as many.

    python scripts/bench_curate.py [--records 100000] [--times 10] [--processes 2]

The rows are made up: some 150 words each, drawn from those of an encyclopedia, with near duplicates, addresses, keys,
broken lines, refusals and evaluation items among them. The stage runs in a process of its own, as the command runs it.
Peak memory is the sum of what the kernel has as the most of each of its processes (VmHWM), which is no less than they
ever held together. With `--times`, the time at the larger size is compared with that of the smaller one times the
factor, in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import re
import shutil
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from tunelift.artifacts.jsonl import read_lines
from tunelift.config.curation import CurateConfig
from tunelift.errors import TuneliftError
from tunelift.runtime.hardware import detect
from tunelift.runtime.worker import run_isolated

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = REPOSITORY / "runs" / "models" / "smollm2-135m-instruct"
WORDS = 150
ITEMS = 1000
SEED = 17


@dataclass(frozen=True)
class Measured:
    """One run of the stage."""

    records: int
    seconds: float
    peak_gb: float
    kept: int

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.records / self.seconds


def main() -> int:
    """Measure; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the curate stage.")
    parser.add_argument("--records", type=int, default=100_000, help="rows to curate")
    parser.add_argument("--times", type=int, default=1, help="then so many times as many")
    parser.add_argument("--processes", type=int, default=detect().cores, help="processes that look at rows")
    parser.add_argument("--model", type=Path, default=MODEL, help="the model whose tokenizer and template are used")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "bench" / "curate", help="for all made")
    arguments = parser.parse_args()
    sizes = [arguments.records, *([arguments.records * arguments.times] if arguments.times > 1 else [])]
    try:
        runs = [measure(size, arguments.processes, arguments.model, arguments.folder.resolve()) for size in sizes]
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    print(f"{detect().name}, {arguments.processes} processes; {WORDS} words a row, all checks on")
    for run in runs:
        print(f"{run.records:>9,} rows  {run.rate:>8,.0f} rows/s  {run.seconds:>7.1f} s  peak {run.peak_gb:.2f} GB")
    if len(runs) > 1:
        small, large = runs
        print(f"time against linear: {large.seconds / (small.seconds * arguments.times):.2f}x")
    return 0


def measure(records: int, processes: int, model: Path, folder: Path) -> Measured:
    """Write the rows, then curate them."""
    folder.mkdir(parents=True, exist_ok=True)
    source, out = folder / f"raw-{records}.jsonl", folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    with source.open("w", encoding="utf-8") as file:
        file.writelines(line + "\n" for line in rows(records))
    config = CurateConfig.model_validate(
        {
            "sources": [{"path": str(source)}],
            "processes": processes,
            "clean": {"languages": ["en"]},
            "pii": dict.fromkeys(("email", "phone", "ip"), "redact"),
        }
    )
    arguments = {
        "config": config.model_dump(mode="json"),
        "tokenizer_folder": str(model),
        "max_length": 2048,
        "questions": {"made_up": questions()},
        "seed": SEED,
        "out": str(out),
    }
    started = time.monotonic()
    with Peak() as peak:
        made = run_isolated("tunelift.stages.curate:curate", arguments, folder / "log.txt", needs_torch=False)
    seconds = time.monotonic() - started
    source.unlink()
    return Measured(records, seconds, peak.bytes / 1e9, made["rows"]["kept"])


class Peak:
    """The most memory of all processes below this one: each one's own peak, summed over those that ever ran."""

    def __init__(self) -> None:
        self._most: dict[int, int] = {}
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    @property
    def bytes(self) -> int:
        """The sum of the peaks."""
        return sum(self._most.values())

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.5):
            for process in me.children(recursive=True):
                self._most[process.pid] = max(self._most.get(process.pid, 0), high_water(process.pid))


def high_water(pid: int) -> int:
    """The most resident memory of a process, in bytes; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:")), 0)


def vocabulary() -> tuple[list[str], list[float]]:
    """The words of the Wikipedia passages in evals/, and how often each occurs there, summed up."""
    lines = read_lines(REPOSITORY / "evals" / "general_text" / "items.jsonl")
    counts = Counter(word for line in lines for word in re.findall(r"[a-z]+", json.loads(line)["text"].lower()))
    return list(counts), list(itertools.accumulate(counts.values()))


def questions() -> list[str]:
    """Evaluation items."""
    rng, (words, weights) = random.Random(SEED + 1), vocabulary()
    return [" ".join(rng.choices(words, cum_weights=weights, k=25)) for _ in range(ITEMS)]


def rows(count: int) -> Iterator[str]:
    """JSONL rows, one in ten with something about it."""
    rng, (words, weights) = random.Random(SEED + 2), vocabulary()
    items, before = questions(), ("", "")

    def text(length: int) -> str:
        return (" ".join(rng.choices(words, cum_weights=weights, k=length)) + ".").capitalize()

    for number in range(count):
        prompt, reply = text(WORDS // 2), text(WORDS // 2)
        kind = number % 100
        if kind == 10:
            prompt += f" Write to {rng.choice(words)}@example.com or call +44 20 7946 {rng.randrange(1000, 9999)}."
        elif kind == 20:
            prompt = f"{prompt} {rng.choice(items)}"
        elif kind == 30:
            reply = "I'm sorry, but as an AI language model I cannot help with that."
        elif kind == 40:
            reply = f"{reply} The key is ghp_{rng.getrandbits(180):036x}"[: len(reply) + 52]
        elif kind == 50:
            prompt = before[0]  # The same request, another answer.
        elif kind == 60:
            reply = f"{reply} Itâ€™s done."
        elif kind == 70:
            yield '{"messages": [{"role": "user", "content": "half a'
            continue
        elif kind == 80:
            again = before[0].split()
            again[rng.randrange(len(again))] = rng.choice(words)
            prompt, reply = " ".join(again), before[1]
        elif kind == 90:
            prompt, reply = before
        before = prompt, reply
        yield json.dumps(
            {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]},
            ensure_ascii=False,
        )


if __name__ == "__main__":
    sys.exit(main())
