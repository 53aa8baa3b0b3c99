"""What a run would do, before it does it: nothing here makes or changes an artifact."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tunelift.arms import folder_tasks_of
from tunelift.artifacts.records import Artifact
from tunelift.checks import check_evaluable, check_keys, selection_ahead, tasks_ahead
from tunelift.config.evaluation import NOISE_ARM
from tunelift.config.resolve import resolve
from tunelift.config.schema import Config, TrainConfig
from tunelift.errors import UserError
from tunelift.facts import facts_for, refuse_unservable, refuse_untrainable, shape_if_known
from tunelift.pipeline import REPORT_FILES, STAGES, Pipeline, find_dataset
from tunelift.runs import RUNS
from tunelift.runtime import gpus, hardware
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.forecast import Forecast, Tokens, forecast, speed_of
from tunelift.runtime.forecast_text import memory_lines, serving_lines, time_lines
from tunelift.runtime.memory import trained_tensors, training
from tunelift.runtime.modeling import locate_config, refuse_untrainable_base
from tunelift.runtime.published import published_shape
from tunelift.runtime.serving import serving_fits
from tunelift.runtime.shape import ModelShape, read_shape
from tunelift.runtime.template import template_note
from tunelift.runtime.vocabulary import cut_lines
from tunelift.stages.train.adapters import check_adapter
from tunelift.stages.train.answers import check_choice
from tunelift.tasks.statistics import Spread, minimum_detectable_effect, needed_for_margin, needed_items
from tunelift.tasks.task import Task

BYTES_BF16, BYTES_FP32 = 2, 4
ADAM_COPIES = 3
"""A checkpoint holds in fp32 all that is trained, and Adam's two moments."""


@dataclass(frozen=True)
class Assumptions:
    """What a forecast of time and cost rests on."""

    mfu: float | None = None
    """Share of the card's peak; None: as published."""
    price: float | None = None
    """Of an hour, in any currency."""
    tokens: int | None = None
    """Of the training split; None: as counted in the data set, if that is made."""


def describe(run: Pipeline, assumed: Assumptions) -> str:
    """The resolved run as text: model, machine, choices with reasons, state of each stage, memory, disk."""
    machine = hardware.detect()
    adapters = _refuse_what_stages_would(run, machine)
    lines = [
        f"run      {run.folder}",
        f"model    {run.base.id}: {run.base.architecture}, {_count(run.base.parameters)} parameters, {run.base.dtype}"
        + (f", {run.base.note}" if run.base.note else ""),
        f"template {template_note(run.base.path, run.config.model)}",
        f"adapters on {adapters}",
        *(f"tokens   {line}" for line in _cuts(run)),
        f"machine  {machine.name}, {machine.memory_gib:g} GiB, {machine.cores} cores ({machine.device})",
        *([f"         {machine.idle_note}"] if machine.idle_gpus else []),
        "",
        "chosen for you",
        *(f"  {choice.field} = {choice.value}: {choice.why}" for choice in run.choices),
        "",
        *_own_memory(run, machine, assumed),
        "",
        "stages",
        *(
            f"  {name:18} {'found ' + os.path.relpath(found.path) if found else 'to be made'}"
            for name, found in stages(run).items()
        ),
        f"  {'report':18} always made again",
        "",
        "what the evaluation can show",
        *(f"  {line}" for line in power(run)),
        "",
        f"disk     {disk_needed_gib(run):.2f} GiB needed at most, {hardware.free_gib(RUNS):.1f} GiB free",
    ]
    return "\n".join(lines)


def _count(parameters: int) -> str:
    return f"{parameters:,}" if parameters else "an unknown number of"


def _refuse_what_stages_would(run: Pipeline, machine: hardware.Hardware) -> str:
    """Which layers adapters reach, in words.

    Raises:
        UserError: what training or evaluation would refuse of the config, as far as that is known here.
    """
    config = run.config
    refuse_untrainable(config.train, machine.device)
    if machine.device == "cpu":  # Of a card the lines on serving tell, beside the memory of training.
        refuse_unservable(config, machine, run.base.parameters, None)
    dataset = run.store.find(run.curate_plan())
    check_choice(config.train, dataset.path if dataset else None, config.seed)
    check_evaluable(config, tasks_ahead(config, run.folder_tasks), selection_ahead)
    if dataset:
        check_evaluable(config, run.tasks(dataset), lambda arm: run.selection(arm, dataset))
    check_keys(config)
    return check_adapter(config.train, run.base.path)


def _cuts(run: Pipeline) -> list[str]:
    """What the added tokens do to the words of the data set, as far as it is made; refused if one cannot be added."""
    added = run.config.train.added_tokens
    if not added:
        return []
    load_tokenizer(run.base.path, run.template, added)
    dataset = run.store.find(run.curate_plan())
    stats = json.loads((dataset.path / "stats.json").read_text(encoding="utf-8")) if dataset else {}
    return cut_lines(stats.get("added_tokens", {}))


def describe_on(config: Config, gpu: str | None, assumed: Assumptions) -> str:
    """What needs no more than the model's shape: choices, memory, time and serving, on a named card or this machine.

    Raises:
        UserError: no such card, no such model, or a config that cannot work there.
    """
    card = gpus.find(gpu) if gpu else gpus.recognize(hardware.detect())
    machine = _machine(card) if gpu and card else hardware.detect()
    shape, note = _shape(config)
    resolved = resolve(config, facts_for(machine, shape.context, shape))
    if not gpu:
        refuse_untrainable(resolved.config.train, machine.device)
    check_choice(resolved.config.train, None, config.seed)
    check_evaluable(config, tasks_ahead(config, folder_tasks_of(config)), selection_ahead)
    folder = None if note else locate_config(config.model)
    adapters = [f"adapters on {check_adapter(resolved.config.train, folder)}"] if folder else []
    data = _data(resolved.config, assumed, folder)
    lines = [
        f"model    {config.model.id}: {shape.family}, {shape.parameters:,} parameters{note}",
        f"machine  {machine.name}, {machine.memory_gib:.1f} GiB ({machine.device})",
        *([f"         {machine.idle_note}"] if machine.idle_gpus else []),
        *adapters,
        *([f"         {_speed(card)}, compute capability {card.capability} ({card.source})"] if card else []),
        "",
        "chosen for you",
        *(f"  {choice.field} = {choice.value}: {choice.why}" for choice in resolved.choices),
        "",
        *_forecast_lines(resolved.config, shape, machine, card, assumed, data),
    ]
    return "\n".join(lines)


def forecast_on(config: Config, gpu: str) -> Forecast:
    """Memory and speed of training on a named card.

    Raises:
        UserError: as `describe_on`.
    """
    card, (shape, _) = gpus.find(gpu), _shape(config)
    section = settings_on(config, gpu)
    tflops = speed_of(card, str(section.precision))
    return forecast(shape, section, memory_gib=_machine(card).memory_gib, tflops=tflops)


def settings_on(config: Config, gpu: str) -> TrainConfig:
    """How a named card would train, with no `auto` left.

    Raises:
        UserError: as `describe_on`.
    """
    machine, (shape, _) = _machine(gpus.find(gpu)), _shape(config)
    return resolve(config, facts_for(machine, shape.context, shape)).config.train


def _machine(card: gpus.Gpu) -> hardware.Hardware:
    return hardware.Hardware("cuda", card.name, card.memory_gib, 0, card.native_bf16, card.capability)


def _speed(card: gpus.Gpu) -> str:
    if card.bf16_tflops:
        return f"{card.bf16_tflops:g} TFLOP/s in bf16"
    return f"no bf16 tensor cores, {card.fp32_tflops:g} TFLOP/s in fp32"


def _shape(config: Config) -> tuple[ModelShape, str]:
    """The model's shape and a note on where it is from; a built-in table stands in for a hub out of reach."""
    try:
        folder = locate_config(config.model)
        shape = read_shape(folder)
    except UserError:
        known = published_shape(config.model.id)
        if known is None:
            raise
        return known, ", from a built-in table, as its config.json cannot be fetched"
    refuse_untrainable_base(config.model.id, folder)
    return shape, ""


def _own_memory(run: Pipeline, machine: hardware.Hardware, assumed: Assumptions) -> list[str]:
    try:
        shape = read_shape(run.base.path)
    except UserError as error:
        return ["memory", f"  not planned: {error.message}"]
    data = _data(run.config, assumed, run.base.path)
    return _forecast_lines(run.config, shape, machine, gpus.recognize(machine), assumed, data)


def _data(config: Config, assumed: Assumptions, model: Path | None) -> Tokens | str:
    """What is trained on, or why that is not known.

    Args:
        config: With the training section resolved.
        assumed: Its tokens come first; rows are then taken to be full, and all of each supervised.
        model: The base's folder; None if there is none here.
    """
    if assumed.tokens:
        return Tokens(max(1, round(assumed.tokens / config.train.max_length)), assumed.tokens, assumed.tokens)
    if model is None or not any(model.glob("tokenizer*")):
        return "unknown, as the data set is found by the model's tokenizer, which is not here; --tokens takes a number"
    try:
        dataset = find_dataset(config, model)
    except UserError as error:
        return f"unknown, as the data set cannot be looked up: {error.message} --tokens takes a number"
    found = training_tokens(dataset) if dataset else None
    return found or "known once the data set is made (tunelift curate); until then --tokens takes a number"


def training_tokens(dataset: Artifact) -> Tokens | None:
    """What the training split holds; None if nothing."""
    split = json.loads((dataset.path / "stats.json").read_text(encoding="utf-8"))["splits"]["train"]
    return Tokens(split["training_rows"], split["tokens"], split["supervised_tokens"]) if split["tokens"] else None


def _forecast_lines(
    config: Config,
    shape: ModelShape,
    machine: hardware.Hardware,
    card: gpus.Gpu | None,
    assumed: Assumptions,
    data: Tokens | str,
) -> list[str]:
    tflops = speed_of(card, str(config.train.precision))
    known, why_not = (None, data) if isinstance(data, str) else (data, "")
    plan = forecast(
        shape,
        config.train,
        memory_gib=machine.memory_gib,
        tflops=tflops,
        mfu=assumed.mfu,
        data=known,
        device=machine.device,
    )
    lines = ["memory while training", *_indented(memory_lines(plan))]
    lines += ["", "time", *_indented(time_lines(plan, assumed.mfu, assumed.price, why_not))]
    if machine.device == "cuda":
        fits = serving_fits(shape, config.engine, machine.memory_gib, config.train.adapter)
        lines += ["", "serving and evaluating", *_indented(serving_lines(fits, int(config.engine.max_model_len)))]
    return lines


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" for line in lines]


def power(run: Pipeline) -> list[str]:
    """For each task: the smallest difference that its items show in 80% of runs, and what it would take to see less."""
    dataset = run.store.find(run.curate_plan())
    tasks = run.tasks(dataset) if dataset else run.folder_tasks
    lines = [_power_of(task.first(run.config.evaluate.max_items)) for task in tasks]
    if not dataset and any(not isinstance(task, str) for task in run.config.evaluate.tasks):
        lines.append("tasks from a split: known once the data set is made (tunelift curate)")
    return lines


def _power_of(task: Task) -> str:
    scorer = task.scorer(task.primary)
    n, groups = len(task.items), [item.cluster for item in task.items]
    distinct_groups = len(set(groups) - {None})
    about = f"{task.name:20} {task.role}, {n} items" + (f" in {distinct_groups} clusters" if distinct_groups else "")
    if not scorer.bounded:
        return f"{about}: {task.primary} has no usual spread, so what it can show is known after the run"
    spread = Spread.assumed(scorer.kind, clusters=groups if distinct_groups else None)
    assumed = f"{spread.value:.0%} of the items differ" if scorer.kind == "binary" else f"deviation {spread.value}"
    if task.role == "guard" and task.margin:
        enough = needed_for_margin(task.margin, spread)
        passes = "passes" if enough <= n else f"would take {enough:,} items to pass"
        return f"{about}: {passes} its margin in 80% of runs if the arms are equal ({assumed})"
    smallest, wanted = minimum_detectable_effect(n, spread), task.effect
    if smallest is None:
        return f"{about}: too few to show any difference in {task.primary}"
    text = f"{about}: {task.primary} ± {100 * smallest:.1f} points (if {assumed})"
    if smallest <= wanted:
        return text
    return f"{text}; {100 * wanted:g} points, as the task wants, take {needed_items(wanted, spread):,} items"


def stages(run: Pipeline) -> dict[str, Artifact | None]:
    """Each cached stage's artifact; none where it, or what it is made from, has to be made."""
    dataset = run.store.find(run.curate_plan())
    adapter = run.store.find(run.train_plan(dataset)) if dataset else None
    model = run.store.find(run.merge_plan(dataset, adapter)) if dataset and adapter else None
    found: dict[str, Artifact | None] = {"curate": dataset, "train": adapter}
    found |= {} if run.unmerged else {"merge": model}
    tuned = adapter if run.unmerged else model
    for arm in run.arms:
        weights = run.answering(arm, tuned)[0] if tuned or arm.model != "tuned" else None
        found[f"evaluate-{arm.name}"] = (
            run.store.find(run.evaluate_plan(arm, weights, dataset)) if dataset and weights else None
        )
    if run.config.judge:
        evaluations = {arm.name: found[f"evaluate-{arm.name}"] for arm in run.arms if arm.name != NOISE_ARM}
        there = {name: made for name, made in evaluations.items() if made}
        found["judge"] = (
            run.store.find(run.judge_plan(run.config.judge, dataset, there))
            if dataset and len(there) == len(evaluations)
            else None
        )
    return found


def disk_needed_gib(run: Pipeline) -> float:
    """Upper bound of what the stages write: the merged model, the adapter, and the checkpoints on the way."""
    train = run.config.train
    adapter_bytes = _trained_parameters(run) * BYTES_FP32
    # Beside the newest are kept the best one and one from before the loss rose; another is written before any goes.
    checkpoints = train.keep_checkpoints + 2 + (train.best.by != "last")
    merged = 0 if run.unmerged else run.base.parameters * BYTES_BF16
    return (merged + adapter_bytes * (1 + ADAM_COPIES * checkpoints)) / 2**30


def _trained_parameters(run: Pipeline) -> int:
    """All that is trained; where the shape is not known, an adapter on every linear layer."""
    train, shape = run.config.train, shape_if_known(run.base.path)
    if shape is None:
        return run.base.linear_dims * train.adapter.rank
    return sum(trained_tensors(training(train, device="cpu"), shape))


def locations(run: Pipeline) -> dict[str, str | None]:
    """Where the run's folder, its artifacts and its report lie; none for what is not there."""

    def there(path: Path) -> str | None:
        return str(path.resolve()) if path.exists() else None

    names = [
        name
        for stage in STAGES
        for name in ([f"evaluate-{arm.name}" for arm in run.arms] if stage == "evaluate" else [stage])
        if name != "judge" or run.config.judge
    ]
    found = {"run": there(run.folder), **{name: there(run.folder / "stages" / name) for name in names}}
    return found | {name: there(run.folder / name) for name in (*REPORT_FILES, "metrics.jsonl")}
