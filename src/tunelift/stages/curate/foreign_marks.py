"""Marks of chat templates as text: a row that is rendered for another model teaches this one to write them.

The model's own marks are control tokens, which a row cannot hold at all. What stands in code or between quotation
marks, and what a conversation about tokens and templates says, is text like any other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from tunelift.runtime.supervision import is_supervised
from tunelift.stages.curate.rows import Fault

_NAMES = """
im_start im_end im_sep endoftext startoftext endofprompt begin_of_text end_of_text eot_id eom_id eot start_header_id
end_header_id header_start header_end end user assistant system tool observation prompter start message channel return
call end_of_turn start_of_turn endofturn start_of_role end_of_role end_of_sentence begin_of_sentence role_end
start_of_turn_token end_of_turn_token user_token chatbot_token system_token eos bos turn
"""
MARK = re.compile(
    rf"<\|(?:{'|'.join(_NAMES.split())})\|>|<\|turn>|<turn\|>|</?s>|<(?:start|end)_of_turn>|<[eb]os>|\[/?INST\]"
    r"|<</?SYS>>|<｜[^｜<>\n]{1,40}｜>|### Human:",
    re.IGNORECASE,
)
TOKEN = re.compile(rf"<\|[^|<>\s]{{1,40}}\|>|{MARK.pattern}", re.IGNORECASE)
SPOKEN, ANSWERED = (
    re.compile(rf"^### (?:{names}) ?:?[ \t]*$", re.M) for names in ("Instruction|User", "Response|Assistant")
)
"""Headings of Alpaca's and Vicuna's prompts; one of them alone may be a heading."""
VERBATIM = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`|\"[^\"\n]*\"|“[^”\n]*”|«[^»\n]*»|(?<!\w)'[^'\n]*'(?!\w)", re.S)
"""Code and quotations."""
STRUCK_OUT = re.compile(r"(?<=\S)[ \t]*<s>[^<\n\[]*</s>|<s>[^<\n\[]*</s>(?=[ \t]*[^\s<])")
"""HTML: what stands before or behind it shows that the whole text is not meant."""
ABOUT = re.compile(
    r"\b(?:tokens?|tokeni[sz]\w+|chat[- ]templates?|chatml|end[- ]of[- ](?:turn|text|sequence|sentence)|EOS|BOS"
    r"|(?:prompt|chat|instruction) formats?|delimiters?|spezial-?tokens?|jetons?)\b",
    re.IGNORECASE,
)


def tokens_in(text: str) -> list[str]:
    """All in a text that may be a control token of some model, also in code."""
    return TOKEN.findall(text) if _may_hold_mark(text) else []


def foreign_mark(messages: Sequence[dict[str, Any]], own: Collection[str] = ()) -> tuple[Fault | None, bool]:
    """The fault `foreign_mark` for the first mark of another model's template, and whether it is one to drop.

    It is where a reply holds the mark. In what the model only reads, or where the talk is of such marks, it is not.

    Args:
        own: Tokens that the model knows.
    """
    read: Fault | None = None
    for index, message in enumerate(messages):
        replied = is_supervised(message)
        for text in (message["content"], message.get("reasoning_content")):
            if not text or not _may_hold_mark(text):
                continue
            mark = _mark(text, own, _heading_in_reply if replied else _heading_before_reply)
            if mark is None:
                continue
            fault = Fault("foreign_mark", {"message": index, "mark": mark})
            if replied and not any(ABOUT.search(one["content"]) for one in messages):
                return fault, True
            read = read or fault
    return read, False


def _mark(text: str, own: Collection[str], heading: Callable[[str], str | None]) -> str | None:
    """The last mark in a text."""
    bare = STRUCK_OUT.sub("", VERBATIM.sub(" ", text))
    marks = [mark for mark in MARK.findall(bare) if mark not in own]
    return marks[-1] if marks else heading(bare.strip())


def _may_hold_mark(text: str) -> bool:
    """Seen at a hundredth of a regex's time, since most texts have none of these characters."""
    return (
        (
            "<" in text
            and ("<|" in text or "|>" in text or "s>" in text or "S>" in text or "_turn>" in text or "<｜" in text)
        )
        or ("]" in text and "INST]" in text)
        or ("#" in text and "### " in text)
    )


def _heading_in_reply(bare: str) -> str | None:
    """A heading with which a reply begins or ends; one in its middle where that goes on to play both parts."""
    spoken, answered = (list(pattern.finditer(bare)) for pattern in (SPOKEN, ANSWERED))
    both = bool(spoken and answered)
    for found in (*spoken, *answered):
        if both or found.end() == len(bare) or (found.start() == 0 and found in answered):
            return found.group().strip()
    return None


def _heading_before_reply(bare: str) -> str | None:
    """A heading with which a prompt ends, for the reply to follow it."""
    found = next((one for one in ANSWERED.finditer(bare) if one.end() == len(bare)), None)
    return found.group().strip() if found else None
