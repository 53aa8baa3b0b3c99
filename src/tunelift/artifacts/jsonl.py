"""JSON Lines as they are written here: UTF-8, and nothing but a newline ends a line."""

from __future__ import annotations

from pathlib import Path


def read_lines(path: Path) -> list[str]:
    """The file's lines that are not blank.

    `str.splitlines` would tear those that hold U+2028, U+2029 or U+0085, which JSON leaves as they are.
    """
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
