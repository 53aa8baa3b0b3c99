"""The account of a curation for people: one sentence, the funnel in plain lines, and the data set card."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from tunelift.config.curation import CurateConfig
from tunelift.runtime.lengths import percent
from tunelift.stages.curate.decisions import decisions
from tunelift.tasks.statistics import LEAST_TO_CHOOSE_BY, Spread, minimum_detectable_effect

Json = dict[str, Any]

SIZES = ("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B")
"""The hub's size categories: each ends at ten times the rows of the one before."""
ACCOUNT = """Every row read is in exactly one of the splits, `dropped.jsonl` (with reason and evidence) and
`quarantine.jsonl` (with file, line and raw text). `curation.html` shows them with samples, `duplicates.jsonl` holds
each pair of near duplicates found, `conflicts.jsonl` the prompts with several answers, and `pii.jsonl` each finding of
personal data, masked."""
ROW_FIELDS = """`id` (hash of the conversation), `messages`, `tools` (if the row has any), `source` (file:line), `group`
(hash of the first user message, or of the field that rows are grouped by), `cluster` (the smallest `group` of all rows
that must not be parted from it: they lie in one split and are one item to statistics), `tokens`, `supervised_tokens`
and `training_rows` (the rows that training makes of it: one, or one for each assistant turn where the template writes
earlier turns differently from the last; the tokens are those of all of them), `edits` (what was mended or replaced, if
anything) and `flags` (what was found and reported, if anything). Rows stand in the order in which they were read."""
PROVED = """Two things are proved, each by its own figure above. *Whole rows*: no row is alike, in its prompts and
replies together, to a row of another split (leakage). *Prompts*: no row asks what a validation or test row asks, by
the rule that evaluation items are looked for with, in words without case and punctuation (prompts). A request with
fewer words than an n-gram counts where it is the whole of another request or first message, or most of it. Words that
stand in more than a tenth of the rows one after the other, such as a fixed instruction, do not count. A prompt in other
words is another prompt to this rule; "nearly asked" says how many prompts share most of their words, in runs of three
or more, with one training prompt, as a paraphrase made by a few edits does."""
COARSE = 0.25
"""A test split that shows only differences above this is worth a word: less than some 23 rows."""
MUCH_BOILERPLATE = 0.1
"""Where more of the users' words than this do not count, the sentence says so."""


def verdict(stats: Json) -> str:
    """The finding of a curation as one sentence: what is kept, and whether anything leaks."""
    rows, leakage = stats["rows"], stats["leakage"]
    leaks = f"{leakage['pairs']:,} pairs of rows above {{:g}} similarity lie in two splits"
    parts = [
        f"{rows['kept']:,} of {rows['read']:,} rows are kept",
        (leaks if leakage["pairs"] else "no pair of rows above {:g} similarity lies in two splits").format(
            leakage["threshold"]
        ),
        *_about_prompts(leakage["prompts"]),
    ]
    items = stats["contaminated_items"]
    found = sorted((task for task in items if items[task]["found"]), key=lambda task: -items[task]["found"])
    if found:
        told = [f"{percent(stats['contamination'][task])} of the items of {task}" for task in found[:2]]
        more = f" (and items of {len(found) - 2} more tasks)" if len(found) > 2 else ""
        parts.append(f"{' and '.join(told)}{more} stood in the {searched(stats)} and none is left")
    elif items:
        parts.append(f"no evaluation item stood in the {searched(stats)}")
    return "; ".join(parts)


def searched(stats: Json) -> str:
    """The rows in which evaluation items were looked for, in words: not those that could not be read."""
    unread = sum(stats["rows"]["quarantined"].values())
    return "rows that could be read" if unread else "rows read"


def _about_prompts(prompts: Json) -> Iterator[str]:
    if not prompts["held_out"]:
        return
    asked = sum(prompts["in_other_split"].values())
    if asked:
        found = f"{asked:,} of {prompts['held_out']:,} validation and test prompts are asked in another split"
    else:
        found = "no validation or test prompt is asked in another split"
    yield found + left_out(prompts)


def left_out(prompts: Json) -> str:
    """How many of the words in prompts do not count, if many, as the end of a sentence.

    Args:
        prompts: `leakage.prompts` of stats.json.
    """
    if prompts["boilerplate"] <= MUCH_BOILERPLATE:
        return ""
    return (
        f", leaving out {percent(prompts['boilerplate'])} of the words of prompts, which more than a tenth of the rows "
        "share"
    )


def close_by(prompts: Json) -> str:
    """What counts as nearly asked, in words."""
    close = prompts["close"]
    return f"with over {close['overlap']:.0%} of their words, in runs of {close['ngram']} or more"


def funnel(stats: Json) -> list[str]:
    """What became of the rows, one line each; the numbers add up to the rows read."""
    return [*_rows(stats), *_findings(stats)]


def _line(name: str, count: int, note: str = "") -> str:
    return f"  {name:34} {count:>9,}" + (f"   {note}" if note else "")


def _rows(stats: Json) -> Iterator[str]:
    rows, unlearnt, lost = stats["rows"], stats["dropped_supervised_tokens"], stats["truncation"]
    yield _line("rows read", rows["read"])
    for reason, count in rows["quarantined"].items():
        yield _line("  quarantined: " + reason, -count)
    for reason, count in rows["dropped"].items():
        yield _line("  dropped: " + reason, -count, f"{unlearnt[reason]:,} supervised tokens")
    yield _line("rows kept", rows["kept"])
    for split, counts in stats["splits"].items():
        several = counts["training_rows"] != counts["rows"]
        yield _line(
            "  " + split,
            counts["rows"],
            f"{counts['tokens']:,} tokens, {counts['supervised_tokens']:,} supervised"
            + (f", in {counts['training_rows']:,} training rows" if several else ""),
        )
    if lost["rows"]:
        yield (
            f"  lost to train.max_length={lost['max_length']}: {lost['rows']:,} rows, {lost['supervised_tokens']:,} "
            f"supervised tokens, {percent(lost['ratio'])} of what could be learnt; longest row {lost['longest_row']:,}"
        )


def _findings(stats: Json) -> Iterator[str]:
    """What was found beside the reasons for dropping rows; nothing where nothing was."""
    yield from _few_rows(stats)
    pii, near, conflicts, leakage = stats["pii"], stats["duplicates"], stats["conflicts"], stats["leakage"]
    if stats["edited"]:
        yield "  edited: " + ", ".join(f"{kind} in {rows:,} rows" for kind, rows in stats["edited"].items())
    if stats["flagged"]:
        yield "  flagged, kept: " + ", ".join(f"{reason} {rows:,}" for reason, rows in stats["flagged"].items())
    if pii:
        yield "  personal data: " + ", ".join(
            f"{kind} {one['found']:,} in {one['rows']:,} rows ({one['action']})" for kind, one in pii.items()
        )
    if near["clusters"] or near["values_differ"]:
        yield (
            f"  near duplicates: {near['clusters']:,} clusters, the largest of {near['largest']:,} rows; "
            f"{near['values_differ']:,} pairs kept since only values differ"
        )
    if conflicts["prompts"]:
        yield f"  conflicts: {conflicts['prompts']:,} prompts with several answers, {conflicts['rows']:,} rows"
    for task, rate in stats["contamination"].items():
        yield f"  contamination: {rate:.1%} of the items of {task} stood in the {searched(stats)}"
    yield (
        f"  leakage: {leakage['pairs']:,} pairs of rows above {leakage['threshold']:g} similarity lie in two splits "
        f"({leakage['compared']:,} pairs compared, {leakage['moved']:,} rows moved)"
    )
    prompts = leakage["prompts"]
    close = prompts["close"]
    asked = sum(prompts["in_other_split"].values())
    yield (
        f"  prompts: {asked:,} of {prompts['held_out']:,} held-out ones are asked in another split (over "
        f"{prompts['overlap']:.0%} of their words; {prompts['moved']:,} rows moved, "
        f"{prompts['dropped']:,} dropped){left_out(prompts)}"
    )
    yield (
        f"  nearly asked: {close['share']:.1%} of {close['prompts']:,} held-out prompts have a training prompt "
        f"{close_by(prompts)}"
    )


def _few_rows(stats: Json) -> Iterator[str]:
    """What so few held-out rows are worth; rows of one group count once."""
    apart = stats["groups"]["in_split"]
    if 0 < apart["validation"] < LEAST_TO_CHOOSE_BY:
        yield (
            f"  few rows: validation has {_told(apart, stats, 'validation')}, so its loss says little, and no step or "
            f"prompt can be chosen by it (that takes {LEAST_TO_CHOOSE_BY})"
        )
    least = minimum_detectable_effect(apart["test"], Spread.assumed("binary")) if apart["test"] else 0.0
    if least is None or least > COARSE:
        shows = "no difference at all" if least is None else f"only differences above {100 * least:.0f} points"
        yield f"  few rows: test has {_told(apart, stats, 'test')}, and as a task can show {shows}"


def _told(apart: Json, stats: Json, split: str) -> str:
    rows = stats["splits"][split]["rows"]
    return f"{rows:,} row{'s' * (rows != 1)}" + (
        f" in {apart[split]:,} group{'s' * (apart[split] != 1)}" if apart[split] != rows else ""
    )


def data_set_card(
    config: CurateConfig, stats: Json, hashes: dict[str, str], content: str, max_length: int, seed: int
) -> str:
    """README.md of the data set, with the YAML front matter that the hub reads.

    Args:
        hashes: What each source held: sha256, or the hub commit.
        content: Hash over the split files.
    """
    parts = [
        f"---\n{yaml.safe_dump(_front(config, stats), sort_keys=False, allow_unicode=True)}---",
        "# Data set card",
        f"{_sentence(verdict(stats))} Content hash `{content}`.",
        _licences(config),
        "## Sources",
        _table(
            ("source", "format", "read", "kept"),
            [(file, *_source(counts)) for file, counts in stats["sources"].items()],
        ),
        _table(
            ("as configured", "sha256 or hub commit", "licence"),
            [
                (source.path, hashes.get(source.path, "unknown"), source.licence or "not stated")
                for source in config.sources
            ],
        ),
        "## What became of the rows",
        "```\n" + "\n".join(funnel(stats)) + "\n```",
        ACCOUNT,
        "## Between the splits",
        PROVED,
        "## Lengths in tokens",
        _table(("split", "counted", "p50", "p90", "p99", "longest"), _lengths(stats)),
        "## Decisions",
        "\n".join(f"- {rule}" for rule in decisions(config, max_length, seed)),
        "## Fields",
        ROW_FIELDS,
    ]
    return "\n\n".join(parts) + "\n"


def _front(config: CurateConfig, stats: Json) -> Json:
    kept, licence = stats["rows"]["kept"], _licence(config)
    present = {split: counts["rows"] for split, counts in stats["splits"].items() if counts["rows"]}
    return {
        "license": licence,
        **({"license_name": ", ".join(sorted(_stated(config)))} if licence == "other" else {}),
        **({"language": list(config.clean.languages)} if config.clean.languages else {}),
        "task_categories": ["text-generation"],
        "size_categories": [SIZES[max(0, len(str(kept)) - 3)]],
        "tags": ["tunelift"],
        "configs": [
            {"config_name": "default", "data_files": [{"split": split, "path": f"{split}.jsonl"} for split in present]}
        ],
        "dataset_info": {
            "config_name": "default",
            "splits": [{"name": split, "num_examples": rows} for split, rows in present.items()],
        },
    }


def _stated(config: CurateConfig) -> set[str]:
    return {source.licence.lower() for source in config.sources if source.licence}


def _licence(config: CurateConfig) -> str:
    """The one licence of all sources; `other` for several, `unknown` as long as one source states none."""
    if any(source.licence is None for source in config.sources):
        return "unknown"
    return next(iter(_stated(config))) if len(_stated(config)) == 1 else "other"


def _licences(config: CurateConfig) -> str:
    match _licence(config):
        case "unknown":
            bare = [f"`{source.path}`" for source in config.sources if source.licence is None]
            return (
                f"The licence of {', '.join(bare)} is not stated: set `licence` under `curate.sources` before you "
                "publish the data set."
            )
        case "other":
            return "The sources have different licences; each is named below, and all of them hold for its rows."
        case licence:
            return f"Licence of all sources: {licence}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + "."


def _source(counts: Json) -> tuple[str, ...]:
    return (counts["format"] or "unknown", f"{counts['read']:,}", f"{counts['kept']:,}")


def _lengths(stats: Json) -> list[tuple[str, ...]]:
    return [
        (split, counted.replace("_", " "), *(f"{value:,}" for value in quantiles.values()))
        for split, both in stats["lengths"].items()
        for counted, quantiles in both.items()
        if quantiles
    ]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
