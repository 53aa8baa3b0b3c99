"""Whether an endpoint read its prompts whole, by the tokens that it counted in them.

Some cut a long prompt off without a word (Ollama at its num_ctx), and then answer a question that they have not read.
An engine that is started here refuses a prompt that is too long, so only endpoints are looked at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from tunelift.runtime.scripts import UNSPACED
from tunelift.stages.evaluate.samples import Sample
from tunelift.tasks.thinking import part

MOST = 0.05
"""Share of a task's prompts above which it is told."""
LEAST_ITEMS = 8
"""Of fewer, equal counts say nothing."""
LEAST_LIMIT = 512
"""Tokens; no endpoint cuts prompts off at less, so that equal counts below are chance."""
UNLIKE = 1.5
"""Prompts of one count whose lengths differ by this factor were not counted whole."""

CHARACTERS_PER_TOKEN = 4
"""In scripts without blanks between words; more than any tokenizer reaches over a whole text."""


def unread_prompts(samples: Sequence[Sample]) -> dict[str, Any] | None:
    """What tells that prompts were not read whole; None if nothing does, or the endpoint counts no tokens.

    Returns:
        `items`, how many prompts; `tokens`, counted in the longest of them; `words`, how many it holds at least; and
        `why`: `fewer`, fewer tokens than words; `constant`, one count for prompts of different lengths.
    """
    counted = [sample for sample in samples if sample["kind"] == "generate" and sample["tokens_in"]]
    texts = [_text(sample["prompt"]) for sample in counted]
    prompts = [(sample["tokens_in"], _words(text), len(text)) for sample, text in zip(counted, texts, strict=True)]
    fewer = [(tokens, words) for tokens, words, _ in prompts if tokens < words]
    if len(fewer) > MOST * len(samples):
        tokens, words = max(fewer, key=lambda one: one[1])
        return {"items": len(fewer), "tokens": tokens, "words": words, "why": "fewer"}
    most = max((tokens for tokens, _, _ in prompts), default=0)
    alike = [(words, length) for tokens, words, length in prompts if tokens == most]
    if len(alike) >= LEAST_ITEMS and len(alike) > MOST * len(samples) and _unlike(alike, most, len(prompts)):
        return {"items": len(alike), "tokens": most, "words": max(words for words, _ in alike), "why": "constant"}
    return None


def _unlike(alike: Sequence[tuple[int, int]], tokens: int, all_prompts: int) -> bool:
    """Whether prompts of one count are too different to have it."""
    words, lengths = ([one[place] for one in alike] for place in (0, 1))
    if len(alike) == all_prompts and max(words) - min(words) >= 3:
        return True
    return tokens >= LEAST_LIMIT and max(lengths) >= UNLIKE * min(lengths)


def _text(prompt: Sequence[Mapping[str, Any]]) -> str:
    """What is said in the messages; the thinking of earlier replies is what templates leave out."""
    said = []
    for message in prompt:
        content = message.get("content")
        text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False) if content else ""
        said.append(part(text).answer if message.get("role") == "assistant" else text)
    return "\n".join(said)


def _words(text: str) -> int:
    """At least so many tokens a text has, with any tokenizer."""
    unspaced = len(UNSPACED.findall(text))
    return max(len(text.split()), unspaced // CHARACTERS_PER_TOKEN)
