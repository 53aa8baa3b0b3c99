"""The pipeline, top to bottom: what each stage is made from, and in which order. The only file that wires stages.

Each `*_plan` names the parts of a stage's fingerprint; each `make_*` makes what it needs first, then finds or makes
its own artifact. Inputs enter by what they hold, so a stage made again with the same result costs nothing after.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from tunelift.artifacts.looks import count_looks, note_look
from tunelift.artifacts.provenance import environment
from tunelift.artifacts.records import Artifact, digest
from tunelift.artifacts.store import Plan, Store, write_durably, writing
from tunelift.config.evaluation import NOISE_ARM, ArmConfig, JudgeConfig, SplitTaskConfig
from tunelift.config.load import load_config
from tunelift.config.resolve import resolve
from tunelift.config.schema import Config, StageName
from tunelift.config.section import ModelConfig
from tunelift.engines.endpoint import Endpoint, read_key
from tunelift.engines.protocol import Engine
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import UserError
from tunelift.facts import facts_for, refuse_untrainable, shape_if_known
from tunelift.runs import RUNS, Run, as_yaml, hash_some, read_rows
from tunelift.runtime import hardware
from tunelift.runtime.modeling import ModelFacts, inspect, inspect_base
from tunelift.runtime.template import pinned_template
from tunelift.runtime.tracking import Tracker
from tunelift.stages import curate, evaluate, judge, merge, report, train
from tunelift.tasks.scorers import VERSION as SCORERS_VERSION
from tunelift.tasks.task import Task, distinct, load_task, task_from_split

STAGES: tuple[StageName, ...] = ("curate", "train", "merge", "evaluate", "judge", "report")
REPORT_FILES = ("report.html", "report.md", "gate.md", "comparison.json")
TOKENIZER_FILES = (
    "tokenizer*",
    "chat_template*",
    "additional_chat_templates/*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "added_tokens.json",
)


class Pipeline(Run):
    """The stages of one run."""

    # --- curate: raw rows -> data set ---------------------------------------------------------------------------

    def curate_plan(self) -> Plan:
        return curate_plan(self.config, self.base.path, self.store, self.questions, self.template)

    def make_curate(self) -> Artifact:
        arguments = {
            "config": self.config.curate.model_dump(mode="json"),
            "tokenizer_folder": str(self.base.path),
            "max_length": self.config.train.max_length,
            "max_truncated_ratio": self.config.train.max_truncated_ratio,
            "questions": self.questions,
            "seed": self.config.seed,
            **_vocabulary(self.config),
            "template": self.template,
        }
        return self.isolated(self.curate_plan(), "tunelift.stages.curate:curate", arguments, needs_torch=False)

    def curated(self) -> Artifact:
        """The data set, which must be there.

        Raises:
            UserError: it is not made yet, or its files have changed since.
        """
        dataset = self.store.find(self.curate_plan())
        if dataset is None:
            raise UserError(
                "The run has no data set yet.",
                where=str(self.folder),
                remedy="Run `tunelift curate` with the same config.",
            )
        return dataset

    @cached_property
    def folder_tasks(self) -> list[Task]:
        """The tasks that stand in folders of their own."""
        return _folder_tasks(self.config)

    @cached_property
    def questions(self) -> dict[str, list[str]]:
        """What the tasks ask, so that curation can keep it out of the training rows."""
        return _questions(self.folder_tasks)

    @cached_property
    def template(self) -> str | None:
        """The base's chat template with its arguments and date pinned; None where nothing needs a pin."""
        return pinned_template(self.base.path, self.config.model)

    def _template_input(self) -> dict[str, str]:
        return _template_input(self.template)

    # --- train: base, data set -> adapter -----------------------------------------------------------------------

    def train_plan(self, dataset: Artifact) -> Plan:
        section: dict[str, Any] = {"train": self.config.train.identity(), "seed": self.config.seed}
        if self.config.train.best.by not in {"last", "eval_loss"}:
            section["scorers"] = SCORERS_VERSION  # Another score would choose another step.
        inputs = {"model": self.base.fingerprint, "dataset": dataset.content}
        return Plan("train", train.VERSION, section, inputs | self._template_input())

    def check_trainable(self) -> None:
        """Hold that this machine can train, unless the adapter is there, which then serves on any.

        Raises:
            UserError: training needs what this machine has not.
        """
        try:
            refuse_untrainable(self.config.train, hardware.detect().device)
        except UserError:
            if not self._has_adapter():
                raise

    def _has_adapter(self) -> bool:
        if "train" in self.made or "train" in self.forced:
            return "train" in self.made
        dataset = self.made.get("curate") or self.store.find(self.curate_plan())
        return dataset is not None and self.store.find(self.train_plan(dataset)) is not None

    def make_train(self) -> Artifact:
        self.check_trainable()
        dataset = self.make_curate()
        self.check_trainable()  # Curated again, the data may have become other data.
        arguments = {
            "config": self.config.train.model_dump(mode="json"),
            "model": str(self.base.path),
            "dataset": str(dataset.path),
            "seed": self.config.seed,
            "device": hardware.detect().device,
            "template": self.template,
        }
        plan, target = self.train_plan(dataset), "tunelift.stages.train:train"
        return self.isolated(
            plan,
            target,
            arguments,
            follow="metrics.jsonl",
            samples="samples.jsonl",
            saves_within_seconds=train.STEP_SECONDS,
        )

    # --- merge: adapter -> model --------------------------------------------------------------------------------

    def merge_plan(self, dataset: Artifact, adapter: Artifact) -> Plan:
        trained = self.config.train
        section = {
            "merge": self.config.merge.identity(),
            "kind": trained.adapter.kind,
            "precision": trained.precision,
            **_vocabulary(self.config),
        }
        inputs = {"model": self.base.fingerprint, "adapter": adapter.content, "dataset": dataset.content}
        return Plan("merge", merge.VERSION, section, inputs | self._template_input())

    def make_merge(self) -> Artifact:
        adapter, dataset = self.make_train(), self.make_curate()
        arguments = {
            "config": self.config.merge.model_dump(mode="json"),
            "kind": self.config.train.adapter.kind,
            "precision": self.config.train.precision,
            "model": str(self.base.path),
            "adapter": str(adapter.path),
            "dataset": str(dataset.path),
            "device": hardware.detect().device,
        }
        return self.isolated(self.merge_plan(dataset, adapter), "tunelift.stages.merge:merge", arguments)

    # --- evaluate: arm, tasks -> evaluation ---------------------------------------------------------------------

    @cached_property
    def arms(self) -> tuple[ArmConfig, ...]:
        """The arms with what their names stand for filled in."""
        return self.config.evaluate.resolved_arms()

    def evaluate_plan(self, arm: ArmConfig, weights: str, dataset: Artifact) -> Plan:
        whole = self.config.evaluate.identity()
        section = {
            "arm": arm.identity(),
            "evaluate": {key: whole[key] for key in whole if key not in {"arms", "tasks", "few_shot", "noise_floor"}},
            "engine": None if arm.endpoint else self.config.engine.identity(),
            "seed": self.config.seed,
        }
        asked = [task for task in self.tasks(dataset) if evaluate.is_asked(arm, task)]
        inputs = {"model": weights} | self._template_input_of(arm)
        inputs |= {f"task:{task.name}": task.digest for task in asked}
        if arm.few_shot or arm.search:
            inputs["examples"] = dataset.content
        if arm.search and (selection := self._selection(arm, dataset)):
            inputs["selection"] = selection.digest
        return Plan("evaluate", evaluate.VERSION, section, inputs)

    def make_evaluate(self) -> dict[str, Artifact]:
        """One evaluation an arm; arms on the same weights share one engine, started only if an answer is missing."""
        needs_tuned = any(arm.model == "tuned" for arm in self.arms)
        if needs_tuned:
            self.check_trainable()
        dataset = self.make_curate()
        # What cannot be asked, claimed or judged, or a key that is not set, is told before hours of training.
        tasks = self.tasks(dataset)
        report.check_declared(self.config.gate, tasks, self.arms)
        if self.config.judge:
            judge.check(self.config.judge, tasks, [arm.name for arm in self.arms if arm.name != NOISE_ARM])
        for arm in self.arms:
            evaluate.check_askable(arm, tasks, self._selection(arm, dataset), has_tokenizer=arm.endpoint is None)
        for endpoint in (*(arm.endpoint for arm in self.arms), self.config.judge and self.config.judge.endpoint):
            if endpoint:
                read_key(endpoint)
        endpoints = {arm.name: Endpoint(arm.endpoint) for arm in self.arms if arm.endpoint}
        tuned = self.make_merge() if needs_tuned else None
        made: dict[str, Artifact] = {}
        for weights in dict.fromkeys(self._weights_of(arm) for arm in self.arms):
            arms = [arm for arm in self.arms if self._weights_of(arm) == weights]
            fingerprint, folder, card = self.answering(arms[0], tuned)
            with endpoints.get(arms[0].name) or self._engine(folder or self.base.path, arms[0]) as engine:
                for arm in arms:
                    made[arm.name] = self._evaluate(arm, fingerprint, folder, card, dataset, engine)
        return {arm.name: made[arm.name] for arm in self.arms}

    @staticmethod
    def _weights_of(arm: ArmConfig) -> str:
        return digest(
            arm.endpoint.identity()
            if arm.endpoint
            else arm.model
            if arm.model in ("base", "tuned")
            else arm.identity()["model"]
        )

    def answering(self, arm: ArmConfig, tuned: Artifact | None) -> tuple[str, Path | None, dict[str, Any]]:
        """The weights' fingerprint, their folder if they lie here, and how they are described."""
        if arm.endpoint:
            return digest(arm.endpoint.identity()), None, {"id": arm.endpoint.model, "endpoint": arm.endpoint.url}
        if arm.model == "tuned":
            assert tuned is not None
            card = self.base.card() | {"tuned": self._tuning_note(), "precision": "bfloat16"}
            return tuned.content, tuned.path, card
        facts = self.base if arm.model == "base" else self.others[arm.name]
        return facts.fingerprint, facts.path, facts.card()

    def template_of(self, arm: ArmConfig) -> str | None:
        """The pinned chat template of an arm's model; None where its folder's own holds, as the tuned model's does."""
        if isinstance(arm.model, ModelConfig):
            return self._templates[arm.name]
        return self.template if arm.model == "base" and not arm.endpoint else None

    @cached_property
    def _templates(self) -> dict[str, str | None]:
        """Of the arms in `others`; read once, so that what was asked with is what the evaluation is filed under."""
        return {
            arm.name: pinned_template(self.others[arm.name].path, arm.model)
            for arm in self.arms
            if isinstance(arm.model, ModelConfig)
        }

    def _template_input_of(self, arm: ArmConfig) -> dict[str, str]:
        """What the tuned model's pin was is part of how it was made, though it lies in its own folder now."""
        if arm.endpoint:
            return {}
        own = isinstance(arm.model, ModelConfig)
        return _template_input(self.template_of(arm)) if own else self._template_input()

    @cached_property
    def others(self) -> dict[str, ModelFacts]:
        """The models of arms that this run neither starts from nor makes."""
        return {
            arm.name: inspect(arm.model, self.store.hashes) for arm in self.arms if isinstance(arm.model, ModelConfig)
        }

    def _evaluate(
        self,
        arm: ArmConfig,
        weights: str,
        folder: Path | None,
        card: dict[str, Any],
        dataset: Artifact,
        engine: Engine,
    ) -> Artifact:
        tasks = self.tasks(dataset)

        def build(out: Path) -> dict[str, Any]:
            details = evaluate.evaluate(
                self.config.evaluate,
                arm=arm,
                tasks=tasks,
                examples=read_rows(dataset.path / "train.jsonl") if arm.few_shot or arm.search else [],
                engine=engine,
                tokenizer=folder,
                template=self.template_of(arm),
                model_card=card,
                seed=self.config.seed,
                out=out,
                selection=self._selection(arm, dataset),
            )
            items = self._items_asked([task for task in tasks if evaluate.is_asked(arm, task)])
            note_look(self.store.root, run=self.folder.name, arm=arm.name, tuned=arm.model == "tuned", items=items)
            return details

        return self.record(f"evaluate-{arm.name}", self.evaluate_plan(arm, weights, dataset), build)

    @cached_property
    def _tasks(self) -> dict[str, list[Task]]:
        """By a data set's content: reading a split and hashing its items is worth doing once."""
        return {}

    def tasks(self, dataset: Artifact) -> list[Task]:
        """The tasks in the config's order; those from a split are read from the data set."""
        if dataset.content not in self._tasks:
            folders = iter(self.folder_tasks)
            self._tasks[dataset.content] = distinct(
                task_from_split(read_rows(dataset.path / f"{task.from_split}.jsonl"), task)
                if isinstance(task, SplitTaskConfig)
                else next(folders)
                for task in self.config.evaluate.tasks
            )
        return self._tasks[dataset.content]

    def _items_asked(self, tasks: Sequence[Task]) -> dict[str, str]:
        """By task, the digest of the items that an arm is asked."""
        most = self.config.evaluate.max_items
        return {task.name: task.first(most).digests["items"] for task in tasks}

    def _selection(self, arm: ArmConfig, dataset: Artifact) -> Task | None:
        """The task on which an arm's prompt is chosen; no claim rests on it.

        The validation split is asked and judged as the first target is. Its rows keep their own system messages, unless
        that target has one instruction for all of its items.
        """
        if arm.search is None:
            return None
        if arm.search.on != "validation":
            return load_task(Path(arm.search.on))
        pairs = zip(self.config.evaluate.tasks, self.tasks(dataset), strict=True)
        first = next((pair for pair in pairs if pair[1].role == "target" and pair[1].kind == "generate"), None)
        rows = read_rows(dataset.path / "validation.jsonl")
        if first is None:
            return task_from_split(rows, SplitTaskConfig(from_split="validation"))
        source, target = first
        instruction = source.instruction if isinstance(source, SplitTaskConfig) else target.shared_instruction
        asked = SplitTaskConfig(from_split="validation", instruction=instruction, max_tokens=target.max_tokens)
        return task_from_split(rows, asked, like=target)

    @contextmanager
    def _engine(self, model: Path, arm: ArmConfig) -> Iterator[VllmEngine]:
        name, template, file = arm.name, self.template_of(arm), None
        if template is not None:
            file = self.folder / f"chat_template-{name}.jinja"
            write_durably(file, template)
        with VllmEngine(
            model,
            self.config.engine,
            device=hardware.detect().device,
            seed=self.config.seed,
            served_name=name,
            log=self.folder / "logs" / f"vllm-{name}.log",
            template=file,
        ) as engine:
            yield engine

    def _tuning_note(self) -> str:
        adapter = self.config.train.adapter
        merged_into = "the dequantized 4-bit base it was trained on" if adapter.kind == "qlora" else "the bf16 base"
        kind = " ".join(name for name, used in (("DoRA", adapter.dora), ("rsLoRA", adapter.rslora)) if used)
        return f"{adapter.kind}{kind and ' with '}{kind} rank {adapter.rank}, merged into {merged_into}"

    # --- judge: evaluations -> judgements -----------------------------------------------------------------------

    def judge_plan(self, config: JudgeConfig, dataset: Artifact, evaluations: Mapping[str, Artifact]) -> Plan:
        section = {"judge": config.identity(), "focus": self.config.evaluate.focus, "seed": self.config.seed}
        inputs = {f"evaluation:{arm}": evaluation.content for arm, evaluation in evaluations.items()}
        inputs |= {f"task:{task.name}": task.digest for task in self.tasks(dataset)}
        inputs["calibration"] = judge.calibration_fingerprint(config, self.store.hashes)
        return Plan("judge", judge.VERSION, section, inputs)

    def make_judge(self) -> Artifact:
        config = self.config.judge
        if config is None:
            raise UserError(
                "The config has no section `judge`.",
                remedy="Write judge: {endpoint: …, rubric: …, calibration: …}; docs/judging.md shows how.",
            )
        endpoint = Endpoint(config.endpoint)
        evaluations = {arm: made for arm, made in self.make_evaluate().items() if arm != NOISE_ARM}
        dataset = self.made["curate"]
        tasks = self.tasks(dataset)

        def build(out: Path) -> dict[str, Any]:
            return judge.judge(
                config,
                evaluations={arm: made.path for arm, made in evaluations.items()},
                tasks=tasks,
                focus=self.config.evaluate.focus,
                endpoint=endpoint,
                seed=self.config.seed,
                out=out,
            )

        return self.record("judge", self.judge_plan(config, dataset, evaluations), build)

    # --- report: evaluations -> report --------------------------------------------------------------------------

    def make_report(self) -> Artifact:
        """Always rebuilt: it costs seconds, and it shows how things stand now."""
        evaluations = self.make_evaluate()
        judgements = self.make_judge() if self.config.judge else None
        section = {
            "report": self.config.report.identity(),
            "gate": self.config.gate.identity() if self.config.gate else None,
            "seed": self.config.seed,
            "name": self.config.name,
        }
        inputs: dict[str, str] = {f"evaluation:{arm}": evaluation.content for arm, evaluation in evaluations.items()}
        if judgements:
            inputs["judge"] = judgements.content
        plan = Plan("report", report.VERSION, section, inputs)

        def build(out: Path) -> dict[str, Any]:
            return report.report(
                self.config.report,
                name=self.config.name,
                focus=self.config.evaluate.focus,
                noise_arm=NOISE_ARM if self.config.evaluate.noise_floor else None,
                weights={arm.name: arm.weights for arm in self.arms},
                evaluations={arm: evaluation.path for arm, evaluation in evaluations.items()},
                gate=self.config.gate,
                judge=judgements.path if judgements else None,
                dataset=self.made["curate"].path,
                adapter=self.made["train"].path if "train" in self.made else None,
                model=self.made["merge"].path if "merge" in self.made else None,
                lineage=self.lineage(),
                environment=environment(hardware.detect().to_json()),
                command=f"tunelift run {shlex.quote(str(self.folder / 'config.yaml'))}",
                looks=count_looks(self.store.root, self._items_asked(self.tasks(self.made["curate"]))),
                training_seconds=self._training_seconds(),
                prices={arm.name: arm.endpoint for arm in self.arms if arm.endpoint},
                seed=self.config.seed,
                out=out,
            )

        artifact = self.record("report", plan, build, force=True)
        for name in REPORT_FILES:
            (self.folder / name).write_bytes((artifact.path / name).read_bytes())
        self.tracker.results(artifact.path, {arm: made.path for arm, made in evaluations.items()}, self.lineage())
        return artifact

    def _training_seconds(self) -> float | None:
        """What making the tuned model took, whenever it was made."""
        made = [self.made[name].manifest.seconds for name in ("train", "merge") if name in self.made]
        return sum(made) if made else None


def curate_plan(
    config: Config, model: Path, store: Store, questions: Mapping[str, Sequence[str]], template: str | None
) -> Plan:
    """What the data set is made from; of the model that is its tokenizer and its chat template."""
    section = {
        "curate": config.curate.identity(),
        "max_length": config.train.max_length,
        "max_truncated_ratio": config.train.max_truncated_ratio,
        "seed": config.seed,
        **_vocabulary(config),
    }
    inputs = {
        f"source:{source.path}": curate.source_fingerprint(source, store.hashes) for source in config.curate.sources
    }
    inputs["tokenizer"] = digest(hash_some(model, TOKENIZER_FILES, store))
    inputs |= _template_input(template)
    inputs["questions"] = digest(questions)
    if schema := config.curate.clean.reply_schema:
        inputs["reply_schema"] = curate.schema_fingerprint(Path(schema))
    return Plan("curate", curate.VERSION, section, inputs)


def find_dataset(config: Config, model: Path) -> Artifact | None:
    """The data set that was made by this config, on whatever machine it is planned for.

    Args:
        config: Resolved or not.
        model: The base's folder; its tokenizer's files are enough.

    Raises:
        UserError: a source, a task or a template that is not there.
    """
    store = Store(RUNS / "store", dict)
    questions, template = _questions(_folder_tasks(config)), pinned_template(model, config.model)
    return store.find(curate_plan(config, model, store, questions, template))


def _vocabulary(config: Config) -> dict[str, Any]:
    """The tokens that training adds, where there are any: they change how rows are counted and answers written."""
    added = config.train.added_tokens
    return {"added_tokens": list(added)} if added else {}


def _template_input(template: str | None) -> dict[str, str]:
    return {"template": digest(template)} if template is not None else {}


def _folder_tasks(config: Config) -> list[Task]:
    return distinct(load_task(Path(task)) for task in config.evaluate.tasks if isinstance(task, str))


def _questions(tasks: Sequence[Task]) -> dict[str, list[str]]:
    return {task.name: [item.held_out for item in task.items] for task in tasks}


def open_run(path: Path, overrides: Sequence[str] = (), forced: Sequence[StageName] = ()) -> Pipeline:
    """Read the config, look at model and machine, resolve, and open the run's folder.

    Raises:
        UserError: anything wrong with the config, its files, or the folder.
    """
    config = load_config(path, overrides)
    machine = hardware.detect()
    store = Store(RUNS / "store", lambda: environment(machine.to_json()))
    with writing(RUNS):
        base = inspect_base(config.model, store.hashes)
        resolved = resolve(config, facts_for(machine, base.context, shape_if_known(base.path)))
        folder = RUNS / f"{config.name}-{digest(resolved.config.identity())[:8]}"
        folder.mkdir(parents=True, exist_ok=True)
        description = resolved.config.model_dump(mode="json")
        write_durably(folder / "config.yaml", as_yaml(config))
        write_durably(folder / "resolved.json", json.dumps(description, indent=2) + "\n")
    tracker = Tracker(resolved.config.tracking, folder, description)
    return Pipeline(resolved.config, resolved.choices, base, store, folder, frozenset(forced), tracker)


def make(run: Pipeline, through: StageName) -> Artifact | dict[str, Artifact]:
    """Make a stage and all it needs."""
    try:
        with writing(run.folder):
            made: Artifact | dict[str, Artifact] = getattr(run, f"make_{through}")()
            run.done()
            return made
    finally:
        run.tracker.close(exit_code=1 if sys.exception() else 0)
