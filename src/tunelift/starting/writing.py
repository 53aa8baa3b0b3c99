"""The config that `tunelift init` writes, with a comment where a choice has a reason."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tunelift.config.curation import CurateConfig
from tunelift.runtime import hardware
from tunelift.stages.curate.other_fields import NOT_FOLLOWED
from tunelift.starting import recipe
from tunelift.starting.instructing import Instruction, instruction, searched
from tunelift.starting.survey import Survey, estimate
from tunelift.starting.thinking import Thinking


def config_text(
    seen: Survey,
    name: str,
    machine: hardware.Hardware,
    model: recipe.Chosen,
    sizes: recipe.Lengths,
    template: Path | None,
    thought: Thinking,
) -> str:
    """The config as YAML, each choice with its reason.

    Args:
        seen: The data.
        name: The run's.
        machine: What it will run on.
        model: The base model.
        sizes: Of the rows, with this model.
        template: Its chat template, in place of its own.
        thought: What the template is told of thinking.
    """
    scorers, splits = recipe.scorers(seen), recipe.splits(seen)
    share = splits.value["test"]
    seed = recipe.seed(seen, splits.value)
    told = instruction(seen, sizes.context, recipe.training_replies(seen, splits.value, seed.value))
    sizes = replace(sizes, told=math.ceil(estimate(told.text or "")))
    tried = searched(seen, sizes, splits.value["validation"])
    shots = max(tried) if tried else recipe.few_shot(sizes)
    max_model_len = recipe.max_model_len(sizes, shots)
    revision = recipe.REVISIONS.get(model.value)
    train = recipe.training(machine.device)
    lines = [
        f"# Written by `tunelift init {' '.join(seen.source.path.split())}`.",
        "# What would run, and why: tunelift plan on this file.",
        f"name: {_scalar(name)}",
        *([f"# {_comment(seed.why)}."] if seed.why else []),
        f"seed: {seed.value}",
        "",
        "model:",
        f"  # {_comment(model.why)}.",
        f"  id: {_scalar(model.value)}",
        *([f"  revision: {revision}"] if revision else []),
        *_template(template),
        *_thinking(thought),
        "",
        "curate:",
        "  sources:",
        *_source(seen),
        *_curating(seen),
        *_split(seen, splits),
        "",
        "train:",
        f"  adapter: {_flow(train.pop('adapter'))}",
        *(f"  {key}: {value:g}" if isinstance(value, float) else f"  {key}: {value}" for key, value in train.items()),
        f"  global_batch_size: {recipe.batch(seen, share, machine.device)}",
        f"  # {_comment(sizes.why)}.",
        f"  max_length: {sizes.max_length}",
        *(
            [
                f"  # {sizes.longer:,} rows are longer and would be dropped whole; without this line that is an error.",
                f"  max_truncated_ratio: {recipe.allowed_loss(sizes):g}",
            ]
            if sizes.longer
            else []
        ),
        "",
        "evaluate:",
        f"  # {_comment(scorers.why)}; docs/tasks.md lists all scorers.",
        "  tasks:",
        "    - from_split: test",
        f"      scorers: [{', '.join(_flow(one) for one in scorers.value)}]",
        f"      primary: {recipe.name_of(scorers.value[0])}",
        *_instruction(told),
        *_room(thought),
        f"      max_tokens: {sizes.answer}",
        *_prompted(shots, tried, told),
        *(
            [
                "",
                "engine:",
                f"  # For {f'{shots} examples, ' if shots else ''}the longest row and its answer; more costs cache.",
                f"  max_model_len: {max_model_len}",
            ]
            if max_model_len
            else []
        ),
    ]
    return "\n".join(lines) + "\n"


def _room(thought: Thinking) -> list[str]:
    if thought.thinks:
        return ["      # For the thinking before the answer, too."]
    if thought.unseen:
        return ["      # The model may think before it answers: its chat template is not here, so nobody could look."]
    return []


def _thinking(thought: Thinking) -> list[str]:
    if not thought.arguments:
        return []
    return [f"  # {_comment(thought.why)}.", f"  template_arguments: {_flow(thought.arguments)}"]


def _instruction(told: Instruction) -> list[str]:
    comment = [f"      # {_comment(told.why)}."] if told.why else []
    return [*comment, *([f"      instruction: {_scalar(told.text)}"] if told.text else [])]


def _prompted(shots: int, tried: Sequence[int], told: Instruction) -> list[str]:
    """The arm with examples, as far as they fit; searched for, or as many as usual."""
    if not shots:
        why = "  # Without the arm `prompted`: no example fits the model's context beside a row."
        return [why, "  arms: [base, tuned]"]
    if tried:
        others = [
            "        # Tried beside the task's own instruction.",
            "        instructions:",
            *(f"          - {_scalar(other)}" for other in told.others),
        ]
        return [
            "  arms:",
            "    - base",
            "    # The best prompt on the validation split, which no claim rests on: what tuning must beat.",
            "    - name: prompted",
            "      search:",
            f"        few_shot: {_flow(list(tried))}",
            *(others if told.others else []),
            "    - tuned",
        ]
    if shots < 6:
        return ["  # More examples would not fit the prompt of the arm `prompted`.", f"  few_shot: {shots}"]
    return []


def _source(seen: Survey) -> list[str]:
    source = seen.source
    spoken = [flag.removeprefix(NOT_FOLLOWED) for flag in seen.problems if flag.startswith(NOT_FOLLOWED)]
    return [
        f"    - path: {_scalar(source.path)}",
        f"      format: {source.format}",
        *([f"      fields: {_flow(source.fields)}"] if source.fields else []),
        *([f"      config: {_scalar(source.config)}"] if source.config else []),
        *([f"      split: {_scalar(source.split)}"] if source.split != "train" else []),
        "      # system: What the model is told in rows without a system message.",
        *(
            [f"      # ignore_fields: [{', '.join(spoken)}]   # once the rows are out that these speak against"]
            * bool(spoken)
        ),
    ]


def _template(template: Path | None) -> list[str]:
    if template is None:
        return []
    return [
        "  # The rows use tools, and the model's own template knows none: training teaches it this one.",
        f"  chat_template: {_scalar(str(template))}",
    ]


def _curating(seen: Survey) -> list[str]:
    """What the rows ask for: room for broken ones, and a hint where another language is mixed in."""
    lines = []
    ratio = seen.broken / seen.rows
    if ratio > CurateConfig.model_fields["max_quarantine_ratio"].default:
        lines += [
            f"  # {seen.broken:,} of {seen.rows:,} rows cannot be read; curate lists them in quarantine.jsonl.",
            f"  max_quarantine_ratio: {min(1.0, round(ratio + 0.05, 2)):g}",
        ]
    if seen.mends:
        lines += [
            f"  # In {seen.mendable:,} rows user and assistant do not take turns: turns of one speaker are joined, a",
            "  # greeting before the first user turn and what follows the last reply are cut. Else they are dropped.",
            "  clean: {turn_order: mend}",
        ]
    elif seen.mendable:
        lines.append(f"  # clean: {{turn_order: mend}}   # would save {seen.mendable:,} rows that curate drops")
    main = next(iter(seen.languages), None)
    if main and seen.languages[main] < 1:
        lines.append(f"  # clean: {{languages: [{main}]}}   # would keep {seen.languages[main]:.0%} of the rows")
    return lines


def _split(seen: Survey, splits: recipe.Chosen) -> list[str]:
    ratio = recipe.group_ratio(seen)
    values = {**splits.value, **({"max_group_ratio": ratio.value} if ratio else {})}
    reasons = [splits.why, ratio.why if ratio else ""]
    return [*(f"  # {why}." for why in reasons if why), f"  split: {_flow(values)}"]


def _flow(value: Any) -> str:
    """As YAML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_scalar(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    return _scalar(value) if isinstance(value, str) else json.dumps(value)


def _scalar(text: str) -> str:
    """Text as YAML: plain where that means the same."""
    return text if re.fullmatch(r"[A-Za-z./~][\w./-]*", text) and yaml.safe_load(text) == text else _quoted(text)


def _quoted(text: str) -> str:
    return str(yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf)).strip()


def _comment(text: str) -> str:
    return text[0].upper() + " ".join(text[1:].split())
