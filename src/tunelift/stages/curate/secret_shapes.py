"""Keys and tokens by their shapes: detect-secrets' patterns, and those that it lacks.

Left out are its entropy and keyword detectors, which flag every technical text, and the shapes that plain text has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module

Span = tuple[int, int]
"""First character, and the one behind the last."""

TOKENS = {
    "aws": "AWSKeyDetector",
    "discord": "DiscordBotTokenDetector",
    "github_token": "GitHubTokenDetector",
    "gitlab_token": "GitLabTokenDetector",
    "mailchimp": "MailchimpDetector",
    "pypi_token": "PypiTokenDetector",
    "sendgrid": "SendGridDetector",
    "slack": "SlackDetector",
    "square_oauth": "SquareOAuthDetector",
    "stripe": "StripeDetector",
    "telegram_token": "TelegramBotTokenDetector",
    "twilio": "TwilioKeyDetector",
}
"""By module of detect_secrets.plugins, its class; what these find is one word."""
ASSIGNMENTS = {
    "aws": ("AWSKeyDetector", "aws"),
    "azure_storage_key": ("AzureStorageKeyDetector", "accountkey="),
    "cloudant": ("CloudantDetector", "cloudant"),
    "ibm_cos_hmac": ("IbmCosHmacDetector", "secret"),
    "npm": ("NpmDetector", "_authtoken"),
    "softlayer": ("SoftlayerDetector", "softlayer"),
}
"""Likewise, with what a text must hold, in lower case, for them to find anything."""

OWN = {
    "PRIVATE KEY": r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    r"(?:(?:[^-]|-(?!----))*-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----|(?:\s*[A-Za-z0-9+/=]{16,})*)",
    "sk-": r"sk-(?<![A-Za-z0-9]sk-)[A-Za-z0-9_-]{20,}",
    "gh": r"gh(?<![A-Za-z0-9]gh)[pousr]_[A-Za-z0-9]{36,}",
    "github_pat_": r"github_pat_[A-Za-z0-9_]{22,}",
    "hf_": r"(?<![A-Za-z0-9_])hf_[A-Za-z0-9]{30,}",
    "xox": r"(?<![A-Za-z0-9])xox[abceoprs]-[A-Za-z0-9-]{10,}",
    "xapp-": r"(?<![A-Za-z0-9])xapp-[A-Za-z0-9-]{20,}",
    "AIza": r"(?<![A-Za-z0-9])AIza[A-Za-z0-9_-]{35}",
    "ya29.": r"(?<![A-Za-z0-9])ya29\.[A-Za-z0-9_-]{20,}",
    "npm_": r"(?<![A-Za-z0-9_])npm_[A-Za-z0-9]{36}",
    "k_test_": r"(?<![A-Za-z0-9])[rs]k_test_[A-Za-z0-9]{20,}",
    "dop_v1_": r"dop_v1_[a-f0-9]{64}",
    "eyJ": r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    "earer ": r"(?<=[Bb]earer )[A-Za-z0-9._~+/-]{20,}=*",
    "ecret": r"(?i:aws_?secret_?(?:access_?)?key[\"']?\s*[:=]\s*[\"']?)(?P<value>[A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
    "://": r"://[^\s:@/{}<>\[\]\"']{0,60}:(?P<value>[^\s:@/{}<>\[\]$*\"']{3,100})@(?=[\w.-])",
}
"""By a piece of text that each match holds, the pattern; its group `value` is the secret where it has one."""
_OWN = {hint: re.compile(pattern, re.S) for hint, pattern in OWN.items()}

LEAST_CHARACTERS = 20
"""Every token is a word with as many characters; a text without one needs no look at tokens."""
RUN = re.compile(r"[A-Za-z0-9]{16,}")
NO_PASSWORD = frozenset(
    {"password", "passwd", "pass", "pwd", "secret", "token", "yourpassword", "your_password", "xxx"}
)
"""What stands for a password in examples."""


def find_secrets(text: str) -> Iterator[Span]:
    """Where keys, tokens, private keys and passwords of URLs stand in the text; matches may overlap."""
    words = text.split()
    for hint in ("://", "PRIVATE KEY"):
        if hint in text:
            yield from _own(hint, text)
    if max(map(len, words), default=0) < LEAST_CHARACTERS:
        return
    for hint in _OWN:
        if hint in text and hint not in ("://", "PRIVATE KEY"):
            yield from _own(hint, text)
    long_words = " ".join(word for word in words if len(word) >= LEAST_CHARACTERS)
    for pattern in _tokens():
        if pattern.search(long_words):
            yield from _foreign(pattern, text)
    lowered = text.lower()
    for module, (name, hint) in ASSIGNMENTS.items():
        if hint in lowered:
            yield from (span for pattern in _patterns(module, name) for span in _foreign(pattern, text))


def _own(hint: str, text: str) -> Iterator[Span]:
    for match in _OWN[hint].finditer(text):
        named = "value" in match.re.groupindex
        value = match["value"] if named else match.group()
        if hint == "://":
            real = value.lower() not in NO_PASSWORD
        elif hint in ("sk-", "hf_", "earer "):  # Words joined by hyphens look alike, and examples that say "your key".
            real = any(not run.isalpha() and len(set(run)) > 5 for run in RUN.findall(value))
        else:
            real = True
        if real:
            yield match.span("value" if named else 0)


@cache
def _tokens() -> tuple[re.Pattern[str], ...]:
    return tuple(pattern for module, name in TOKENS.items() for pattern in _patterns(module, name))


@cache
def _patterns(module: str, name: str) -> tuple[re.Pattern[str], ...]:
    return tuple(getattr(import_module(f"detect_secrets.plugins.{module}"), name).denylist)


def _foreign(pattern: re.Pattern[str], text: str) -> Iterator[Span]:
    for match in pattern.finditer(text):
        # A group is the secret inside of an assignment; a short one is the token's prefix.
        groups = [number for number in range(1, pattern.groups + 1) if len(match[number] or "") >= LEAST_CHARACTERS]
        start, end = match.span(groups[0] if groups else 0)
        if (
            end - start >= LEAST_CHARACTERS
            and not text[start - 1 : start].isalnum()
            and not text[end : end + 1].isalnum()
        ):
            yield start, end
