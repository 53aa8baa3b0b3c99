"""Compare the near-duplicate step of curate with datasketch and text-dedup: the same records, permutations and bands.

    python scripts/bench_duplicates.py [--records 100000] [--words 150] [--against datasketch text-dedup] [--rounds 1]

The records are of Zipf-distributed words; 5% are copies of others with 2–5% of their words edited, and 1% (at most
1,000) differ from others in numbers alone. All sides take 128 permutations, 32 bands of 4 and word 3-grams, in as many
processes as `--processes` says, by turns, each in a process of its own. They start with the records in memory; of
text-dedup's command only hashing, clustering and filtering count, as it tells them. datasketch's MinHashes are made in
several processes, which is not its default, and its index in one.

tunelift alone verifies its candidates and looks for values that differ; the others take each candidate as a duplicate.
A copy counts as found if it or its original is dropped. The peak of memory is that of a side's largest process, by the
kernel's account. datasketch and text-dedup get environments of their own in runs/bench. The machine should be idle.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarks import duplicates
from benchmarks.side import Tool, environment
from tunelift.errors import MachineError, TuneliftError
from tunelift.runtime.console import say

REPOSITORY = Path(__file__).resolve().parents[1]
TOOLS = {
    "datasketch": Tool("datasketch", "2.0.0", ("datasketch==2.0.0",)),
    "text-dedup": Tool("text-dedup", "0.4.0", ("text-dedup==0.4.0", "click-option-group==0.5.6")),
}
TARGETS = {"datasketch": 4.0, "text-dedup": 10.0}
"""Times faster than each that the step should be."""
RATE, RECALL = 12_000, 0.99
"""Records a second on an idle machine with two cores, and the share of the copies found, that should be reached."""


@dataclass(frozen=True)
class Run:
    """One side's run in one round."""

    round: int
    side: str
    seconds: float
    records_per_second: float
    recall: float
    """Share of the edited copies that were found."""
    variants_dropped: int
    """Records dropped that differ from others in numbers alone."""
    cpu_seconds: float
    """Of the whole command, its start included: on a busy machine this says more than the clock."""
    peak_mib: float


def main() -> int:
    """Measure and print; returns the exit code: 1 when copies were missed or variants dropped."""
    arguments = _arguments()
    planted = duplicates.plant(arguments.records, arguments.words)
    records = arguments.folder / "records.jsonl"
    with records.open("w", encoding="utf-8") as file:
        for prompt, reply in planted.rows:
            file.write(json.dumps({"prompt": prompt, "reply": reply, "text": f"{prompt} {reply}"}) + "\n")
    runs = []
    try:
        for number in range(1, arguments.rounds + 1):
            for side in ("tunelift", *arguments.against):
                runs.append(measure(side, number, records, planted, arguments.folder, arguments.processes))
                say(f"round {number}, {side}: {runs[-1].records_per_second:,.0f} records/s")
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    (arguments.folder / "duplicates.json").write_text(json.dumps([vars(run) for run in runs], indent=2) + "\n")
    print(f"{arguments.records:,} records of {arguments.words} words, {arguments.processes} processes")
    return report(runs, len(planted.variants))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the near-duplicate step with datasketch and text-dedup.")
    parser.add_argument("--records", type=int, default=100_000)
    parser.add_argument("--words", type=int, default=150, help="words of each record")
    parser.add_argument("--against", nargs="*", choices=list(TOOLS), default=list(TOOLS), help="what to compare with")
    parser.add_argument("--rounds", type=int, default=1, help="times that each side is run, by turns")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "bench", help="for all that is made")
    arguments = parser.parse_args()
    if arguments.records < 200:
        parser.error(f"--records={arguments.records} leaves too few to plant; give 200 or more")
    arguments.folder = arguments.folder.resolve()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    return arguments


def measure(side: str, number: int, records: Path, planted: duplicates.Planted, folder: Path, processes: int) -> Run:
    """Run one side on the records.

    Raises:
        MachineError: it failed, or could not be installed.
    """
    python = environment(folder, TOOLS[side]) / "python" if side in TOOLS else Path(sys.executable)
    answer, log = folder / f"duplicates-{side}.json", folder / f"duplicates-{side}.log"
    answer.unlink(missing_ok=True)
    if side == "text-dedup":
        command = _text_dedup(python, records, folder, processes)
    else:
        command = [str(python), duplicates.__file__, side, str(records), str(answer), str(processes)]
    cpu_seconds, peak_mib = _run(command, log)
    told = _told_by_text_dedup(log, folder, planted) if side == "text-dedup" else json.loads(answer.read_text())
    dropped = set(told["dropped"])
    found = sum(one in dropped or other in dropped for one, other in planted.copies)
    return Run(
        number,
        side,
        round(told["seconds"], 3),
        len(planted.rows) / told["seconds"],
        found / len(planted.copies),
        len(dropped.intersection(planted.variants)),
        round(cpu_seconds, 1),
        round(peak_mib, 1),
    )


def _text_dedup(python: Path, records: Path, folder: Path, processes: int) -> list[str]:
    options = {
        "path": "json",
        "data_files": records,
        "split": "train",
        "cache_dir": folder / "text-dedup-cache",
        "output": folder / "text-dedup-output",
        "column": "text",
        "num_proc": processes,
        "ngram": 3,
        "min_length": 3,
        "num_perm": duplicates.PERMUTATIONS,
        "b": duplicates.BANDS,
        "r": duplicates.PERMUTATIONS // duplicates.BANDS,
        "hash_func": "xxh3",
    }
    return [str(python), "-m", "text_dedup.minhash", *(f"--{name}={value}" for name, value in options.items())]


def _told_by_text_dedup(log: Path, folder: Path, planted: duplicates.Planted) -> dict[str, Any]:
    """The seconds of its steps, and what is missing from the data set that it saved."""
    from datasets import load_from_disk

    steps = dict(re.findall(r"(MinHashing|Clustering|Filtering)\s*:\s*([\d.]+)s", log.read_text()))
    if len(steps) < 3:
        raise MachineError(f"text-dedup told no times in {log}.", remedy="Read the file.")
    kept = set(load_from_disk(str(folder / "text-dedup-output"))["text"])
    dropped = [number for number, row in enumerate(planted.rows) if " ".join(row) not in kept]
    return {"seconds": sum(map(float, steps.values())), "dropped": dropped}


def _run(command: list[str], log: Path) -> tuple[float, float]:
    """Run a command to its end; returns its CPU seconds, and the peak memory of its largest process in MiB."""
    source = f"{REPOSITORY / 'src'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env={**os.environ, "PYTHONPATH": source, "COLUMNS": "200"}
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = "\n".join(log.read_text().strip().splitlines()[-12:])
        raise MachineError(f"{' '.join(command[:3])} … failed:\n{last}", remedy=f"Read {log}; then try again.")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def report(runs: Sequence[Run], variants: int) -> int:
    """Print the sides and what was aimed at; returns 1 when copies were missed or variants dropped by tunelift."""
    sides = list(dict.fromkeys(run.side for run in runs))
    rates = {side: statistics.median(run.records_per_second for run in runs if run.side == side) for side in sides}
    of = {side: next(run for run in runs if run.side == side) for side in sides}
    head = {"records/s": 12, "tunelift is": 22, "copies found": 14, "variants dropped": 18, "CPU s": 8, "peak MiB": 10}
    print(" " * 12 + "".join(f"{name:>{width}}" for name, width in head.items()))
    for side, run in of.items():
        times = f"{rates['tunelift'] / rates[side]:.1f}× (aim {TARGETS[side]:g}×)" if side in TARGETS else ""
        print(
            f"{side:12}{rates[side]:>12,.0f}{times:>22}{run.recall:>14.4f}"
            f"{f'{run.variants_dropped:,} of {variants:,}':>18}{run.cpu_seconds:>8,.0f}{run.peak_mib:>10,.0f}"
        )
    print(f"aims for tunelift: {RATE:,} records/s on two idle cores, {RECALL} of the copies, no variant dropped")
    ours = [run for run in runs if run.side == "tunelift"]
    return int(any(run.recall < RECALL or run.variants_dropped for run in ours))


if __name__ == "__main__":
    sys.exit(main())
