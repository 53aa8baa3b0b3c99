"""Data set rows as token ids with labels: what training learns from, and what parity is measured on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.artifacts.jsonl import read_lines
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.chat import Supervised, supervise
from tunelift.runtime.drawing import place_in_draw

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast

IGNORED = -100
"""The label of a token that is not learnt (PyTorch's `ignore_index`)."""


@dataclass(frozen=True)
class Row:
    """One row to train on; `id` is the data set's, with `#n` behind it if the conversation needs a row a turn."""

    id: str
    rendered: Supervised

    def __len__(self) -> int:
        return len(self.rendered.input_ids)

    @property
    def labels(self) -> list[int]:
        """The token ids, with `IGNORED` where nothing is learnt."""
        pairs = zip(self.rendered.input_ids, self.rendered.mask, strict=True)
        return [token if learnt else IGNORED for token, learnt in pairs]


def read_encoded(
    tokenizer: PreTrainedTokenizerFast, dataset: Path, split: str, limit: int | None = None, seed: int = 0
) -> list[Row]:
    """The rows of a split in the file's order, or `limit` of them as drawn; some templates make several of one.

    Raises:
        UserError: the data set has no such file, or a row cannot be rendered with this tokenizer's template.
    """
    path = dataset / f"{split}.jsonl"
    try:
        lines = read_lines(path)
    except FileNotFoundError:
        raise UserError("The data set has no such split.", where=str(path), remedy="Run curate again.") from None
    found = [(number, json.loads(line)) for number, line in enumerate(lines, start=1)]
    if limit is not None:
        found.sort(key=lambda numbered: place_in_draw(seed, numbered[1]["id"]))
    rows: list[Row] = []
    with console.progress(f"render {split}", total=len(found[:limit]), unit="rows") as bar:
        for number, row in found[:limit]:
            rows += encode(tokenizer, row, f"{path}:{number}")
            bar.advance()
    return rows


def encode(tokenizer: PreTrainedTokenizerFast, row: dict[str, Any], where: str) -> list[Row]:
    """A row of a data set as the rows that training sees: one, or one for each assistant turn (`supervise`).

    Raises:
        UserError: it cannot be rendered; `where` is its place.
    """
    try:
        rendered = supervise(tokenizer, row["messages"], row.get("tools"))
    except UserError as error:
        raise UserError(f"Row {row['id']}: {error.message}", where=where, remedy=error.remedy) from error
    if len(rendered) == 1:
        return [Row(row["id"], rendered[0])]
    return [Row(f"{row['id']}#{number}", part) for number, part in enumerate(rendered, start=1)]


def collate(rows: Sequence[Row], padding: int, device: str) -> dict[str, torch.Tensor]:
    """Pad on the right: `input_ids`, `attention_mask` and `labels`, each [rows, longest row]."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    def padded(values: list[list[int]], filler: int) -> torch.Tensor:
        return pad_sequence([torch.tensor(row) for row in values], batch_first=True, padding_value=filler).to(device)

    return {
        "input_ids": padded([row.rendered.input_ids for row in rows], padding),
        "attention_mask": padded([[1] * len(row) for row in rows], 0),
        "labels": padded([row.labels for row in rows], IGNORED),
    }
