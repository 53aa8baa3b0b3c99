"""The pipeline, top to bottom: what each stage is made from, and in which order. The only file that wires stages.

Each `*_plan` names the parts of a stage's fingerprint; each `make_*` makes what it needs first, then finds or makes
its own artifact. Inputs enter by what they hold, so a stage made again with the same result costs nothing after.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tunelift.artifacts.provenance import environment
from tunelift.artifacts.records import Artifact, digest
from tunelift.artifacts.store import Plan, Store, write_durably, writing
from tunelift.config.load import load_config
from tunelift.config.resolve import Choice, Facts, resolve
from tunelift.config.schema import Arm, Config, SplitTaskConfig, StageName
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import UserError
from tunelift.runtime import console, hardware
from tunelift.runtime.modeling import ModelFacts, inspect
from tunelift.runtime.tracking import Tracker
from tunelift.runtime.worker import run_isolated
from tunelift.stages import curate, evaluate, merge, report, train
from tunelift.tasks.task import Task, distinct, load_task, task_from_split

RUNS = Path("runs")
STAGES: tuple[StageName, ...] = ("curate", "train", "merge", "evaluate", "report")
TOKENIZER_FILES = (
    "tokenizer*",
    "chat_template*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "added_tokens.json",
)


@dataclass
class Run:
    """One config, resolved once, and the artifacts that its stages made or found."""

    config: Config
    choices: tuple[Choice, ...]
    base: ModelFacts
    store: Store
    folder: Path
    forced: frozenset[StageName]
    tracker: Tracker
    made: dict[str, Artifact] = field(default_factory=dict)

    # --- curate: raw rows -> data set ---------------------------------------------------------------------------

    def curate_plan(self) -> Plan:
        section = {
            "curate": self.config.curate.identity(),
            "max_length": self.config.train.max_length,
            "seed": self.config.seed,
        }
        inputs = {
            f"source:{source.path}": curate.source_fingerprint(source, self.store.hashes)
            for source in self.config.curate.sources
        }
        inputs["tokenizer"] = digest(_hash_some(self.base.path, TOKENIZER_FILES, self.store))
        inputs["questions"] = digest(self.questions)
        return Plan("curate", curate.VERSION, section, inputs)

    def make_curate(self) -> Artifact:
        arguments = {
            "config": self.config.curate.model_dump(mode="json"),
            "tokenizer_folder": str(self.base.path),
            "max_length": self.config.train.max_length,
            "questions": self.questions,
            "seed": self.config.seed,
        }
        return self._make(self.curate_plan(), "tunelift.stages.curate:curate", arguments)

    @cached_property
    def folder_tasks(self) -> list[Task]:
        """The tasks that stand in folders of their own."""
        return distinct(load_task(Path(task)) for task in self.config.evaluate.tasks if isinstance(task, str))

    @cached_property
    def questions(self) -> dict[str, list[str]]:
        """What the tasks ask, so that curation can keep it out of the training rows."""
        return {task.name: [item.question for item in task.items] for task in self.folder_tasks}

    # --- train: base, data set -> adapter -----------------------------------------------------------------------

    def train_plan(self, dataset: Artifact) -> Plan:
        section = {"train": self.config.train.identity(), "seed": self.config.seed}
        return Plan("train", train.VERSION, section, {"model": self.base.fingerprint, "dataset": dataset.content})

    def make_train(self) -> Artifact:
        dataset = self.make_curate()
        arguments = {
            "config": self.config.train.model_dump(mode="json"),
            "model": str(self.base.path),
            "dataset": str(dataset.path),
            "seed": self.config.seed,
            "device": hardware.detect().device,
        }
        return self._make(self.train_plan(dataset), "tunelift.stages.train:train", arguments, follow="metrics.jsonl")

    # --- merge: adapter -> model --------------------------------------------------------------------------------

    def merge_plan(self, dataset: Artifact, adapter: Artifact) -> Plan:
        section = {"merge": self.config.merge.identity(), "kind": self.config.train.adapter.kind}
        inputs = {"model": self.base.fingerprint, "adapter": adapter.content, "dataset": dataset.content}
        return Plan("merge", merge.VERSION, section, inputs)

    def make_merge(self) -> Artifact:
        dataset, adapter = self.make_curate(), self.make_train()
        arguments = {
            "config": self.config.merge.model_dump(mode="json"),
            "kind": self.config.train.adapter.kind,
            "model": str(self.base.path),
            "adapter": str(adapter.path),
            "dataset": str(dataset.path),
            "device": hardware.detect().device,
        }
        return self._make(self.merge_plan(dataset, adapter), "tunelift.stages.merge:merge", arguments)

    # --- evaluate: arm, tasks -> evaluation ---------------------------------------------------------------------

    def evaluate_plan(self, arm: Arm, weights: str, dataset: Artifact) -> Plan:
        section = {
            "arm": arm,
            "evaluate": {
                key: value for key, value in self.config.evaluate.identity().items() if key not in {"arms", "tasks"}
            },
            "engine": self.config.engine.identity(),
            "seed": self.config.seed,
        }
        inputs = {"model": weights} | {f"task:{task.name}": task.digest for task in self.tasks(dataset)}
        if arm == "prompted":
            inputs["examples"] = dataset.content
        return Plan("evaluate", evaluate.VERSION, section, inputs)

    def make_evaluate(self) -> dict[Arm, Artifact]:
        """One evaluation an arm; arms on the same weights share one engine, started only if an answer is missing."""
        dataset = self.make_curate()
        self.tasks(dataset)  # A task that cannot be asked is told before hours of training.
        merged = self.make_merge() if "tuned" in self.config.evaluate.arms else None
        evaluations: dict[Arm, Artifact] = {}
        untuned = [arm for arm in self.config.evaluate.arms if arm != "tuned"]
        if untuned:
            with self._engine(self.base.path, "base") as engine:
                for arm in untuned:
                    plan = self.evaluate_plan(arm, self.base.fingerprint, dataset)
                    evaluations[arm] = self._evaluate(arm, plan, dataset, engine, self.base.card())
        if merged:
            card = self.base.card() | {"tuned": self._tuning_note(), "precision": "bfloat16"}
            with self._engine(merged.path, "tuned") as engine:
                plan = self.evaluate_plan("tuned", merged.content, dataset)
                evaluations["tuned"] = self._evaluate("tuned", plan, dataset, engine, card)
        return evaluations

    def _evaluate(self, arm: Arm, plan: Plan, dataset: Artifact, engine: VllmEngine, card: dict[str, Any]) -> Artifact:
        tasks = self.tasks(dataset)
        examples = _read_rows(dataset.path / "train.jsonl") if arm == "prompted" else []

        def build(out: Path) -> dict[str, Any]:
            details = evaluate.evaluate(
                self.config.evaluate,
                arm=arm,
                tasks=tasks,
                examples=examples,
                engine=engine,
                model_card=card,
                seed=self.config.seed,
                out=out,
            )
            self._note_looks(arm, tasks)
            return details

        return self._record(f"evaluate-{arm}", plan, build)

    def tasks(self, dataset: Artifact) -> list[Task]:
        """The tasks in the config's order; those from a split are read from the data set."""
        folders = iter(self.folder_tasks)
        return distinct(
            task_from_split(_read_rows(dataset.path / f"{task.from_split}.jsonl"), task)
            if isinstance(task, SplitTaskConfig)
            else next(folders)
            for task in self.config.evaluate.tasks
        )

    @contextmanager
    def _engine(self, model: Path, name: str) -> Iterator[VllmEngine]:
        with VllmEngine(
            model,
            self.config.engine,
            device=hardware.detect().device,
            seed=self.config.seed,
            served_name=name,
            log=self.folder / "logs" / f"vllm-{name}.log",
        ) as engine:
            yield engine

    def _tuning_note(self) -> str:
        adapter = self.config.train.adapter
        merged_into = "the dequantized 4-bit base it was trained on" if adapter.kind == "qlora" else "the bf16 base"
        return f"{adapter.kind} rank {adapter.rank}, merged into {merged_into}"

    # --- report: evaluations -> report --------------------------------------------------------------------------

    def make_report(self) -> Artifact:
        """Always rebuilt: it costs seconds, and it shows how things stand now."""
        evaluations = self.make_evaluate()
        section = {"report": self.config.report.identity(), "seed": self.config.seed, "name": self.config.name}
        inputs: dict[str, str] = {f"evaluation:{arm}": evaluation.content for arm, evaluation in evaluations.items()}
        plan = Plan("report", report.VERSION, section, inputs)

        def build(out: Path) -> dict[str, Any]:
            return report.report(
                self.config.report,
                name=self.config.name,
                evaluations={str(arm): evaluation.path for arm, evaluation in evaluations.items()},
                dataset=self.made["curate"].path,
                adapter=self.made["train"].path if "train" in self.made else None,
                model=self.made["merge"].path if "merge" in self.made else None,
                lineage=self.lineage(),
                environment=environment(hardware.detect().to_json()),
                command=f"tunelift run {shlex.quote(str(self.folder / 'config.yaml'))}",
                looks=self.looks(),
                seed=self.config.seed,
                out=out,
            )

        artifact = self._record("report", plan, build, force=True)
        for name in ("report.html", "report.md", "comparison.json"):
            (self.folder / name).write_bytes((artifact.path / name).read_bytes())
        self._track_results(artifact, evaluations)
        return artifact

    def lineage(self) -> list[dict[str, Any]]:
        """Each artifact with what it was made from, down to the hashes of the data files and the base model."""
        return [
            {
                "stage": name,
                "fingerprint": artifact.fingerprint,
                "content": artifact.content,
                "path": os.path.relpath(artifact.path, self.folder),
                "seconds": artifact.manifest.seconds,
                "inputs": artifact.manifest.inputs,
            }
            for name, artifact in self.made.items()
        ]

    def _track_results(self, artifact: Artifact, evaluations: dict[Arm, Artifact]) -> None:
        if all(made.found for name, made in self.made.items() if name != "report"):
            return
        comparison = json.loads((artifact.path / "comparison.json").read_text())
        numbers = {
            f"{task}/{metric}/{arm}": values["mean"]
            for task, metrics in comparison["tasks"].items()
            for metric, shown in metrics.items()
            for arm, values in shown["arms"].items()
        }
        self.tracker.summary({**numbers, "verdict": comparison["verdict"]})
        columns = ("arm", "task", "id", "prompt", "expected", "output", "scores")
        rows = [
            [
                sample[key] if isinstance(sample[key], str) else json.dumps(sample[key], ensure_ascii=False)
                for key in columns
            ]
            for evaluation in evaluations.values()
            for sample in _read_rows(evaluation.path / "samples.jsonl")
        ]
        self.tracker.samples("samples", columns, rows)

    # --- what all stages share ----------------------------------------------------------------------------------

    def _make(self, plan: Plan, target: str, arguments: dict[str, Any], follow: str | None = None) -> Artifact:
        """Find or make an artifact by a stage that runs in its own process."""
        if plan.stage in self.made:
            return self.made[plan.stage]

        def build(out: Path) -> dict[str, Any]:
            watch = self.tracker.follow(plan.stage, out / follow) if follow else None
            log = self.folder / "logs" / f"{plan.stage}.log"
            return run_isolated(target, {**arguments, "out": str(out)}, log, watch)

        return self._record(plan.stage, plan, build)

    def _record(self, name: str, plan: Plan, build: Any, *, force: bool = False) -> Artifact:
        """Find or make, say so, and link the artifact into the run's folder."""
        again = self.store.find(plan) is None
        if again:
            console.say(f"{name}: working …")
        artifact = self.store.make(plan, build, force=force or (plan.stage in self.forced and name not in self.made))
        self.made[name] = artifact
        link = self.folder / "stages" / name
        with writing(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            new = link.with_name(f"{name}.{os.getpid()}.tmp")  # Replaced in one step: another run may do so as well.
            new.unlink(missing_ok=True)
            new.symlink_to(os.path.relpath(artifact.path, link.parent))
            new.replace(link)
        how = "found" if artifact.found else f"made in {console.clock(artifact.manifest.seconds)}"
        console.say(f"{name}: {how} → {os.path.relpath(artifact.path)}")
        return artifact

    def _note_looks(self, arm: Arm, tasks: Sequence[Task]) -> None:
        """Remember that test items were looked at: each look is a chance to tune on them."""
        with (self.store.root / "looks.jsonl").open("a", encoding="utf-8") as file:
            for task in tasks:
                file.write(
                    json.dumps({"run": self.folder.name, "arm": arm, "task": task.name, "items": task.digests["items"]})
                    + "\n"
                )

    def looks(self) -> dict[str, int]:
        """How often a tuned arm was evaluated on each task's items, by any run of this store."""
        counts: Counter[str] = Counter()
        path = self.store.root / "looks.jsonl"
        for line in path.read_bytes().splitlines() if path.exists() else []:
            with suppress(ValueError):  # A full disk may have torn a line.
                look = json.loads(line)
                counts[look["task"]] += look["arm"] == "tuned"
        return +counts


def open_run(path: Path, overrides: Sequence[str] = (), forced: Sequence[StageName] = ()) -> Run:
    """Read the config, look at model and machine, resolve, and open the run's folder.

    Raises:
        UserError: anything wrong with the config, its files, or the folder.
    """
    config = load_config(path, overrides)
    machine = hardware.detect()
    store = Store(RUNS / "store", lambda: environment(machine.to_json()))
    with writing(RUNS):
        base = inspect(config.model, store.hashes)
        facts = Facts(device=machine.device, context=base.context, wandb_key=bool(os.environ.get("WANDB_API_KEY")))
        resolved = resolve(config, facts)
        folder = RUNS / f"{config.name}-{digest(resolved.config.identity())[:8]}"
        folder.mkdir(parents=True, exist_ok=True)
        description = resolved.config.model_dump(mode="json")
        write_durably(folder / "config.yaml", _as_yaml(config))
        write_durably(folder / "resolved.json", json.dumps(description, indent=2) + "\n")
    tracker = Tracker(resolved.config.tracking, folder, description)
    return Run(resolved.config, resolved.choices, base, store, folder, frozenset(forced), tracker)


def make(run: Run, through: StageName) -> Artifact | dict[Arm, Artifact]:
    """Make a stage and all it needs."""
    try:
        with writing(run.folder):
            return getattr(run, f"make_{through}")()  # type: ignore[no-any-return]
    finally:
        run.tracker.close(exit_code=1 if sys.exception() else 0)


def _as_yaml(config: Config) -> str:
    import yaml

    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))


def _hash_some(folder: Path, patterns: Sequence[str], store: Store) -> dict[str, str]:
    return {path.name: store.hashes.sha256(path) for pattern in patterns for path in sorted(folder.glob(pattern))}


def _read_rows(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]
    except (OSError, ValueError) as error:
        raise UserError(
            f"The file cannot be read: {error}.", where=str(path), remedy="Run the command again with --force."
        ) from error
