"""What one OpenAI-compatible endpoint understands of a request: learned from what it refuses.

No two of them take the same parameters: OpenAI's reasoning models know no `max_tokens` and one temperature only,
a strict server refuses what it does not know, and vLLM calls tools natively only when started for it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tunelift.runtime import console

_NOT_KNOWN = re.compile(
    r"unsupported|not support|unrecognized|unknown|unexpected|not permitted|not allowed|requires --"
    r"|cannot both|mutually exclusive|use only one|only one of",
    re.IGNORECASE,
)
"""How endpoints say that a parameter, or its value, is none of theirs; a value out of range is another matter."""

_NAMED = {
    "max_tokens": re.compile(r"max_tokens.*max_completion_tokens", re.DOTALL),
    "tool_choice": re.compile(r"tool[_ ]choice|tool-call-parser"),
    **{
        name: re.compile(rf"\b{name}\b")
        for name in ("top_p", "temperature", "seed", "response_format", "add_special_tokens")
    },
}
"""How a complaint names the parameters that one can do without; of several in one complaint the first goes first.

Temperature 0 alone is greedy, so that `top_p` goes where the two are not taken together.
"""

_NO_NEW_TOKENS = "max_tokens=0"


class Dialect:
    """Rewrites bodies to what the endpoint takes. Shared by all clients of an endpoint."""

    def __init__(self) -> None:
        self.substituted: set[str] = set()
        """Parameters that were not sent as they are, which is part of what the answers mean."""

    def spoken(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The body as this endpoint takes it."""
        said = {name: value for name, value in body.items() if name not in self.substituted}
        if "max_tokens" in self.substituted and "max_tokens" in body:
            said["max_completion_tokens"] = body["max_tokens"]
        if "tool_choice" in self.substituted and "tool_choice" in body:
            said["tool_choice"] = "none"
        if _NO_NEW_TOKENS in self.substituted and body.get("max_tokens") == 0:
            said["max_tokens"] = 1
        return said

    def learn(self, sent: Mapping[str, Any], complaint: str) -> bool:
        """Take note of the parameter that `complaint` is about; whether asking again makes sense.

        Args:
            sent: The body that was refused.
        """
        if sent.get("max_tokens") == 0 and "max_tokens" in complaint:
            self.substituted.add(_NO_NEW_TOKENS)
            return True
        if not _NOT_KNOWN.search(complaint):
            return False
        for name, pattern in _NAMED.items():
            if name in sent and sent[name] != "none" and pattern.search(complaint):
                if name not in self.substituted:  # Else a request under way at the same time has told already.
                    self.substituted.add(name)
                    console.warn(f"the endpoint does not take {name}; asking it without")
                return True
        return False
