"""Log-likelihoods of continuations out of an endpoint's `completions`: which tokens count, and what they sum to.

The endpoint echoes the prompt's tokens with their log-probabilities; here they are laid along the text, since no
client knows every tokenizer. Where a set of continuations differs in one token only, vLLM is asked for those
tokens' log-probabilities alone, which spares it reading the context once for each of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Scoring:
    """How likely is `continuation` after `context`, which may be empty?

    The text is tokenized as a whole; a token that straddles the border counts to the continuation.
    """

    id: str
    context: str
    continuation: str
    add_special_tokens: bool
    """Whether the tokenizer puts its own before the text, such as BOS; a rendered chat template has brought them."""


@dataclass(frozen=True)
class Likelihood:
    """The answer, or with `error` the reason why there is none."""

    id: str
    logprob: float
    """In nats, summed over the continuation's tokens. The first token of all has none, so that with an empty context
    and no BOS one token less counts: the same for all models of one tokenizer; to compare across tokenizers, give
    a context such as a line break."""
    tokens: int
    """How many tokens were summed."""
    seconds: float
    error: str | None = None


class NoEchoError(Exception):
    """The endpoint answers, but not with the prompt's log-probabilities."""


@dataclass(frozen=True)
class Echo:
    """A prompt's tokens as the endpoint sees them, with their log-probabilities (None for the first)."""

    tokens: Sequence[str]
    logprobs: Sequence[float | None]

    @classmethod
    def read(cls, answer: Mapping[str, Any]) -> Echo:
        """Take it from an answer of `completions`, without the tokens generated after the prompt.

        Raises:
            NoEchoError: it holds no log-probabilities of the prompt.
        """
        found, length = answer["choices"][0].get("logprobs"), answer["usage"]["prompt_tokens"]
        if not found or not found.get("tokens") or len(found["token_logprobs"]) < length:
            raise NoEchoError
        return cls(found["tokens"][:length], found["token_logprobs"][:length])

    def likelihood(self, scoring: Scoring, first: int, seconds: float) -> Likelihood:
        """The sum over the tokens from the one with index `first` on."""
        counted = [value for value in self.logprobs[first:] if value is not None]
        if not counted:
            why = "the continuation has no token with a log-probability"
            return Likelihood(scoring.id, 0.0, 0, seconds, error=why)
        return Likelihood(scoring.id, math.fsum(counted), len(counted), seconds)

    def first_after(self, context: str, continuation: str) -> int | None:
        """Index of the first token that reaches into the continuation; None if the tokens do not spell the text.

        From the end backwards, since what servers add stands in front. Their `text_offset` is of no use: vLLM's sums
        lengths of tokens, which goes astray behind the first that is not spelled as it stands in the text.
        """
        if not context:
            return 0
        text, border = context + continuation, len(context)
        position = end = len(text)
        first = len(self.tokens)
        for index in range(len(self.tokens) - 1, -1, -1):
            token = self.tokens[index]
            # An empty token is part of a character that the next one completes.
            if token:
                if not text.endswith(token, 0, position) and text.endswith(token + " ", 0, position):
                    position -= 1  # Spelled alone, SentencePiece's words lose the space before them.
                if position and not text.endswith(token, 0, position):
                    return None
                end = position  # In front of the text stand the tokenizer's own tokens.
                position -= min(len(token), position)
            if end > border:
                first = index
        return first if position == 0 else None


@dataclass(frozen=True)
class NextToken:
    """Scorings of one context, each of whose continuations is one token."""

    prompt: Sequence[int]
    choices: Mapping[Scoring, int]

    def body(self) -> dict[str, Any]:
        """The question, in vLLM's words."""
        wanted = sorted(set(self.choices.values()))
        return {
            "prompt": list(self.prompt),
            "max_tokens": 1,
            "logprobs": len(wanted),
            "logprob_token_ids": wanted,
            "return_tokens_as_token_ids": True,
        }

    def read(self, answer: Mapping[str, Any], seconds: float) -> list[Likelihood]:
        """One likelihood a scoring."""
        found = answer["choices"][0]["logprobs"]["top_logprobs"][0]
        return [
            Likelihood(scoring.id, found[f"token_id:{token}"], 1, seconds) for scoring, token in self.choices.items()
        ]
