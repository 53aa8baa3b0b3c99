"""Exact duplicates: the whole conversation, up to Unicode form and white space."""

from __future__ import annotations

import hashlib
import unicodedata

import orjson

from tunelift.stages.curate.rows import Example, Fault


def normalised(text: str) -> str:
    """Unicode NFC with each run of white space as one space. Case is kept: it can carry meaning, as in code."""
    if text.isascii() and text.isprintable() and "  " not in text:  # So are most, but for their ends.
        return text.strip()
    return " ".join(unicodedata.normalize("NFC", text).split())


def conversation_key(example: Example) -> bytes:
    """Equal for conversations that differ in nothing but Unicode form and white space (32 bytes)."""
    messages = [{**message, "content": normalised(message["content"])} for message in example.messages]
    key = orjson.dumps([messages, example.tools], default=str, option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(key).digest()


class ExactDuplicates:
    """Remembers each conversation by a hash; of equal ones the first stays."""

    def __init__(self) -> None:
        self._first: dict[bytes, str] = {}

    def fault(self, example: Example) -> Fault | None:
        """`exact_duplicate` if an equal conversation was seen, with the place of the first."""
        key = conversation_key(example)
        if key in self._first:
            return Fault("exact_duplicate", {"duplicate_of": self._first[key]})
        self._first[key] = example.place
        return None
