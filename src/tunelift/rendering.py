"""`tunelift render`: rows of a run's data set as training sees them, token by token learnt or not."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from tunelift.errors import UserError
from tunelift.pipeline import Pipeline
from tunelift.runs import read_rows
from tunelift.runtime import console
from tunelift.runtime.chat import load_tokenizer, segments
from tunelift.runtime.encoded import Row, encode
from tunelift.runtime.template import template_note

LEARNT, NOT_LEARNT, PLAIN = "\x1b[1;32m", "\x1b[2m", "\x1b[0m"


def describe(run: Pipeline, split: str, number: int | None, wanted: str | None, *, colour: bool) -> str:
    """One row of the data set as text: where it stands, how many tokens are learnt, and which.

    Args:
        split: train, validation or test.
        number: The row's number in the split, from 1; None to look for `wanted`.
        wanted: Its id, also with the `#n` of one of its training rows.
        colour: With ANSI colours instead of ⟦ and ⟧.

    Raises:
        UserError: no data set yet, no such row, or one that the template cannot render.
    """
    path = run.curated().path / f"{split}.jsonl"
    rows = read_rows(path)
    place = _place(rows, split, number) if number is not None else _place_of(rows, split, str(wanted))
    row = rows[place]
    tokenizer = load_tokenizer(run.base.path, run.template, run.config.train.added_tokens)
    parts = encode(tokenizer, row, f"{path}:{place + 1}")
    if wanted and "#" in wanted:
        parts = [part for part in parts if part.id == wanted] or parts
    head = [
        f"{split} row {place + 1:,} of {len(rows):,}: {row['id']}, from {row.get('source', 'unknown')}",
        f"template: {template_note(run.base.path, run.config.model)}",
    ]
    if len(parts) > 1:
        head.append(f"{len(parts)} training rows, one an assistant turn: the template writes earlier turns differently")
    show = in_colour if colour else in_brackets
    return "\n".join(
        [*head, *(f"\n{_counts(part)}\n{show(segments(tokenizer, part.rendered))}".rstrip("\n") for part in parts)]
    )


def _place(rows: Sequence[object], split: str, number: int) -> int:
    if not 1 <= number <= len(rows):
        raise UserError(
            f"--row {number}: the {split} split has {len(rows):,} rows"
            + (f", numbered 1 to {len(rows):,}." if rows else "."),
            remedy="Choose one of them, or another --split." if rows else "Choose another --split.",
        )
    return number - 1


def _place_of(rows: Sequence[dict[str, object]], split: str, wanted: str) -> int:
    found = next((place for place, row in enumerate(rows) if row["id"] in (wanted, wanted.partition("#")[0])), None)
    if found is None:
        raise UserError(
            f"--id {wanted}: no row of the {split} split has this id.",
            remedy="The ids stand in the split's .jsonl file; --split chooses another split.",
        )
    return found


def _counts(row: Row) -> str:
    learnt = row.rendered.supervised_tokens
    return f"{row.id}: {len(row):,} tokens, {learnt:,} of them learnt ({learnt / len(row):.0%})"


def in_brackets(parts: Sequence[tuple[str, bool]]) -> str:
    """Learnt text in ⟦ ⟧."""
    return "".join(f"⟦{text}⟧" if learnt else text for text, learnt in _harmless(parts))


def in_colour(parts: Sequence[tuple[str, bool]]) -> str:
    """Learnt text bold and green, the rest dim."""
    return "".join(f"{LEARNT if learnt else NOT_LEARNT}{text}{PLAIN}" for text, learnt in _harmless(parts))


def _harmless(parts: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    return [(console.harmless(text), learnt) for text, learnt in parts]


def wants_colour() -> bool:
    """Standard output is a terminal that shows colours, and NO_COLOR (no-color.org) is not set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
