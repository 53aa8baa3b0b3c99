"""Curation from top to bottom: read, check, deduplicate, decontaminate, measure, split, write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from tunelift.artifacts.records import digest, file_sha256
from tunelift.artifacts.store import writing
from tunelift.config.schema import CurateConfig, SourceConfig, SourceFormat
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.chat import BOUNDARY_REMEDY, load_tokenizer
from tunelift.runtime.lengths import Lost
from tunelift.runtime.turns import STABLE_REMEDY, TOOL_REASONS, TOOL_REMEDY
from tunelift.runtime.vocabulary import add_tokens
from tunelift.stages.curate.card import data_set_card, funnel
from tunelift.stages.curate.checks import learnable, measure, structure_fault
from tunelift.stages.curate.contamination import Contamination, Questions
from tunelift.stages.curate.documents import kind
from tunelift.stages.curate.duplicates import ExactDuplicates, normalised
from tunelift.stages.curate.formats import ShapeError, detect, to_conversation
from tunelift.stages.curate.read import read_source, source_fingerprint
from tunelift.stages.curate.rows import Dropped, Example, Fault, Kept, Outcome, Quarantined, RawRow
from tunelift.stages.curate.split import SPLITS, split_of
from tunelift.stages.curate.write import Ledger, as_json, check_counts

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def curate(
    config: CurateConfig,
    *,
    tokenizer_folder: Path,
    max_length: int,
    max_truncated_ratio: float = 0.0,
    questions: dict[str, list[str]],
    seed: int,
    out: Path,
    added_tokens: Sequence[str] = (),
    template: str | None = None,
) -> dict[str, Any]:
    """Turn raw rows into a data set: train, validation and test splits, and an account of every row.

    Args:
        config: Sources and rules.
        tokenizer_folder: The model folder whose tokenizer and chat template measure the rows.
        template: The chat template to use in place of the folder's own.
        max_length: Longest row in tokens; longer ones are dropped whole.
        max_truncated_ratio: Share of the supervised tokens that may be lost in this way.
        questions: By task name, what each of its items asks (the request alone, without the prompt around it).
        seed: Decides the split together with a row's group.
        out: Folder to fill; files of an earlier attempt are overwritten.
        added_tokens: Tokens that training adds to the vocabulary, so that rows are measured as they will be trained on.

    Returns:
        `content` (sha256 over the split files), `rows`, `splits`, `contamination`, `truncation` and `formats`.

    Raises:
        UserError: a source cannot be read, too many rows are broken, more is lost to `max_length` than allowed, or a
            split that is needed came out empty.
        CountError: the counts do not add up, which is a bug.
    """
    tokenizer = load_tokenizer(tokenizer_folder, template)
    add_tokens(tokenizer, added_tokens)
    contamination = Contamination(Questions(questions, config.contamination_ngram, config.contamination_overlap))
    reading = Reading(config)
    judge = Judge(config, tokenizer, max_length, seed, contamination)
    with writing(out):
        with Ledger(out) as ledger, console.progress("curate", unit="rows") as bar:
            for row in reading.rows():
                ledger.record(judge.outcome(row))
                bar.advance()
        stats = ledger.stats(reading.read, reading.formats, contamination.rates(), max_length)
        check_counts(stats, out)
        _check_usable(config, stats, ledger, ledger.lost(max_length), max_truncated_ratio)
        content = digest({split: file_sha256(out / f"{split}.jsonl") for split in SPLITS})
        hashes = {source.path: source_fingerprint(source) for source in config.sources}
        (out / "stats.json").write_bytes(orjson.dumps(stats, option=orjson.OPT_INDENT_2) + b"\n")
        (out / "README.md").write_text(
            data_set_card(config, stats, hashes, content, max_length, seed), encoding="utf-8"
        )
    for line in funnel(stats):
        console.say(line)
    _warn(stats, config)
    return {
        "content": content,
        "rows": stats["rows"],
        "splits": stats["splits"],
        "contamination": stats["contamination"],
        "truncation": stats["truncation"],
        "formats": reading.formats,
    }


@dataclass
class Reading:
    """Reads the sources in order, and counts what comes out of them before anything is decided."""

    config: CurateConfig
    read: Counter[str] = field(default_factory=Counter)
    """Rows by source."""
    formats: dict[str, str | None] = field(default_factory=dict)
    """Format by source."""

    def rows(self) -> Iterator[Example | Quarantined]:
        """Each row as a conversation, or why it is none; at most `max_rows`."""
        for source in self.config.sources:
            left = None if self.config.max_rows is None else self.config.max_rows - self.read.total()
            if left == 0:
                return
            shape, rows = detect(source, islice(read_source(source), left))
            for row in rows:
                self.read[row.file] += 1
                self.formats.setdefault(row.file, shape)
                yield _example(row, shape, source, self.config.split.group_by) if isinstance(row, RawRow) else row


def _example(
    row: RawRow, shape: SourceFormat | None, source: SourceConfig, group_by: str | None
) -> Example | Quarantined:
    assert shape is not None, "a row that could be read has a format"
    try:
        messages, tools = to_conversation(row.value, shape, source.system)
        return Example(row.file, row.line, row.value, messages, tools, _group(row.value, messages, group_by))
    except ShapeError as error:
        return Quarantined(
            row.file, row.line, error.path, error.reason, error.detail, row.text or as_json(row.value).decode()
        )


def _group(row: dict[str, Any], messages: list[dict[str, Any]], group_by: str | None) -> str:
    """The text whose hash decides the split: the field named, or the first user message."""
    if group_by is None:
        return normalised(next((message["content"] for message in messages if message["role"] == "user"), ""))
    value = row.get(group_by)
    if value is None:
        raise ShapeError(
            f"$.{group_by}", "missing_field", f"the field {group_by!r} of curate.split.group_by is missing"
        )
    if not isinstance(value, str | int):
        raise ShapeError(f"$.{group_by}", "wrong_type", f"is {kind(value)}, must be text or a whole number to group by")
    return str(value)


@dataclass
class Judge:
    """Decides what becomes of each row, in the order of the funnel."""

    config: CurateConfig
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    seed: int
    contamination: Contamination
    duplicates: ExactDuplicates = field(default_factory=ExactDuplicates)

    def outcome(self, row: Example | Quarantined) -> Outcome:
        """Keep, drop with a reason, or quarantine."""
        if isinstance(row, Quarantined):
            return row
        fault = structure_fault(row) or self.duplicates.fault(row) or self.contamination.fault(row)
        measured = fault or measure(row, self.tokenizer, self.max_length, self.config.min_reply_tokens)
        if isinstance(measured, Fault):
            return Dropped(row, measured, learnable(row, self.tokenizer))
        return Kept(row, split_of(row.group, self.config.split, self.seed), measured.lengths)


REMEDIES = {
    "too_long": "Raise train.max_length.",
    "reply_too_short": "Lower curate.min_reply_tokens.",
    "template_refused": "Use data that the model's chat template can render, or a model whose template can.",
    "template_ignores_system": "Put the system message at the beginning of the first user message.",
    "template_ignores_reply": "Write thinking as <think>…</think> into the content; take out what the template drops.",
    "template_not_prefix_stable": STABLE_REMEDY,
    "token_across_boundary": BOUNDARY_REMEDY,
    "end_of_turn_missing": "Use the template that the model was published with.",
    "double_bos": "Use the template that the model was published with.",
    "special_token_in_content": "Take the control tokens out of the rows' text.",
    "not_utf8": "Convert the file to UTF-8, from Latin-1 with: iconv -f ISO-8859-1 -t UTF-8.",
    "invalid_json": "Correct the lines; if the file is one JSON list, name it .json.",
}
"""What to do when this is the commonest reason why rows cannot be read or are not kept."""


def _check_usable(
    config: CurateConfig, stats: dict[str, Any], ledger: Ledger, lost: Lost, max_truncated_ratio: float
) -> None:
    rows = stats["rows"]
    quarantined = sum(rows["quarantined"].values())
    if quarantined / rows["read"] > config.max_quarantine_ratio:
        raise UserError(
            f"{quarantined} of {rows['read']} rows cannot be read, more than curate.max_quarantine_ratio="
            f"{config.max_quarantine_ratio:g} allows.\n{_examples(rows['quarantined'], ledger)}",
            remedy=REMEDIES.get(next(iter(rows["quarantined"])), "Correct the rows, or name the source's format.")
            + f" All of them are in {ledger.out / 'quarantine.jsonl'}.",
        )
    without_tools = {reason: count for reason, count in rows["dropped"].items() if reason in TOOL_REASONS}
    if without_tools:
        raise UserError(
            f"{sum(without_tools.values())} of {rows['read']} rows use tools, and the model's chat template does not: "
            f"the model would learn to call tools that it is not shown.\n{_examples(without_tools, ledger)}",
            remedy=f"{TOOL_REMEDY} All of them are in {ledger.out / 'dropped.jsonl'}.",
        )
    if not rows["kept"]:
        raise UserError(
            "No row is left after curation.\n" + "\n".join(funnel(stats)) + f"\n{_examples(rows['dropped'], ledger)}",
            remedy=f"{REMEDIES.get(next(iter(rows['dropped']), ''), 'Correct the rows, or the rules that drop them.')} "
            f"All of them are in {ledger.out / 'dropped.jsonl'}, with the reason.",
        )
    lost.refuse_above(max_truncated_ratio, str(ledger.out / "dropped.jsonl"))
    for split in ("validation", "train"):
        if not stats["splits"][split]["rows"]:
            raise UserError(
                f"The {split} split is empty: none of the {rows['kept']} rows kept fell into it.",
                remedy="Add rows, "
                + (
                    "raise curate.split.validation"
                    if split == "validation"
                    else "lower curate.split.validation and curate.split.test"
                )
                + ", or choose another seed"
                + (", or another curate.split.group_by." if config.split.group_by else "."),
            )


def _examples(reasons: dict[str, int], ledger: Ledger) -> str:
    """The commonest reasons, each with the first row that it befell."""
    lines = [
        f"  {reason}: {count} rows, first {ledger.first[reason][0]} ({ledger.first[reason][1]})"
        for reason, count in reasons.items()
    ]
    return "\n".join(lines[:5])


def _warn(stats: dict[str, Any], config: CurateConfig) -> None:
    if config.split.test and not stats["splits"]["test"]["rows"]:
        console.warn("the test split is empty; add rows, or raise curate.split.test")
