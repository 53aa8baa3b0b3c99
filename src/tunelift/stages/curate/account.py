"""What is counted of the rows beside the ledger: findings, edits, and what an examined row tells of itself."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunelift.stages.curate.examine import Examined
from tunelift.stages.curate.passed import Passed
from tunelift.stages.curate.write import by_count

MOST_LABELS, LEAST_ROWS = 50, 3
"""Different replies of a data set of labels, and rows to each on average."""
FIRST_PLACES = 3
"""Shown of what was found."""


@dataclass
class Account:
    """What is counted and remembered of the rows beside the ledger."""

    questions: dict[str, list[str]]
    files: list[str] = field(default_factory=list)
    """Of each row that passed, its file."""
    places: list[str] = field(default_factory=list)
    """Likewise, `file:line`."""
    edited: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    context: Counter[str] = field(default_factory=Counter)
    """`rows` with assistant turns that are not supervised, and their `turns`."""
    wrong_calls: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By flag, the calls that their row's tools do not allow: how many, and the first few."""
    added_tokens: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By token, the words that it cuts: how many in how many rows, the first word and where it stands."""
    marks: Counter[str] = field(default_factory=Counter)
    """Rows by the mark of another model's chat template that they hold, whatever becomes of them."""
    unsure: Counter[str] = field(default_factory=Counter)
    """Rows by their last reply, where that may be a placeholder."""
    redacted: dict[int, tuple[str, ...]] = field(default_factory=dict)
    """By row, what `Examined.redacted` has."""
    placeholders: Counter[str] = field(default_factory=Counter)
    """Replies of the splits by the placeholder that redaction put into them."""
    test_answers: int = 0
    """Of those, last replies of test: answers that a task made of it accepts."""
    items: dict[str, set[int]] = field(default_factory=dict)
    """By task, the items found in any row."""
    searched: int = 0
    """Rows in which items were looked for: all that could be read."""

    def note(self, row: Examined) -> None:
        """Count what was done to a row and found in it."""
        if row.facts:
            if any(row.redacted):
                self.redacted[len(self.files)] = row.redacted
            self.unsure.update(filter(None, [row.unsure]))
            self.files.append(row.file)
            self.places.append(row.place)
            self.edited.update(row.edits)
            self.flagged.update(row.flags)
            if row.context_turns:
                self.context.update(rows=1, turns=row.context_turns)
            self._note_calls(row)
            self._note_cuts(row)
        self.marks.update(filter(None, [row.mark]))
        self.searched += not row.quarantined
        for task, item in row.items:
            self.items.setdefault(task, set()).add(item)

    def _note_calls(self, row: Examined) -> None:
        for flag, finding in row.calls:
            of = self.wrong_calls.setdefault(flag, {"calls": 0, "first": []})
            of["calls"] += 1
            of["first"] += [f"{row.place} ({finding})"] * (len(of["first"]) < FIRST_PLACES)

    def _note_cuts(self, row: Examined) -> None:
        for token in dict.fromkeys(token for token, _ in row.cuts):
            words = [word for cut_by, word in row.cuts if cut_by == token]
            cut = self.added_tokens.setdefault(token, {"words": 0, "rows": 0, "such_as": words[0], "first": row.place})
            cut["words"] += len(words)
            cut["rows"] += 1

    def keep(self, row: int, split: str) -> None:
        """Count the replies of a row that stays, where they were redacted."""
        replies = self.redacted.get(row, ())
        self.placeholders.update(filter(None, replies))
        self.test_answers += split == "test" and any(replies[-1:])

    def counts(self, labels: bool) -> dict[str, Any]:
        """What stats.json has of this.

        Args:
            labels: The replies are a few labels, of which "None" may well be one.
        """
        items = {
            task: {"items": len(texts), "found": len(self.items.get(task, ()))}
            for task, texts in self.questions.items()
        }
        return {
            "edited": by_count(self.edited),
            "flagged": by_count(self.flagged),
            "context": {name: self.context[name] for name in ("rows", "turns")},
            "wrong_calls": self.wrong_calls,
            "added_tokens": self.added_tokens,
            "foreign_marks": by_count(self.marks),
            "perhaps_placeholders": {} if labels else by_count(self.unsure),
            "redacted_replies": {
                "replies": self.placeholders.total(),
                "test_answers": self.test_answers,
                "placeholders": by_count(self.placeholders),
            },
            "contamination": {task: count["found"] / max(count["items"], 1) for task, count in items.items()},
            "contaminated_items": items,
            "contamination_rows": self.searched,
        }


def are_labels(passed: Passed) -> bool:
    """Whether the last replies are a small set, each given several times."""
    replies = passed.column("reply")
    different = len(np.unique(replies))
    return different <= MOST_LABELS and LEAST_ROWS * different <= len(replies)
