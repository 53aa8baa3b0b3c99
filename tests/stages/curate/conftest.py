"""Small sources, and curation with a tiny tokenizer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_tokenizer
from tests.wording import own_words
from tunelift.config.curation import CurateConfig
from tunelift.stages.curate import curate


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    tiny_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def run(tokenizer_folder: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Curate one source into `tmp_path/out` (or `out`) and return stats.json."""

    def run_curate(
        *sources: Path | dict[str, Any],
        questions: dict[str, list[str]] | None = None,
        max_length: int = 512,
        max_truncated_ratio: float = 1,
        seed: int = 17,
        out: Path | None = None,
        template: str | None = None,
        added_tokens: tuple[str, ...] = (),
        **options: Any,
    ) -> dict[str, Any]:
        out = out or tmp_path / "out"
        out.mkdir(exist_ok=True)
        listed = [source if isinstance(source, dict) else {"path": str(source)} for source in sources]
        curate(
            CurateConfig.model_validate({"sources": listed, **options}),
            tokenizer_folder=tokenizer_folder,
            max_length=max_length,
            max_truncated_ratio=max_truncated_ratio,
            questions=questions or {},
            seed=seed,
            out=out,
            template=template,
            added_tokens=added_tokens,
        )
        return json.loads((out / "stats.json").read_text())

    return run_curate


def pair(user: str, reply: str = "Done.") -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": user}, {"role": "assistant", "content": reply}]}


def request(number: int) -> str:
    return f"Track my order {number} {own_words(number)}"


def pairs(count: int, start: int = 0) -> list[dict[str, Any]]:
    return [pair(request(number)) for number in range(start, start + count)]


def write_jsonl(path: Path, rows: Iterable[dict[str, Any] | str | bytes]) -> Path:
    """Rows as JSON; text and bytes go in as they are."""
    lines = [
        row
        if isinstance(row, bytes)
        else (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)).encode()
        for row in rows
    ]
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def kept_rows(out: Path) -> dict[str, dict[str, Any]]:
    """By source, each kept row with its split."""
    return {
        row["source"]: {**row, "split": split}
        for split in ("train", "validation", "test")
        for row in read_jsonl(out / f"{split}.jsonl")
    }
