"""What a held-out row asks is asked in no other split, by the rule that evaluation items are looked for with."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import kept_rows, pair, write_jsonl
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.errors import UserError
from tunelift.stages.curate.card import funnel, verdict
from tunelift.stages.curate.contamination import Questions
from tunelift.tasks.task import task_from_split

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
    # Without its case and marks a first message is one group's anyway.
    assert found > held / 3 or name == "other case"
    assert stats["leakage"]["pairs"] == 0, "whole rows are not alike"
    told = stats["leakage"]["prompts"]
    assert sum(told["in_other_split"].values()) >= found
    assert ("are asked in another split" in verdict(stats)) == (found > 0)
    stats = run(source, max_length=9000, split={"alike_prompts": handling})
    found, held = asked_in_train(tmp_path / "out")
    assert (found, held > 20) == (0, True)
    told = stats["leakage"]["prompts"]
    assert told["in_other_split"] == {"validation": 0, "test": 0}
    assert told["held_out"] == held
    assert "no validation or test prompt is asked in another split" in verdict(stats)
    if handling == "join":
        assert (told["moved"] > 0, told["dropped"]) == (name != "other case", 0)
        assert stats["rows"]["kept"] == len(made)
    else:
        assert told["dropped"] == stats["rows"]["dropped"].get("held_out_prompt", 0)
        assert (told["moved"], told["dropped"] > 0) == (0, name != "other case")


def test_a_document_in_the_system_message_is_part_of_what_is_asked(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run(write_jsonl(tmp_path / "a.jsonl", documents_in_system()), max_length=9000)
    splits: dict[str, set[str]] = {}
    for row in kept_rows(tmp_path / "out").values():
        splits.setdefault(row["messages"][0]["content"], set()).add(row["split"])
    assert len(splits) == 70
    assert {len(found) for found in splits.values()} == {1}


def of_template(template: int, value: str, another: str = "") -> dict[str, Any]:
    """A row of a template with a value or two of its own."""
    asks = f"{text(template, 12)} {value} {text(template + 100, 6)}{another}"
    return pair(asks, f"{text(template + 200, 10)} {value}")


def test_rows_of_one_family_are_one_cluster_of_a_task(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [of_template(number // 25, f"{number}") for number in range(1000)]
    run(write_jsonl(tmp_path / "a.jsonl", rows), max_length=9000)
    kept = [*kept_rows(tmp_path / "out").values()]
    template = {row["cluster"]: row["messages"][0]["content"].split()[0] for row in kept}
    assert len(template) == len(set(template.values())) == 40
    assert all(template[row["cluster"]] == row["messages"][0]["content"].split()[0] for row in kept)
    assert len({row["group"] for row in kept}) == len(kept), "each row's own key stays"
    assert all(
        row["cluster"] == min(one["group"] for one in kept if one["cluster"] == row["cluster"]) for row in kept[:9]
    )
    test = [row for row in kept if row["split"] == "test"]
    task = task_from_split(test, SplitTaskConfig(from_split="test"))
    assert Counter(item.cluster for item in task.items) == Counter(row["cluster"] for row in test)
    assert set(Counter(item.cluster for item in task.items).values()) == {25}


@pytest.mark.parametrize("templates", [2, 4, 9])
def test_rows_of_few_templates_are_few_clusters_though_the_split_divides_them(run, tmp_path: Path, templates) -> None:  # type: ignore[no-untyped-def]
    """A template of more than a tenth of the rows is boilerplate: its rows lie in every split, as one cluster each."""
    rows = [of_template(number % templates, f"{7 * number}", f" {number**2}") for number in range(360)]
    run(write_jsonl(tmp_path / "a.jsonl", rows), max_length=9000)
    test = [row for row in kept_rows(tmp_path / "out").values() if row["split"] == "test"]
    template = {row["cluster"]: row["messages"][0]["content"].split()[0] for row in test}
    assert len(test) > 20 and len(template) == len(set(template.values())) == templates
    assert all(template[row["cluster"]] == row["messages"][0]["content"].split()[0] for row in test)


@pytest.mark.parametrize(
    "prompt",
    [
        lambda number: f"Add the two numbers and give the sum: {number} and {number**2 % 977}.",
        lambda number: f'Say whether this review is kind or not. "{text(number, 6)}"',
        lambda number: f"{('Name the topic', 'Rate the tone')[number % 2]} of this headline: {text(number, 6).title()}",
    ],
    ids=["one form with numbers", "quoted texts", "texts in capitals"],
)
def test_one_form_or_short_texts_under_instructions_are_no_family(run, tmp_path: Path, prompt) -> None:  # type: ignore[no-untyped-def]
    rows = [pair(prompt(number), text(number + 5000, 4)) for number in range(200)]
    run(write_jsonl(tmp_path / "a.jsonl", rows), max_length=9000)
    test = [row for row in kept_rows(tmp_path / "out").values() if row["split"] == "test"]
    assert len({row["cluster"] for row in test}) == len(test) > 8


@pytest.mark.parametrize("alike_prompts", ["drop", "report"])
def test_held_out_rows_that_ask_the_same_are_one_cluster_where_nothing_is_joined(
    run, tmp_path: Path, alike_prompts: str
) -> None:  # type: ignore[no-untyped-def]
    made = one_document(ASKS, before=True)
    run(write_jsonl(tmp_path / "a.jsonl", made), max_length=9000, split={"alike_prompts": alike_prompts, "test": 0.4})
    document: dict[str, set[str]] = {}
    for row in kept_rows(tmp_path / "out").values():
        if row["split"] == "test":
            document.setdefault(row["messages"][0]["content"].split()[-1], set()).add(row["cluster"])
    assert len(document) > 20
    assert {len(clusters) for clusters in document.values()} == {1}


def test_what_is_made_depends_on_no_order_and_no_number_of_processes(
    run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    made = [row for rows in zip(chats(), other_case(), strict=False) for row in rows]
    splits = []
    for name, rows, processes in (("a", made, 1), ("z", made[::-1], 1), ("m", made, 2)):
        monkeypatch.setattr("tunelift.stages.curate.prompts.READ_ROWS", 20)
        out = tmp_path / name
        run(write_jsonl(tmp_path / f"{name}.jsonl", rows), max_length=9000, processes=processes, out=out)
        splits.append({row["id"]: (row["split"], row["cluster"]) for row in kept_rows(out).values()})
    assert splits[0] == splits[1] == splits[2]


def test_a_group_that_prompts_make_too_large_names_what_to_do(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    parts = [text(number, 10) for number in range(40)]
    rows = [pair(" ".join(parts[number : number + 4]), text(-number, 20)) for number in range(36)]
    rows += [pair(text(100 + number, 30), text(-100 - number, 20)) for number in range(64)]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=r"a\.jsonl:\d+ and .*a\.jsonl:\d+ share most of the words of") as caught:
        run(source, max_length=9000, split={"test": 0.4, "validation": 0.4})
    assert "curate.split.alike_prompts to report" in caught.value.remedy
    assert "curate.split.max_group_ratio=0." in caught.value.remedy
    run(source, max_length=9000, split={"test": 0.4, "validation": 0.4, "alike_prompts": "drop"})


@pytest.mark.parametrize(("every", "seen"), [(4, True), (5, True), (7, True), (3, False)])
def test_prompts_that_are_edited_are_counted_as_near(run, tmp_path: Path, every: int, seen: bool) -> None:  # type: ignore[no-untyped-def]
    rows = []
    for number in range(120):
        words = text(number, 60).split()
        edited = [f"new{number}x{place}" if place % every == 0 else word for place, word in enumerate(words)]
        rows += [pair(" ".join(said), text(2 * number + which, 20)) for which, said in enumerate((words, edited))]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), max_length=9000)
    close, held, parted = stats["leakage"]["prompts"]["close"], 0, 0
    assert stats["groups"]["count"] == 240, "no eight words in a row are left"
    splits = {row["source"]: row["split"] for row in kept_rows(tmp_path / "out").values()}
    for place, split in splits.items():
        file, line = place.rsplit(":", 1)
        other = splits[f"{file}:{int(line) + (1 if int(line) % 2 else -1)}"]
        held += split == "test"
        parted += (split, other) == ("test", "train")
    assert close == {
        "prompts": held,
        "found": parted * seen,
        "share": round(parted * seen / held, 4),
        "ngram": 3,
        "overlap": 0.5,
    }
    assert parted > 10
    told = f"{close['share']:.1%} of {held} held-out prompts have a training prompt with over 50% of their words"
    for page in ("\n".join(funnel(stats)), (tmp_path / "out" / "README.md").read_text()):
        assert told in page


@pytest.mark.parametrize(
    ("own", "why", "remedy"),
    [
        (30, "share most of the words of their prompts", "alike_prompts to report"),
        (8, "are near duplicates", "threshold"),
    ],
)
def test_a_split_that_joined_rows_leave_empty_names_them(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, own: int, why: str, remedy: str
) -> None:
    rows = [
        pair(f"{text(task, 40)}: {text(100 * task + number + 50, own)}", text(100 * task + number + 5000, 5))
        for task in range(12)
        for number in range(30)
    ]
    source, shares = write_jsonl(tmp_path / "a.jsonl", rows), {"test": 0.01, "validation": 0.01}
    with pytest.raises(UserError, match=rf"\d+ of them lie in \d+ groups, .*a\.jsonl:\d+ and \S*:\d+ {why}") as caught:
        run(source, max_length=9000, split=shares)
    assert remedy in caught.value.remedy
    assert "put it into the system message" in caught.value.remedy
    if own == 30:
        assert run(source, max_length=9000, split={"alike_prompts": "report"})["groups"]["count"] > 300
    for row in rows:
        instruction, said = row["messages"][0]["content"].split(": ")
        row["messages"] = [{"role": "system", "content": instruction}, pair(said)["messages"][0], row["messages"][1]]
    assert run(write_jsonl(source, rows), max_length=9000)["groups"]["count"] == 360


def test_the_sentence_says_how_many_words_are_left_out(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [
        pair(f"{text(document, 150)}\n\n{text(100 * document + number + 50, 9)}?", text(100 * document + number, 20))
        for document in range(8)
        for number in range(30)
    ]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), max_length=9000)
    left_out = "leaving out 94.3% of the words of prompts, which more than a tenth of the rows share"
    out = tmp_path / "out"
    for told in (verdict(stats), (out / "README.md").read_text(), (out / "curation.html").read_text()):
        assert f"no validation or test prompt is asked in another split, {left_out}" in told


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


def turns(*said: str, key: int) -> dict[str, Any]:
    messages = []
    for place, user in enumerate(said):
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": text(9 * key + place, 15)}]
    return {"messages": messages}


@pytest.mark.parametrize("alone", [True, False], ids=["one turn", "several turns"])
@pytest.mark.parametrize(
    ("first", "later"),
    [
        ("Thanks!", "Thanks!"),
        ("Tell me more.", "OK, interesting. Tell me more."),
        ("Can you explain that again?", "Can you explain that again?"),
    ],
)
def test_a_few_words_join_no_row_that_says_them_in_passing(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, first: str, later: str, alone: bool
) -> None:
    rows = [turns(text(key, 18), *([later] if key % 12 == 0 else []), text(-key, 12), key=key) for key in range(1, 250)]
    rows += [turns(first, *([] if alone else [text(1000 + key, 18)]), key=1000 + key) for key in range(4)]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    for seed in range(4):
        stats = run(source, max_length=9000, seed=seed, split={"test": 0.4, "validation": 0.4})
        assert stats["groups"]["count"] == 250
        assert stats["leakage"]["prompts"]["moved"] == 0


@pytest.mark.parametrize("templates", [4, 8, 9])
def test_values_that_are_left_of_a_common_template_join_nothing(run, tmp_path: Path, templates: int) -> None:  # type: ignore[no-untyped-def]
    rows = []
    for number in range(360):
        template, value = number % templates, number // templates
        asks = f"{text(template, 12)} {value} {text(template + 50, 8)} {1000 + value}"
        rows.append(pair(asks, text(1000 * template + value + 100, 15)))
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), max_length=9000, duplicates={"near": "off"})
    assert stats["leakage"]["prompts"]["boilerplate"] > 0.8
    assert (stats["groups"]["count"], stats["leakage"]["prompts"]["moved"]) == (360, 0)


def test_a_short_question_is_found_where_it_is_most_of_a_request(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = []
    for number in range(100):
        question = f"what is the {text(number, 1)} of {text(number + 500, 1)}?"
        rows += [pair(question, text(number, 30)), pair(f"Q: {question.upper()}", text(number + 6000, 30))]
        rows += [pair(f"{text(number + 900, 12)}. {question} {text(number + 1200, 9)}", text(number + 2000, 30))]
        rows += [turns(f"Hi, {question}", text(number + 4000, 20), key=number + 500)]
    source, shares = write_jsonl(tmp_path / "a.jsonl", rows), {"test": 0.4, "validation": 0.4}
    run(source, max_length=9000, duplicates={"near": "off"}, split=shares)
    splits: dict[str, dict[str, str]] = {}
    for row in kept_rows(tmp_path / "out").values():
        words = row["messages"][0]["content"].lower().split()
        splits.setdefault(words[words.index("of") + 1], {})[f"{len(words)} {words[0]}"] = row["split"]
    asked = [(found.pop("6 what"), found) for found in splits.values()]
    held = [(split, found) for split, found in asked if split != "train"]
    assert len(held) > 50
    assert all({found["7 q:"], found["7 hi,"]} == {split} for split, found in held)
    assert not all(set(found.values()) == {split} for split, found in held), "a text that only holds it is another"
