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
from pathlib import Path
from typing import Any, Literal

from tunelift.arms import Arms, asked_items, folder_tasks_of, questions_of, template_input, weights_of
from tunelift.artifacts.looks import count_looks, note_look
from tunelift.artifacts.provenance import environment
from tunelift.artifacts.records import Artifact, digest
from tunelift.artifacts.store import Plan, Store, write_durably, writing
from tunelift.checks import check_evaluable, check_keys, selection_ahead, tasks_ahead
from tunelift.config.evaluation import NOISE_ARM, ArmConfig, JudgeConfig
from tunelift.config.load import load_config
from tunelift.config.resolve import resolve
from tunelift.config.schema import Config, StageName
from tunelift.config.section import ModelConfig
from tunelift.engines.endpoint import Endpoint
from tunelift.engines.protocol import Engine
from tunelift.engines.rendering import check_rendering, prompts_of
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import UserError
from tunelift.facts import facts_for, merge_device, refuse_unservable, refuse_untrainable, shape_if_known
from tunelift.runs import RUNS, as_yaml, hash_some, read_rows
from tunelift.runtime import console, hardware
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.modeling import inspect_base
from tunelift.runtime.template import pinned_template
from tunelift.runtime.tracking import Tracker
from tunelift.stages import curate, evaluate, judge, merge, report, train
from tunelift.tasks.scorers import VERSION as SCORERS_VERSION
from tunelift.tasks.task import Task

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


class Pipeline(Arms):
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
        plan = self.curate_plan()
        dataset = self.store.find(plan)
        if dataset is None:
            damage = self.store.damage(plan)
            raise UserError(
                f"The run's data set is damaged: {damage}." if damage else "The run has no data set yet.",
                where=str(self.store.folder(plan) if damage else self.folder),
                remedy="Run `tunelift curate` with the same config" + ("; it makes it again." if damage else "."),
            )
        return dataset

    # --- train: base, data set -> adapter -----------------------------------------------------------------------

    def train_plan(self, dataset: Artifact) -> Plan:
        section: dict[str, Any] = {"train": self.config.train.identity(), "seed": self.config.seed}
        if any(choice.field == "train.precision" for choice in self.choices):
            section["train"]["precision"] = "auto"  # So another machine finds the adapter, which says what it became.
        if self.config.train.best.by not in {"last", "eval_loss"}:
            section["scorers"] = SCORERS_VERSION  # Another score would choose another step.
        inputs = {"model": self.base.fingerprint, "dataset": dataset.content}
        return Plan("train", train.VERSION, section, inputs | template_input(self.template))

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
            "precision": adapter.manifest.details["precision"],
            **_vocabulary(self.config),
        }
        inputs = {"model": self.base.fingerprint, "adapter": adapter.content, "dataset": dataset.content}
        return Plan("merge", merge.VERSION, section, inputs | template_input(self.template))

    def make_merge(self) -> Artifact:
        if not self._has_adapter():
            merge_device(hardware.detect(), self.base.parameters)  # Told before training that it cannot be done.
        adapter, dataset = self.make_train(), self.make_curate()
        plan = self.merge_plan(dataset, adapter)
        machine = hardware.detect()
        device = machine.device if self.store.find(plan) else merge_device(machine, self.base.parameters)
        if device != machine.device:
            console.say(f"merge: on the CPU, since the model in bf16 is too large for {machine.name}")
        arguments = {
            "config": self.config.merge.model_dump(mode="json"),
            "kind": self.config.train.adapter.kind,
            "precision": adapter.manifest.details["precision"],
            "model": str(self.base.path),
            "adapter": str(adapter.path),
            "dataset": str(dataset.path),
            "device": device,
        }
        return self.isolated(plan, "tunelift.stages.merge:merge", arguments)

    def make_tuned(self) -> Artifact:
        """What the tuned model is served from: the merged model, or the adapter if that is served unmerged."""
        return self.make_train() if self.unmerged else self.make_merge()

    # --- evaluate: arm, tasks -> evaluation ---------------------------------------------------------------------

    def evaluate_plan(self, arm: ArmConfig, weights: str, dataset: Artifact) -> Plan:
        whole = self.config.evaluate.identity()
        section = {
            "arm": arm.identity(),
            "evaluate": {key: whole[key] for key in whole if key not in {"arms", "tasks", "few_shot", "noise_floor"}},
            "engine": None if arm.endpoint else self.config.engine.identity() | self.form_of(arm),
            "seed": self.config.seed,
        }
        asked = [task for task in self.tasks(dataset) if evaluate.is_asked(arm, task)]
        inputs = {"model": weights} | self.template_input_of(arm)
        inputs |= {f"task:{task.name}": task.digest for task in asked}
        if arm.few_shot or arm.search:
            inputs["examples"] = dataset.content
        if arm.search and (selection := self.selection(arm, dataset)):
            inputs["selection"] = selection.digest
        return Plan("evaluate", evaluate.VERSION, section, inputs)

    def make_evaluate(self) -> dict[str, Artifact]:
        """One evaluation an arm; arms on the same weights share one engine, started only if an answer is missing.

        The tuned model's come last: what is wrong with the engine or the machine is then told before training.
        """
        needs_tuned = any(arm.model == "tuned" for arm in self.arms)
        if needs_tuned:
            self.check_trainable()
        check_evaluable(self.config, tasks_ahead(self.config, self.folder_tasks), selection_ahead)
        check_keys(self.config)
        if needs_tuned and not self._has_adapter():
            self._refuse_what_will_not_fit()
        dataset = self.make_curate()
        check_evaluable(self.config, self.tasks(dataset), lambda arm: self.selection(arm, dataset))
        for arm in self.arms:
            self.template_of(arm)  # A switch of it that is no true or false is told before hours of training.
        endpoints = {arm.name: Endpoint(arm.endpoint) for arm in self.arms if arm.endpoint}
        made: dict[str, Artifact] = {}
        groups = dict.fromkeys(weights_of(arm) for arm in sorted(self.arms, key=lambda arm: arm.model == "tuned"))
        for weights in groups:
            arms = [arm for arm in self.arms if weights_of(arm) == weights]
            is_tuned = arms[0].model == "tuned" and not arms[0].endpoint
            if is_tuned and all(arm.model == "tuned" or arm.endpoint for arm in self.arms):
                self._try_engine()
            tuned = self.make_tuned() if is_tuned else None
            fingerprint, folder, card = self.answering(arms[0], tuned)
            with endpoints.get(arms[0].name) or self._engine(arms[0], tuned) as engine:
                for arm in arms:
                    made[arm.name] = self._evaluate(arm, fingerprint, folder, card, dataset, engine)
        return {arm.name: made[arm.name] for arm in self.arms}

    def _refuse_what_will_not_fit(self) -> None:
        machine = hardware.detect()
        refuse_unservable(self.config, machine, self.base.parameters, shape_if_known(self.base.path))
        if not self.unmerged:
            merge_device(machine, self.base.parameters)

    def _try_engine(self) -> None:
        """Start the engine once on the base, before training, where no arm has asked it."""
        if self._has_adapter():
            return
        with self._engine(ArmConfig(name="trial", model="base"), None) as engine:
            engine.start()

    def _evaluate(
        self,
        arm: ArmConfig,
        weights: str,
        folder: Path | None,
        card: dict[str, Any],
        dataset: Artifact,
        engine: Engine,
    ) -> Artifact:
        tasks, plan = self.tasks(dataset), self.evaluate_plan(arm, weights, dataset)

        def note(task: Task) -> None:
            """At a task's first answer, so that an evaluation that is killed, or never reported, counts."""
            note_look(
                self.store.root,
                run=self.folder.name,
                arm=arm.name,
                tuned=arm.model == "tuned",
                evaluation=plan.fingerprint,
                task=task.name,
                items=asked_items(task),
            )

        def build(out: Path) -> dict[str, Any]:
            return evaluate.evaluate(
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
                selection=self.selection(arm, dataset),
                note_look=note,
            )

        return self.record(f"evaluate-{arm.name}", plan, build)

    @contextmanager
    def _engine(self, arm: ArmConfig, tuned: Artifact | None) -> Iterator[VllmEngine]:
        name, template, file = arm.name, self.template_of(arm), None
        is_other = isinstance(arm.model, ModelConfig)
        model = self.others[name].path if is_other else self.base.path
        if tuned is not None and not self.unmerged:
            model = tuned.path
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
            adapter=tuned.path / "adapter" if tuned is not None and self.unmerged else None,
            in_4_bits=self.in_4_bits and not is_other,
        ) as engine:
            yield engine

    # --- serve: model -> endpoint -------------------------------------------------------------------------------

    def check_served(self, model: Artifact, engine: Engine) -> None:
        """Hold that a started server of the tuned model reads held-out rows as training does.

        Raises:
            GateError: it does not.
        """
        rows = [
            row for split in ("test", "validation") for row in read_rows(self.made["curate"].path / f"{split}.jsonl")
        ]
        folder = model.path / "adapter" if self.unmerged else model.path
        check_rendering(engine, load_tokenizer(folder), prompts_of(rows))

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
                looks=count_looks(self.store.root, self.items_asked(self.tasks(self.made["curate"]))),
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
    inputs |= template_input(template)
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
    questions, template = questions_of(folder_tasks_of(config)), pinned_template(model, config.model)
    return store.find(curate_plan(config, model, store, questions, template))


def _vocabulary(config: Config) -> dict[str, Any]:
    """The tokens that training adds, where there are any: they change how rows are counted and answers written."""
    added = config.train.added_tokens
    return {"added_tokens": list(added)} if added else {}


def open_run(
    path: Path, overrides: Sequence[str] = (), forced: Sequence[StageName] = (), *, weights: bool = True
) -> Pipeline:
    """Read the config, look at model and machine, resolve, and open the run's folder.

    Without `weights`, hub models are fetched without theirs: enough to look at the run, not to run a stage.

    Raises:
        UserError: anything wrong with the config, its files, or the folder.
    """
    config = load_config(path, overrides)
    machine = hardware.detect()
    store = Store(RUNS / "store", lambda: environment(machine.to_json()))
    with writing(RUNS):
        base = inspect_base(config.model, store.hashes, weights=weights)
        resolved = resolve(config, facts_for(machine, base.context, shape_if_known(base.path)))
        folder = RUNS / f"{config.name}-{digest(resolved.config.identity())[:8]}"
        folder.mkdir(parents=True, exist_ok=True)
        description = resolved.config.model_dump(mode="json")
        write_durably(folder / "config.yaml", as_yaml(config))
        write_durably(folder / "resolved.json", json.dumps(description, indent=2) + "\n")
    tracker = Tracker(resolved.config.tracking, folder, description)
    return Pipeline(resolved.config, resolved.choices, base, store, folder, frozenset(forced), tracker, weights)


def make(run: Pipeline, through: StageName | Literal["tuned"]) -> Artifact | dict[str, Artifact]:
    """Make a stage, or what the tuned model is served from, and all it needs."""
    if through != "curate":
        hardware.refuse_broken_gpu()
        if note := hardware.detect().idle_note:
            console.say(note)
    try:
        with writing(run.folder):
            made: Artifact | dict[str, Artifact] = getattr(run, f"make_{through}")()
            run.done()
            return made
    finally:
        run.tracker.close(exit_code=1 if sys.exception() else 0)
