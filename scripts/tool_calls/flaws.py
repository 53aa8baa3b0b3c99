"""What is wrong with raw data as it really comes, planted on purpose: every planted flaw goes into the truth file.

Two variants plant the same kinds in other shapes: `main` is the data set in the repository, `tests` is for tests.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from tool_calls.grammar import sentence_case, words
from tool_calls.rows import SYSTEM, Row

KEPT = "kept"
DROPPED = "dropped"
QUARANTINED = "quarantined"

KINDS = {  # kind: (what becomes of the row, for which reason, how many, files that can hold it)
    "exact_duplicate": (DROPPED, "exact_duplicate", 50, "any"),
    "near_duplicate": (DROPPED, "near_duplicate", 40, "any"),
    "half_line": (QUARANTINED, "invalid_json", 12, "lines"),
    "invalid_json": (QUARANTINED, "invalid_json", 8, "lines"),
    "not_an_object": (QUARANTINED, "not_an_object", 4, "any"),
    "missing_field": (QUARANTINED, "missing_field", 8, "any"),
    "unknown_role": (QUARANTINED, "unknown_role", 6, "lines"),
    "content_not_text": (QUARANTINED, "wrong_type", 8, "any"),
    "ends_without_reply": (DROPPED, "ends_without_reply", 8, "lines"),
    "empty_reply": (DROPPED, "empty_reply", 16, "any"),
    "too_long": (DROPPED, "too_long", 12, "any"),
    "far_too_long": (DROPPED, "too_long", 10, "any"),
    "email_address": (KEPT, None, 14, "any"),
    "secret_key": (KEPT, None, 10, "any"),
    "leaked_item": (DROPPED, "contaminated", 14, "any"),
    "leaked_item_edited": (DROPPED, "contaminated", 12, "any"),
    "refusal": (DROPPED, "refusal", 20, "any"),
    "conflict": (KEPT, None, 16, "any"),
}
NOTED = {"email_address": "email", "secret_key": "secret", "conflict": "conflict"}
"""What curation lists of flawed rows that it keeps: personal data, a secret that it takes out, a contradiction."""
FORMATS = {"alpaca.json": "alpaca", "sharegpt.jsonl": "sharegpt", "messages.jsonl": "messages"}


@dataclass(frozen=True)
class Raw:
    """One record to be written: `line` when it is no JSON any more, `value` otherwise."""

    row: Row
    kind: str | None = None
    value: Any = None
    line: str | None = None
    twin: Row | None = None
    """The row that this one doubles, contradicts or leaks."""

    def text(self, form: str) -> str:
        """The record as one line."""
        if self.line is not None:
            return self.line
        return json.dumps(self.value if self.value is not None else record(self.row, form), ensure_ascii=False)


def record(row: Row, form: str, reply: Any = None) -> dict[str, Any]:
    """A row in one of the three formats; Alpaca has no place for the system message."""
    answer = row.reply if reply is None else reply
    if form == "alpaca":
        return {"instruction": row.user, "input": "", "output": answer, "phrasing": row.phrasing}
    turns = (("system", SYSTEM), ("user", row.user), ("assistant", answer))
    if form == "sharegpt":
        names = {"system": "system", "user": "human", "assistant": "gpt"}
        return {
            "conversations": [{"from": names[role], "value": text} for role, text in turns],
            "phrasing": row.phrasing,
        }
    return {"messages": [{"role": role, "content": text} for role, text in turns], "phrasing": row.phrasing}


class Planter:
    """Plants every kind of flaw, in the shapes of one variant."""

    def __init__(
        self, rows: list[Row], heldout: list[Row], variant: str, rng: random.Random, scale: float = 1.0
    ) -> None:
        self.rows, self.heldout, self.variant, self.rng, self.scale = rows, heldout, variant, rng, scale
        self.main = variant == "main"
        self._pool = rng.sample(rows, len(rows))

    def plant(self) -> list[tuple[Raw, str]]:
        """Flawed records, each with the format that it must be written in."""
        planted = []
        for kind, (_, _, count, where) in KINDS.items():
            for number in range(max(2, round(count * self.scale))):
                forms = ("alpaca", "sharegpt", "messages") if where == "any" else ("sharegpt", "messages")
                form = forms[number % len(forms)]
                make: Callable[[Row, str, int], Raw] = getattr(self, f"_{kind}")
                planted.append((make(self._pool.pop(), form, number), form))
        return planted

    def _exact_duplicate(self, row: Row, form: str, number: int) -> Raw:
        if self.main:
            return Raw(row, "exact_duplicate", twin=row)
        # Other white space, same row.
        spaced = record(replace(row, request=row.request + "  "), form)
        return Raw(row, "exact_duplicate", value=spaced, twin=row)

    def _near_duplicate(self, row: Row, form: str, number: int) -> Raw:
        edits: list[Callable[[str], str]] = (
            [
                str.upper,
                lambda text: text.rstrip(".!") + " please",
                lambda text: text.rstrip(".!?") + "...",
                lambda text: f"Hi! {text}",
            ]
            if self.main
            else [
                str.swapcase,
                lambda text: f"{text} ASAP",
                lambda text: text.replace(" ", "  ", 1) + " !!",
                lambda text: f"so {text}",
            ]
        )
        edited = edits[number % len(edits)](row.request)
        return Raw(replace(row, request=edited), "near_duplicate", twin=row)

    def _half_line(self, row: Row, form: str, number: int) -> Raw:
        text = json.dumps(record(row, form), ensure_ascii=False)
        share = self.rng.uniform(0.3, 0.9) if self.main else self.rng.choice((0.05, 0.5, 0.97))
        return Raw(row, "half_line", line=text[: int(len(text) * share)])

    def _invalid_json(self, row: Row, form: str, number: int) -> Raw:
        text = json.dumps(record(row, form), ensure_ascii=False)
        main = (text.replace('"phrasing"', "phrasing"), text[:-1] + ",}", str(record(row, form)), text + "}")
        tests = (
            text.replace('"system"', "'system'", 1),
            "// " + text,
            text.replace(": ", " ", 1),
            text[:-1] + ', "n": NaN}',
        )
        return Raw(row, "invalid_json", line=(main if self.main else tests)[number % 4])

    def _not_an_object(self, row: Row, form: str, number: int) -> Raw:
        values = ([row.user, row.reply], row.user) if self.main else (len(row.user), True)
        return Raw(row, "not_an_object", value=values[number % 2])

    def _missing_field(self, row: Row, form: str, number: int) -> Raw:
        value = record(row, form)
        if form == "alpaca":
            del value["output" if self.main else "instruction"]
        elif self.main:
            value["text"] = row.user
            del value["conversations" if form == "sharegpt" else "messages"]
        else:
            turns = value["conversations" if form == "sharegpt" else "messages"]
            del turns[-1]["value" if form == "sharegpt" else "content"]
        return Raw(row, "missing_field", value=value)

    def _unknown_role(self, row: Row, form: str, number: int) -> Raw:
        value = record(row, form)
        key, turns = ("from", value["conversations"]) if form == "sharegpt" else ("role", value["messages"])
        turns[-1 if self.main else 1][key] = (
            ("narrator", "moderator")[number % 2] if self.main else ("wizard", 7)[number % 2]
        )
        return Raw(row, "unknown_role", value=value)

    def _content_not_text(self, row: Row, form: str, number: int) -> Raw:
        reply = row.call if self.main else (3.14, [1, 2], True)[number % 3]
        if form == "messages" and isinstance(reply, list):
            reply = 3.14
        return Raw(row, "content_not_text", value=record(row, form, reply=reply))

    def _ends_without_reply(self, row: Row, form: str, number: int) -> Raw:
        value = record(row, form)
        turns = value["conversations" if form == "sharegpt" else "messages"]
        if self.main:
            turns.pop()
        else:
            turns.append(turns[1])
        return Raw(row, "ends_without_reply", value=value)

    def _empty_reply(self, row: Row, form: str, number: int) -> Raw:
        return Raw(
            row, "empty_reply", value=record(row, form, reply=("", " ", "\n")[number % 3] if self.main else "\t \n")
        )

    def _too_long(self, row: Row, form: str, number: int) -> Raw:
        return self._long(row, "too_long", 330)

    def _far_too_long(self, row: Row, form: str, number: int) -> Raw:
        return self._long(row, "far_too_long", 1250)

    def _long(self, row: Row, kind: str, count: int) -> Raw:
        """A request with a pasted mail thread above it."""
        lines, total = [], 0
        names = [name[0] for name in (("Ana",), ("Rob",), ("Kate",), ("Milo",))]
        while total < count:
            other = self.rng.choice(self.rows)
            line = (
                f"> {self.rng.choice(names)} wrote: {other.request}" if self.main else f"[{total:05d}] {other.request}"
            )
            lines.append(line)
            total += len(words(line))
        return Raw(replace(row, request="\n".join([*lines, row.request])), kind)

    def _email_address(self, row: Row, form: str, number: int) -> Raw:
        user = ("anna.kovacs", "t.meyer", "priya_s", "info", "leo+shop", "m.rossi", "office", "j-smith")[number % 8]
        host = ("example.com", "example.org", "mail.example.net")[number % 3]
        address = f"{user}@{host}" if self.main else f"{user.upper()}{number}@dept.{host}"
        person = ("Anna", "Tom", "Priya", "Omar", "Lena")[number % 5]
        text = ("my new address is {}", "the invoice goes to {}", "write to {} from now on")[number % 3].format(address)
        request = (f"tell {person} {text}", f"let {person} know that {text}", f"{person} should hear that {text}")[
            number // 3 % 3
        ]
        return Raw(self._message(row, request, person, text), "email_address")

    def _secret_key(self, row: Row, form: str, number: int) -> Raw:
        signs = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
        body = "".join(self.rng.choice(signs) for _ in range(9))
        shapes = (
            (f"AKIA{body}EXAMPLE", f"sk-test-{body.lower()}EXAMPLE{body.lower()}")
            if self.main
            else (f"ghp_EXAMPLE{body}{body}{body}00", f"xoxb-EXAMPLE-{body}")
        )
        person = ("Ravi", "Ben", "Nora", "Ivan")[number % 4]
        text = ("the key is {}", "our token changed to {}", "use {} for the upload")[number % 3].format(
            shapes[number % 2]
        )
        request = (f"send {person} this: {text}", f"tell {person} {text}")[number % 2]
        return Raw(self._message(row, request, person, text), "secret_key")

    def _message(self, row: Row, request: str, person: str, text: str) -> Row:
        call = {"tool": "send_message", "arguments": {"to": person, "text": sentence_case(text)}}
        return Row(row.today, sentence_case(request), call, "planted-message")

    def _leaked_item(self, row: Row, form: str, number: int) -> Raw:
        item = self.heldout[number * 7 % len(self.heldout)]
        # The other variant leaks the request under another date.
        leaked = item if self.main else replace(item, today=row.today)
        return Raw(replace(leaked, phrasing="planted-leak"), "leaked_item", twin=item)

    def _leaked_item_edited(self, row: Row, form: str, number: int) -> Raw:
        fitting = [item for item in self.heldout if len(words(item.request)) >= 8]
        item = fitting[(number * 5 + 2) % len(fitting)]
        text = item.request
        edits = (
            (text.upper(), f"Hello again, {text}", f"{text} Thank you so much!")
            if self.main
            else (text.lower().rstrip(".!?"), f"Hm. {text}", f"{text} (soon)")
        )
        return Raw(replace(item, request=edits[number % 3], phrasing="planted-leak"), "leaked_item_edited", twin=item)

    def _refusal(self, row: Row, form: str, number: int) -> Raw:
        main = (
            "I'm sorry, but as an AI language model I cannot do that.",
            "As an AI language model, I don't have access to your devices or accounts.",
            "I'm sorry, I can't help with that request.",
            "Unfortunately I am only a language model and cannot use tools.",
        )
        tests = (
            "I cannot fulfil this request.",
            "As a large language model I have no hands.",
            "Sorry, I can't assist with that.",
        )
        reply = self.rng.choice(main if self.main else tests)
        return Raw(row, "refusal", value=record(row, form, reply=reply), twin=row)

    def _conflict(self, row: Row, form: str, number: int) -> Raw:
        others = [other for other in self.rows if other.call["tool"] != row.call["tool"]]
        call = self.rng.choice(others).call if self.main or row.call["tool"] is None else {"tool": None}
        return Raw(replace(row, call=call), "conflict", twin=row)
