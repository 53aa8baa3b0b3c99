"""`tunelift init`: look, choose, write the config, and say what was seen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from tunelift.artifacts.store import write_durably, writing
from tunelift.config.schema import Config
from tunelift.errors import UserError
from tunelift.runtime import hardware
from tunelift.stages.curate.arrow import READ_AS
from tunelift.stages.curate.placeholders import perhaps_placeholder
from tunelift.starting.grouping import joined
from tunelift.starting.guessing import source_of
from tunelift.starting.recipe import (
    FEW_LABELS,
    MOST_LOST,
    REVISIONS,
    TEMPLATE,
    Lengths,
    base_model,
    context_of,
    has_labels,
    lengths,
    name_of,
    needs_template,
    scorers,
    spelling_counts,
)
from tunelift.starting.survey import LOOKED_AT, PLACES, Survey, quantile, survey
from tunelift.starting.thinking import control_tokens, folder_of, thinking
from tunelift.starting.writing import config_text

LEAST_ROWS = 8
"""Fewer cannot be divided into three splits."""
LEAST_GROUPS = 4
UNUSED = 8
"""Fields that are named."""


def start(
    data: str,
    *,
    out: Path | None = None,
    model: str | None = None,
    prompt: str | None = None,
    completion: str | None = None,
    split: str | None = None,
    config: str | None = None,
) -> tuple[str, Path]:
    """Look at raw data and write a config that runs on it; returns what was seen, as text, and the config's path.

    Args:
        data: A file, a folder, a glob, or hub:owner/name.
        out: The config to write; by default below configs/, named after the data.
        model: The base model, in place of one that fits the machine.
        prompt: The field that is asked, where it is not clear.
        completion: The field that is learnt.
        split: Of a data set with several, if not `train`.
        config: Of a hub data set with several.

    Raises:
        UserError: the data cannot be read or has too few rows, or the config is there already.
    """
    name = _name(data)
    out = out or Path("configs") / f"{name}.yaml"
    if out.suffix not in {".yaml", ".yml"}:
        raise UserError(f"--out {out} is no name of a config.", remedy="Let it end in .yaml.")
    _refuse_existing(out)
    source = source_of(data, prompt, completion, split, config)
    seen = survey(source)
    if seen.mendable > seen.usable:  # So the data is, then, and no fault of some rows.
        seen = survey(source, mends=True)
    _refuse_few(seen, data)
    machine = hardware.detect()
    chosen = base_model(machine, model, seen)
    folder = folder_of(chosen.value, REVISIONS.get(chosen.value))
    seen.note_model(control_tokens(folder))
    _refuse_few(seen, data)
    template = out.with_suffix(".jinja") if needs_template(seen, chosen.value) else None
    thought = thinking(seen.thinking > 0, chosen.value, folder, TEMPLATE if template else None)
    sizes = lengths(seen, machine.device, folder, context_of(chosen.value), thought)
    _refuse_loss(sizes, seen, data)
    text = config_text(seen, _slug(out.stem), machine, chosen, sizes, template, thought)
    if (out.parent / "schema.json").exists():
        text = f"# yaml-language-server: $schema=./schema.json\n{text}"
    Config.model_validate(yaml.safe_load(text))
    with writing(out.parent):
        out.parent.mkdir(parents=True, exist_ok=True)
        if template is not None:
            _refuse_existing(template)
            write_durably(template, TEMPLATE.read_text(encoding="utf-8"))
        write_durably(out, text)
    unseen = _unseen_template(chosen.value) if thought.unseen else []
    return "\n".join([*_report(seen, sizes), *unseen]), out


def _refuse_few(seen: Survey, data: str) -> None:
    if seen.left < LEAST_ROWS:
        raise UserError(
            f"{seen.left} of {seen.rows} rows can be used, too few to divide.\n" + "\n".join(_problems(seen)),
            where=data,
            remedy=_labels(seen)
            or f"Mend what is named above, or add rows: at least {LEAST_ROWS}, better some hundred.",
        )
    if seen.groups < LEAST_GROUPS:
        if why := joined(seen):
            raise UserError(
                f"The {seen.usable:,} rows form {_counted(seen.groups, 'group')}, too few to divide: {why}",
                where=data,
                remedy="Add rows that ask something else, or write a config with what is named above.",
            )
        raise UserError(
            f"The {seen.usable:,} rows begin with {seen.groups} different user messages, too few to divide: rows that "
            "begin with the same one, are alike or ask the same stay in one split.",
            where=data,
            remedy="Add rows that ask something else, or write a config that names a field as curate.split.group_by.",
        )


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _labels(seen: Survey) -> str:
    """What to do where Alpaca's output is a number or truth value; empty where it is not that."""
    wrong = seen.problems.get("wrong_type", [])
    if seen.source.format != "alpaca" or not wrong or ": $.output is a" not in wrong[0]:
        return ""
    return "Write each output as text, or rename the field to `label`: there a number is learnt as JSON writes it."


def _name(data: str) -> str:
    """The run's name: the file's, without what follows its first dot; a glob's by its last plain part."""
    path = Path(data.removeprefix("hub:"))
    plain = [part for part in path.parts if path.exists() or not set(part) & set("*?[")]
    return _slug(plain[-1].partition(".")[0] if plain else "")


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "my-run"


def _refuse_existing(out: Path) -> None:
    if out.exists():
        raise UserError(
            "The file is there already, and is not overwritten.",
            where=str(out),
            remedy="Choose another with --out configs/NAME.yaml, or remove it.",
        )


def _refuse_loss(sizes: Lengths, seen: Survey, data: str) -> None:
    """Few rows may be longer than the model's context, and are dropped; not what is to be learnt."""
    if sizes.truncated > MOST_LOST:
        raise UserError(
            f"{_too_long(sizes, seen)}: longer than the model's context of {sizes.max_length:,} tokens.",
            where=data,
            remedy="Name a model with a longer context (--model ID), or divide the long rows.",
        )


def _too_long(sizes: Lengths, seen: Survey) -> str:
    return f"{sizes.longer:,} of {seen.usable:,} rows ({sizes.truncated:.1%} of the tokens) would be dropped"


def _report(seen: Survey, sizes: Lengths) -> list[str]:
    source = seen.source
    names = "".join(f", {ours} is {own!r}" for ours, own in source.fields.items())
    files = f" in {len(seen.files)} files" if len(seen.files) > 1 else ""
    rows = f"the first {LOOKED_AT:,} rows" if seen.more else f"{seen.rows:,} rows"
    shares = ", ".join(f"{language} {share:.0%}" for language, share in list(seen.languages.items())[:5])
    commonest = ", ".join(f"{_short(text)} ({count})" for text, count in seen.replies.most_common(3))
    return [
        f"data       {source.path}: {rows}{files}, {seen.left:,} of them usable",
        f"format     {source.format}{names}",
        *([f"unused     {_unused(seen.unused)}"] if seen.unused else []),
        f"prompts    {_words(seen.prompt_words)}",
        f"replies    {_words(seen.reply_words, seen.unspaced)}; {len(seen.replies):,} different"
        + (f", the commonest {commonest}" if len(seen.replies) <= FEW_LABELS or has_labels(seen) else ""),
        *_alike(seen),
        *([f"tools      in {seen.tools:,} rows"] if seen.tools else []),
        *_supervision(seen),
        *([f"turns      more than one reply in {seen.turns:,} rows"] if seen.turns else []),
        *([f"thinking   before a reply in {seen.thinking:,} rows"] if seen.thinking else []),
        f"lengths    {sizes.why}",
        f"too long   {_too_long(sizes, seen)} at train.max_length={sizes.max_length}",
        f"languages  {shares or 'the texts are too short to tell'}",
        *(f"read       {READ_AS[edit]} in {rows:,} rows" for edit, rows in seen.changed.most_common()),
        *([f"order      {_order(seen)}"] if seen.mendable else []),
        f"duplicates {seen.duplicates:,} rows equal to an earlier one, {seen.near:,} nearly",
        *_found(seen),
        *_problems(seen),
        *([f"warning    {why}"] if (why := joined(seen)) else []),
    ]


def _found(seen: Survey) -> list[str]:
    """What curation changes in usable rows, or keeps and counts."""
    lines = []
    if seen.marks:
        marks = ", ".join(f"{mark} in {rows:,} rows" for mark, rows in seen.marks.most_common(PLACES))
        lines.append(f"marks      of chat templates in what is asked, not learnt: {marks}; curate keeps them")
    if seen.no_input:
        lines.append(f"no input   {seen.no_input:,} rows say that they have none; curate leaves that out")
    unsure = [(reply, count) for reply, count in seen.replies.most_common() if perhaps_placeholder(reply)]
    if unsure and not has_labels(seen):
        told = ", ".join(f"{reply!r} ({count:,})" for reply, count in unsure[:PLACES])
        lines.append(f"unsure     replies that may be placeholders: {told}; curate keeps them")
    if seen.redacted:
        lines.append(f"redacted   the replies of {seen.redacted:,} rows will hold placeholders: see curate.pii")
    return lines


def _unseen_template(model: str) -> list[str]:
    """What to do where the model's template could not be looked at."""
    hub = re.fullmatch(r"[\w.-]+/[\w.-]+", model)
    how = f'Download it (hf download {model} --include "tokenizer*" --include "chat_template*"),'
    return [
        f"template   of {model} is not here, so nobody could look whether the model thinks before it answers:",
        "           max_tokens leaves room for it, and template_arguments switch nothing off.",
        f"           {how if hub else 'Put the model there,'}",
        "           remove the config, and run init again.",
    ]


def _alike(seen: Survey) -> list[str]:
    """Replies that the scorers tell apart only with `strict`."""
    chosen = scorers(seen).value
    if not {"exact_match", "field_f1", "tool_call"} & {name_of(one) for one in chosen}:
        return []
    pairs = list(seen.spelled.alike.values())
    more = f" and {len(pairs) - PLACES:,} more pairs" if len(pairs) > PLACES else ""
    shown = "; ".join(f"{_short(one.first)} and {_short(one.second)} ({one.where[1]})" for one in pairs[:PLACES])
    set_ = ", as the config's has" if spelling_counts(seen) else ""
    lines = [f"alike      {shown}{more}: equal unless a scorer has `strict: true`{set_}"] if pairs else []
    if seen.spelled.coded:
        place, text = seen.spelled.coded[0]
        lines.append(f"case       counts in texts such as {_short(text)} ({place}) only if a scorer has `strict: true`")
    return lines


def _unused(fields: Mapping[str, int]) -> str:
    named = ", ".join(f"{name!r} ({rows:,} rows)" for name, rows in list(fields.items())[:UNUSED])
    more = f" and {len(fields) - UNUSED:,} more" if len(fields) > UNUSED else ""
    return f"{named}{more}: fields that the model neither sees nor learns"


def _supervision(seen: Survey) -> list[str]:
    """What the rows say of single turns, and what comes of it."""
    named = ", ".join(f"{key!r} in messages of {rows:,} rows" for key, rows in seen.weights.items())
    turns = f"{seen.context['turns']:,} assistant turns in {seen.context['rows']:,} rows are not supervised"
    return [f"supervised {named}{': ' * bool(named)}{turns}"] if named or seen.context else []


def _order(seen: Survey) -> str:
    does = "joins or cuts them" if seen.mends else "would save them, in place of dropping them"
    return f"user and assistant do not take turns in {seen.mendable:,} rows; clean: {{turn_order: mend}} {does}"


def _words(counts: Sequence[int], unspaced: int = 0) -> str:
    middle, most = quantile(counts, 0.5), quantile(counts, 0.95)
    unit = "characters" if 2 * unspaced > len(counts) else "words"
    return f"{min(counts)} to {most:.0f} {unit} (least, 95th percentile), median {middle:.0f}"


def _problems(seen: Survey) -> list[str]:
    """Each reason with the first places."""
    none = "problems   beside the line on what is supervised, none" if _supervision(seen) else "problems   none"
    lines = ["problems" if seen.problems else none]
    for reason, places in sorted(seen.problems.items(), key=lambda entry: -len(entry[1])):
        lines.append(f"  {reason}: {len(places):,} rows")
        lines += [f"    {place.rstrip(':')}" for place in places[:PLACES]]
        lines += [f"    and {len(places) - PLACES:,} more"] if len(places) > PLACES else []
    return lines


def _short(text: str) -> str:
    return repr(text if len(text) <= 30 else text[:30] + "…")
