"""Do two prompts ask different things about one passage? The passage that they share says nothing of that."""

from __future__ import annotations

import re
from difflib import SequenceMatcher

from tunelift.stages.curate.similarity import words_of
from tunelift.stages.curate.values import Said

PASSAGE_WORDS = 20
"""Fewer shared words are no passage: most of two short prompts may well be the same question."""
SHORT_ANSWER_WORDS = 8
"""A longer reply that is given twice shows that the same is asked, in whatever words."""
SAME_QUESTION = 0.9
"""Share of the telling words that two wordings of one question have in common, in their order."""
_BLOCK = re.compile(r"\n+|(?<=[.!?:;])\s+|(?<=[。！？])")
_EVERYDAY = """
a an the this that these those there any some somebody someone something anybody anyone anything please kindly can could
would will do does did is are was were be been being has have had of in on at to for from with and or as it its he she
they them his her their you your me my we our i
der die das den dem des ein eine einen einem einer ist sind war gibt es jemand etwas bitte und oder im in auf zu von mit
le la les l un une des du de est sont il elle y a t on que qu quelqu dans sur s si et ou el los las una hay alguien en y
o es son por favor
"""
EVERYDAY = frozenset(word.encode() for word in _EVERYDAY.split())
"""Words that tell no question from another: "does somebody move fruit" is "does someone move the fruit"."""


def about_one_passage(prompts: tuple[Said, Said], *replies: tuple[Said, Said]) -> bool:
    """Whether two rows ask different things about one text, and what they answer does not show the same."""
    return all(len(one.words) <= SHORT_ANSWER_WORDS for one, _ in replies) and ask_otherwise(*prompts)


def ask_otherwise(one: Said, other: Said) -> bool:
    """Whether two prompts share a long passage, and what each says beside it is another question or task.

    False where one of them says nothing else, or nothing long is shared: then the whole prompts tell.
    """
    first, second = ([words_of(block) for block in _BLOCK.split(said.text)] for said in (one, other))
    before, after = list(filter(None, first)), list(filter(None, second))
    shared = _taken(before, after, 0) + _taken(before, after, -1)
    if not before or not after or shared < max(PASSAGE_WORDS, *(sum(map(len, rest)) for rest in (before, after))):
        return False
    one_asks, other_asks = _telling(before), _telling(after)
    return bool(SequenceMatcher(None, one_asks, other_asks, autojunk=False).ratio() < SAME_QUESTION)


def _telling(blocks: list[list[bytes]]) -> list[bytes]:
    return [word for block in blocks for word in block if word not in EVERYDAY]


def _taken(one: list[list[bytes]], other: list[list[bytes]], end: int) -> int:
    """Take the blocks off one end that both have; how many words those are."""
    words = 0
    while one and other and one[end] == other[end]:
        words += len(one.pop(end))
        other.pop(end)
    return words
