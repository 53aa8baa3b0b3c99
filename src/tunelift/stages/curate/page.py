"""curation.html: what became of the rows and why, with samples, on one page that needs no network."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
from markupsafe import Markup

from tunelift.runtime.page import visible, write_page
from tunelift.stages.curate import drawing, texts
from tunelift.stages.curate.card import close_by, left_out, noted, redaction_in_replies, searched, verdict
from tunelift.stages.curate.decisions import PII_NAMES
from tunelift.stages.curate.reasons import meaning, remedy
from tunelift.stages.curate.samples import Samples, read_samples
from tunelift.stages.curate.split import SPLITS

Json = dict[str, Any]

TEMPLATES = Path(__file__).parent / "template"
PAGE = "curation.html"
LONGEST_TABLE = 100
"""Sources in a table; a glob can name thousands."""
OUTCOMES = {
    "dropped": "Dropped: the left row stays",
    "values_differ": "Both stay: only values differ",
    "related": "Both stay, in one split: alike on the whole, not in each of prompt, reply, system message and tools",
    "reported": "Both stay: near duplicates are only reported",
}


def write_curation_page(
    out: Path, *, name: str, decisions: Sequence[str], sources: dict[str, str], content: str
) -> None:
    """Write curation.html from the files of a curation in `out`, which are read as streams.

    Args:
        name: What the data set is called.
        decisions: The rules in force, as of `decisions.decisions`.
        sources: What each source held: sha256, or the hub commit.
        content: Hash over the split files.
    """
    stats = orjson.loads((out / "stats.json").read_bytes())
    samples, prompts = read_samples(out), stats["leakage"]["prompts"]
    context = {
        "name": name,
        "sentence": verdict(stats),
        "close_by": close_by(prompts),
        "left_out": left_out(prompts),
        "stats": stats,
        "funnel": funnel_steps(stats),
        "noted": noted(stats),
        "lengths": _lengths(stats),
        "read": _first(stats["sources"], lambda counts: counts["read"]),
        "mix": _first(stats.get("mix", {}), lambda counts: counts["kept"]),
        "reasons": [*_dropped(stats, samples), *_quarantined(stats, samples)],
        "pairs": _pairs(samples),
        "conflicts": samples.conflicts,
        "pii": [
            {"kind": kind, "name": PII_NAMES[kind], **found, "samples": samples.pii.get(kind, [])}
            for kind, found in stats["pii"].items()
        ],
        "edits": samples.edits,
        "redacted": redaction_in_replies(stats),
        "contamination": _contamination(stats, samples),
        "searched": searched(stats),
        "decisions": decisions,
        "sources": _first(sources, lambda _: 0),
        "content": content,
    }
    write_page(
        PAGE, context, out, templates=TEMPLATES, styles=("curation.css",), scripts=("curation.js",), words=FILTERS
    )


def funnel_steps(stats: Json) -> list[Json]:
    """What was read, why rows left, and what is kept, in rows and supervised tokens with their shares.

    What could be learnt from quarantined rows nobody knows, so they have no tokens.
    """
    rows, unlearnt = stats["rows"], stats["dropped_supervised_tokens"]
    kept = sum(counts["supervised_tokens"] for counts in stats["splits"].values())
    tokens = kept + sum(unlearnt.values())
    steps = [
        ("read", "", rows["read"], tokens),
        *(("quarantined", reason, count, None) for reason, count in rows["quarantined"].items()),
        *(("dropped", reason, count, unlearnt[reason]) for reason, count in rows["dropped"].items()),
        ("kept", "", rows["kept"], kept),
    ]
    return [
        {
            "kind": kind,
            "reason": reason,
            "rows": count,
            "rows_share": count / max(rows["read"], 1),
            "tokens": learnt,
            "tokens_share": None if learnt is None else learnt / max(tokens, 1),
        }
        for kind, reason, count, learnt in steps
    ]


def _lengths(stats: Json) -> list[Json]:
    return [
        {
            "split": split,
            **stats["splits"][split],
            "lengths": stats["lengths"][split],
            "drawings": [
                (title, drawing.bars(stats["histograms"][split][key], f"{title} of the rows of {split}"))
                for key, title in (("tokens", "Tokens"), ("supervised_tokens", "Supervised tokens"))
            ],
        }
        for split in SPLITS
        if stats["splits"][split]["rows"]
    ]


def _first(found: dict[str, Any], weight: Callable[[Any], float]) -> Json:
    """The greatest entries of a table that may be long, and how many are left out."""
    ranked = sorted(found.items(), key=lambda entry: (-weight(entry[1]), entry[0]))
    shown = dict(sorted(ranked[:LONGEST_TABLE]))
    return {"shown": shown, "left": len(found) - len(shown)}


def _dropped(stats: Json, samples: Samples) -> list[Json]:
    return [
        _reason("dropped", reason, count)
        | {
            "samples": [
                {
                    "place": entry["source"],
                    "facts": texts.facts(entry["evidence"]),
                    "turns": texts.shown(texts.turns(entry["row"])),
                }
                for entry in samples.dropped.get(reason, [])
            ]
        }
        for reason, count in stats["rows"]["dropped"].items()
    ]


def _quarantined(stats: Json, samples: Samples) -> list[Json]:
    return [
        _reason("quarantined", reason, count)
        | {
            "samples": [
                {
                    "place": f"{entry['file']}:{entry['line']}",
                    "facts": [("where", texts.cut(entry["path"], texts.LONGEST_FACT))] * (entry["path"] != "$")
                    + [("what", texts.cut(entry["detail"], texts.LONGEST_FACT))],
                    "turns": [("as it stands", texts.cut(texts.plain(entry["raw"])))],
                }
                for entry in samples.quarantined.get(reason, [])
            ]
        }
        for reason, count in stats["rows"]["quarantined"].items()
    ]


def _reason(kind: str, reason: str, count: int) -> Json:
    return {"kind": kind, "reason": reason, "count": count, "meaning": meaning(reason), "remedy": remedy(reason)}


def _pairs(samples: Samples) -> list[Json]:
    """By outcome, pairs of near duplicates with the words marked that only one of them has."""
    found = []
    for outcome, title in OUTCOMES.items():
        pairs = []
        for pair in samples.pairs.get(outcome, []):
            rows = [samples.rows.get(pair[key], {}) for key in ("kept", "source")]
            sides = texts.side_by_side(*rows)
            pairs.append({"jaccard": pair["jaccard"], "places": (pair["kept"], pair["source"]), "sides": sides})
        if pairs:
            found.append({"outcome": outcome, "title": title, "pairs": pairs})
    return found


def _contamination(stats: Json, samples: Samples) -> list[Json]:
    return [
        {
            "task": task,
            "rate": stats["contamination"][task],
            **counts,
            "samples": [
                {
                    "place": entry["source"],
                    "item": entry["evidence"]["item"],
                    "overlap": entry["evidence"]["overlap"],
                    "text": texts.spanned(entry["row"], str(entry["evidence"]["span"])),
                }
                for entry in samples.contaminated.get(task, [])
            ],
        }
        for task, counts in stats["contaminated_items"].items()
    ]


def _share(value: float) -> str:
    """0.6931 as `69.3%`; none and all are exact, and a small share is never shown as none."""
    if 0 < value < 0.001:
        return "< 0.1%"
    return f"{value:.0%}" if value in (0, 1) else f"{min(100 * value, 99.9):.1f}%"


def _words(name: str) -> str:
    """`near_duplicate` as `near duplicate`."""
    return name.replace("_", " ")


def _code(sentence: str) -> Markup:
    """A sentence with what stands in backquotes as code."""
    parts = re.split(r"`([^`]*)`", visible(texts.cut(sentence, 2_000)))
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else Markup("{}").format(part)
        for number, part in enumerate(parts)
    )


FILTERS: dict[str, Callable[..., Any]] = {
    "amount": "{:,}".format,
    "share": _share,
    "cut": texts.cut,
    "words": _words,
    "code": _code,
}
