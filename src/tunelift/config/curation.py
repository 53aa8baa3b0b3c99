"""The `curate` section: where raw rows come from, what is asked of them, and how they are divided."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tunelift.config.section import RUNTIME, Section

SourceFormat = Literal["alpaca", "sharegpt", "messages", "prompt_completion"]
Handling = Literal["drop", "report", "off"]
"""What becomes of a row with a finding: it is dropped, it stays and is listed, or nobody looks."""
PiiHandling = Literal["redact", "drop", "report", "off"]
LanguageCode = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]


class SourceConfig(Section):
    """One place that raw data comes from."""

    path: str = Field(examples=["data/train.jsonl"])
    """A .jsonl, .json, .csv or .parquet file (text files also as .gz or .zst), a glob of such files
    (`data/**/*.jsonl`), a folder saved by `datasets`, or a hub data set as `hub:owner/name`."""
    format: SourceFormat | Literal["auto"] = "auto"
    """The shape of the rows; `auto` looks at the first rows and says what it found."""
    fields: dict[str, str] = Field(default_factory=dict, examples=["{prompt: question, completion: answer}"])
    """Where the rows name a field of their format otherwise: the format's name, and the rows' own."""
    ignore_fields: tuple[str, ...] = Field((), examples=["[rating]"])
    """Fields of the rows that other tools go by (`label`, `rating`, `chosen`, `images` …), and that mean nothing here:
    without this, rows that they speak against are left out or flagged."""
    system: str | None = None
    """The system message for rows that have none, or an empty one."""
    config: str | None = None
    """The config of a hub data set that has several."""
    split: str = "train"
    """The split to read, for a data set of the hub or a saved folder with several."""
    revision: str | None = None
    """The hub commit, tag or branch of a hub data set."""
    weight: float | None = Field(None, gt=0)
    """Share of this source in the rows that stay, against the other sources' weights; all sources have one, or none.
    No row is repeated: the mix is as large as the scarcest source allows."""
    licence: str | None = Field(None, min_length=1, json_schema_extra=RUNTIME, examples=["apache-2.0"])
    """The licence of this source, for the data set card, as the hub spells it. It changes no row, so a card that is
    already written keeps what it says until `tunelift curate --force`."""


class CleanConfig(Section):
    """What is mended, and which replies are not worth learning."""

    unicode: bool = True
    """Repair text that was decoded wrongly (mojibake), and take out control characters, by ftfy."""
    whitespace: bool = True
    """Take white space from the ends of messages, and from the ends of lines; more than one blank line becomes one."""
    turn_order: Literal["drop", "mend"] = "drop"
    """Conversations in which user and assistant do not take turns: `mend` joins turns of one speaker with a blank line,
    and cuts an assistant's greeting before the first user turn and user turns after the last reply."""
    refusals: Handling = "drop"
    """Replies that refuse or speak as an AI model: "I'm sorry, I can't …", "As an AI language model …"."""
    cut_off: Handling = "drop"
    """Replies that end in the middle: JSON or a code block that is not closed, or a long text without an end."""
    placeholders: Handling = "drop"
    """Replies that stand for none: `<nooutput>`, `[insert answer here]`, the `nan` of an empty cell. What may be an
    answer, such as "None" or "N/A", stays and is counted."""
    foreign_marks: Handling = "drop"
    """Replies with marks of another model's chat template, such as `</s>` or `[/INST]`; where the model only reads
    them, the row stays and is counted."""
    languages: tuple[LanguageCode, ...] = Field((), examples=["[en, de]"])
    """Languages that a conversation may be in, as ISO 639 codes; any if empty. Short texts are not judged."""
    min_reply_words: int = Field(0, ge=0)
    """Drop rows whose last reply has fewer words."""
    max_reply_words: int | None = Field(None, ge=1)
    """Drop rows whose last reply has more words."""
    reply_schema: str | None = Field(None, examples=["data/reply.schema.json"])
    """A file with a JSON Schema that each last reply must satisfy."""


class PiiConfig(Section):
    """Personal data and secrets. `redact` puts a placeholder such as `[EMAIL_1]`, the same for equal values in a
    conversation; `drop` drops the row; `report` only lists it."""

    email: PiiHandling = "report"
    """E-mail addresses."""
    phone: PiiHandling = "report"
    """Telephone numbers."""
    ip: PiiHandling = "report"
    """Public IP addresses."""
    card: PiiHandling = "redact"
    """Payment card numbers with a valid check digit."""
    iban: PiiHandling = "redact"
    """Bank accounts with valid check digits."""
    secret: PiiHandling = "redact"
    """API keys, tokens, private keys and passwords in URLs, by their shapes."""


class DuplicatesConfig(Section):
    """Rows that are nearly the same. Exact duplicates are always dropped."""

    near: Handling = "drop"
    """Rows whose word 3-grams overlap by `threshold` or more."""
    on: Literal["prompt", "reply", "both"] = "both"
    """What is compared: what the user wrote, what is learnt, or both, each of which must then be alike."""
    threshold: float = Field(0.6, ge=0.3, le=1)
    """Least Jaccard similarity of the 3-grams of two near duplicates."""
    keep_values: bool = True
    """Keep rows that differ only in values: numbers, names, dates, addresses, quoted text."""


class SplitConfig(Section):
    """How rows are divided. Near duplicates share a split, and so do rows of a group."""

    validation: float = Field(0.1, gt=0, lt=0.5)
    """Share of the groups that goes to validation."""
    test: float = Field(0.1, ge=0, lt=0.5)
    """Share of the groups that goes to test."""
    group_by: str | None = None
    """Raw field whose equal values stay in one split; without it, the row's first user message."""
    stratify_by: str | None = None
    """Raw field whose values every split gets in like shares."""
    alike_prompts: Literal["join", "drop", "report"] = "join"
    """Rows that ask what a validation or test row asks, by `contamination_ngram` and `contamination_overlap`: `join`
    keeps them in its split, `drop` drops them, `report` only counts them."""
    max_group_ratio: float = Field(0.2, gt=0, le=1)
    """Fail when one group holds a greater share of the rows: no split of it would be fair."""


class CurateConfig(Section):
    """Raw rows to a data set."""

    sources: tuple[SourceConfig, ...] = Field(min_length=1, examples=["[{path: data/train.jsonl}]"])
    """Where the raw rows come from; their order does not matter."""
    max_rows: int | None = Field(None, gt=0)
    """Read at most so many rows in all (a smoke run)."""
    keep_rows: int | None = Field(None, gt=0)
    """Of the rows that pass, keep at most so many, drawn by `seed`."""
    keep_tokens: int | None = Field(None, gt=0)
    """Of the rows that pass, keep at most so many tokens, drawn by `seed`."""
    min_reply_tokens: int = Field(1, ge=1)
    """Drop rows with fewer supervised tokens than this."""
    max_quarantine_ratio: float = Field(0.1, ge=0, le=1)
    """Fail when a greater share of the rows cannot be read: the input is wrong as a whole."""
    clean: CleanConfig = CleanConfig()
    """What is mended, and which replies are not worth learning."""
    pii: PiiConfig = PiiConfig()
    """Personal data and secrets."""
    duplicates: DuplicatesConfig = DuplicatesConfig()
    """Rows that are nearly the same."""
    contamination_ngram: int = Field(8, ge=2)
    """Word n-gram length for finding evaluation items in the training rows (Tulu 3, arXiv 2411.15124, uses 8)."""
    contamination_overlap: float = Field(0.5, gt=0, le=1)
    """Drop a row that covers more than this share of the words of an evaluation item by common n-grams; with 1, only a
    row that covers all of them."""
    split: SplitConfig = SplitConfig()
    """Train, validation and test."""
    processes: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", json_schema_extra=RUNTIME)
    """Processes that look at rows; `auto`: one for each core, fewer for few rows."""

    @model_validator(mode="after")
    def _weights(self) -> CurateConfig:
        weighed = [source for source in self.sources if source.weight is not None]
        if weighed and len(weighed) < len(self.sources):
            bare = next(source.path for source in self.sources if source.weight is None)
            raise ValueError(f"some sources have a weight and {bare} has none; give every source one, or none")
        if len({source.path for source in self.sources}) < len(self.sources):
            raise ValueError("a source is listed twice; take one out")
        return self
