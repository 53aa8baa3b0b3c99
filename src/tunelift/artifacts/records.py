"""What an artifact is: a folder with a `manifest.json` that was written last."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """The record inside an artifact; keys are added, never renamed."""

    stage: str
    version: int
    fingerprint: str
    inputs: dict[str, str]
    section: dict[str, Any]
    files: dict[str, str]
    environment: dict[str, Any]
    started: str
    seconds: float
    """What making it took, over all restarts where the stage can tell."""
    details: dict[str, Any] = field(default_factory=dict)
    """What the stage measured or chose, such as a content hash."""

    def to_json(self) -> str:
        """As written to disk."""
        return json.dumps(asdict(self), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


@dataclass(frozen=True)
class Artifact:
    """A finished folder of the store."""

    path: Path
    manifest: Manifest
    found: bool = False
    """It was in the store already."""

    @property
    def fingerprint(self) -> str:
        """What the artifact was made from."""
        return self.manifest.fingerprint

    @property
    def content(self) -> str:
        """What the artifact holds: the stage's own content hash, or one over all files."""
        return str(self.manifest.details.get("content", digest(self.manifest.files)))


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON, as hex."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
