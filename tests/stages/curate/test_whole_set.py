"""What the stage decides over all rows: the same whatever the order and the processes, and listed on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.stages.curate.conftest import kept_rows, pair, pairs, read_jsonl, request, write_jsonl
from tests.wording import own_words
from tunelift.errors import UserError
from tunelift.stages.curate import decide as decide_module
from tunelift.stages.curate import stage as stage_module
from tunelift.starting.recipe import TEMPLATE

SPLITS = ("train", "validation", "test")


def content(out: Path) -> list[bytes]:
    return [(out / f"{name}.jsonl").read_bytes() for name in (*SPLITS, "dropped", "duplicates", "conflicts")]


def mixed_rows(count: int, start: int = 0) -> list[dict[str, Any]]:
    """Rows with duplicates, near duplicates and contradictions among them."""
    rows = pairs(count, start)
    rows += [pair(request(number) + " please") for number in range(start, start + count, 7)]
    rows += [pair(request(number), "Never.") for number in range(start, start + count, 11)]
    return rows + rows[:5]


def test_one_or_two_processes_make_the_same(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(stage_module, "FEW_CHUNKS", 1)
    monkeypatch.setattr(stage_module, "CHUNK_ROWS", 20)
    monkeypatch.setattr(decide_module, "FEW_CHUNKS", 0)
    monkeypatch.setattr(decide_module, "CHUNK_ROWS", 30)
    source = write_jsonl(tmp_path / "a.jsonl", [*mixed_rows(80), "{half"])
    for processes in (1, 2):
        run(source, out=tmp_path / str(processes), processes=processes)
    assert content(tmp_path / "1") == content(tmp_path / "2")
    assert len(read_jsonl(tmp_path / "1" / "duplicates.jsonl")) >= 10


def test_the_order_of_the_sources_does_not_matter(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first, second = (
        write_jsonl(tmp_path / f"{name}.jsonl", mixed_rows(60, 40 * start)) for start, name in enumerate("ab")
    )
    run(first, second, out=tmp_path / "one")
    run(second, first, out=tmp_path / "other")
    run({"path": str(tmp_path / "*.jsonl")}, out=tmp_path / "glob")
    assert content(tmp_path / "one") == content(tmp_path / "other") == content(tmp_path / "glob")


def test_of_near_duplicates_the_first_stays_and_the_pair_is_listed(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [*pairs(40), pair("Hi! " + request(3))]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows))
    (dropped,) = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    (listed,) = read_jsonl(tmp_path / "out" / "duplicates.jsonl")
    file = f"{tmp_path}/a.jsonl"
    assert (dropped["source"], dropped["reason"], dropped["row"]) == (f"{file}:41", "near_duplicate", rows[40])
    assert listed == {
        "kept": f"{file}:4",
        "source": f"{file}:41",
        "jaccard": dropped["evidence"]["jaccard"],
        "outcome": "dropped",
    }
    assert stats["duplicates"] == {"exact": 0, "near": 1, "values_differ": 0, "clusters": 1, "largest": 2}


def test_near_duplicates_that_are_only_reported_stay_in_one_split(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [*pairs(40), *(pair("Hi! " + request(number)) for number in range(40))]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows), duplicates={"near": "report"})
    assert stats["rows"]["kept"] == 80
    kept = kept_rows(tmp_path / "out")
    for line in range(1, 41):
        assert kept[f"{tmp_path}/a.jsonl:{line}"]["split"] == kept[f"{tmp_path}/a.jsonl:{line + 40}"]["split"]
    assert {line["outcome"] for line in read_jsonl(tmp_path / "out" / "duplicates.jsonl")} == {"reported"}


def test_one_request_under_another_system_message_or_with_other_tools_is_no_duplicate(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def row(number: int, system: str, tool: str, before: str = "") -> dict[str, Any]:
        asked = {"role": "system", "content": system}
        tools = [{"type": "function", "function": {"name": tool}}]
        return {"messages": [asked, *pair(before + request(number), "yes")["messages"]], "tools": tools}

    positive, film = "Is this sentence positive?", "Is this sentence about a film?"
    rows = [row(number, positive, "look") for number in range(40)]
    source = write_jsonl(
        tmp_path / "a.jsonl",
        [*rows, row(3, film, "look"), row(4, positive, "find"), row(5, positive, "look", "Hi! ")],
    )
    run(source, template=TEMPLATE.read_text())
    (dropped,) = read_jsonl(tmp_path / "out" / "dropped.jsonl")
    assert (dropped["source"], dropped["reason"]) == (f"{source}:43", "near_duplicate")
    listed = {line["source"]: line["outcome"] for line in read_jsonl(tmp_path / "out" / "duplicates.jsonl")}
    assert listed == {f"{source}:41": "related", f"{source}:42": "related", f"{source}:43": "dropped"}
    kept = kept_rows(tmp_path / "out")
    assert kept[f"{source}:41"]["split"] == kept[f"{source}:4"]["split"]
    assert kept[f"{source}:42"]["split"] == kept[f"{source}:5"]["split"]


def test_rows_that_differ_in_a_number_stay_in_one_split(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    texts = [f"{own_words(number, 9)} for {{}} people" for number in range(40)]
    rows = [pair(text.format(people)) for people in (4, 7) for text in texts]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows))
    assert stats["rows"]["kept"] == 80
    assert stats["duplicates"]["values_differ"] == 40
    kept = kept_rows(tmp_path / "out")
    assert all(
        kept[f"{tmp_path}/a.jsonl:{line}"]["split"] == kept[f"{tmp_path}/a.jsonl:{line + 40}"]["split"]
        for line in range(1, 41)
    )


def test_contradictions_are_listed_and_kept(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [*pairs(40), pair(request(2), "Never.")]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows))
    assert stats["conflicts"] == {"prompts": 1, "rows": 2}
    (line,) = read_jsonl(tmp_path / "out" / "conflicts.jsonl")
    assert line["prompt"] == request(2)
    assert [(row["source"].rsplit(":", 1)[1], row["reply"]) for row in line["rows"]] == [
        ("3", "Done."),
        ("41", "Never."),
    ]
    kept = kept_rows(tmp_path / "out")
    assert [kept[row["source"]]["split"] for row in line["rows"]] == [row["split"] for row in line["rows"]]


def test_one_text_with_other_numbers_throughout_is_told(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [
        pair(f"Before I go to bed tonight, please set a timer for {number} minutes and call it tea time", "Done.")
        for number in range(10)
    ]
    with pytest.raises(UserError, match=r"One group holds 10 of 40 rows \(25%\)") as caught:
        run(write_jsonl(tmp_path / "a.jsonl", [*rows, *pairs(30)]))
    assert "curate.split.max_group_ratio=0.25" in caught.value.remedy


def test_rows_that_think_otherwise_to_one_answer_stay_and_do_not_contradict(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def row(thinking: str, answer: str = "Done.") -> dict[str, Any]:
        asked, said = pair(request(3), answer)["messages"]
        return {"messages": [asked, {**said, "reasoning_content": thinking}]}

    rows = [row(own_words(number, 30)) for number in (100, 101)]
    source = write_jsonl(tmp_path / "a.jsonl", [*pairs(3), *pairs(37, 4), *rows])
    stats = run(source, template=THINKING)
    assert (stats["rows"]["kept"], stats["rows"]["dropped"]) == (42, {})
    assert stats["conflicts"] == {"prompts": 0, "rows": 0}
    write_jsonl(source, [*pairs(3), *pairs(37, 4), *rows, row(own_words(102, 30), "Never.")])
    assert run(source, template=THINKING)["conflicts"] == {"prompts": 1, "rows": 3}
    (line,) = read_jsonl(tmp_path / "out" / "conflicts.jsonl")
    assert [one["reply"] for one in line["rows"]] == ["Done.", "Done.", "Never."]


THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_a_large_group_is_told_with_its_first_message(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    begun = pair("Hi", "Hello")["messages"]
    rows = [*pairs(40), *({"messages": [*begun, *row["messages"]]} for row in pairs(20, 40))]
    with pytest.raises(UserError, match="all of them have the value 'Hi' of the first user message"):
        run(write_jsonl(tmp_path / "a.jsonl", rows))


def test_a_large_group_by_name_is_told_with_its_value(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [{**row, "topic": "cats" if number < 20 else number} for number, row in enumerate(pairs(60))]
    source = write_jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(UserError, match=r"'cats' of curate\.split\.group_by=topic"):
        run(source, split={"group_by": "topic"})
    assert run(source, split={"group_by": "topic", "max_group_ratio": 0.4, "validation": 0.3})["groups"][
        "largest"
    ] == pytest.approx(1 / 3, abs=1e-3)


def test_every_split_gets_its_share_of_each_stratum(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = [{**row, "kind": "rare" if number % 5 == 0 else "common"} for number, row in enumerate(pairs(200))]
    run(write_jsonl(tmp_path / "a.jsonl", rows), split={"stratify_by": "kind"})
    kept = kept_rows(tmp_path / "out")
    for split in ("validation", "test"):
        lines = [int(place.rsplit(":", 1)[1]) for place, row in kept.items() if row["split"] == split]
        assert [sum((line - 1) % 5 == 0 for line in lines), sum((line - 1) % 5 != 0 for line in lines)] == [4, 16]


def test_weights_and_a_budget_are_kept_and_what_is_not_drawn_is_listed(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    sources = [
        {"path": str(write_jsonl(tmp_path / "a.jsonl", pairs(100))), "weight": 3},
        {"path": str(write_jsonl(tmp_path / "b.jsonl", pairs(100, 500))), "weight": 1},
    ]
    stats = run(*sources, keep_rows=80)
    assert [counts["kept"] for counts in stats["sources"].values()] == [60, 20]
    assert stats["rows"]["dropped"] == {"not_sampled": 120}
    assert stats["mix"] == {
        sources[0]["path"]: {"weight": 3, "passed": 100, "kept": 60},
        sources[1]["path"]: {"weight": 1, "passed": 100, "kept": 20},
    }
    evidence = read_jsonl(tmp_path / "out" / "dropped.jsonl")[0]["evidence"]
    assert evidence == {"keep_rows": 80, "weights": {source["path"]: source["weight"] for source in sources}}
    chosen = kept_rows(tmp_path / "out").keys()
    run(*sources[::-1], keep_rows=80, out=tmp_path / "again")
    assert kept_rows(tmp_path / "again").keys() == chosen
    run(*sources, keep_rows=80, seed=5, out=tmp_path / "other")
    assert kept_rows(tmp_path / "other").keys() != chosen


def test_a_budget_of_tokens_bounds_the_data_set(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = write_jsonl(tmp_path / "a.jsonl", pairs(100))
    whole = sum(split["tokens"] for split in run(source)["splits"].values())
    kept = sum(split["tokens"] for split in run(source, keep_tokens=whole // 2)["splits"].values())
    assert 0.45 * whole < kept <= whole // 2


def test_the_page_shows_what_became_of_rows_and_no_secret_of_theirs(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    key, mail = "ghp_" + "a1B2c3D4e5" * 3 + "f6G7h8", "anna.example@example.com"
    rows = [*mixed_rows(40), pair(f"The key is {key}, write to {mail}", ""), f"{{half {key}"]
    stats = run(write_jsonl(tmp_path / "a.jsonl", rows))
    assert stats["conflicts"]["prompts"] == 4
    page = (tmp_path / "out" / "curation.html").read_text(encoding="utf-8")
    assert "near duplicate" in page.lower()
    assert "ghp_…" in page
    assert "a…@example.com" in page
    assert key not in page
    assert mail not in page
