"""All that can be seen of a row alone: read, mend, check, redact, look for evaluation items, measure.

`Examiner` is made once in each process and knows nothing of the others; what it says of a row depends on that row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import orjson

from tunelift.config.curation import CurateConfig, SourceConfig, SourceFormat
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.supervision import is_supervised, last_supervised, without_weights
from tunelift.runtime.turns import special_tokens
from tunelift.runtime.vocabulary import Cuts
from tunelift.stages.curate.checks import measured, structure_fault
from tunelift.stages.curate.clean import changes, mend
from tunelift.stages.curate.contamination import Questions, contamination
from tunelift.stages.curate.documents import kind, parse
from tunelift.stages.curate.duplicates import conversation_key, normalised
from tunelift.stages.curate.formats import left_out, to_conversation
from tunelift.stages.curate.other_fields import judge
from tunelift.stages.curate.passed import Facts
from tunelift.stages.curate.pii import Pii, redacted_replies
from tunelift.stages.curate.placeholders import perhaps_placeholder
from tunelift.stages.curate.replies import ReplyChecks
from tunelift.stages.curate.results import ordered_results
from tunelift.stages.curate.rows import Example, Fault, Line, Quarantined, RawRow, ShapeError
from tunelift.stages.curate.split import short_hash
from tunelift.stages.curate.write import as_json
from tunelift.tasks.offered import wrong_calls


@dataclass(frozen=True)
class Rules:
    """What an examiner is made of; can be pickled."""

    config: CurateConfig
    tokenizer: Path
    template: str | None
    added_tokens: tuple[str, ...]
    max_length: int
    questions: dict[str, list[str]]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Rows of one source that lie one after the other."""

    source: int
    """Its number in the order of reading."""
    config: SourceConfig
    shape: SourceFormat | None
    """None if no row of the source could be read."""
    watched: frozenset[str]
    """Fields beside the conversation that are not passed over."""
    rows: Sequence[Line | RawRow | Quarantined]


@dataclass(frozen=True, slots=True)
class Examined:
    """One row, and what becomes of it as far as it alone can tell."""

    file: str
    line: int
    reason: str = ""
    """Why it is dropped or quarantined; empty for a row that passed."""
    quarantined: bool = False
    finding: str = ""
    """What shows the reason, in words."""
    entry: bytes = b""
    """One line: of the split files if it passed, else of dropped.jsonl or quarantine.jsonl."""
    raw: bytes = b""
    """The row as it was read, if it passed."""
    supervised_tokens: int = 0
    """Of a row that is dropped: what could have been learnt from it."""
    tokens: int = 0
    """Of a row that is too long."""
    facts: Facts | None = None
    """Of a row that passed."""
    edits: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    context_turns: int = 0
    """Assistant turns that are not supervised, of a row that passed."""
    mark: str = ""
    """Of another model's chat template, if the row holds one."""
    unsure: str = ""
    """The last reply of a row that passed, if it may be a placeholder."""
    changes: tuple[dict[str, Any], ...] = ()
    """Of a row that passed: what mending did to its text."""
    redacted: tuple[str, ...] = ()
    """Of a row that passed and was redacted: the placeholder in each reply, "" where there is none."""
    calls: tuple[tuple[str, str], ...] = ()
    """Calls that its tools do not allow: flag, and what is wrong with the call."""
    cuts: tuple[tuple[str, str], ...] = ()
    """Words that an added token cuts: token and word."""
    pii: tuple[dict[str, Any], ...] = ()
    items: tuple[tuple[str, int], ...] = ()
    """Evaluation items in it: task and index."""

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


def examine_chunks(rules: Rules) -> Examiner:
    """What a process needs to examine chunks."""
    return Examiner(rules)


@dataclass
class _Notes:
    """What is found on the way."""

    edits: tuple[str, ...] = ()
    flags: list[str] = field(default_factory=list)
    mark: str = ""
    changes: list[dict[str, Any]] = field(default_factory=list)
    redacted: tuple[str, ...] = ()
    calls: tuple[tuple[str, str], ...] = ()
    pii: tuple[dict[str, Any], ...] = ()
    items: tuple[tuple[str, int], ...] = ()


class Examiner:
    """Examines rows under a model's tokenizer and template."""

    def __init__(self, rules: Rules) -> None:
        self.config, self.max_length = rules.config, rules.max_length
        self._tokenizer = load_tokenizer(rules.tokenizer, rules.template, rules.added_tokens)
        self._cuts = Cuts(rules.added_tokens)
        self._questions = Questions(rules.questions, self.config.contamination_ngram, self.config.contamination_overlap)
        own = (*special_tokens(self._tokenizer), *rules.added_tokens)
        self._replies = ReplyChecks(self.config.clean, own)
        self._pii = Pii(self.config.pii)

    def __call__(self, chunk: Chunk) -> tuple[int, list[Examined]]:
        """The number of the chunk's source, and its rows."""
        return chunk.source, [self.examine(row, chunk) for row in chunk.rows]

    def examine(self, row: Line | RawRow | Quarantined, chunk: Chunk) -> Examined:
        """What becomes of one row."""
        read = parse(row) if isinstance(row, Line) else row
        example = self._conversation(read, chunk) if isinstance(read, RawRow) else read
        if isinstance(example, Quarantined):
            return _quarantined(example)
        notes = _Notes()
        example, fault, lengths = self._judged(example, notes)
        return self._dropped(example, fault, lengths, notes) if fault else self._passed(example, lengths, notes)

    def _conversation(self, row: RawRow, chunk: Chunk) -> Example | Quarantined:
        assert chunk.shape is not None, "a row that could be read has a format"
        split = self.config.split
        try:
            messages, tools = to_conversation(row.value, chunk.shape, chunk.config.system, chunk.config.fields)
            fault, flags = judge(row.value, chunk.watched, messages)
            group = _field(row.value, split.group_by, "group_by") if split.group_by else ""
            stratum = _field(row.value, split.stratify_by, "stratify_by") if split.stratify_by else ""
        except ShapeError as error:
            raw = row.text or as_json(row.value).decode()
            return Quarantined(row.file, row.line, error.path, error.reason, error.detail, raw)
        edits = ("no_input",) if left_out(row.value, chunk.shape, chunk.config.fields) else ()
        return Example(row.file, row.line, row.value, messages, tools, group, stratum, fault, flags, row.edits + edits)

    def _judged(self, example: Example, notes: _Notes) -> tuple[Example, Fault | None, tuple[tuple[int, int], ...]]:
        """The row mended and redacted, the first fault found, and its lengths where it can be rendered."""
        messages, mended = mend(example.messages, self.config.clean)
        notes.edits = example.edits + mended
        if mended:
            notes.changes = changes(example.messages, messages) if "unicode" in mended else []
            example = replace(example, messages=messages)
        fault = example.fault or structure_fault(example)
        notes.flags += example.flags
        if fault is None and any(message["role"] == "tool" for message in example.messages):
            messages, fault = ordered_results(example.messages)
            if messages != example.messages:
                notes.edits += ("tool_results",)
                example = replace(example, messages=messages)
        if example.tools:
            notes.calls = tuple(
                found
                for message in filter(is_supervised, example.messages)
                for found in wrong_calls(message, example.tools)
            )
            notes.flags += dict.fromkeys(flag for flag, _ in notes.calls)
        if fault is None:
            fault, reported = self._replies.examine(example.messages)
            notes.flags += [one.reason for one in reported]
            notes.mark = next(
                (one.evidence["mark"] for one in (fault, *reported) if one and "mark" in one.evidence), ""
            )
        # Looked for in rows with another fault too: what stood in the data is told of all of them.
        contaminated, found = contamination(self._questions, example.messages, example.tools)
        notes.items = tuple((match.task, match.item) for match in found)
        fault = fault or contaminated
        redacted = self._pii.apply(example.messages, example.tools)
        notes.pii = tuple(vars(finding) for finding in redacted.findings)
        if redacted.edits:
            notes.edits += redacted.edits
            notes.redacted = redacted_replies(example.messages, redacted.messages)
            example = replace(example, messages=redacted.messages, tools=redacted.tools)
        sized = measured(example, self._tokenizer, self.max_length, self.config.min_reply_tokens)
        return example, fault or redacted.fault or sized.fault, sized.lengths

    def _dropped(self, example: Example, fault: Fault, lengths: tuple[tuple[int, int], ...], notes: _Notes) -> Examined:
        return Examined(
            example.file,
            example.line,
            fault.reason,
            finding=fault.in_words(),
            entry=dropped_entry(example.place, fault, as_json(example.raw)),
            supervised_tokens=sum(learnt for _, learnt in lengths),
            tokens=max((tokens for tokens, _ in lengths), default=0),
            mark=notes.mark,
            pii=notes.pii,
            items=notes.items,
        )

    def _passed(self, example: Example, lengths: tuple[tuple[int, int], ...], notes: _Notes) -> Examined:
        conversation = example.conversation
        last = last_supervised(example.messages)
        assert last is not None, "rows without a supervised turn are dropped before"
        said = {name: value for name, value in example.messages[last].items() if name != "reasoning_content"}
        reply = as_json(said).decode()
        before = as_json([without_weights(example.messages[:last]), example.tools]).decode()
        system = [message for message in conversation["messages"] if message["role"] == "system"]
        # By the text as it is learnt: mending and redaction can make the requests of two rows equal.
        by_field = self.config.split.group_by
        group = short_hash(example.group if by_field else normalised(next(iter(example.user_texts), "")))
        entry = {
            "id": short_hash(as_json(conversation).decode()),
            **conversation,
            "source": example.place,
            "group": group,
            "tokens": sum(tokens for tokens, _ in lengths),
            "supervised_tokens": sum(learnt for _, learnt in lengths),
            "training_rows": len(lengths),
            **({"edits": list(notes.edits)} if notes.edits else {}),
            **({"flags": notes.flags} if notes.flags else {}),
        }
        facts = Facts(
            lengths,
            exact=int.from_bytes(conversation_key(example)[:8], "big"),
            prompt=hash64(normalised(before)),
            reply=hash64(normalised(reply)),
            setting=hash64(normalised(as_json([system, example.tools]).decode())),
            group=int(group, 16),
            stratum=example.stratum,
        )
        return Examined(
            example.file,
            example.line,
            entry=as_json(entry) + b"\n",
            raw=as_json(example.raw),
            facts=facts,
            edits=notes.edits,
            flags=tuple(notes.flags),
            context_turns=sum(one["role"] == "assistant" and not is_supervised(one) for one in example.messages),
            mark=notes.mark,
            unsure=said["content"].strip() if perhaps_placeholder(said["content"]) else "",
            changes=tuple(notes.changes),
            redacted=notes.redacted,
            calls=notes.calls,
            cuts=self._cuts.of(example.messages, example.tools),
            pii=notes.pii,
        )


def hash64(text: str) -> int:
    """64 bits of a hash that is the same in every process."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")


def _field(row: dict[str, Any], name: str, setting: str) -> str:
    value = row.get(name)
    if value is None:
        raise ShapeError(f"$.{name}", "missing_field", f"the field {name!r} of curate.split.{setting} is missing")
    if not isinstance(value, str | int):
        raise ShapeError(f"$.{name}", "wrong_type", f"is {kind(value)}, must be text or a whole number for {setting}")
    return str(value)


def _quarantined(row: Quarantined) -> Examined:
    inside = "" if row.path == "$" else f"{row.path}: "
    entry = {name: getattr(row, name) for name in ("file", "line", "path", "reason", "detail", "raw")}
    line = as_json(entry) + b"\n"
    return Examined(row.file, row.line, row.reason, quarantined=True, finding=inside + row.detail, entry=line)


def dropped_entry(place: str, fault: Fault, raw: bytes) -> bytes:
    """A line of dropped.jsonl; `raw` is the row as it was read, as JSON."""
    head = orjson.dumps({"source": place, "reason": fault.reason, "evidence": fault.evidence}, default=str)
    return head[:-1] + b',"row":' + raw + b"}\n"
