"""Pinned templates: the same text on any day, in any renderer, and an error for what cannot be pinned."""

from __future__ import annotations

import json
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.utils import chat_template_utils

from tests.families import BY_NAME, FAMILIES, TRL, Family
from tests.tiny import CHATML, tiny_tokenizer
from tunelift.config.section import ModelConfig
from tunelift.errors import UserError
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.template import pin, pinned_template, read_template, template_note, variables

DAY = date(2024, 7, 26)
DATED = [pytest.param(family, id=family.name) for family in FAMILIES if family.dated]
ASK = [{"role": "user", "content": "Which day is it?"}]


THAT_DAY = datetime.fromisoformat("2024-07-26T23:59:00")
LATER = datetime.fromisoformat("2031-02-03T00:00:00")


class Clock(datetime):
    """A clock that stands at another day."""

    at = LATER

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return cls.at


@pytest.fixture
def another_day(monkeypatch: pytest.MonkeyPatch) -> None:
    """For transformers' templates, which vLLM renders as well."""
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)


def text(family: Family, template: str, **arguments: Any) -> str:
    return family.tokenizer().apply_chat_template(
        ASK, chat_template=template, tokenize=False, add_generation_prompt=True, **arguments
    )


@pytest.mark.parametrize("family", DATED)
def test_a_dated_template_writes_another_prompt_each_day_and_pinned_the_same(
    family: Family, monkeypatch: pytest.MonkeyPatch, another_day: None
) -> None:
    pinned = pin(family.template, {}, DAY)
    later, pinned_later = text(family, family.template), text(family, pinned)
    monkeypatch.setattr(Clock, "at", THAT_DAY)
    that_day = text(family, family.template)
    assert later != that_day, "the fault that pinning mends"
    assert text(family, pinned) == pinned_later == that_day, "byte for byte what the model's own says on the pinned day"


@pytest.mark.parametrize("name", ["gptoss", "muse_glimmer"])
def test_dates_inside_macros_and_behind_questions_are_pinned(name: str, another_day: None) -> None:
    template = (TRL / f"{name}.jinja").read_text(encoding="utf-8")
    family = BY_NAME["qwen_2_5"]
    assert "2031" in text(family, template)
    assert "2024-07-26" in text(family, pin(template, {}, DAY))
    assert "2031" not in text(family, pin(template, {}, DAY))


@pytest.mark.parametrize("family", [pytest.param(family, id=family.name) for family in FAMILIES])
def test_pinned_arguments_render_as_if_they_were_given(
    family: Family, monkeypatch: pytest.MonkeyPatch, another_day: None
) -> None:
    arguments = family.arguments or ({"date_string": "1 Jan 2030"} if family.name.startswith("llama_3_") else {})
    pinned = pin(family.template, arguments, DAY)
    monkeypatch.setattr(Clock, "at", THAT_DAY)
    assert text(family, pinned) == text(family, family.template, **arguments)
    asked = text(family, pinned, enable_thinking=True, date_string="x") if arguments else ""
    assert not arguments or asked == text(family, pinned), "a request cannot undo the pin"


@given(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(st.characters(exclude_categories=("Cs",)))),
    st.sampled_from(["", "\n", "  {% if true %}\n", "\n\n  text\n{% if true %}"]),
)
def test_any_value_and_any_beginning_survive(value: Any, beginning: str) -> None:
    """The lines put before a template add and take away nothing, whatever it begins with."""
    template = beginning + "[{{ x | tojson }}]" + ("{% endif %}" if "if" in beginning else "")
    family = BY_NAME["qwen_2_5"]
    assert text(family, pin(template, {"x": value}, DAY)) == text(family, template, x=value)


def test_a_date_format_that_is_not_known_beforehand_is_refused_when_rendered() -> None:
    from jinja2 import TemplateError

    with pytest.raises(TemplateError, match="no date is pinned for the format %Y"):
        text(BY_NAME["qwen_2_5"], pin("{% set f = '%Y' %}{{ strftime_now(f) }}", {}, DAY))


def test_a_template_without_date_and_arguments_stays_as_it_is(tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path)
    assert pinned_template(tmp_path, ModelConfig(id="m")) is None
    assert template_note(tmp_path, ModelConfig(id="m")) == "the model's own; it asks for nothing that changes"


def test_the_pin_names_arguments_and_date(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text(BY_NAME["llama_3_2"].template)
    model = ModelConfig(id="m", template_arguments={"tools_in_user_message": False}, template_date="2025-01-31")
    pinned = pinned_template(tmp_path, model)
    assert pinned is not None and "31 Jan 2025" in pinned
    assert template_note(tmp_path, model).endswith("pinned: tools_in_user_message=false, date 2025-01-31")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"enable_thinkin": False}, "did you mean enable_thinking"), ({"messages": "x"}, "reads no such variable")],
)
def test_an_argument_that_the_template_never_reads_is_refused(tmp_path: Path, arguments: dict, says: str) -> None:
    (tmp_path / "chat_template.jinja").write_text(BY_NAME["qwen_3"].template)
    with pytest.raises(UserError, match=says) as caught:
        pinned_template(tmp_path, ModelConfig(id="m", template_arguments=arguments))
    assert "enable_thinking" in caught.value.remedy


def test_a_day_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="2024-13-01"):
        ModelConfig(id="m", template_date="2024-13-01")


def test_templates_are_found_where_transformers_finds_them(tmp_path: Path) -> None:
    assert read_template(tmp_path) is None
    named = [{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert read_template(tmp_path) == {"default": "a", "tool_use": "b"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "old"}))
    assert read_template(tmp_path) == "old"
    (tmp_path / "chat_template.jinja").write_text("new")
    assert read_template(tmp_path) == "new"
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates/tool_use.jinja").write_text("{{ strftime_now('%Y') }}")
    with pytest.raises(UserError, match="2 templates"):
        pinned_template(tmp_path, ModelConfig(id="m"))


def test_markers_and_broken_templates_are_parsed_or_refused_with_their_fault() -> None:
    marked = (TRL / "qwen3_training.jinja").read_text(encoding="utf-8")
    assert "enable_thinking" in variables(marked)
    assert not {"messages", "tools", "add_generation_prompt"} & variables(marked)
    with pytest.raises(UserError, match="no valid Jinja"):
        variables("{% if %}")


def test_what_is_saved_renders_without_arguments_on_any_day(tmp_path: Path, another_day: None) -> None:
    tokenizer = tiny_tokenizer()
    template = "{{ strftime_now('%d %b %Y') }}{% if loud is defined and loud %}!{% endif %}" + CHATML
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "model/chat_template.jinja").write_text(template)
    model = ModelConfig(id="m", template_arguments={"loud": True})
    load_tokenizer(tmp_path / "model", pinned_template(tmp_path / "model", model)).save_pretrained(tmp_path / "adapter")
    saved = load_tokenizer(tmp_path / "adapter")
    assert saved.apply_chat_template(ASK, tokenize=False).startswith("26 Jul 2024!<|im_start|>")
    assert "chat_template" not in json.loads((tmp_path / "adapter/tokenizer_config.json").read_text())


def test_a_template_of_ones_own_takes_the_place_of_the_models(tmp_path: Path) -> None:
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")
    (tmp_path / "own.jinja").write_text("{{ tools }}{{ loud }}")
    own = ModelConfig(id="m", chat_template=str(tmp_path / "own.jinja"))
    assert pinned_template(tmp_path, own) == "{{ tools }}{{ loud }}"
    assert template_note(tmp_path, own) == str(tmp_path / "own.jinja")
    pinned = pinned_template(tmp_path, own.model_copy(update={"template_arguments": {"loud": True}}))
    assert pinned == "{%- set loud = true %}\n{{ tools }}{{ loud }}"
    for content, says in ((None, "cannot be read"), ("{% if %}", "no valid Jinja"), (b"\xff", "cannot be read")):
        path = tmp_path / "bad.jinja"
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=says) as caught:
            pinned_template(tmp_path, ModelConfig(id="m", chat_template=str(path)))
        assert caught.value.where == str(path)
