"""The account of a curation for people: the funnel in plain lines, and the data set card."""

from __future__ import annotations

from typing import Any

import yaml

from tunelift.config.schema import CurateConfig
from tunelift.runtime.lengths import percent
from tunelift.stages.curate.contamination import WHOLE_INSIDE_WORDS

SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
"""The hub's size categories: each ends at ten times the rows of the one before."""
ACCOUNT = """Every row read is in exactly one of the splits, `dropped.jsonl` (with reason and evidence) and
`quarantine.jsonl` (with file, line and raw text)."""
ROW_FIELDS = """`id` (hash of the conversation), `messages`, `tools` (if the row has any), `source` (file:line), `group`
(hash; a group lies in one split), `tokens`, `supervised_tokens` and `training_rows` (the rows that training makes of
it: one, or one for each assistant turn where the template writes earlier turns differently from the last; the tokens
are those of all of them). Rows stand in the order in which they were read."""


def funnel(stats: dict[str, Any]) -> list[str]:
    """What became of the rows, one line each; the numbers add up to the rows read."""
    rows = stats["rows"]
    lines = [f"  {'rows read':34} {rows['read']:>9,}"]
    lines += [f"  {'  quarantined: ' + reason:34} {-count:>9,}" for reason, count in rows["quarantined"].items()]
    unlearnt = stats["dropped_supervised_tokens"]
    lines += [
        f"  {'  dropped: ' + reason:34} {-count:>9,}   {unlearnt[reason]:,} supervised tokens"
        for reason, count in rows["dropped"].items()
    ]
    lines += [f"  {'rows kept':34} {rows['kept']:>9,}"]
    lines += [
        f"  {'  ' + split:34} {counts['rows']:>9,}   {counts['tokens']:,} tokens, "
        f"{counts['supervised_tokens']:,} supervised"
        + (f", in {counts['training_rows']:,} training rows" if counts["training_rows"] != counts["rows"] else "")
        for split, counts in stats["splits"].items()
    ]
    lost = stats["truncation"]
    if lost["rows"]:
        lines.append(
            f"  lost to train.max_length={lost['max_length']}: {lost['rows']:,} rows, {lost['supervised_tokens']:,} "
            f"supervised tokens, {percent(lost['ratio'])} of what could be learnt; longest row {lost['longest_row']:,}"
        )
    lines += [
        f"  contamination: {rate:.1%} of the items of {task} stood in the raw rows"
        for task, rate in stats["contamination"].items()
    ]
    return lines


def data_set_card(
    config: CurateConfig, stats: dict[str, Any], hashes: dict[str, str], content: str, max_length: int, seed: int
) -> str:
    """README.md of the data set, with the YAML front matter that the hub reads.

    Args:
        hashes: What each source held: sha256, or the hub commit.
        content: Hash over the split files.
    """
    kept = stats["rows"]["kept"]
    present = [split for split, counts in stats["splits"].items() if counts["rows"]]
    front = {
        "license": "unknown",
        "task_categories": ["text-generation"],
        "size_categories": [SIZES[max(0, len(str(kept)) - 3)]],
        "tags": ["tunelift"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": split, "path": f"{split}.jsonl"} for split in present]}
        ],
    }
    parts = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        "# Data set card",
        f"{kept:,} of {stats['rows']['read']:,} raw rows, as conversations. Content hash `{content}`.",
        "The licence is unknown to the tool that made this: state it before you publish the data set.",
        "## Sources",
        _table(
            ("source", "format", "read", "kept"),
            [(file, *_source(counts)) for file, counts in stats["sources"].items()],
        ),
        _table(("as configured", "sha256 or hub commit"), list(hashes.items())),
        "## What became of the rows",
        "```\n" + "\n".join(funnel(stats)) + "\n```",
        ACCOUNT,
        "## Lengths in tokens",
        _table(("split", "counted", "p50", "p90", "p99", "longest"), _lengths(stats)),
        "## Decisions",
        _decisions(config, max_length, seed),
        "## Fields",
        ROW_FIELDS,
    ]
    return "\n\n".join(parts) + "\n"


def _source(counts: dict[str, Any]) -> tuple[str, ...]:
    return (counts["format"] or "unknown", f"{counts['read']:,}", f"{counts['kept']:,}")


def _lengths(stats: dict[str, Any]) -> list[tuple[str, ...]]:
    return [
        (split, counted.replace("_", " "), *(f"{value:,}" for value in quantiles.values()))
        for split, both in stats["lengths"].items()
        for counted, quantiles in both.items()
        if quantiles
    ]


def _decisions(config: CurateConfig, max_length: int, seed: int) -> str:
    group = f"the field `{config.split.group_by}`" if config.split.group_by else "the first user message"
    limit = [f"- Only the first {config.max_rows:,} rows were read."] if config.max_rows else []
    systems = [
        f"- Rows of `{source.path}` without a system message got: {source.system!r}"
        for source in config.sources
        if source.system
    ]
    rules = f"""
- A conversation is an optional system message, then user and assistant by turns. It ends with the assistant, and no
  turn is empty.
- Exact duplicates: whole conversations, equal up to Unicode form and white space; the first stays. Case counts.
- Contamination: a row is dropped when word {config.contamination_ngram}-grams of its user messages cover more than
  {config.contamination_overlap:.0%} of the words of an evaluation item (the rule of Tulu 3). Items with fewer words are
  looked for whole, and below {WHOLE_INSIDE_WORDS} words only as a message or line of their own.
- Rows longer than {max_length:,} tokens are dropped, none is cut; so are rows with fewer than {config.min_reply_tokens}
  supervised tokens.
- Split by a hash of {group} and the seed {seed}: {config.split.test:.0%} of the groups to test,
  {config.split.validation:.0%} to validation.
"""
    return "\n".join([*limit, *systems, rules.strip()])


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
