"""A run: one config, resolved once, its folder, and the artifacts that its stages made or found."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import Artifact
from tunelift.artifacts.store import FORCED, Build, Plan, Store, write_durably, writing
from tunelift.config.resolve import Choice
from tunelift.config.schema import Config, StageName
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.modeling import ModelFacts
from tunelift.runtime.tracking import Tracker
from tunelift.runtime.worker import run_isolated

RUNS = Path("runs")
MADE_AGAIN = "forced.json"
"""What a command with --force or --from has made again, kept until it is done."""


@dataclass
class Run:
    """One config, resolved once, and the artifacts that its stages made or found."""

    config: Config
    choices: tuple[Choice, ...]
    base: ModelFacts
    store: Store
    folder: Path
    forced: frozenset[StageName]
    tracker: Tracker
    with_weights: bool = True
    """Models of the hub were fetched with their weights, so that stages can run."""
    made: dict[str, Artifact] = field(default_factory=dict)

    def lineage(self) -> list[dict[str, Any]]:
        """Each artifact with what it was made from, down to the hashes of the data files and the base model."""
        return [
            {
                "stage": name,
                "fingerprint": artifact.fingerprint,
                "content": artifact.content,
                "path": os.path.relpath(artifact.path, self.folder),
                "seconds": artifact.manifest.seconds,
                "inputs": artifact.manifest.inputs,
            }
            for name, artifact in self.made.items()
        ]

    def isolated(
        self,
        plan: Plan,
        target: str,
        arguments: dict[str, Any],
        *,
        follow: str | None = None,
        samples: str | None = None,
        needs_torch: bool = True,
        saves_within_seconds: float | None = None,
    ) -> Artifact:
        """Find or make an artifact by a stage that runs in its own process."""
        if plan.stage in self.made:
            return self.made[plan.stage]

        def build(out: Path) -> dict[str, Any]:
            watches = [self.tracker.follow(plan.stage, out / follow, plan.fingerprint)] if follow else []
            watches += [self.tracker.follow_samples(plan.stage, out / samples)] if samples else []
            log = self.folder / "logs" / f"{plan.stage}.log"

            def watch() -> None:
                for forward in watches:
                    forward()

            return run_isolated(
                target,
                {**arguments, "out": str(out)},
                log,
                watch,
                needs_torch=needs_torch,
                saves_within_seconds=saves_within_seconds,
            )

        artifact = self.record(plan.stage, plan, build)
        if follow and artifact.found:  # Made for another run's folder, perhaps.
            self.tracker.follow(plan.stage, artifact.path / follow, plan.fingerprint)()
        return artifact

    def record(self, name: str, plan: Plan, build: Build, *, force: bool = False) -> Artifact:
        """Find or make, say so, and link the artifact into the run's folder."""
        asked = plan.stage in self.forced and name not in self.made
        made_again = self._made_again() if asked else []
        force = force or (asked and plan.fingerprint not in made_again)
        if force or self.store.find(plan) is None:
            if not force and (damage := self.store.damage(plan)):
                lies = os.path.relpath(self.store.folder(plan))
                console.warn(f"{name}: of {lies}, which was finished, {damage}; it is made again")
            console.say(f"{name}: working …")
        work = self.store.partial(plan)
        if asked and force and work.suffix == FORCED:
            console.say(f"{name}: goes on with {os.path.relpath(work)}; remove it to begin anew")
        artifact = self.store.make(plan, build, force=force)
        if asked:
            self._note_made_again([*made_again, plan.fingerprint])
        self.made[name] = artifact
        link = self.folder / "stages" / name
        with writing(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            new = link.with_name(f"{name}.{os.getpid()}.tmp")  # Replaced in one step: another run may do so as well.
            new.unlink(missing_ok=True)
            new.symlink_to(os.path.relpath(artifact.path, link.parent))
            new.replace(link)
        found = "made again before this command was stopped" if asked else "found"
        how = found if artifact.found else f"made in {console.clock(artifact.manifest.seconds)}"
        console.say(f"{name}: {how} → {os.path.relpath(artifact.path)}")
        return artifact

    def _made_again(self) -> list[str]:
        """Fingerprints of what the same command made again before it was stopped."""
        try:
            noted = json.loads((self.folder / MADE_AGAIN).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return []
        return list(noted["made"]) if noted["stages"] == sorted(self.forced) else []

    def _note_made_again(self, fingerprints: Sequence[str]) -> None:
        noted = {"stages": sorted(self.forced), "made": sorted({*fingerprints})}
        write_durably(self.folder / MADE_AGAIN, json.dumps(noted) + "\n")

    def done(self) -> None:
        """The command has made all it was to make: forced again, it makes all of it again."""
        if self.forced:
            (self.folder / MADE_AGAIN).unlink(missing_ok=True)


def as_yaml(config: Config) -> str:
    """The config as a file that reads back as itself."""
    from tunelift.config.yaml12 import dump

    return dump(config.model_dump(mode="json"))


def hash_some(folder: Path, patterns: Sequence[str], store: Store) -> dict[str, str]:
    """By name, sha256 of the files in a folder that match any of the patterns."""
    return {path.name: store.hashes.sha256(path) for pattern in patterns for path in sorted(folder.glob(pattern))}


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The objects of an artifact's JSON Lines file.

    Raises:
        UserError: the file is missing or torn.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        raise UserError(
            f"The file cannot be read: {error}.", where=str(path), remedy="Run the command again with --force."
        ) from error
