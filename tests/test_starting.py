"""`tunelift init`: a raw file becomes a config that loads and fits what is in the file."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny_tokenizer
from tests.wording import own_words
from tunelift import cli
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.config.load import load_config
from tunelift.errors import UserError
from tunelift.runtime import hardware
from tunelift.runtime.chat import load_tokenizer, row_lengths, supervise
from tunelift.runtime.hardware import Hardware
from tunelift.runtime.template import pinned_template
from tunelift.stages.curate.split import split_of
from tunelift.stages.curate.stage import curate
from tunelift.starting import recipe, start
from tunelift.starting.guessing import source_of
from tunelift.starting.survey import Survey, estimate, languages, survey
from tunelift.tasks.scorers import build_scorers

CPU = Hardware("cpu", "cpu", 16.0, 2)
TOWNS = ("Rome", "Oslo", "Lima", "Bonn", "Kyiv")
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware, "detect", lambda: CPU)
    return tmp_path


def alpaca(path: Path) -> None:
    rows: list[dict] = [
        {
            "instruction": f"Write about {TOWNS[n % 5]}, number {n}.",
            "output": f"In {TOWNS[n % 5]} it rains on {n} days, and the people there walk home under their umbrellas.",
        }
        for n in range(300)
    ]
    rows[7], rows[9] = {"instruction": "no output"}, rows[8]
    path.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]")


def sharegpt(path: Path) -> None:
    lines = [
        json.dumps(
            {
                "conversations": [
                    {"from": "human", "value": f"How many apples has {TOWNS[n % 5]} in basket {n}?"},
                    {"from": "gpt", "value": json.dumps({"town": TOWNS[n % 5], "basket": n})},
                ]
            }
        )
        for n in range(200)
    ]
    path.write_text("\n".join([*lines[:5], "{broken", *lines[5:]]))


def messages(path: Path) -> None:
    def row(n: int) -> dict:
        function = {"name": "weather", "arguments": json.dumps({"city": TOWNS[n % 5], "day": n})}
        call = {"id": "c", "type": "function", "function": function}
        said = [{"role": "user", "content": f"Weather on day {n}?"}, {"role": "assistant", "tool_calls": [call]}]
        return {"messages": [*said, *([{"role": "user", "content": "?"}] if n == 3 else [])], "tools": [TOOL]}

    path.write_text("".join(json.dumps(row(n)) + "\n" for n in range(120)))


def labels(path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "label"])
        writer.writerows([n, f"Ticket {n}: my parcel is late", ("late", "lost", "other")[n % 3]] for n in range(150))
        writer.writerow(["only one"])


def questions(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"question": f"What is the capital of land {n}?", "answer": f"{TOWNS[n % 5]}{n}"} for n in range(60)]
    pq.write_table(pa.Table.from_pylist(rows), path)


FILES: dict[str, tuple[Callable[[Path], None], str, dict[str, str], list[str], str]] = {
    "a.json": (alpaca, "alpaca", {}, ["chrf", "length"], "a.json:9: $.output the field 'output' is missing"),
    "b.jsonl": (sharegpt, "sharegpt", {}, ["field_f1", "valid_json", "exact_match"], "b.jsonl:6: unexpected char"),
    "c.jsonl": (messages, "messages", {}, ["tool_call"], "ends_without_reply: 1 rows\n    c.jsonl:4"),
    "d.csv": (
        labels,
        "prompt_completion",
        {"prompt": "text", "completion": "label"},
        ["exact_match"],
        "d.csv:152: the record has 1 fields, the header has 3",
    ),
    "e.parquet": (
        questions,
        "prompt_completion",
        {"prompt": "question", "completion": "answer"},
        ["exact_match", "chrf"],
        "problems   none",
    ),
}
"""By name: maker, format, fields, scorers, and a problem as it is said."""


@pytest.mark.parametrize("name", FILES)
def test_a_raw_file_becomes_a_config_that_loads_and_fits(name: str, here: Path) -> None:
    make, shape, fields, wanted, said = FILES[name]
    make(here / name)
    text, path = start(name)
    config = load_config(path)
    (source,) = config.curate.sources
    assert (source.path, source.format, source.fields) == (name, shape, fields)
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig) and task.from_split == "test"
    built = build_scorers(task.scorers, has_tools=name == "c.jsonl")  # type: ignore[arg-type]
    assert [scorer.name for scorer in built] == wanted
    assert task.primary == wanted[0]
    assert config.model.id == recipe.SMALL_MODEL
    assert said in text
    assert f"format     {shape}" in text
    template = config.model.chat_template
    assert (template == "configs/c.jinja") if name == "c.jsonl" else (template is None)
    longest = max(survey(source).estimates)
    assert longest <= config.train.max_length <= 2 * longest + 128
    assert config.curate.split.test * len(survey(source).prompts) >= 10


def test_what_is_seen_is_counted(here: Path) -> None:
    alpaca(here / "a.json")
    text, _ = start("a.json")
    assert "data       a.json: 300 rows, 298 of them usable" in text
    assert "prompts    5 to 5 words (least, 95th percentile), median 5" in text
    assert "languages  en 100%" in text
    assert "duplicates 1 rows" in text
    assert "a.json:11: of a.json:10" in text


def test_no_config_is_overwritten(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions(here / "e.parquet")
    assert cli.main(["init", "e.parquet"]) == 0
    shown = capsys.readouterr()
    assert "written to configs/e.yaml" in shown.out and "tunelift plan configs/e.yaml" in shown.err
    before = (here / "configs/e.yaml").read_bytes()
    assert cli.main(["init", "e.parquet"]) == 2
    assert "is not overwritten" in (said := capsys.readouterr().err) and "--out" in said
    assert (here / "configs/e.yaml").read_bytes() == before
    assert cli.main(["init", "e.parquet", "--out", "other.yaml", "--model", "Qwen/Qwen3-8B"]) == 0
    config = load_config(here / "other.yaml")
    assert (config.name, config.model.id) == ("other", "Qwen/Qwen3-8B")
    assert cli.main(["init", "e.parquet", "--out", "other.txt"]) == 2


def write(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("row", "shape", "fields"),
    [
        ({"query": "a", "response": "b"}, "prompt_completion", {"prompt": "query", "completion": "response"}),
        ({"prompt": "a", "response": "b"}, "prompt_completion", {"completion": "response"}),
        ({"instruction": "a", "input": "", "response": "b"}, "alpaca", {"output": "response"}),
        ({"input": "a", "output": "b"}, "prompt_completion", {"prompt": "input", "completion": "output"}),
        ({"Question": "a", "Answer": "b"}, "prompt_completion", {"prompt": "Question", "completion": "Answer"}),
        (
            {"instruction": "a", "context": "c", "response": "b", "category": "d"},
            "alpaca",
            {"input": "context", "output": "response"},
        ),
        ({"instruction": "a", "context": "c", "output": "b"}, "alpaca", {"input": "context"}),
        (
            {"question": "a", "passage": "c", "answer": "b"},
            "alpaca",
            {"instruction": "question", "input": "passage", "output": "answer"},
        ),
        (
            {"prompt": "a", "Context": "c", "completion": "b"},
            "alpaca",
            {"instruction": "prompt", "input": "Context", "output": "completion"},
        ),
        (
            {"question": "a", "context": [1], "answer": "b"},
            "prompt_completion",
            {"prompt": "question", "completion": "answer"},
        ),
        (
            {"question": "a", "passage": "c", "answer": True},
            "alpaca",
            {"instruction": "question", "input": "passage", "output": "answer"},
        ),
        (
            {"question": "a", "passage": "c", "output": 3},
            "prompt_completion",
            {"prompt": "question", "completion": "output"},
        ),
        ({"document": "a", "summary": "b"}, "prompt_completion", {"prompt": "document", "completion": "summary"}),
        ({"prompt": "a", "completion": "b"}, "prompt_completion", {}),
        ({"Instruction": "a", "response": "b"}, "alpaca", {"instruction": "Instruction", "output": "response"}),
        ({"text": "a", "label": 1}, "prompt_completion", {"prompt": "text", "completion": "label"}),
        ({"dialog": [{"role": "user", "content": "a"}]}, "messages", {"messages": "dialog"}),
        ({"turns": [{"from": "human", "value": "a"}]}, "sharegpt", {"conversations": "turns"}),
        ({"messages": [{"role": "user", "content": "a"}], "text": "a", "label": "b"}, "messages", {}),
    ],
)
def test_fields_are_guessed_from_their_names(row: dict, shape: str, fields: dict, here: Path) -> None:
    source = source_of(write(here / "a.jsonl", [row]))
    assert (source.format, source.fields) == (shape, fields)


def test_the_text_that_is_asked_about_is_seen_and_what_is_not_used_is_said(here: Path) -> None:
    rows = [
        {
            "id": f"row {n}",
            "question": f"How many in {n}?",
            "context": f"There are {n}." * (n % 3),
            "answer": f"{n} apples",
        }
        for n in range(60)
    ]
    with (here / "a.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    text, _ = start("a.csv")
    assert "There are 1." in survey(source_of("a.csv")).sample[1]
    assert "unused     'id' (60 rows): fields that the model neither sees nor learns\n" in text
    write(here / "b.jsonl", [{"text": f"{n} is", "label": n % 2} for n in range(60)])
    assert "unused" not in start("b.jsonl")[0]
    write(here / "c.jsonl", [{"prompt": f"{n} is", "completion": "odd", "facts": [n], "meta": {}} for n in range(60)])
    assert "unused     'facts' (60 rows): fields" in start("c.jsonl")[0]


def test_a_question_with_a_truth_value_keeps_its_passage(here: Path) -> None:
    rows = [{"question": f"Is {n} odd?", "passage": f"It is about {n}.", "answer": n % 2 == 1} for n in range(60)]
    seen = survey(source_of(write(here / "a.jsonl", rows)))
    assert (seen.usable, seen.sample[1]) == (60, "Is 1 odd?\n\nIt is about 1.\ntrue\n")


def test_alpaca_with_numbers_says_how_they_can_be_learnt(here: Path) -> None:
    rows = [{"instruction": f"Rate {n}.", "input": f"Film {n}", "output": n % 5} for n in range(60)]
    with pytest.raises(UserError, match="0 of 60 rows can be used") as caught:
        start(write(here / "a.jsonl", rows))
    assert "rename the field to `label`" in caught.value.remedy
    start(write(here / "a.jsonl", [{"label" if key == "output" else key: row[key] for key in row} for row in rows]))
    assert load_config(Path("configs/a.yaml")).curate.sources[0].fields == {"output": "label"}


def test_fields_that_say_nothing_are_asked_for(here: Path) -> None:
    path = write(here / "a.jsonl", [{"titel": f"Frage {n}?", "inhalt": "Ja"} for n in range(20)])
    with pytest.raises(UserError, match="the fields are 'titel', 'inhalt'") as caught:
        start(path)
    assert "--prompt FIELD --completion FIELD" in caught.value.remedy
    start(path, prompt="titel", completion="inhalt")
    assert load_config(Path("configs/a.yaml")).curate.sources[0].fields == {"prompt": "titel", "completion": "inhalt"}
    for wrong, says in ((("titel", None), "go together"), (("titel", "x"), "No row has the field 'x'")):
        with pytest.raises(UserError, match=says):
            start(path, out=Path("b.yaml"), prompt=wrong[0], completion=wrong[1])


def test_a_folder_stands_for_its_files_if_they_are_of_one_kind(here: Path) -> None:
    (here / "data/more").mkdir(parents=True)
    rows = [{"prompt": f"Say {n}", "completion": "Yes"} for n in range(20)]
    write(here / "data/a.jsonl", rows[:10])
    write(here / "data/more/b.jsonl", rows[10:])
    text, path = start("data")
    assert path == Path("configs/data.yaml")
    assert load_config(path).curate.sources[0].path == "data/**/*.jsonl"
    assert "20 rows in 2 files" in text
    (here / "data/c.csv").write_text("prompt,completion\n")
    with pytest.raises(UserError, match=r"several kinds: 2 \.jsonl, 1 \.csv"):
        start("data", out=Path("x.yaml"))
    (here / "empty").mkdir()
    with pytest.raises(UserError, match="no file that can be read"):
        start("empty")


def test_a_folders_name_and_its_files_are_taken_as_they_are_spelt(here: Path) -> None:
    (here / "logs [v2]").mkdir()
    rows = [{"prompt": f"Say {n}", "completion": "Yes"} for n in range(20)]
    write(here / "logs [v2]/A.JSONL", rows)
    write(here / "logs [v2]/.hidden.jsonl", rows)
    text, path = start("logs [v2]")
    assert load_config(path).curate.sources[0].path == "logs [[]v2]/*.JSONL"
    assert "20 rows" in text and path == Path("configs/logs-v2.yaml")
    write(here / "logs [v2]/b.jsonl", rows)
    with pytest.raises(UserError, match=r"several kinds: 1 \.(jsonl|JSONL), 1 \.") as caught:
        start("logs [v2]", out=Path("x.yaml"))
    assert "'logs [[]v2]/**/*." in caught.value.remedy


def test_a_config_that_cannot_be_written_is_one_message(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    questions(here / "e.parquet")
    for out in ("e.parquet/x.yaml", "e.parquet/more/x.yaml"):
        assert cli.main(["init", "e.parquet", "--out", out]) == 2
        assert "error: " in capsys.readouterr().err


def test_the_split_and_the_config_of_a_data_set_are_said_and_written(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import Dataset, DatasetDict
    from huggingface_hub import HfApi

    rows = [{"prompt": f"Say {n}", "completion": "Yes"} for n in range(20)]
    DatasetDict({"other": Dataset.from_list(rows)}).save_to_disk(str(here / "saved"))
    with pytest.raises(UserError, match="no split 'train'"):
        start("saved")
    _, path = start("saved", split="other")
    assert load_config(path).curate.sources[0].split == "other"

    asked = []
    monkeypatch.setattr(HfApi, "dataset_info", lambda *_, **__: Hub)
    monkeypatch.setattr("datasets.load_dataset", lambda *given, **__: asked.append(given) or Dataset.from_list(rows))
    assert cli.main(["init", "hub:owner/name", "--config", "main", "--split", "test"]) == 0
    source = load_config(Path("configs/name.yaml")).curate.sources[0]
    assert (source.config, source.split, asked[0]) == ("main", "test", ("owner/name", "main"))


class Hub:
    """What the hub says of a data set."""

    sha = "0" * 40


def test_too_few_or_broken_rows_are_told_with_their_places(here: Path) -> None:
    path = write(here / "a.jsonl", [{"prompt": "a", "completion": ""}] * 9 + [{"prompt": "a", "completion": "b"}])
    with pytest.raises(UserError, match=r"1 of 10 rows can be used(.|\n)*empty_reply: 9 rows\n.*a.jsonl:1\n"):
        start(path)
    (here / "b.jsonl").write_text("one\ntwo\n")
    with pytest.raises(UserError, match="None of its rows can be read"):
        start("b.jsonl")
    assert not Path("configs").exists()


def made(replies: list[str], here: Path) -> Survey:
    rows = [{"prompt": f"Request {n}", "completion": reply} for n, reply in enumerate(replies)]
    return survey(source_of(write(here / "a.jsonl", rows)))


@pytest.mark.parametrize(
    ("reply", "first"),
    [
        (lambda n: str(n * 7), "number"),
        (lambda n: f"{n},5 €", "number"),
        (lambda n: str(n * 7) if n else "none", "exact_match"),
        (lambda n: f"2026-03-{n:02}", "exact_match"),
        (lambda n: str(n % 2), "exact_match"),
        (lambda n: json.dumps({"name": f"Anna {n}", "city": "Rome"}), "field_f1"),
        (lambda n: json.dumps({"name": "weather", "arguments": {"day": n}}), "tool_call"),
        (lambda n: json.dumps({"tool": None}), "tool_call"),
        (lambda n: f'<tool_call>{{"name": "weather", "arguments": {{"day": {n}}}}}</tool_call>', "tool_call"),
        (lambda n: f"Room {n}", "exact_match"),
        (lambda n: f"<think>\nThat may well be {n} of them.\n</think>\n\n{n % 2}", "exact_match"),
        (lambda n: f'<think>\nNumber {n}?\n</think>\n\n{{"name": "Anna {n}", "city": "Rome"}}', "field_f1"),
        (lambda n: f"The answer to what you asked is that there are {n}.", "chrf"),
    ],
)
def test_scorers_fit_the_replies(reply: Callable[[int], str], first: str, here: Path) -> None:
    chosen = recipe.scorers(made([reply(n) for n in range(60)], here)).value
    assert chosen[0] == first
    build_scorers(chosen)


def test_calls_and_texts_side_by_side_are_judged_as_both(here: Path) -> None:
    call = json.dumps({"name": "weather", "arguments": {"day": 1}})
    chosen = recipe.scorers(made([call if n % 3 else f"There are {n} of what you asked for." for n in range(60)], here))
    assert chosen.value == ["tool_call", "chrf"]
    assert chosen.why.startswith("67% of the replies are tool calls")


@pytest.mark.parametrize(("rows", "share"), [(10, 0.25), (50, 0.2), (2000, 0.1)])
def test_few_rows_get_larger_shares_for_the_splits(rows: int, share: float, here: Path) -> None:
    assert recipe.splits(made([str(n) for n in range(rows)], here)).value == {"validation": share, "test": share}


@pytest.mark.parametrize(
    ("card", "memory", "model"),
    [("RTX 4090", 24.0, "Llama-3.1-8B"), ("RTX 4080", 16.0, "Llama-3.2-3B"), ("GTX 1650", 4.0, "smollm2-135m")],
)
def test_the_model_fits_the_card(card: str, memory: float, model: str, here: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(hardware, "detect", lambda: Hardware("cuda", card, memory, 8, True, 8.9))
    alpaca(here / "a.json")
    _, path = start("a.json")
    assert model in load_config(path).model.id


def test_a_tokenizer_that_is_there_is_asked(here: Path) -> None:
    seen = made([f"It rains in {TOWNS[n % 5]} on {n} days." for n in range(60)], here)
    tiny_tokenizer().save_pretrained(here / "model")
    sizes = recipe.lengths(seen, "cpu", here / "model")
    assert "by the model's tokenizer" in sizes.why
    tokens = [len(tiny_tokenizer().encode(text, add_special_tokens=False)) for text in seen.sample]
    assert max(tokens) <= sizes.max_length <= 2 * max(tokens) + 128
    assert "estimated" in recipe.lengths(seen, "cpu", None).why


def said(*texts: str, **more: str) -> dict[str, Any]:
    """A conversation, and what its last reply has beside its text."""
    turns = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return {"messages": [*turns[:-1], turns[-1] | more]}


HARD: dict[str, Callable[[int], dict[str, Any]]] = {
    "a few rows in another script": lambda n: said(f"Row {n}", ("It rains. ", "東京は雨です。")[n % 40 == 5] * 20),
    "chats of many short messages": lambda n: said(f"Row {n}", "Yes", *("Go on", "So it is") * (n % 20)),
    "long thinking before short replies": lambda n: said(f"Row {n}", "Yes", reasoning_content="It rains. " * (40 + n)),
}


@pytest.mark.parametrize("kind", HARD)
def test_no_row_is_longer_than_the_limit_or_its_loss_is_allowed(kind: str, here: Path) -> None:
    rows = [HARD[kind](n) for n in range(120)]
    seen = survey(source_of(write(here / "a.jsonl", rows)))
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = str(tokenizer.chat_template).replace(
        "message['content']", "(message['reasoning_content'] or '') + message['content']"
    )
    tokenizer.save_pretrained(here / "model")
    sizes = recipe.lengths(seen, "cpu", here / "model")
    counted = [row_lengths(tokenizer, row["messages"])[0] for row in rows]
    beyond = [(tokens, learnt) for tokens, learnt in counted if tokens > sizes.max_length]
    lost = sum(learnt for _, learnt in beyond) / sum(learnt for _, learnt in counted)
    assert lost <= recipe.allowed_loss(sizes), f"{len(beyond)} rows are longer than {sizes.max_length}"
    assert max(tokens for tokens, _ in counted) <= sizes.longest


def test_what_the_sample_loses_the_rows_beyond_it_may_lose_too(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tunelift.starting.survey.SAMPLE", 300)
    rows = [{"prompt": f"Say {n}", "completion": "rain and wind " * (20 if n == 7 else 6)} for n in range(2400)]
    seen = survey(source_of(write(here / "a.jsonl", rows)))
    tiny_tokenizer().save_pretrained(here / "model")
    sizes = recipe.lengths(seen, "cpu", here / "model")
    assert (len(seen.sample), seen.usable, sizes.longer) == (300, 2400, 1)
    assert sizes.truncated > 0.5 * 20 / (20 + 299 * 6), "not an eighth of it"


def test_the_models_context_bounds_the_rows(here: Path) -> None:
    (here / "model").mkdir()
    (here / "model/config.json").write_text('{"max_position_embeddings": 208}')
    path = write(here / "a.jsonl", [{"prompt": f"Say {n}", "completion": "word " * (n + 1)} for n in range(100)])
    text, written = start(path, model="model")
    train = load_config(written).train
    assert train.max_length == 208
    assert 0 < train.max_truncated_ratio <= 0.05
    assert "the model's context is 208" in written.read_text()
    assert re.search(r"too long   \d of 100 rows \(\d\.\d% of the tokens\) would be dropped", text)
    (here / "model/config.json").write_text('{"max_position_embeddings": 96}')
    with pytest.raises(UserError, match=r"longer than the model's context of 96 tokens") as caught:
        start(path, model="model", out=here / "b.yaml")
    assert "--model" in caught.value.remedy
    assert not (here / "b.yaml").exists()
    assert recipe.context_of("Qwen/Qwen3-8B") == 40960
    assert recipe.context_of("somebody/else") is None


def test_a_message_that_many_rows_begin_with_is_allowed_for(here: Path) -> None:
    def row(n: int) -> dict:
        said = ["Hi" if n % 3 == 0 else f"Hi, {n}", "Hello", f"How is {n}?", f"Fine and {n}"]
        return {"conversations": [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(said)]}

    for count in (30, 60, 300):
        _, written = start(write(here / "a.jsonl", [row(n) for n in range(count)]), out=here / f"{count}.yaml")
        config = load_config(written)
        assert 1 / 3 < config.curate.split.max_group_ratio < 0.5
        assert split_of("Hi", config.curate.split, config.seed) == "train"
        assert ("the prompt of most rows is in train" in " ".join(written.read_text().split())) == (config.seed != 17)
    _, written = start(write(here / "a.jsonl", [row(n) for n in range(60)]))
    assert "# 20 of 60 rows begin with 'Hi' and stay in one split." in written.read_text()
    _, written = start(write(here / "b.jsonl", [row(3 * n + 1) for n in range(60)]))
    assert "max_group_ratio" not in written.read_text()
    with pytest.raises(UserError, match="The 60 rows begin with 1 different user messages"):
        start(write(here / "c.jsonl", [row(3 * n) for n in range(60)]))


def test_prompts_are_counted_as_curation_will_leave_them(here: Path) -> None:
    cards = ("4111 1111 1111 1111", "5555 5555 5555 4444", "4012 8888 8888 1881")
    rows = [{"prompt": f"Pay with {card}", "completion": f"Yes, {card}"} for card in cards]
    rows += [{"prompt": "Isn\u2019t it" + "\x00" * n, "completion": f"It is {n}"} for n in range(3)]
    seen = survey(source_of(write(here / "a.jsonl", rows)))
    assert sorted(seen.prompts.values()) == [3, 3]
    assert set(seen.shared.values()) == {"Pay with [CARD_1]", "Isn\u2019t it"}


def test_rows_that_are_alike_are_divided_as_curation_divides_them(here: Path, tmp_path: Path) -> None:
    def template(one: int, number: int) -> dict:
        said = f"{own_words(one, 9)} {number} {own_words(one + 50, 5)}"
        return {"prompt": said, "completion": f"{own_words(one + 100, 9)} {number}"}

    source = write(here / "a.jsonl", [template(n // 20, n) for n in range(240)])
    seen = survey(source_of(source))
    assert (seen.groups, set(seen.prompts.values())) == (12, {20})
    _, written = start(source)
    config = load_config(written)
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    out = tmp_path / "curated"
    out.mkdir()
    options = {"tokenizer_folder": tmp_path / "tokenizer", "max_length": 9000, "max_truncated_ratio": 1}
    stats = curate(config.curate, questions={}, seed=config.seed, out=out, **options)  # type: ignore[arg-type]
    assert all(stats["splits"][split]["rows"] >= 20 for split in ("train", "validation", "test"))


def test_what_makes_few_groups_of_many_prompts_is_said(here: Path) -> None:
    def row(one: int, number: int) -> dict:
        asked = f"{own_words(one, 40)} {own_words(number + 300, 5)}"
        return {"prompt": asked, "completion": own_words(number + 900, 12)}

    told, written = start(write(here / "a.jsonl", [row(n // 20, n) for n in range(240)]))
    assert "warning    240 different first messages make only 12 groups" in told
    assert any(f"20 rows share the beginning '{own_words(one, 10)}" in told for one in range(12))
    assert "curate.split.alike_prompts: report" in told and "curate.split.group_by" in told
    assert "# A tenth of 12 groups of rows (rows that are alike or ask the same stay together)" in written.read_text()
    with pytest.raises(UserError, match="The 18 rows form 3 groups, too few to divide: 18 different first messages"):
        start(write(here / "b.jsonl", [row(n // 6, n) for n in range(18)]))
    told, written = start(write(here / "c.jsonl", [row(n, n) for n in range(60)]))
    assert "warning" not in told and "# A tenth of 60 rows would be too few." in written.read_text()


def test_a_large_group_of_different_first_messages_is_told_as_such(here: Path) -> None:
    def row(n: int) -> dict:
        asked = own_words(n if n < 50 else n - 50, 14)
        said = ["Thanks!" if n < 50 else own_words(n + 400, 6), own_words(n + 500, 9), asked, own_words(n + 700, 9)]
        return {"conversations": [{"from": ("human", "gpt")[k % 2], "value": text} for k, text in enumerate(said)]}

    told, written = start(write(here / "a.jsonl", [row(n) for n in range(60)] + [row(n) for n in range(200, 300)]))
    assert "rows begin alike or ask the same (one of them begins with 'Thanks!'), so they stay in one split." in (
        written.read_text()
    )
    assert "warning    One group of rows holds 60 of 160" in told


@pytest.mark.parametrize("rows", [8, 9, 20, 50, 99])
def test_few_rows_fill_all_splits(rows: int, here: Path) -> None:
    for start_at in range(5):
        data = [{"prompt": f"Say {n + 100 * start_at}", "completion": f"Word {n}"} for n in range(rows)]
        _, written = start(write(here / "a.jsonl", data), out=here / f"{start_at}.yaml")
        config = load_config(written)
        split = config.curate.split
        assert "most rows" not in written.read_text(), "no prompt has more than the others"
        found = Counter(split_of(row["prompt"], split, config.seed) for row in data)
        assert found["test"] == found["validation"] == int(split.test * rows)
        assert found["train"] >= rows / 2


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (lambda n: ["iOS", "IOS", "Android"][n % 3], "alike      'iOS' and 'IOS' (a.jsonl:2): equal unless"),
        (lambda n: ["5", "5!"][n % 2], "alike      '5' and '5!' (a.jsonl:2)"),
        (lambda n: json.dumps({"unit": ["ms", "mS"][n % 2], "n": n}), "alike      'ms' and 'mS' (a.jsonl:2)"),
        (
            lambda n: json.dumps({"name": "open", "arguments": {"path": f"Notes{n}.md"}}),
            "case       counts in texts such as 'Notes0.md' (a.jsonl:1) only if a scorer has `strict: true`",
        ),
        (lambda n: ["late", "broken"][n % 2], None),
    ],
)
def test_replies_that_differ_in_case_or_marks_only_are_told(
    reply: Callable[[int], str], told: str | None, here: Path
) -> None:
    path = write(here / "a.jsonl", [{"prompt": f"Say {n}", "completion": reply(n)} for n in range(60)])
    said = start(path)[0]
    assert told in said if told else "strict" not in said


def test_rows_that_curation_drops_for_what_they_say_are_not_usable(here: Path) -> None:
    replies = ["I'm sorry, but I can't help with that.", "nan", "Cedar.</s>", "Cedar.<|im_end|>"]
    replies += [f"Number {n}" for n in range(56)]
    path = write(here / "a.jsonl", [{"prompt": f"Say {n}", "completion": reply} for n, reply in enumerate(replies)])
    said = start(path, model=model_here(here))[0]
    assert "60 rows, 56 of them usable" in said
    for reason, line, shown in (
        ("refusal", 1, "I'm sorry"),
        ("placeholder_reply", 2, "nan"),
        ("foreign_mark", 3, "</s>"),
        ("special_token_in_content", 4, "<|im_end|>"),
    ):
        assert f"  {reason}: 1 rows\n    a.jsonl:{line}: {shown}" in said


def test_control_tokens_of_the_model_are_found_wherever_they_stand(here: Path) -> None:
    rows = [{"prompt": f"Say {n}", "completion": f"Number {n}"} for n in range(60)]
    rows[3]["prompt"], rows[4]["completion"] = "What is `<|im_end|>`?", "Between `<|im_start|>` and 4"
    said = start(write(here / "a.jsonl", rows), model=model_here(here))[0]
    assert "60 rows, 58 of them usable" in said
    assert "special_token_in_content: 2 rows\n    a.jsonl:4: <|im_end|>\n    a.jsonl:5: <|im_start|>" in said


def test_near_duplicates_are_not_usable(here: Path) -> None:
    rows = [{"prompt": f"Tell me of {own_words(n)}", "completion": f"Number {n}"} for n in range(60)]
    rows += [{"prompt": f"{rows[7]['prompt']} please", "completion": rows[7]["completion"]}]
    said = start(write(here / "a.jsonl", rows))[0]
    assert "61 rows, 60 of them usable" in said
    assert "duplicates 0 rows equal to an earlier one, 1 nearly\n" in said
    assert "  near_duplicate: 1 rows\n    a.jsonl:61: of a.jsonl:8" in said


def test_what_curation_changes_or_counts_is_said(here: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": f"Say {own_words(n)}", "input": "", "output": f"Number {n}"} for n in range(60)
    ]
    rows[1]["input"], rows[2]["output"] = "<noinput>", "N/A"
    rows[3]["instruction"], rows[4]["output"] = "[INST] Say it [/INST]", "Paid with 4111111111111111"
    said = start(write(here / "a.jsonl", rows))[0]
    assert "60 rows, 60 of them usable" in said
    assert "no input   1 rows say that they have none" in said
    assert "unsure     replies that may be placeholders: 'N/A' (1); curate keeps them" in said
    assert "marks      of chat templates in what is asked, not learnt: [/INST] in 1 rows" in said
    assert "redacted   the replies of 1 rows will hold placeholders: see curate.pii" in said


def model_here(here: Path) -> str:
    """A folder with a tokenizer, as a model's."""
    tiny_tokenizer().save_pretrained(here / "model")
    return str(here / "model")


def test_rows_beyond_the_limit_are_said_and_allowed_for_where_they_are_few(here: Path) -> None:
    rows = [{"prompt": f"Say {n}", "completion": "word " * (90 if n == 3 else 9)} for n in range(600)]
    text, written = start(write(here / "a.jsonl", rows))
    train = load_config(written).train
    assert train.max_length <= 128
    assert 0.01 < train.max_truncated_ratio <= 0.05
    assert "# 1 rows are longer" in written.read_text()
    assert "too long   1 of 600 rows" in text
    rows = [{"prompt": f"Say {n}", "completion": "word " * (2500 if n == 3 else 9)} for n in range(200)]
    text, written = start(write(here / "b.jsonl", rows))
    assert load_config(written).train.max_length > 2500, "a row that holds a quarter of what is learnt is not few"
    assert "too long   0 of 200 rows (0.0% of the tokens)" in text


@pytest.mark.parametrize(("device", "longest"), [("cpu", 1024), ("cuda", 4096)])
def test_long_rows_raise_the_limit_or_are_refused_and_never_dropped_in_silence(
    device: str, longest: int, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        hardware, "detect", lambda: CPU if device == "cpu" else Hardware("cuda", "H100", 80.0, 8, True, 9.0)
    )
    rows = [{"prompt": f"Say {n}", "completion": f"word {n} " * longest} for n in range(60)]
    path = write(here / "a.jsonl", rows)
    text, written = start(path)
    train = load_config(written).train
    assert train.max_length > longest
    assert train.max_truncated_ratio == 0
    assert "too long   0 of 60 rows" in text
    (here / "model").mkdir()
    (here / "model/config.json").write_text(json.dumps({"max_position_embeddings": longest}))
    with pytest.raises(UserError, match=r"60 of 60 rows \(100\.0% of the tokens\) would be dropped"):
        start(path, model="model", out=here / "b.yaml")


@pytest.mark.parametrize(
    ("context", "arms", "engine"),
    [(131_072, ["base", "prompted", "tuned"], range(5800, 6200)), (4096, ["base", "tuned"], None)],
)
def test_the_engine_has_room_for_an_example_or_the_arm_is_left_out(
    context: int, arms: list[str], engine: range | None, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hardware, "detect", lambda: Hardware("cuda", "H100", 80.0, 8, True, 9.0))
    (here / "model").mkdir()
    (here / "model/config.json").write_text(json.dumps({"max_position_embeddings": context}))
    rows = [{"prompt": f"Say {n} " + "and so on " * 600, "completion": f"word {n}"} for n in range(60)]
    _, written = start(write(here / "a.jsonl", rows), model="model")
    config = load_config(written)
    assert [arm.name for arm in config.evaluate.arms] == arms
    assert (config.evaluate.few_shot == 1) == (engine is not None)
    assert config.engine.max_model_len == "auto" if engine is None else config.engine.max_model_len in engine


def turns(here: Path, out_of_order: int, of: int = 40) -> str:
    """Rows of which some end with thanks."""
    rows = []
    for n in range(of):
        said = [("user", f"Where is {own_words(n)}?"), ("assistant", f"It is near {own_words(n + 500)}.")]
        said += [("user", "Thanks!")] * (n < out_of_order)
        rows.append({"messages": [{"role": role, "content": text} for role, text in said]})
    return write(here / "a.jsonl", rows)


def test_rows_in_which_nobody_takes_turns_are_offered_with_their_number(here: Path) -> None:
    text, written = start(turns(here, 10))
    assert "not take turns in 10 rows; clean: {turn_order: mend} would save them" in text
    assert "# clean: {turn_order: mend}   # would save 10 rows" in written.read_text()
    assert load_config(written).curate.clean.turn_order == "drop"


def test_where_most_rows_take_no_turns_the_config_mends_them(here: Path) -> None:
    text, written = start(turns(here, 40))
    assert "40 rows, 40 of them usable" in text
    assert "in 40 rows; clean: {turn_order: mend} joins or cuts them" in text
    assert load_config(written).curate.clean.turn_order == "mend"
    assert all("Thanks" not in one for one in survey(source_of("a.jsonl"), mends=True).sample)


def test_what_reading_made_of_arrows_columns_is_said(here: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"text": [f"Say {own_words(n)}" for n in range(40)], "label": [0.0, 1.0, None, 1.0] * 10})
    pq.write_table(table, here / "a.parquet")
    text, _ = start("a.parquet")
    assert "read       floats that are whole as integers in 30 rows" in text
    assert "commonest '1' (20), '0' (10)" in text


def test_many_broken_rows_are_allowed_for(here: Path) -> None:
    path = here / "a.jsonl"
    rows = [json.dumps({"prompt": str(n), "completion": "x"}) + "\n" for n in range(60)]
    path.write_text("".join(row + "{\n" * (n % 2) for n, row in enumerate(rows)))
    _, written = start("a.jsonl")
    assert load_config(written).curate.max_quarantine_ratio == pytest.approx(0.38)


def test_odd_names_and_texts_come_back_from_yaml_as_they_were(here: Path) -> None:
    rows = [{"yes: no #": f"Say {n}", "on 😀\u2028\x7f": "word"} for n in range(20)]
    path = write(here / "rows [1]: of 'mine'.jsonl", rows)
    _, written = start(path, prompt="yes: no #", completion="on 😀\u2028\x7f")
    config = load_config(written)
    assert config.curate.sources[0].fields == {"prompt": "yes: no #", "completion": "on 😀\u2028\x7f"}
    assert not re.search(r"\\ud[89a-f]", written.read_text().lower()), "half of a character is no YAML"
    assert config.curate.sources[0].path == path
    assert config.name == "rows-1-of-mine"


@pytest.mark.parametrize("text", ["Wo ist der Bahnhof, bitte, und wie komme ich hin?", "東京の天気はどうですか。"])
def test_languages_are_told_offline(text: str) -> None:
    assert next(iter(languages([text]))) in {"de", "ja"}
    assert languages(["ok"]) == {}


def test_an_estimate_is_rather_too_many_tokens() -> None:
    assert estimate(sha256(b"a").hexdigest()) > 64 / 2
    assert estimate("one two three") >= 4
    assert estimate("東京の天気はどうですか") >= 9


def test_the_written_config_is_a_config_before_it_is_written(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    questions(here / "e.parquet")
    monkeypatch.setattr(recipe, "few_shot", lambda sizes: -1)
    with pytest.raises(ValueError, match="few_shot"):
        start("e.parquet")
    assert not Path("configs").exists()


def test_a_model_that_knows_no_tools_gets_a_template_that_teaches_each_turn(here: Path) -> None:
    messages(here / "c.jsonl")
    _, path = start("c.jsonl")
    tiny_tokenizer().save_pretrained(here / "model")
    template = pinned_template(here / "model", load_config(path).model)
    tokenizer = load_tokenizer(here / "model", template)
    call = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    said = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Rain in Rome?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "yes"},
        {"role": "assistant", "content": "It rains."},
    ]
    (row,) = supervise(tokenizer, said, [TOOL])
    learnt = tokenizer.decode([token for token, taught in zip(row.input_ids, row.mask, strict=True) if taught])
    written = '{"name": "weather", "arguments": {"city": "Rome"}}'
    assert learnt == f"<tool_call>{written}</tool_call><|im_end|>It rains.<|im_end|>"
    assert "Be brief." in row.text and '"parameters": {' in row.text and "<tool_response>yes" in row.text
    assert len(supervise(tokenizer, [*said[1:3]], [TOOL])) == 1
    assert len(supervise(tokenizer, [said[1], said[4]], None)) == 1


def test_what_rows_say_of_their_supervision_is_told_and_followed(here: Path) -> None:
    def talk(n: int) -> dict:
        said = [
            ("user", f"Ask {n} {own_words(n)}"),
            ("assistant", "Wrong"),
            ("user", "Sure?"),
            ("assistant", f"It is {n}"),
        ]
        turns = [{"role": role, "content": text} for role, text in said]
        return {"messages": [turns[0], turns[1] | ({"weight": 0, "at": 7} if n % 2 else {}), *turns[2:]]}

    write(here / "a.jsonl", [talk(n) for n in range(60)])
    text, path = start("a.jsonl")
    assert "supervised 'weight' in messages of 30 rows: 30 assistant turns in 30 rows are not supervised" in text
    assert "unused     'messages.at' (30 rows): fields" in text
    assert "turns      more than one reply in 30 rows" in text
    assert "problems   none" not in text
    turns = [talk(n)["messages"] for n in range(60)]
    write(here / "c.jsonl", [{"messages": [*one[:3], one[3] | {"weight": 0}]} for one in turns])
    seen = survey(source_of("c.jsonl"))
    assert set(seen.messages) == {2}, "what follows the last supervised turn is not rendered"
    assert seen.context == {"rows": 30, "turns": 30}
    assert set(seen.replies) == {"Wrong"} and seen.problems.keys() == {"nothing_supervised"}
    write(here / "b.jsonl", [{"prompt": one[:3], "completion": one[3:]} for one in turns if "weight" not in one[1]])
    assert "supervised 30 assistant turns in 30 rows are not supervised" in start("b.jsonl")[0]
    assert load_config(path).curate.sources[0].ignore_fields == ()


def test_fields_of_other_tools_are_told_with_their_rows_and_written_down(here: Path) -> None:
    rows = [{"prompt": f"Ask {n} {own_words(n)}", "completion": f"It is {n}", "label": n > 3} for n in range(60)]
    for n in (10, 11, 12, 13, 14, 15, 16, 17):
        rows[n]["images"] = ["a.jpg"]
    rows[20]["rating"], rows[21]["rating"], rows[22]["checked"] = 1, 5, False
    write(here / "a.jsonl", rows)
    text, path = start("a.jsonl")
    assert "60 rows, 48 of them usable" in text
    assert "unused     'label' (60 rows), 'images' (8 rows), 'rating' (2 rows), 'checked' (1 rows): fields" in text
    assert "undesirable: 4 rows\n    a.jsonl:1: field label, value False\n" in text
    assert "needs_media: 8 rows\n    a.jsonl:11: $.images is not empty" in text
    assert "not_followed_rating: 2 rows\n    a.jsonl:21\n    a.jsonl:22" in text
    assert "# ignore_fields: [rating]   # once the rows are out" in path.read_text()
    assert load_config(path).curate.max_quarantine_ratio > 8 / 60, "the rows with pictures alone are quarantined"


def test_a_label_that_is_learnt_is_no_verdict(here: Path) -> None:
    write(here / "a.jsonl", [{"text": f"{n} {own_words(n)}", "label": n % 2 == 0} for n in range(60)])
    text, path = start("a.jsonl")
    assert "60 rows, 60 of them usable" in text and "unused" not in text and "problems   none" in text
    assert load_config(path).curate.sources[0].fields == {"prompt": "text", "completion": "label"}


def test_tool_results_that_answer_no_call_are_told(here: Path) -> None:
    def row(n: int, result_id: str) -> dict:
        calls = [{"id": f"c{n}", "type": "function", "function": {"name": "look_up", "arguments": "{}"}}]
        return {
            "messages": [
                {"role": "user", "content": f"Look up {own_words(n)}"},
                {"role": "assistant", "content": None, "tool_calls": calls},
                {"role": "tool", "tool_call_id": result_id, "content": f"{n}"},
                {"role": "assistant", "content": f"It is {n}."},
            ]
        }

    write(here / "a.jsonl", [row(n, f"c{n}" if n > 4 else "other") for n in range(60)])
    text, _ = start("a.jsonl")
    assert "60 rows, 55 of them usable" in text
    assert "tool_result_unknown: 5 rows" in text
