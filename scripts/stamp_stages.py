"""Record each stage's VERSION beside a hash of its source, in tests/stage_sources.json.

A stage whose source changed in a way that changes what it makes needs a higher VERSION, or users get stale artifacts
out of their stores. Running this says that you have thought about it: either you raised VERSION, or the change alters
no result.

usage: python scripts/stamp_stages.py [--check]
"""

from __future__ import annotations

import ast
import hashlib
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAGES = ROOT / "src" / "tunelift" / "stages"
STAMPS = ROOT / "tests" / "stage_sources.json"


def current() -> dict[str, dict[str, object]]:
    """Version and source hash of each cached stage; comments, docstrings and layout do not count."""
    found: dict[str, dict[str, object]] = {}
    for stage in ("curate", "train", "merge", "evaluate", "judge", "report"):
        folder = STAGES / stage
        files = sorted(folder.rglob("*.py")) if folder.is_dir() else [STAGES / f"{stage}.py"]
        source = hashlib.sha256("\n".join(_essence(path) for path in files).encode()).hexdigest()
        found[stage] = {"version": _version(files), "source": source[:16]}
    return found


def _essence(path: Path) -> str:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return path.name + "\n" + ast.unparse(tree)


def _version(files: list[Path]) -> int:
    for path in files:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VERSION":
                return int(ast.literal_eval(node.value))
    raise SystemExit(f"{files[0].parent} sets no VERSION")


def main() -> int:
    stamps = current()
    if "--check" in sys.argv[1:]:
        recorded = json.loads(STAMPS.read_text())
        changed = [stage for stage in stamps if stamps[stage] != recorded.get(stage)]
        for stage in changed:
            print(f"{stage}: its source changed. If its results change, raise its VERSION; then run {sys.argv[0]}")
        return 1 if changed else 0
    STAMPS.write_text(json.dumps(stamps, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
