"""`tunelift runs list | du | gc`: what runs/ holds and why, and what nothing needs any more.

An artifact is needed by the runs that link to it, and by what was made from it: a report leads back to the data.
"""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from tunelift.artifacts.records import MANIFEST, Artifact, Manifest
from tunelift.artifacts.store import FORCED, PARTIAL, writing
from tunelift.errors import UserError
from tunelift.runtime import console

DAY = 24 * 3600.0


@dataclass(frozen=True)
class Held:
    """A folder of the store."""

    path: Path
    stage: str
    state: str
    """`finished`, `unfinished` (work that a killed command goes on with), or `damaged` (without a sound manifest)."""
    gib: float
    days: float
    """Since it was last written to."""
    linked_by: tuple[str, ...]
    """Runs that link to it."""
    needed: bool
    """Linked, or something linked was made from it."""

    def to_json(self) -> dict[str, Any]:
        """For scripts."""
        return asdict(self) | {"path": str(self.path), "gib": round(self.gib, 3), "days": round(self.days, 2)}


@dataclass(frozen=True)
class Listed:
    """A run."""

    run: str
    stages: tuple[str, ...]
    gate: str
    """`passed`, `failed`, `none declared`, or `no report yet`."""
    gib: float
    """Of all that it links to, shared or not."""
    days: float


def held(root: Path) -> list[Held]:
    """All artifacts of a store, finished and not, with what needs them."""
    store = root / "store"
    links = _links(root)
    folders = [path for path in sorted(store.glob("*/*")) if path.is_dir() and not path.is_symlink()]
    folders = [path for path in folders if path.parent.name != "looks"]
    manifests = {path: found for path in folders if (found := _manifest(path))}
    needed = _with_origins({path for path in folders if links.get(path)}, manifests)
    return [
        Held(
            path,
            path.parent.name,
            "unfinished" if path.suffix in {PARTIAL, FORCED} else "finished" if path in manifests else "damaged",
            _gib(path),
            _days(path),
            tuple(sorted(links.get(path, ()))),
            path in needed,
        )
        for path in folders
    ]


def _links(root: Path) -> dict[Path, set[str]]:
    """By artifact, the runs that link to it. What leads out of the store is left alone."""
    store, found = (root / "store").resolve(), defaultdict(set)
    for link in root.glob("*/stages/*"):
        target = link.resolve()
        if store in target.parents:
            found[root / "store" / target.relative_to(store)].add(link.parent.parent.name)
    return found


def _manifest(folder: Path) -> Manifest | None:
    try:
        return Manifest(**json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _with_origins(linked: set[Path], manifests: dict[Path, Manifest]) -> set[Path]:
    """The linked artifacts, and all that they were made from; inputs are named by fingerprint or by content."""
    known: dict[str, set[Path]] = defaultdict(set)
    for path, manifest in manifests.items():
        for name in (manifest.fingerprint, Artifact(path, manifest).content):
            known[name].add(path)
    needed, todo = set(linked), list(linked)
    while todo:
        made = manifests.get(todo.pop())
        origins = {path for name in (made.inputs.values() if made else ()) for path in known.get(name, ())}
        todo += origins - needed
        needed |= origins
    return needed


def _gib(folder: Path) -> float:
    total = 0
    for path in folder.rglob("*"):
        with suppress(OSError):  # A command may be at work.
            total += path.lstat().st_size if path.is_file() else 0
    return total / 2**30


def _days(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        with suppress(OSError):
            times.append(path.lstat().st_mtime)
    return max(0.0, time.time() - max(times)) / DAY


def listed(root: Path) -> list[Listed]:
    """The runs, the one last written to first."""
    sizes = {one.path: one.gib for one in held(root)}
    linked = _links(root)
    found = []
    for folder in (path.parent for path in root.glob("*/resolved.json")):
        mine = [path for path, runs in linked.items() if folder.name in runs]
        stages = tuple(sorted(path.name for path in (folder / "stages").glob("*") if path.exists()))
        gib = sum(sizes.get(path, 0.0) for path in mine)
        found.append(Listed(folder.name, stages, _gate(folder), round(gib, 3), round(_days(folder), 2)))
    return sorted(found, key=lambda run: run.days)


def _gate(folder: Path) -> str:
    try:
        gate = json.loads((folder / "comparison.json").read_text(encoding="utf-8"))["gate"]
    except (OSError, ValueError, KeyError, TypeError):
        return "no report yet"
    return ("passed" if gate["passed"] else "failed") if gate.get("declared") else "none declared"


def collectable(found: list[Held], days: float) -> list[Held]:
    """What nothing needs and nobody has written to for so long."""
    return [one for one in found if not one.needed and one.days >= days]


def remove(one: Held) -> bool:
    """Remove a folder of the store, the manifest first, so that a half-removed artifact is none.

    Returns:
        False if a command is at work on it.
    """
    try:
        with FileLock(one.path.with_suffix(".lock"), timeout=0), writing(one.path):
            (one.path / MANIFEST).unlink(missing_ok=True)
            shutil.rmtree(one.path)
    except Timeout:
        return False
    return True


def list_runs(root: Path, as_json: bool) -> None:
    """Print the runs."""
    _refuse_none(root)
    found = listed(root)
    if as_json:
        print(json.dumps([asdict(run) for run in found], indent=2))
        return
    for run in found:
        print(f"{run.run:32} {_age(run.days):>9}  {run.gib:8.2f} GiB  gate {run.gate:14} {', '.join(run.stages)}")


def usage(root: Path, as_json: bool) -> None:
    """Print what the store holds."""
    _refuse_none(root)
    found = held(root)
    if as_json:
        print(json.dumps([one.to_json() for one in found], indent=2))
        return
    for one in sorted(found, key=lambda one: -one.gib):
        print(f"{one.gib:8.2f} GiB  {_age(one.days):>9}  {one.stage:9} {one.path}  {_why(one)}")
    by_state = Counter[str]()
    for one in found:
        by_state["needed" if one.needed else "not needed"] += round(one.gib * 1000)
    totals = ", ".join(f"{gib / 1000:.2f} GiB {name}" for name, gib in by_state.items())
    print(f"{sum(one.gib for one in found):8.2f} GiB  in all{': ' * bool(totals)}{totals}")


def collect(root: Path, days: float, yes: bool) -> None:
    """Tell what could go; with `yes`, remove it."""
    _refuse_none(root)
    found = held(root)
    going = collectable(found, days)
    for one in going:
        print(f"{one.gib:8.2f} GiB  {_age(one.days):>9}  {one.stage:9} {one.path}  {_why(one)}")
    younger = [one for one in collectable(found, 0.0) if one not in going]
    if younger:
        size = sum(one.gib for one in younger)
        console.say(
            f"{len(younger)} more ({size:.2f} GiB) are younger than {days:g} days: --older-than 0 takes them too"
        )
    total = sum(one.gib for one in going)
    if not yes:
        console.say(
            f"{total:.2f} GiB can go; nothing was removed. Add --yes to remove them." if going else "nothing to remove"
        )
        return
    kept = [one for one in going if not remove(one)]
    for one in kept:
        console.warn(f"{one.path} is left: a command is at work on it")
    console.say(f"{total - sum(one.gib for one in kept):.2f} GiB removed")


def _refuse_none(root: Path) -> None:
    if not (root / "store").is_dir():
        raise UserError(
            "There are no runs here.", where=str(root), remedy="Go to the folder that you started runs from."
        )


def _why(one: Held) -> str:
    if one.linked_by:
        return f"linked by {', '.join(one.linked_by)}"
    if one.needed:
        return "what a linked one was made from"
    return {"unfinished": "unfinished: the same command goes on with it", "damaged": "damaged"}.get(
        one.state, "no run links to it"
    )


def _age(days: float) -> str:
    return f"{days:.0f} days" if days >= 2 else f"{days * 24:.0f} hours" if days * 24 >= 2 else f"{days * 1440:.0f} min"
