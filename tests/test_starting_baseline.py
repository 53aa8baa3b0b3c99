"""`tunelift init` gives untuned arms a fair chance: they are told the labels, the form or the kind of the answers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tunelift.config.evaluation import SplitTaskConfig
from tunelift.config.load import load_config
from tunelift.config.schema import Config
from tunelift.runtime import hardware
from tunelift.runtime.hardware import Hardware
from tunelift.stages.curate.split import split_of
from tunelift.stages.evaluate.search import MIN_ITEMS
from tunelift.starting import start
from tunelift.starting.instructing import labels
from tunelift.starting.shapes import JsonShape
from tunelift.starting.survey import survey
from tunelift.tasks.task import task_from_split

ODD = (
    "late",
    "no",
    "null",
    "yes: sir",
    "#lost",
    "'quoted'",
    "café ☕",
    "0",
    "3.50",
    "{x}",
    "[a]",
    "*b",
    "&c",
    "~",
    "-",
)

FORM = "Answer with a JSON object of this form and nothing else: "
EXAMPLE = "Answer in the form of this example, which answers another request, and with nothing else: "
LISTS = "Answer with a JSON list of this form and nothing else: "
FIND_ANYWHERE = [{"scorer": "field_f1", "find": "anywhere"}, {"scorer": "exact_match", "find": "anywhere"}]
EITHER = "Answer with a JSON object or a JSON list of this form and nothing else: "
CALLS = LISTS + '[{"name": "timer", "arguments": {"minutes": number}}].'
FENCED = "Answer with a JSON object in a code fence (```json before it, ``` after it) of this form and nothing else: "
LEAVE_OUT = " Leave out keys that do not apply."


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware, "detect", lambda: Hardware("cpu", "cpu", 16.0, 2))
    return tmp_path


def begun(replies: list[Any], systems: list[str] | None = None, prompt: str = "Ticket {}: it came on day {}") -> Config:
    """The config for rows with these replies."""
    Path("a.yaml").unlink(missing_ok=True)
    rows = []
    for number, reply in enumerate(replies):
        said = [
            {"role": "user", "content": prompt.format(number, number * 7)},
            {"role": "assistant", "content": reply if isinstance(reply, str) else json.dumps(reply)},
        ]
        system = systems[number % len(systems)] if systems else ""
        rows.append({"messages": [*([{"role": "system", "content": system}] if system else []), *said]})
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, path = start("a.jsonl", out=Path("a.yaml"))
    return load_config(path)


def instruction(config: Config) -> str | None:
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig)
    return task.instruction


def cycled(values: tuple[Any, ...], count: int = 120) -> list[Any]:
    return [values[number % len(values)] for number in range(count)]


def test_the_labels_stand_in_the_instruction_and_the_prompt_is_searched_for() -> None:
    config = begun([*cycled(("late", "broken", "thanks")), "late", "late", "thanks"])
    assert instruction(config) == "Answer with one of: late, thanks, broken."
    arms = {arm.name: arm for arm in config.evaluate.arms}
    assert list(arms) == ["base", "prompted", "tuned"]
    search = arms["prompted"].search
    assert search is not None and search.few_shot == (0, 3, 6) and search.on == "validation"
    assert len(search.instructions) == 1 and all(label in search.instructions[0] for label in ("late", "broken"))
    assert config.evaluate.focus == "tuned" and arms["tuned"].prompt == "trained"


def test_odd_labels_come_back_from_yaml_as_they_were() -> None:
    config = begun(cycled(ODD, 150))
    text = instruction(config)
    assert text is not None and text.startswith("Answer with one of: ")
    assert text.removeprefix("Answer with one of: ").removesuffix(".").split(", ") == sorted(ODD)
    (search,) = [arm.search for arm in config.evaluate.arms if arm.search]
    assert search.few_shot == (0, 8, 15), "an example of each label fits"


@pytest.mark.parametrize("odd", ["late, sadly", "It is late.", "so; what", "»late«", "late、さて", 'a "late" one'])
def test_labels_that_would_run_into_each_other_stand_on_lines_of_their_own(odd: str) -> None:
    text = instruction(begun(cycled((odd, "broken", "thanks"))))
    assert text is not None
    first, *lines = text.splitlines()
    assert first.endswith(":") and sorted(lines) == sorted((odd, "broken", "thanks"))


def test_labels_that_are_numbers_stand_in_their_order() -> None:
    assert instruction(begun(cycled((5, 1, 10, 2, 10)))) == "Answer with one of: 1, 2, 5, 10."
    assert instruction(begun(cycled((True, False)))) == "Answer with one of: false, true."


def test_the_order_of_labels_does_not_hang_on_the_order_of_rows() -> None:
    replies = cycled(("b", "a", "d", "c"))
    assert instruction(begun(replies)) == instruction(begun(replies[::-1])) == "Answer with one of: a, b, c, d."


def test_a_system_message_that_all_rows_share_stands_before_the_labels() -> None:
    config = begun(cycled(("late", "broken")), ["You sort mail.\n"])
    assert instruction(config) == "You sort mail.\n\nAnswer with one of: broken, late."
    (search,) = [arm.search for arm in config.evaluate.arms if arm.search]
    assert all(other.startswith("You sort mail.\n\n") for other in search.instructions)


def test_system_messages_that_differ_or_name_the_labels_are_kept() -> None:
    config = begun(cycled(("late", "broken")), ["You sort mail.", "You sort letters.", ""])
    assert instruction(config) is None
    assert "system messages differ" in Path("a.yaml").read_text()
    assert [arm.search.few_shot for arm in config.evaluate.arms if arm.search] == [(0, 3, 6)]
    assert instruction(begun(cycled(("late", "broken")), ["Say late or broken."])) is None
    assert "messages differ" not in Path("a.yaml").read_text()
    assert instruction(begun(cycled(("late", "broken")), ["Are they chocolate or broken?"])) is not None


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (lambda n: str(n * 7), "Answer with a number and nothing else."),
        (lambda n: f"The answer to what you asked is that there are {n} of them.", None),
        (
            lambda n: {"town": ("Bonn", "Oslo")[n % 2], "day": n, "notes": [f"it is {n}"] * (n % 3), "ok": n % 2 == 0},
            FORM + '{"town": "Bonn" | "Oslo", "day": number, "notes": [text], "ok": true or false}',
        ),
        (
            lambda n: {"who": {"name": f"Anna {n}"}, **({"day": n} if n % 2 else {})},
            FORM + '{"who": {"name": text}, "day": number}.' + LEAVE_OUT,
        ),
        (lambda n: {f"key {n}": n}, FORM + "{…}"),
        (lambda n: [f"w{n}", "lamp"][: n % 3], LISTS + "[text]. The list may have several entries or be empty."),
        (lambda n: [("lamp", "river")[n % 2]], LISTS + '["lamp" | "river"]'),
        (lambda n: [{"who": f"Anna {n}", "day": n}], LISTS + '[{"who": text, "day": number}]'),
        (lambda n: [[n], {"day": n}][n % 2], EITHER + '{"day": number} | [number]'),
        (lambda n: [{"name": "timer", "arguments": {"minutes": n}}][: n % 4], CALLS + " The list may be empty."),
        (lambda n: f'```json\n{{\n  "day": {n}\n}}\n```', FENCED + '{"day": number}'),
        (
            lambda n: f'<tool_call>\n{{"name": "timer", "arguments": {{"minutes": {n}}}}}\n</tool_call>',
            FORM + '{"name": "timer", "arguments": {"minutes": number}}',
        ),
        (
            lambda n: {"tool": ("timer", None)[n % 2], "arguments": {"minutes": n} if n % 2 == 0 else {}},
            FORM + '{"tool": "timer" | null, "arguments": {"minutes": number}}.' + LEAVE_OUT,
        ),
    ],
)
def test_untuned_arms_are_told_what_kind_of_answer_is_wanted(reply: Callable[[int], Any], text: str | None) -> None:
    config = begun([reply(n) for n in range(120)])
    assert instruction(config) == text
    assert not any(arm.search for arm in config.evaluate.arms)


@pytest.mark.parametrize(
    ("reply", "scorers", "outputs"),
    [
        (["lamp", "river"], ["field_f1", "valid_json", "exact_match"], {'["lamp", "river"]': 1, '["lamp"]': 2 / 3}),
        ('```json\n{"day": 1, "a": []}\n```', FIND_ANYWHERE, {'{"a": [], "day": 1}': 1, '```\n{"a": []}\n```': 2 / 3}),
        ("```\n[1, 2]\n```", FIND_ANYWHERE, {"[1,2]": 1, "```json\n[1, 2]\n```": 1, "It is [1, 2]": 1, "1, 2": 0}),
    ],
)
def test_a_json_reply_is_judged_by_what_it_holds(reply: Any, scorers: list[Any], outputs: dict[str, float]) -> None:
    (task,) = begun([reply] * 60).evaluate.tasks
    assert isinstance(task, SplitTaskConfig) and list(task.scorers) == scorers and task.primary == "field_f1"
    written = reply if isinstance(reply, str) else json.dumps(reply)
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": written}]
    made = task_from_split([{"id": "1", "messages": said}], task)
    judge = made.scorer(made.primary).function
    for output, score in {written: 1, **outputs}.items():
        assert judge(output, made.items[0], made) == pytest.approx(score), output


def test_a_system_message_with_the_keys_and_without_the_form_gets_the_form() -> None:
    replies = [[{"who": f"Anna {n}", "day": n}] for n in range(60)]
    told = instruction(begun(replies, ["Name the who and the day."]))
    assert told == f'Name the who and the day.\n\n{LISTS}[{{"who": text, "day": number}}]'
    assert instruction(begun(replies, ["Answer with a JSON list of who and day."])) is None


def test_code_in_a_fence_is_free_text() -> None:
    config = begun([f"```python\nprint('it rains on {n} days in this town')\n```" for n in range(60)])
    assert config.evaluate.tasks[0].primary == "chrf" and instruction(config) is None  # type: ignore[union-attr]


def test_a_form_names_a_few_values_and_no_map() -> None:
    shape = JsonShape()
    for n in range(60):
        shape.add({"map": {str(n): 1}, "mood": ("good", "bad")[n % 2], "name": f"n{n}", "long": "x" * 50, "none": None})
    assert shape.written() == '{"map": {…}, "mood": "bad" | "good", "name": text, "long": text, "none": null}'
    assert not shape.optional
    assert len(shape.fields["map"].fields) < 30, "what is remembered is bounded"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (lambda n: f"Room {n}", EXAMPLE + r"Room \d+"),
        (lambda n: f"{n % 24}:{10 + n % 47}", r"Answer with a time such as \d+:\d\d and nothing else\."),
        (
            lambda n: f"2026-03-{n % 28 + 1:02}T10:{n % 60:02}:00Z",
            r"Answer with a date and a time such as 2026-03-.*Z and nothing else\.",
        ),
        (lambda n: f"{n % 28 + 1}.3.{1900 + n}", r"Answer with a date such as \d+\.3\.\d{4} and nothing else\."),
        (
            lambda n: f"March {n % 28 + 1}, {1900 + n}",
            r"Answer with a date such as March \d+, \d{4} and nothing else\.",
        ),
        (lambda n: f"{n * 7} km", r"Answer with a number and its unit such as \d+ km and nothing else\."),
        (lambda n: f"{n},5 €", r"Answer with a number such as \d+,5 € and nothing else\."),
        (lambda n: f"Anna {n} Berg" if n % 3 else f"{n}:30", EXAMPLE + r"Anna \d+ Berg"),
    ],
)
def test_of_short_answers_that_much_is_told_as_is_sure(reply: Callable[[int], str], text: str) -> None:
    config = begun([reply(n) for n in range(120)])
    told = instruction(config)
    assert told is not None and re.fullmatch(text, told), told
    shown = next(n for n in range(120) if re.search(rf"(?<![\w]){re.escape(reply(n))}(?!\w)", told))
    assert split_of(f"Ticket {shown}: it came on day {shown * 7}", config.curate.split, config.seed) == "train"


@pytest.mark.parametrize("number", [51, 77, 150])
def test_a_hundred_labels_are_labels(number: int) -> None:
    names = tuple(f"{'abcdefgh'[n % 8]}_{'klmnopqr'[n // 8 % 8]}_{'xyz'[n // 64]}" for n in range(number))
    config = begun([*cycled(names, number * 6), *names[: number // 2]])
    text = instruction(config)
    assert text is not None and sorted(text.removeprefix("Answer with one of: ")[:-1].split(", ")) == sorted(names)
    (search,) = [arm.search for arm in config.evaluate.arms if arm.search]
    assert search.few_shot == (0, 8, 16)


@pytest.mark.parametrize(
    "replies",
    [
        cycled(tuple(f"{n}" for n in range(100)), 600),
        cycled(tuple(f"{n // 4}:{n % 4 * 15 + 10}" for n in range(90)), 600),
        [*["yes"] * 300, *[f"Anna {'abcdefghij'[n % 10]}{'abcdefghij'[n // 10]}" for n in range(100)]],
    ],
)
def test_many_repeated_answers_are_not_labels(replies: list[Any]) -> None:
    config = begun(replies)
    assert "one of" not in (instruction(config) or "one of")
    assert not any(arm.search for arm in config.evaluate.arms)


def test_labels_that_fill_the_models_context_are_not_listed() -> None:
    Path("model").mkdir()
    names = [f"label_{'abcdefgh'[n % 8]}_{'klmnopqr'[n // 8]}" for n in range(60)]
    rows = [{"prompt": f"Say {n}", "completion": names[n % 60]} for n in range(360)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for context, listed in ((512, False), (4096, True)):
        Path("model/config.json").write_text(json.dumps({"max_position_embeddings": context}))
        _, path = start("a.jsonl", model="model", out=Path(f"{context}.yaml"))
        text = instruction(load_config(path))
        assert text is not None and all(name in text for name in names) == listed
        assert text.startswith("Answer with one of: " if listed else EXAMPLE)


def test_labels_of_several_lines_are_told_as_they_are() -> None:
    labels = ("broken\nthanks", "late", 'so "odd"', "two  blanks")
    text = instruction(begun(cycled(labels)))
    first = "Answer with one of these labels, word for word, without the ' around it, and nothing else:\n"
    assert text == first + "\n".join(f"'{label}'" for label in sorted(labels))


@pytest.mark.parametrize("labels", [("a", "A", "b"), ("yes", "yes!", "no"), ("„on“", '"on"', "off")])
def test_labels_that_differ_in_case_or_marks_only_are_judged_strictly(labels: tuple[str, ...]) -> None:
    config = begun(cycled(labels))
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig) and task.scorers == ({"scorer": "exact_match", "strict": True},)
    assert task.instruction is not None and all(label in task.instruction for label in labels)
    assert "Upper and lower case and all marks count." in task.instruction
    said = [{"role": "user", "content": "?"}, {"role": "assistant", "content": labels[0]}]
    made = task_from_split([{"id": "1", "messages": said}], task)
    assert [made.scorer(made.primary).function(label, made.items[0], made) for label in labels] == [1, 0, 0]
    assert instruction(begun(cycled(("a", "A", "b")), ["Say a or b."])) is not None


def test_too_few_rows_for_a_search_get_the_usual_examples() -> None:
    config = begun(cycled(("late", "broken"), 30))
    assert instruction(config) == "Answer with one of: broken, late."
    assert not any(arm.search for arm in config.evaluate.arms)
    assert config.curate.split.validation * 30 < 10 < MIN_ITEMS + 3


def test_examples_that_do_not_fit_are_not_searched() -> None:
    Path("model").mkdir()
    Path("model/config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    rows = [{"prompt": f"Say {n} " + "and so on " * 20, "completion": ("late", "ok")[n % 2]} for n in range(120)]
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, path = start("a.jsonl", model="model")
    (search,) = [arm.search for arm in load_config(path).evaluate.arms if arm.search]
    assert 0 < max(search.few_shot) < 6


SCRIPTS = {
    "ja": ("遅い配達", "壊れた", "配達が遅れています"),
    "zh": ("迟到", "损坏", "谢谢您的帮助"),
    "th": ("ล่าช้า", "เสียหาย", "ขอบคุณมากค่ะ"),
}
TEXTS = {
    "ja": "{}番の船は岸に泊まっています。屋根に雪が積もっています。市場では魚と果物を売っています。",
    "zh": "第{}艘船停在岸边。屋顶上积了雪。市场上卖鱼和水果。孩子们在河里玩。",
    "th": "เรือลำที่{}จอดอยู่ริมฝั่งมีหิมะบนหลังคาและตลาดขายปลากับผลไม้ทุกวันตั้งแต่เช้า",
    "km": "ទូកលេខ{}ចតនៅមាត់ទន្លេហើយផ្សារលក់ត្រីនិងផ្លែឈើរាល់ថ្ងៃតាំងពីព្រឹករហូតដល់ល្ងាច",
}


@pytest.mark.parametrize("language", TEXTS)
def test_free_text_in_a_script_without_blanks_is_free_text(language: str) -> None:
    config = begun([TEXTS[language].format(n) for n in range(60)])
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig)
    assert task.primary == "chrf" and task.instruction is None
    bounds = task.scorers[1]
    assert isinstance(bounds, dict) and bounds["unit"] == "characters"
    size = len(TEXTS[language].format(10))
    assert bounds["at_least"] in (size - 1, size) and bounds["at_most"] == size
    text, _ = start("a.jsonl", out=Path("b.yaml"))
    assert f"replies    {len(TEXTS[language].format(1))} to" in text.replace(f"{size - 2} to", f"{size - 1} to")
    assert "characters (least, 95th percentile)" in text


@pytest.mark.parametrize("language", SCRIPTS)
def test_labels_and_short_answers_in_a_script_without_blanks_are_found(language: str) -> None:
    config = begun(cycled(SCRIPTS[language]))
    text = instruction(config)
    assert (
        text is not None and text.startswith("Answer with one of: ") and all(one in text for one in SCRIPTS[language])
    )
    short = begun([f"{SCRIPTS[language][0]}{n}" for n in range(60)])
    assert re.fullmatch(rf"{re.escape(EXAMPLE)}{SCRIPTS[language][0]}\d+", instruction(short) or "")


def test_replies_in_two_scripts_are_measured_in_characters() -> None:
    config = begun([TEXTS["ja"].format(n) if n % 5 == 0 else f"It rains on {n} days in this town." for n in range(60)])
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig) and task.primary == "chrf"
    assert isinstance(task.scorers[1], dict) and task.scorers[1]["unit"] == "characters"


def test_an_instruction_with_its_labels_reaches_untuned_arms_only() -> None:
    config = begun(cycled(("late", "broken")), ["You sort mail."])
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig)
    row = {
        "id": "1",
        "messages": [
            {"role": "system", "content": "You sort mail."},
            {"role": "user", "content": "?"},
            {"role": "assistant", "content": "late"},
        ],
    }
    (item,) = task_from_split([row], task).items
    assert [message["content"] for message in item.prompt] == ["You sort mail.", "?"]
    assert [message["content"] for message in item.instructed] == [task.instruction, "?"]


def test_labels_are_those_that_were_seen() -> None:
    begun(cycled(("b", "a", "a")))
    source = load_config(Path("a.yaml")).curate.sources[0]
    assert labels(survey(source)) == ["a", "b"]
