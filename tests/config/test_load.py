from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tunelift.config.load import apply_override, json_schema, load_config, read_yaml
from tunelift.config.problems import all_fields, fields_at, section_at
from tunelift.config.schema import Config
from tunelift.config.section import Section
from tunelift.config.yaml12 import Loader, dump
from tunelift.errors import UserError
from tunelift.runs import as_yaml

CONFIGS = Path(__file__).parents[2] / "configs"
MINIMAL = "name: tiny\nmodel: {id: some/model}\ncurate:\n  sources: [{path: a.jsonl}]\n"

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a config file and return its path."""

    def write(text: str, name: str = "c.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write


def error_of(path: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        load_config(path, overrides)
    return str(caught.value).replace(f"{path.parent}/", "")


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_config_loads_and_fits_the_schema_that_editors_use(path: Path) -> None:
    assert load_config(path).name == path.stem
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=./schema.json\n")
    jsonschema.Draft202012Validator(json_schema()).validate(read_yaml(path).plain())


def test_the_schema_beside_the_configs_is_current() -> None:
    written = json.loads((CONFIGS / "schema.json").read_text())
    assert written == json_schema(), "Run: make schema"


def test_defaults_fill_what_is_not_written(write: Write) -> None:
    config = load_config(write(MINIMAL))
    assert config.curate.sources[0].path == "a.jsonl"
    assert config.train.learning_rate == 2e-4
    assert config.seed == 17


def test_an_empty_section_means_its_defaults(write: Write) -> None:
    assert load_config(write(MINIMAL + "train:\nreport:\n")).train == load_config(write(MINIMAL)).train


def test_scientific_notation_is_a_number_and_off_is_not_false(write: Write) -> None:
    config = load_config(
        write(MINIMAL + "train: {learning_rate: 1e-4, gradient_checkpointing: off}\ntracking: {wandb: off}\n")
    )
    assert config.train.learning_rate == 1e-4
    assert config.train.gradient_checkpointing is False
    assert config.tracking.wandb == "off"


def test_a_date_as_a_name_stays_text(write: Write) -> None:
    assert load_config(write(MINIMAL.replace("tiny", "2026-01-31"))).name == "2026-01-31"


@pytest.mark.parametrize(
    "written",
    ["695e0514", "4225332178759948e04347560002921719079454", "0x12ab", "01234567", "12345678", "5e17208", "-.inf"],
)
def test_a_number_for_a_text_is_shown_as_it_was_written(write: Write, written: str) -> None:
    told = error_of(write(MINIMAL.replace("some/model", f"some/model, revision: {written}")))
    assert f"c.yaml:2: model.revision: expected text, got {written}; put it in quotes." in told


@pytest.mark.parametrize("written", ["12:34", "190:20:30.15", "1234_5678", "0b11", "1_0.5"])
def test_what_only_yaml_1_1_calls_a_number_is_text(write: Write, written: str) -> None:
    assert load_config(write(MINIMAL.replace("some/model", f"a/b, revision: {written}"))).model.revision == written


def test_a_leading_zero_is_no_octal_and_underscores_part_digits(write: Write) -> None:
    config = load_config(write(MINIMAL + "seed: 0100\ntrain: {max_steps: 1_000, learning_rate: '1e-4'}\n"))
    assert (config.seed, config.train.max_steps, config.train.learning_rate) == (100, 1000, 1e-4)


@pytest.mark.parametrize("written", ["695e0514", "0x12ab", "007", "true", "12"])
def test_an_override_of_a_text_is_text_though_the_shell_took_the_quotes(write: Write, written: str) -> None:
    config = load_config(write(MINIMAL), [f"model.revision={written}", f"curate.sources.0.path={written}"])
    assert config.model.revision == config.curate.sources[0].path == written
    listed = load_config(write(MINIMAL), [f"train.adapter.targets=[{written}]"])
    assert listed.train.adapter.targets == (written,)


def test_a_mistake_beside_such_an_override_is_told(write: Write) -> None:
    told = error_of(write(MINIMAL), "model.revision=695e0514", "seed=1e400")
    assert "seed: expected" in told and "got 1e400" in told and "revision" not in told


@given(st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Co", "Cn")), max_size=12))
def test_text_that_is_written_reads_back_as_text(text: str) -> None:
    assert yaml.load(dump({"a": text}), Loader) == {"a": text}


@pytest.mark.parametrize("written", ["695e0514", "0o17", "1e-4", "12:34", "off", "2026-01-31"])
def test_a_runs_own_config_keeps_text_that_looks_like_a_number(write: Write, written: str) -> None:
    config = load_config(write(MINIMAL), [f"model.revision='{written}'", "train.learning_rate=1e-5"])
    assert load_config(write(as_yaml(config), "own.yaml")) == config


def numbers(section: type[Section]) -> list[str]:
    return [name for name, annotation in all_fields(section) if "int" in str(annotation) or "float" in str(annotation)]


def test_true_is_no_number_in_any_field() -> None:
    seen = 0
    for name in numbers(Config):
        *parents, leaf = name.split(".")
        section = section_at(parents)
        assert section is not None
        annotation = str(section.model_fields[leaf].annotation)
        if not re.search(r"\b(int|float)\b", annotation) or re.search(r"\bbool\b|StrictBool|Config\b", annotation):
            continue
        for value in (True, [False], {"q_proj": True}):
            with pytest.raises(ValidationError) as caught:
                section.model_validate({leaf: value})
            assert leaf in {str(error["loc"][0]) for error in caught.value.errors()}, (name, value)
        seen += 1
    assert seen > 50


def test_true_for_a_number_is_told_with_its_place(write: Write) -> None:
    told = error_of(write(MINIMAL + "train:\n  learning_rate: true\n"))
    assert "c.yaml:6: train.learning_rate: expected a number, got true." in told
    assert "micro_batch_size: expected a whole number, got true." in error_of(
        write(MINIMAL), "train.micro_batch_size=true"
    )
    assert load_config(write(MINIMAL + "train: {packing: off, adapter: {dora: no}}")).train.packing is False


# extends


def test_extends_merges_sections_and_replaces_lists(write: Write) -> None:
    write(MINIMAL + "train: {max_steps: 5, learning_rate: 1e-3}\n", "base.yaml")
    child = write("extends: base.yaml\nname: child\ntrain: {max_steps: 9}\ncurate: {sources: [{path: b.jsonl}]}\n")
    config = load_config(child)
    assert (config.name, config.train.max_steps, config.train.learning_rate) == ("child", 9, 1e-3)
    assert [source.path for source in config.curate.sources] == ["b.jsonl"]


def test_extends_is_relative_to_its_file(tmp_path: Path, write: Write) -> None:
    (tmp_path / "sub").mkdir()
    write(MINIMAL)
    assert load_config(write("extends: ../c.yaml\nseed: 3\n", "sub/child.yaml")).seed == 3


def test_a_mistake_in_the_extended_file_is_reported_there(write: Write) -> None:
    write(MINIMAL + "train:\n  max_steps: no\n", "base.yaml")
    message = error_of(write("extends: base.yaml\ntrain:\n  epochs: 2\n"))
    assert message.startswith("base.yaml:6: train.max_steps: expected a whole number, got 'no'.")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: c.yaml\n", "c.yaml:1: extends: a circle: c.yaml -> c.yaml."),
        ("\nextends: other.yaml\n", "c.yaml:2: extends: there is no file other.yaml."),
        ("extends: [a.yaml]\n", "c.yaml:1: extends: expected one file name, got ['a.yaml']."),
    ],
)
def test_wrong_extends_is_told(write: Write, text: str, expected: str) -> None:
    assert error_of(write(text)).startswith(expected)


def test_a_long_chain_of_extends_is_refused(write: Write) -> None:
    write(MINIMAL, "f0.yaml")
    for number in range(1, 7):
        write(f"extends: f{number - 1}.yaml\n", f"f{number}.yaml")
    assert load_config(write("extends: f3.yaml\n")).name == "tiny"
    assert "extends: more than 5 files in a row." in error_of(write("extends: f6.yaml\n"))


# Overrides


def test_overrides_win_and_are_read_as_yaml(write: Write) -> None:
    overrides = ["train.learning_rate=1e-5", "evaluate.arms=[base, tuned]", "curate.sources.0.path=z.jsonl", "seed=4"]
    config = load_config(write(MINIMAL), overrides)
    assert config.train.learning_rate == 1e-5
    assert [(arm.name, arm.model, arm.prompt) for arm in config.evaluate.arms] == [
        ("base", "base", "instructed"),
        ("tuned", "tuned", "trained"),
    ]
    assert config.curate.sources[0].path == "z.jsonl"
    assert config.seed == 4


def test_an_override_may_supply_what_the_file_lacks(write: Write) -> None:
    path = write(MINIMAL.replace("model: {id: some/model}\n", "model:\n"))
    assert load_config(path, ["model.id=other/model"]).model.id == "other/model"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lerning_rate=1", "command line, train.lerning_rate=1: train.lerning_rate: unknown key; did you mean"),
        ("seed", "command line: 'seed' is not `section.field=value`."),
        ("train..x=1", "command line: 'train..x=1' is not `section.field=value`."),
        ("seed=[1", "command line, seed=[1: Not valid YAML: "),
        ("curate.sources.7.path=x", "command line, curate.sources.7.path=x: curate.sources is a list of 1; '7'"),
        ("train.max_steps=-1", "command line, train.max_steps=-1: train.max_steps: expected a value greater than 0"),
        ("seed.deeper=1", "command line, seed.deeper=1: seed: expected a whole number, got a section with deeper."),
    ],
)
def test_wrong_override_is_told(write: Write, override: str, expected: str) -> None:
    assert error_of(write(MINIMAL), override).startswith(expected)


# Mistakes


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lerning: 1\n", "c.yaml:5: lerning: unknown key; known here: name, seed, model,"),
        ("train:\n  lerning_rate: 1\n", "c.yaml:6: train.lerning_rate: unknown key; did you mean `learning_rate`?"),
        ("learning_rate: 1\n", "c.yaml:5: learning_rate: unknown key; did you mean `train.learning_rate`?"),
        (
            "train:\n  kernels: hub\n",
            "c.yaml:6: train.kernels: not taken here: of the hub's kernels the one for rotations",
        ),
        ("extend: a.yaml\n", "c.yaml:5: extend: unknown key; did you mean `extends`?"),
        ("train: {epochs: many}\n", "c.yaml:5: train.epochs: expected a number, got 'many'."),
        ("train: {max_steps: 1.5}\n", "c.yaml:5: train.max_steps: expected a whole number, got 1.5."),
        ("train: {max_grad_norm: 0}\n", "c.yaml:5: train.max_grad_norm: expected a value greater than 0, got 0."),
        ("train: 3\n", "c.yaml:5: train: expected a section, its keys indented below it, got 3."),
        (
            "train: {schedule: cosin}\n",
            "c.yaml:5: train.schedule: expected 'linear', 'cosine' or",
        ),
        (
            "train: {micro_batch_size: x}\n",
            "c.yaml:5: train.micro_batch_size: expected a whole number or 'auto', got",
        ),
        ("evaluate: {tasks: x}\n", "c.yaml:5: evaluate.tasks: expected a list, got 'x'."),
        ("evaluate: {tasks: []}\n", "c.yaml:5: evaluate.tasks: expected at least 1 element, got a list of 0."),
        (
            "evaluate:\n  tasks:\n    - from_splt: test\n",
            "c.yaml:7: evaluate.tasks[0].from_splt: unknown key; did",
        ),
        (
            "evaluate: {tasks: [{max_items: 3}]}\n",
            "c.yaml:5: evaluate.tasks[0].from_split: is missing; for example `from_split",
        ),
        ("serve: {port: 99999}\n", "c.yaml:5: serve.port: expected a value less than or equal to 65535, got 99999."),
        (
            "train:\n  epochs: 1\n  micro_batch_size: 5\n",
            "c.yaml:5: train.global_batch_size=16 is not a multiple of train.micro_batch_size=5; set",
        ),
    ],
)
def test_one_mistake_is_one_line_with_its_place(write: Write, text: str, expected: str) -> None:
    message = error_of(write(MINIMAL + text))
    assert message.startswith(expected)
    assert "What to do:" in message


def test_a_number_where_text_belongs_asks_for_quotes(write: Write) -> None:
    message = error_of(write(MINIMAL.replace("some/model", "123")))
    assert message.startswith("c.yaml:2: model.id: expected text, got 123; put it in quotes.")


def test_a_choice_that_is_nearly_right_is_suggested(write: Write) -> None:
    message = error_of(write(MINIMAL + "train: {adapter: {kind: qlra}}\n"))
    assert message.startswith(
        "c.yaml:5: train.adapter.kind: expected 'qlora' or 'lora', got 'qlra'; did you mean `qlora`?"
    )


def test_all_mistakes_come_at_once(write: Write) -> None:
    message = error_of(write("name: a b\nsede: 1\ntrain:\n  max_steps: x\n"))
    assert message.startswith("5 problems in c.yaml:")
    for line in (
        "c.yaml:1: name: expected text of the form",
        "c.yaml:1: model: is missing; for example `model: {id: meta-llama/Llama-3.1-8B-Instruct}`.",
        "c.yaml:1: curate: is missing; for example `curate: {sources: [{path: data/train.jsonl}]}`.",
        "c.yaml:2: sede: unknown key; did you mean `seed`?",
        "c.yaml:4: train.max_steps: expected a whole number, got 'x'.",
    ):
        assert line in message


def test_every_required_field_has_an_example() -> None:
    for full, _ in [*all_fields(Config)]:
        *section, name = full.split(".")
        found = section_at(section)
        assert found is not None, full
        field = found.model_fields[name]
        if field.is_required() and name != "from_split":
            assert field.examples, full


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "c.yaml: The file is empty."),
        (b"# nothing\n", "c.yaml: The file is empty."),
        (b"- a\n- b\n", "c.yaml:1: Expected `key: value` lines at the top, got a list."),
        (b"name: \xff\n", "c.yaml:1: Not UTF-8: byte 0xff."),
        (b"name: a\nname: b\n", "c.yaml:2: name: the key is there twice (first at c.yaml:1)."),
        (b"a: 1\n b: [\n", "c.yaml:2: Not valid YAML: "),
        (b"a: 1\nb: [1, 2\n", "c.yaml:3: Not valid YAML: "),
        (b"a: '\x01'\n", "c.yaml:1: Not valid YAML: "),
        (b"a: !!python/name:os.system x\n", "c.yaml:1: Not valid YAML: "),
        (b"a: &x [*x]\n", "c.yaml:1: A value holds itself through an alias."),
        (b"a: 1\n---\nb: 2\n", "c.yaml:2: Not valid YAML: "),
        (b"a: " + b"[" * 5000, "c.yaml"),
    ],
)  # fmt: skip
def test_a_broken_file_is_told_with_its_line(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    assert error_of(path).startswith(expected)


def test_a_byte_order_mark_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.encode())
    assert load_config(path).name == "tiny"


def test_a_missing_file_names_its_neighbour(write: Write, tmp_path: Path) -> None:
    write(MINIMAL, "quickstart.yaml")
    assert "Did you mean" in error_of(tmp_path / "quikstart.yaml")
    assert "quickstart.yaml" in error_of(tmp_path / "other.yaml")
    assert "There is no folder" in error_of(tmp_path / "nowhere" / "c.yaml")
    assert "is a folder, not a config" in error_of(tmp_path)


# Properties

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(min_size=1, max_size=5), inner, max_size=3),
    max_leaves=8,
)
LISTS = ("curate.sources.", "evaluate.tasks.", "evaluate.arms.", "gate.improved.")
NAMES = st.sampled_from([full.split(".") for full, _ in all_fields(Config) if not full.startswith(LISTS)])


@given(NAMES, VALUES)
def test_any_value_anywhere_is_taken_or_told(names: list[str], value: Any) -> None:
    data: dict[str, Any] = yaml.safe_load(MINIMAL)
    section = data
    for name in names[:-1]:
        section = section.setdefault(name, {})
        if not isinstance(section, dict):
            return
    section[names[-1]] = value
    folder = CONFIGS.parent
    _taken_or_told(json.dumps(data), folder)


@given(st.text(max_size=200))
def test_any_text_is_taken_or_told(text: str) -> None:
    _taken_or_told(text, CONFIGS.parent)


@given(st.text(max_size=60))
def test_any_override_is_taken_or_told(override: str) -> None:
    tree = read_yaml(CONFIGS / "quickstart.yaml")
    try:
        apply_override(tree, override)
    except UserError as error:
        told = error
    else:
        return
    assert told.remedy


@given(st.lists(st.tuples(NAMES, st.integers()), max_size=4))
def test_what_an_override_sets_is_what_is_there(settings: list[tuple[list[str], int]]) -> None:
    tree = read_yaml(CONFIGS / "quickstart.yaml")
    for names, value in settings:
        tree = apply_override(tree, f"{'.'.join(names)}={value}")
        held = tree.plain()
        for name in names:
            held = held[name]
        assert held == value


def _taken_or_told(text: str, folder: Path) -> None:
    class Text(type(folder)):  # type: ignore[misc]
        """A path whose bytes are `text`."""

        def read_bytes(self) -> bytes:
            return text.encode(errors="surrogatepass")

    try:
        load_config(Text(folder / "c.yaml"))
    except UserError as error:
        told = error
    else:
        return
    assert told.remedy
    assert "c.yaml" in str(told)


def test_fields_at_knows_list_elements() -> None:
    assert "path" in fields_at(("curate", "sources", 0))
    assert "from_split" in fields_at(("evaluate", "tasks", 3))
    assert fields_at(("nowhere",)) == ()


def test_an_invalid_config_is_told_before_the_validators_of_other_sections_are_built(write: Write) -> None:
    """Building them all takes longer than everything else that such an answer needs."""
    path = write(MINIMAL + "sede: 1\n")
    code = (
        "import sys; from pathlib import Path; from tunelift.config.load import load_config\n"
        "from tunelift.config.evaluation import JudgeConfig\n"
        "try: load_config(Path(sys.argv[1]))\n"
        "except Exception: print(JudgeConfig.__pydantic_complete__)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"


def test_the_split_that_selects_may_not_prove(write: Write) -> None:
    message = error_of(
        write(MINIMAL + "evaluate: {tasks: [{from_split: validation, name: mine}]}\ngate: {improved: [mine]}\n")
    )
    assert "gate.improved claims mine, which is the validation split: it selects checkpoints and prompts" in message


@pytest.mark.parametrize("by", ["eval_loss", "exact_match", "chrf"])
@pytest.mark.parametrize("task", ["{from_split: validation}", "{from_split: validation, name: mine, max_items: 9}"])
def test_the_split_that_chooses_the_step_is_no_task(write: Write, by: str, task: str) -> None:
    best = f"train: {{best: {{by: {by}}}}}\n"
    tasks = f"evaluate: {{tasks: [{{from_split: test}}, {task}]}}\n"
    message = error_of(write(MINIMAL + best + tasks))
    assert f"its rows choose the step that is kept (train.best.by={by}): what selects cannot prove" in message
    load_config(write(MINIMAL + tasks))
    load_config(write(MINIMAL + best))
