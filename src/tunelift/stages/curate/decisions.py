"""The rules in force, as sentences: what was decided about the rows, and by which setting."""

from __future__ import annotations

from collections.abc import Iterator

from tunelift.config.curation import CurateConfig, PiiConfig
from tunelift.stages.curate.contamination import LONG_STRETCH, WHOLE_INSIDE_WORDS

HANDLED = {"drop": "are dropped", "report": "stay and are listed as flagged"}
PII_NAMES = {
    "email": "e-mail addresses",
    "phone": "telephone numbers",
    "ip": "public IP addresses",
    "card": "payment card numbers with a valid check digit",
    "iban": "IBANs with valid check digits",
    "secret": "keys, tokens and passwords",
}
PII_HANDLED = {
    "redact": "Replaced by a placeholder, the same for equal values in a conversation",
    "drop": "Rows are dropped for",
    "report": "Left in place and listed in `pii.jsonl`",
    "off": "Not looked for",
}
ALIKE_PROMPTS = {
    "join": "is kept in that row's split",
    "drop": "is dropped",
    "report": "stays where it is and is counted",
}
COMPARED = {
    "prompt": "of what the user wrote",
    "reply": "of the replies",
    "both": "of what the user wrote, and those of the replies,",
}


def decisions(config: CurateConfig, max_length: int, seed: int) -> list[str]:
    """One sentence or two a rule, in the order of the funnel; names of settings and files stand in backquotes."""
    return [
        *_reading(config),
        *_cleaning(config),
        *_personal_data(config.pii),
        *_duplicates(config),
        *_contamination(config),
        *_length(config, max_length),
        *_mix(config, seed),
        *_split(config, seed),
    ]


def _reading(config: CurateConfig) -> Iterator[str]:
    if config.max_rows:
        yield f"Only the first {config.max_rows:,} rows were read."
    for source in config.sources:
        if source.system:
            yield f"Rows of `{source.path}` without a system message, or with an empty one, got: {source.system!r}"
        if source.fields:
            named = ", ".join(f"{theirs} as {ours}" for ours, theirs in sorted(source.fields.items()))
            yield f"Fields of `{source.path}` were read under other names: {named}."
    yield (
        "Tools' results stand in the order of the calls that they answer, by their ids. Rows whose calls their tools "
        "do not allow stay, are flagged, and are no item of a task made from a split."
    )
    yield (
        "A conversation is an optional system message, then user and assistant by turns. It ends with the assistant, "
        "and no turn is empty."
    )


def _cleaning(config: CurateConfig) -> Iterator[str]:
    clean = config.clean
    if clean.unicode:
        yield "Text that was decoded wrongly is repaired, and control characters are taken out, by ftfy."
    if clean.whitespace:
        yield "White space is taken from the ends of messages and lines; more than one blank line becomes one."
    for what, handling in (("refuse or speak as an AI model", clean.refusals), ("end in the middle", clean.cut_off)):
        if handling != "off":
            yield f"Rows whose replies {what} {HANDLED[handling]}."
    if clean.languages:
        yield f"Rows in other languages than {', '.join(clean.languages)} are dropped; short texts are not judged."
    if clean.min_reply_words:
        yield f"Rows whose last reply has fewer than {clean.min_reply_words:,} words are dropped."
    if clean.max_reply_words is not None:
        yield f"Rows whose last reply has more than {clean.max_reply_words:,} words are dropped."
    if clean.reply_schema:
        yield f"Rows whose last reply does not satisfy the JSON Schema `{clean.reply_schema}` are dropped."


def _personal_data(pii: PiiConfig) -> Iterator[str]:
    for handling, words in PII_HANDLED.items():
        kinds = [name for kind, name in PII_NAMES.items() if getattr(pii, kind) == handling]
        if kinds:
            yield f"{words}{'' if handling == 'drop' else ':'} {', '.join(kinds)}."


def _duplicates(config: CurateConfig) -> Iterator[str]:
    near = config.duplicates
    yield (
        "Exact duplicates: whole conversations, equal up to Unicode form and white space; the first by file name and "
        "line stays. Case counts."
    )
    if near.near == "off":
        return
    handled = "the first by file name and line stays" if near.near == "drop" else "they stay and are listed"
    yield (
        f"Near duplicates: rows whose word 3-grams {COMPARED[near.on]} overlap by {near.threshold:g} or more (Jaccard, "
        f"computed exactly); {handled}."
        + (" Rows that differ only in values (numbers, names, dates, addresses, quoted text) stay." * near.keep_values)
    )


def _contamination(config: CurateConfig) -> Iterator[str]:
    overlap = config.contamination_overlap
    share = "all" if overlap == 1 else f"more than {overlap:.0%}"
    stretch = "" if overlap == 1 else f", or {LONG_STRETCH} of them in one stretch"
    yield (
        f"Contamination: a row is dropped when word {config.contamination_ngram}-grams of what it says, calls and "
        f"describes cover {share} of the words of an evaluation item (the rule of Tulu 3){stretch}. Items "
        f"with fewer words are looked for whole, and below {WHOLE_INSIDE_WORDS} words only where they are the request: "
        "a message, a line, a sentence, a text in JSON, or what follows a label or number. Rows that could not be read "
        "are not looked at."
    )


def _length(config: CurateConfig, max_length: int) -> Iterator[str]:
    yield (
        f"Rows longer than {max_length:,} tokens are dropped, none is cut; so are rows with fewer than "
        f"{config.min_reply_tokens} supervised tokens."
    )


def _mix(config: CurateConfig, seed: int) -> Iterator[str]:
    if any(source.weight is not None for source in config.sources):
        shares = ", ".join(f"`{source.path}` {source.weight:g}" for source in config.sources)
        yield f"Mixed by weight: {shares}. Rows are drawn by the seed {seed}, and none is repeated."
    if config.keep_rows:
        yield f"Of the rows that pass, at most {config.keep_rows:,} are kept, drawn by the seed {seed}."
    if config.keep_tokens:
        yield f"Of the rows that pass, at most {config.keep_tokens:,} tokens are kept, drawn by the seed {seed}."


def _split(config: CurateConfig, seed: int) -> Iterator[str]:
    split = config.split
    group = f"the field `{split.group_by}`" if split.group_by else "the first user message"
    yield (
        f"Split by a hash of {group} and the seed {seed}: {split.test:.0%} of the groups to test, "
        f"{split.validation:.0%} to validation. Near duplicates share a split."
    )
    rule = (
        f"word {config.contamination_ngram}-grams of it cover more than {config.contamination_overlap:.0%} of the words"
    )
    yield (
        f"A row that asks what a validation or test row asks ({rule}; fewer words must be all or most of what it asks) "
        f"{ALIKE_PROMPTS[split.alike_prompts]}."
    )
    if split.stratify_by:
        yield f"Each split holds the values of the field `{split.stratify_by}` in like shares."
    yield f"No group may hold more than {split.max_group_ratio:.0%} of the rows."
