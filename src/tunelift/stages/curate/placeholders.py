"""Texts that stand where nothing was written: `<nooutput>`, the nan of an empty cell, `[insert answer here]`."""

from __future__ import annotations

import re

LONGEST = 80
"""Characters; a longer text is none."""
NO_INPUT = frozenset(
    ("<noinput>", "<no input>", "noinput", "no input", "[no input]", "(no input)", "nan", "<na>", "n/a", "#n/a")
)
"""What an input says where there is none, in small letters."""
_SURE = """
<nooutput> <no_output> <noinput> <nan> <na> <null> <none> <empty> <blank> <unk> <pad> todo tbd fixme
#n/a #ref! #value! #name? #div/0! #null!
"""
SURE = frozenset((*_SURE.split(), "<no output>", "<no input>", "[no output]", "[no input]", "[object object]"))
"""Replies that no one gives, in small letters."""
EMPTY_CELL = "nan"
"""As pandas writes one: in small letters. NaN and NAN may be answers."""
TO_FILL_IN = re.compile(
    r"(?:<|\[|\{{1,2}) ?(?:(?:insert|enter|add|put|type|write|provide|fill in|your)\b[^<>\[\]{}\n]*"
    r"|(?:the )?(?:answer|response|reply|output|completion|placeholder)(?: here)?) ?(?:>|\]|\}{1,2})[.:]?"
)
UNSURE = frozenset(
    ("nan", "none", "null", "nil", "n/a", "na", "n.a.", "not applicable", "undefined", "-", "--", "—", "...", "…", "?")
)
"""Replies that may be placeholders or answers, in small letters."""


def placeholder(reply: str) -> str | None:
    """The reply, if it stands for none; None for any other."""
    text = _short(reply)
    if text is None:
        return None
    lowered = text.casefold()
    return text if text == EMPTY_CELL or lowered in SURE or TO_FILL_IN.fullmatch(lowered) else None


def perhaps_placeholder(reply: str) -> bool:
    """Whether the reply may stand for none, or be an answer or label."""
    text = _short(reply)
    return text is not None and text.casefold() in UNSURE


def no_input(text: object) -> bool:
    """Whether an input, or a system message, says that there is none."""
    return isinstance(text, str) and len(text) <= LONGEST and text.strip().casefold() in NO_INPUT


def _short(reply: str) -> str | None:
    return reply.strip() if len(reply) <= LONGEST else None
