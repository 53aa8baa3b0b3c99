"""A chat template that renders the same tomorrow: its arguments, and the date that some write, made part of its text.

What is pinned is written into the template's own text, so that the chat_template.jinja saved with an adapter says
everything: transformers, vLLM and llama.cpp render alike from it, without arguments, on any day.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.errors import UserError
from tunelift.runtime.switches import no_switch

if TYPE_CHECKING:
    from jinja2 import nodes

    from tunelift.config.section import ModelConfig

SUPPLIED = frozenset(
    {
        "messages", "tools", "documents", "add_generation_prompt", "continue_final_message", "raise_exception",
        "strftime_now", "bos_token", "eos_token", "pad_token", "unk_token", "sep_token", "cls_token", "mask_token",
    }
)  # fmt: skip
"""What a renderer hands to a template, so what cannot be pinned."""
FORMATS = re.compile(r"""strftime_now\(\s*(?:"([^"]*)"|'([^']*)')""")
GENERATION = re.compile(r"\{%-?\s*(?:end)?generation\s*-?%\}")
"""Markers that transformers reads and plain Jinja does not know."""


def read_template(folder: Path) -> str | dict[str, str] | None:
    """The chat template of a model folder, as transformers finds it; several by name where it has several.

    Raises:
        UserError: a file that holds it cannot be read.
    """
    try:
        named = {
            path.stem: path.read_text(encoding="utf-8") for path in folder.glob("additional_chat_templates/*.jinja")
        }
        own = folder / "chat_template.jinja"
        if own.exists():
            text = own.read_text(encoding="utf-8")
            return {"default": text, **named} if named else text
        for name in ("chat_template.json", "tokenizer_config.json"):
            found = _from_json(folder / name)
            if found:
                return found
    except (OSError, ValueError) as error:
        raise UserError(
            f"The model's chat template cannot be read: {error}.",
            where=str(folder),
            remedy="Copy its chat_template.jinja, or tokenizer_config.json, into it again.",
        ) from error
    return None


def _from_json(path: Path) -> str | dict[str, str] | None:
    content = json.loads(path.read_bytes()) if path.exists() else {}
    found = content.get("chat_template") if isinstance(content, dict) else None
    if isinstance(found, list):
        return {str(entry["name"]): str(entry["template"]) for entry in found if {"name", "template"} <= set(entry)}
    return found if isinstance(found, str | dict) else None


def pinned_template(folder: Path, model: ModelConfig) -> str | None:
    """The template that the config names, or the folder's with what the config pins; None where that stays as it is.

    Raises:
        UserError: no such template, an argument that it never reads, or something to pin in a model with several.
    """
    template = _named_template(model.chat_template) if model.chat_template else read_template(folder)
    texts = [template] if isinstance(template, str) else list((template or {}).values())
    arguments, day = model.template_arguments, date.fromisoformat(model.template_date)
    if template is None or not (arguments or any("strftime_now" in text for text in texts)):
        # Where there is no template at all, loading the tokenizer says so.
        return template if model.chat_template and isinstance(template, str) else None
    if not isinstance(template, str):
        raise UserError(
            f"The model has {len(template)} templates ({', '.join(sorted(template))}), with something to pin in them.",
            where=str(folder),
            remedy="Keep the one that you use, as chat_template.jinja in a copy of the model's folder.",
        )
    _check_read(template, arguments, folder)
    return pin(template, arguments, day)


def _named_template(file: str) -> str:
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(
            f"model.chat_template cannot be read: {error}.",
            where=file,
            remedy="Name a Jinja file, or leave model.chat_template out for the model's own template.",
        ) from error
    variables(text, file)  # A mistake in it is told here, with its line.
    return text


def template_note(folder: Path, model: ModelConfig) -> str:
    """What is pinned in a model's chat template, in words."""
    pinned, whose = pinned_template(folder, model), model.chat_template or "the model's own"
    if pinned is None:
        return "the model's own; it asks for nothing that changes"
    arguments = [f"{name}={json.dumps(value)}" for name, value in model.template_arguments.items()]
    dated = "strftime_now" in pinned
    pins = [*arguments, *([f"date {model.template_date}"] if dated else [])]
    return f"{whose}, pinned: {', '.join(pins)}" if pins else whose


def pin(template: str, arguments: Mapping[str, Any], day: date) -> str:
    """The template with arguments set at its beginning, and with `day` wherever it would write today's date.

    Each line added ends in the one line break that `trim_blocks` removes, so nothing is added to what is rendered.
    """
    lines = [f"{{%- set {name} = {_literal(value)} %}}" for name, value in sorted(arguments.items())]
    formats = sorted({double or single for double, single in FORMATS.findall(template)})
    if "strftime_now" in template:
        answers = "".join(
            f"{{%- if format == {_literal(one)} -%}}{{{{ {_literal(day.strftime(one))} }}}}{{%- endif -%}}"
            for one in formats
        )
        known = f"{{%- if format not in [{', '.join(map(_literal, formats))}] -%}}"
        refuse = '{{ raise_exception("strftime_now: no date is pinned for the format " ~ format) }}'
        macro = f"{{%- macro strftime_now(format) -%}}{answers}{known}{refuse}{{%- endif -%}}{{%- endmacro %}}"
        lines.append(macro)
    return "".join(line + "\n" for line in lines) + template


def _literal(value: Any) -> str:
    """A scalar as Jinja writes it."""
    return "none" if value is None else json.dumps(value, ensure_ascii=False)


def _check_read(template: str, arguments: Mapping[str, Any], folder: Path) -> None:
    if not arguments:
        return
    read = variables(template, str(folder))
    parsed = _parsed(template, str(folder))  # Once more: looking for variables folds constants in it.
    for name, value in arguments.items():
        if name not in read:
            near = difflib.get_close_matches(name, read, 1)
            raise UserError(
                f"model.template_arguments.{name}: the model's chat template reads no such variable"
                + (f"; did you mean {near[0]}?" if near else "."),
                where=str(folder),
                remedy=f"It reads: {', '.join(sorted(read))}." if read else "It takes none, so leave them out.",
            )
        if no_switch(parsed, name, value):
            off = value in {0, ""} or (isinstance(value, str) and value.strip().lower() in {"off", "no", "false", "n"})
            raise UserError(
                f"model.template_arguments.{name} is {json.dumps(value, ensure_ascii=False)}, "
                + ("a text" if isinstance(value, str) else "a number")
                + ", and the model's chat template asks only whether it is true or false.",
                where=str(folder),
                remedy=f"Write {'false' if off else 'true'}, without quotation marks.",
            )


def variables(template: str, where: str = "") -> set[str]:
    """The names that a template takes from outside and that may be pinned.

    Raises:
        UserError: the template is no valid Jinja.
    """
    from jinja2 import meta

    # A name that is given a value only where it has none, as templates do for defaults, counts as one from outside.
    return set(meta.find_undeclared_variables(_parsed(template, where))) - SUPPLIED


def _parsed(template: str, where: str) -> nodes.Template:
    from jinja2 import Environment, TemplateError

    environment = Environment(autoescape=False, extensions=["jinja2.ext.loopcontrols"])  # Parsed only.
    try:
        return environment.parse(GENERATION.sub("", template))
    except TemplateError as error:
        raise UserError(
            f"The model's chat template is no valid Jinja: {error}.",
            where=where,
            remedy="Copy the template that the model was published with into its folder again.",
        ) from error
