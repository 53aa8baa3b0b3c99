"""What a held-out row asks is asked in no other split, by the rule that evaluation items are looked for with."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import kept_rows, pair, write_jsonl
from tunelift.stages.curate.contamination import Questions

NAMES = ("train", "validation", "test")
ASKS = ("Summarise the text.", "Translate the text into German for me.", "Which places are named in the text?")
LONG_ASKS = (
    "Please read what follows and write a summary of it in two or three plain sentences.",
    "Translate into German, in a tone that is fit for a letter to an office, and keep all names as they are.",
)


def text(number: int, words: int) -> str:
    """Words of their own for each number."""
    rng = random.Random(number)
    letters = "abcdefghijklmnoprstuvw"
    return " ".join("".join(rng.choices(letters, k=rng.randrange(3, 9))) for _ in range(words))


def prompt_of(row: dict[str, Any]) -> str:
    return "\n".join(one["content"] for one in row["messages"] if one["role"] == "user")


def asked_in_train(out: Path) -> tuple[int, int]:
    """Held-out prompts that the rule for evaluation items finds in what the rows of train ask, and all of them."""
    rows = [*kept_rows(out).values()]
    held = [prompt_of(row) for row in rows if row["split"] != "train"]
    questions = Questions({"held out": held}, 8, 0.5)
    found: set[int] = set()
    for row in rows:
        if row["split"] == "train":
            said = [one["content"] for one in row["messages"] if one["role"] in ("system", "user")]
            found |= {match.item for match in questions.matches([*said, prompt_of(row)])}
    return len(found), len(held)


def other_case() -> list[dict[str, Any]]:
    rows = []
    for number in range(150):
        question = f"How do I mend a {text(number, 4)} in {text(number + 1000, 2)}"
        rows += [pair(f"{question}?", text(2 * number, 30)), pair(question.upper(), text(2 * number + 1, 30))]
    return rows


def one_document(asks: Sequence[str], before: bool) -> list[dict[str, Any]]:
    rows = []
    for number in range(80):
        for place, ask in enumerate(asks):
            said = (ask, text(number, 60)) if before else (text(number, 60), ask)
            rows.append({"prompt": "\n\n".join(said), "completion": text(1000 * number + place, 40)})
    return rows


def alpaca() -> list[dict[str, Any]]:
    return [
        {"instruction": ask, "input": text(number, 25), "output": text(1000 * number + place, 30)}
        for number in range(90)
        for place, ask in enumerate(ASKS)
    ]


def chats() -> list[dict[str, Any]]:
    rows = []
    for number in range(60):
        for copy in range(3):
            seed = 1000 * number + 10 * copy
            said = (f"Here is my report: {text(number, 70)}. {text(seed, 8)}", text(seed + 1, 9), text(seed + 2, 12))
            messages = [{"role": "system", "content": "Help with reports."}]
            for place, user in enumerate(said):
                messages.append({"role": "user", "content": user})
                messages.append({"role": "assistant", "content": text(seed + 5 + place, 25)})
            rows.append({"messages": messages})
    return rows


def unspaced() -> list[dict[str, Any]]:
    rows = []
    for number in range(100):
        rng = random.Random(number)
        said = "".join(chr(rng.randrange(0x4E00, 0x8E00)) for _ in range(40))
        rows += [
            pair(f"次の文章を要約してください。{said}", text(number, 20)),
            pair(f"{said}、翻訳して", text(number + 500, 20)),
        ]
    return rows


def documents_in_system() -> list[dict[str, Any]]:
    rows = []
    for number in range(70):
        for copy in range(3):
            system = {"role": "system", "content": f"Answer from this page: {text(number, 80)}"}
            row = pair(f"What of {text(100 * number + copy, 3)}?", text(100 * number + copy, 20))
            rows.append({"messages": [system, *row["messages"]]})
    return rows


MADE: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "other case": other_case,
    "document after": lambda: one_document(ASKS, before=True),
    "document before": lambda: one_document(ASKS, before=False),
    "long instructions": lambda: one_document(LONG_ASKS, before=True),
    "alpaca": alpaca,
    "chats": chats,
    "unspaced": unspaced,
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("handling", ["join", "drop"])
def test_no_held_out_prompt_is_asked_in_train(run, tmp_path: Path, name: str, handling: str) -> None:  # type: ignore[no-untyped-def]
    made = MADE[name]()
    source = write_jsonl(tmp_path / "a.jsonl", made)
    stats = run(source, max_length=9000, split={"alike_prompts": "report"})
    found, held = asked_in_train(tmp_path / "out")
    assert found > held / 3, "so many are there"
    assert stats["leakage"]["pairs"] == 0, "whole rows are not alike"
    told = stats["leakage"]["prompts"]
    assert sum(told["in_train"].values()) >= found
    stats = run(source, max_length=9000, split={"alike_prompts": handling})
    found, held = asked_in_train(tmp_path / "out")
    assert (found, held > 20) == (0, True)
    told = stats["leakage"]["prompts"]
    assert told["in_train"] == {"validation": 0, "test": 0}
    assert told["held_out"] == held
    if handling == "join":
        assert told["moved"] > 0 == told["dropped"]
        assert stats["rows"]["kept"] == len(made)
    else:
        assert told["dropped"] == stats["rows"]["dropped"]["held_out_prompt"] > 0
        assert stats["leakage"]["prompts"]["moved"] == 0


def test_a_document_in_the_system_message_is_part_of_what_is_asked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(write_jsonl(tmp_path / "a.jsonl", documents_in_system()), max_length=9000)
    splits: dict[str, set[str]] = {}
    for row in kept_rows(tmp_path / "out").values():
        splits.setdefault(row["messages"][0]["content"], set()).add(row["split"])
    assert len(splits) == 70
    assert {len(found) for found in splits.values()} == {1}


@pytest.mark.parametrize("own", [8, 15, 30, 60])
@pytest.mark.parametrize("place", ["before", "after", "system"])
def test_a_fixed_instruction_joins_nothing(run, tmp_path: Path, own: int, place: str) -> None:  # type: ignore[no-untyped-def]
    fixed = text(7, 40)
    rows = []
    for number in range(300):
        said = text(number + 10, own)
        row = pair(
            {"before": f"{fixed}: {said}", "after": f"{said}. {fixed}", "system": said}[place], text(-number, 12)
        )
        system = [{"role": "system", "content": fixed}] if place == "system" else []
        rows.append({"messages": system + row["messages"]})
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), max_length=9000)
    assert stats["groups"]["count"] == 300
    assert stats["leakage"]["prompts"]["moved"] == 0
    assert (stats["leakage"]["prompts"]["boilerplate"] > 0.3) == (place != "system")
    assert stats["leakage"]["prompts"]["close"]["found"] == 0
