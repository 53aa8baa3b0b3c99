"""A switch of a template takes true or false; a text stays a text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.families import BY_NAME
from tunelift.config.section import ModelConfig
from tunelift.errors import UserError
from tunelift.runtime.template import pinned_template

QWEN = "{%- if enable_thinking is defined and enable_thinking is false %}x{% endif %}"
BARE = "{{ 'think' if thinking else 'answer' }}"


def pinned(tmp_path: Path, template: str, **arguments: Any) -> str | None:
    (tmp_path / "chat_template.jinja").write_text(template)
    return pinned_template(tmp_path, ModelConfig(id=str(tmp_path), template_arguments=arguments))


@pytest.mark.parametrize("value", ["off", "no", "false", "False", "N", "on", "yes", "true", " off ", "", 0, 1, 0.0])
@pytest.mark.parametrize("template", [QWEN, BARE.replace("thinking", "enable_thinking")], ids=["is false", "bare"])
def test_what_is_no_truth_value_is_refused_for_a_switch(tmp_path: Path, template: str, value: Any) -> None:
    with pytest.raises(UserError, match=r"template_arguments.enable_thinking is .* true or false") as caught:
        pinned(tmp_path, template, enable_thinking=value)
    on = str(value).strip().lower() in {"on", "yes", "true", "1"}
    assert caught.value.remedy.startswith(f"Write {'true' if on else 'false'}")


@pytest.mark.parametrize(
    ("template", "value"),
    [
        (BARE, "no"),
        (BARE, 1),
        ("{% set t = thinking | default(true) %}{% if t %}x{% endif %}", "false"),
        ("{% set t = thinking if thinking is defined else true %}{% if not t %}x{% endif %}", "off"),
        (
            "{% if thinking is undefined %}{% set thinking = true %}{% endif %}{% if thinking and tools %}x{% endif %}",
            0,
        ),
        ("{% set ns = namespace(t=thinking) %}{% if ns.t %}x{% endif %}", "off"),
        ("{% if thinking == false %}x{% endif %}", 0),
        ("{% if thinking == 'off' %}x{% endif %}", "no"),
        ("{% if thinking | d(false) %}x{% endif %}", "maybe"),
    ],
)
def test_a_switch_is_known_by_its_use_and_not_by_its_name_alone(tmp_path: Path, template: str, value: Any) -> None:
    with pytest.raises(UserError, match="true or false"):
        pinned(tmp_path, template, thinking=value)


@pytest.mark.parametrize(
    ("template", "value"),
    [
        ("{% if x %}{{ x }}{% endif %}", "26 Jul 2024"),
        ("{{ 'Answer in ' + x }}", "no"),
        ("{% if x == 'low' %}x{% endif %}", "low"),
        ("{% if x == 'low' %}x{% endif %}", "medium"),
        ("{% if x == 'off' %}x{% endif %}", "off"),
        ("{% if x in ['on', 'off'] %}x{% endif %}", "on"),
        ("{% if x and x > 0 %}x{% endif %}", 5),
        ("{{ x | upper }}", "yes"),
        (BARE.replace("thinking", "x"), True),
        (BARE.replace("thinking", "x"), None),
    ],
)
def test_a_text_or_number_that_the_template_uses_as_such_stays(tmp_path: Path, template: str, value: Any) -> None:
    assert pinned(tmp_path, template, x=value) is not None


def test_published_templates_take_what_their_authors_meant(tmp_path: Path) -> None:
    llama = BY_NAME["llama_3_1"].template
    assert pinned(tmp_path, llama, date_string="26 Jul 2024", tools_in_user_message=False)
    with pytest.raises(UserError, match="tools_in_user_message is 0, a number"):
        pinned(tmp_path, llama, tools_in_user_message=0)
