"""Does the model think before it answers, and how its chat template is told not to where the rows hold no thinking."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from tunelift.config.section import ModelConfig
from tunelift.errors import UserError
from tunelift.runtime.template import pin, read_template, variables
from tunelift.tasks.thinking import opening_in

SWITCH = re.compile(r"(?:enable_|use_)?(?:think|thinking|reasoning)(?:_enabled)?")
"""Variables of chat templates that switch thinking on and off."""
EFFORT = re.compile(r"reasoning_effort|reasoning_strength|thinking_budget")
"""Variables that say how much the model thinks; the least is not nothing."""
FORMATS = (
    r"(?:-(?:(?:NV)?FP[48]|AWQ|GPTQ|Int[48]|(?:quantized\.)?w\d+a\d+|(?:unsloth-)?bnb-4bit|[48]-?bit|b?f16|MLX|GGUF"
    r"|dynamic|\d+K))*"
)
"""What names of copies end in."""
KNOWN = re.compile(
    rf"(?:.*/)?(?:Qwen3(?:\.\d)?-[\d.]+B(?:-A[\d.]+B)?(?:-Base)?|SmolLM3-3B(?:-Base)?){FORMATS}", re.IGNORECASE
)
"""Models of the hub whose templates let them think unless `enable_thinking` is false, whoever has a copy of them."""
PLAIN = re.compile(
    r"(?:.*/)?(?:(?:Meta-)?Llama-[23](?:\.[123])?-[\d.]+B(?:-Instruct|-chat)?(?:-hf)?"
    r"|Qwen3(?:-Coder)?-[\d.]+B(?:-A[\d.]+B)?-Instruct(?:-2507)?|Qwen2(?:\.5)?(?:-Coder|-Math)?-[\d.]+B(?:-Instruct)?"
    r"|SmolLM2?-[\d.]+[MB](?:-Instruct)?|gemma-[23]-[\d.]+m?b?(?:-it|-pt)?"
    r"|Mi[sx]tral-(?:8x)?[\d.]+B(?:-Instruct)?-v[\d.]+"
    rf"|Phi-(?:3|3\.5|4)(?:-mini|-medium|-small)?(?:-\d+k)?(?:-instruct)?){FORMATS}",
    re.IGNORECASE,
)
"""Those that do not think."""
THINKERS = re.compile(r"thinking|reasoning|deepseek-r1|qwq|gpt-oss|magistral", re.I)
"""In the ids of models that always think."""
ASKED, ANSWERED, THOUGHT = "A question of one line?", "The-answer", "The-thoughts"
TOKENS = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), "")


@dataclass(frozen=True)
class Thinking:
    """What `model.template_arguments` should be, and what an answer begins with."""

    arguments: dict[str, bool] = field(default_factory=dict)
    why: str = ""
    around: str = ""
    """What the template writes around an answer and lets the model write: an empty thinking block, the end of turn."""
    thinks: bool = False
    """The answers of some arm begin with thinking."""
    unseen: bool = False
    """The template is not here, and the model's name says nothing: it may think."""


def folder_of(model: str, revision: str | None) -> Path | None:
    """Where the model lies: its folder, or the hub's cache; None if it is not here."""
    folder = Path(model)
    if folder.is_dir():
        return folder
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", model):
        return None
    from huggingface_hub import try_to_load_from_cache

    for name in ("tokenizer_config.json", "tokenizer.json"):
        found = try_to_load_from_cache(model, name, revision=revision)
        if isinstance(found, str):
            return Path(found).parent
    return None


def control_tokens(folder: Path | None) -> frozenset[str]:
    """The control tokens in a model's tokenizer.json; none where it is not here."""
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return frozenset()
    added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens") or ()
    return frozenset(token["content"] for token in added if token.get("special"))


def thinking(rows_think: bool, model: str, folder: Path | None, chat_template: Path | None) -> Thinking:
    """Look at the model's chat template by rendering a conversation with it.

    Args:
        rows_think: Some rows hold thinking.
        model: Its id.
        folder: Where it lies, if it is here.
        chat_template: A template in place of the model's own.
    """
    own = chat_template.read_text(encoding="utf-8") if chat_template else read_template(folder) if folder else None
    if isinstance(own, dict):
        # Nothing can be pinned in a model with several.
        return Thinking(thinks=rows_think or _thinks(own.get("default", ""), {}))
    if own is None:
        return _unseen(rows_think, model, here=Path(model).is_dir())
    try:
        names = sorted(name for name in variables(own) if SWITCH.fullmatch(name))
    except UserError:  # It is told when the config is run.
        names = []
    arguments = next((found for name in names if (found := _switched(own, name, rows_think))), {})
    why = ""
    if arguments and not rows_think:
        why = "The rows hold no thinking: without this the template lets the model think before it answers"
    elif arguments:
        why = "The rows hold thinking: without this the template leaves it out"
    return Thinking(arguments, why, _around(own, arguments, rows_think), rows_think or _thinks(own, arguments))


def _unseen(rows_think: bool, model: str, here: bool) -> Thinking:
    """Of a model whose template is not here, or that has none."""
    if not rows_think and KNOWN.fullmatch(model):
        why = "The rows hold no thinking: without this the template of such models lets them think before they answer"
        return Thinking({"enable_thinking": False}, why)
    thinks = bool(THINKERS.search(model))
    known = here or any(names.fullmatch(model) for names in (KNOWN, PLAIN))
    return Thinking(thinks=rows_think or thinks, unseen=not (known or thinks))


def _switched(template: str, name: str, rows_think: bool) -> dict[str, bool]:
    """The switch with the value that fits the rows, where rendering shows that it makes a difference."""
    value = {name: rows_think}
    if rows_think:
        shown, usual = (_rendered(template, arguments, _answered(True)) for arguments in (value, {}))
        fits = shown is not None and THOUGHT in shown and THOUGHT not in (usual or "")
    else:
        fits = any(
            _rendered(template, value, *one) not in (None, _rendered(template, {}, *one))
            for one in ((_asked(), True), (_answered(False),))
        )
    return value if fits else {}


def _thinks(template: str, arguments: Mapping[str, bool]) -> bool:
    """Whether the prompt opens a thinking block, or the template only says how much the model thinks."""
    prompt = _rendered(template, arguments, _asked(), True)
    try:
        efforts = any(EFFORT.fullmatch(name) for name in variables(template)) and not arguments
    except UserError:
        efforts = False
    return efforts or bool(prompt and opening_in(prompt))


def _around(template: str, arguments: Mapping[str, bool], rows_think: bool) -> str:
    """What is written between the prompt and the end of a reply beside the reply and its thinking."""
    prompt = _rendered(template, arguments, _asked(), True)
    through = _rendered(template, arguments, _answered(rows_think))
    if prompt is None or through is None or not through.startswith(prompt):
        return ""
    return through[len(prompt) :].replace(ANSWERED, "").replace(THOUGHT, "")


def _asked() -> list[dict[str, Any]]:
    return [{"role": "user", "content": ASKED}]


def _answered(thought: bool) -> list[dict[str, Any]]:
    reply = {"role": "assistant", "content": ANSWERED, **({"reasoning_content": THOUGHT} if thought else {})}
    return [*_asked(), reply]


def _rendered(
    template: str, arguments: Mapping[str, bool], messages: Sequence[dict[str, Any]], generate: bool = False
) -> str | None:
    """The conversation under the template; None where the template refuses it."""
    from transformers.utils import chat_template_utils

    render: Any = chat_template_utils.render_jinja_template  # Its annotations are not what it takes and gives.
    day = date.fromisoformat(ModelConfig.model_fields["template_date"].default)
    try:
        texts, _ = render(
            conversations=[list(messages)],
            chat_template=pin(template, arguments, day),
            add_generation_prompt=generate,
            **TOKENS,
        )
    except Exception:  # A template may raise anything, and need what only its own model's code gives it.
        return None
    return str(texts[0])
