"""Who is asked what: the arms of a run, the weights and the chat template behind each, and the tasks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from tunelift.artifacts.looks import AskedItems
from tunelift.artifacts.records import Artifact, digest
from tunelift.config.evaluation import ArmConfig, SplitTaskConfig
from tunelift.config.schema import Config
from tunelift.config.section import ModelConfig
from tunelift.facts import in_4_bits
from tunelift.runs import Run, read_rows
from tunelift.runtime.modeling import ModelFacts, inspect
from tunelift.runtime.template import pinned_template
from tunelift.tasks.task import Task, distinct, load_task, task_from_split


class Arms(Run):
    """A run's arms and tasks."""

    @cached_property
    def arms(self) -> tuple[ArmConfig, ...]:
        """The arms with what their names stand for filled in."""
        return self.config.evaluate.resolved_arms()

    @cached_property
    def others(self) -> dict[str, ModelFacts]:
        """The models of arms that this run neither starts from nor makes."""
        return {
            arm.name: inspect(arm.model, self.store.hashes, weights=self.with_weights)
            for arm in self.arms
            if isinstance(arm.model, ModelConfig)
        }

    @property
    def unmerged(self) -> bool:
        """The tuned model is served as base and adapter, so nothing is merged."""
        return self.config.serve.mode == "adapter"

    @property
    def in_4_bits(self) -> bool:
        """The engine holds the base in 4 bits, for its own arms and beside the adapter."""
        return in_4_bits(self.config)

    def answering(self, arm: ArmConfig, tuned: Artifact | None) -> tuple[str, Path | None, dict[str, Any]]:
        """The weights' fingerprint, the folder of their tokenizer if it lies here, and how they are described.

        Args:
            tuned: The merged model, or the adapter if that is served unmerged.
        """
        if arm.endpoint:
            return digest(arm.endpoint.identity()), None, {"id": arm.endpoint.model, "endpoint": arm.endpoint.url}
        if arm.model == "tuned":
            assert tuned is not None
            card = self.base.card() | {"tuned": self._tuning_note()}
            if self.unmerged:
                both = {"base": self.base.fingerprint, "adapter": tuned.content}
                return digest(both), tuned.path / "adapter", card | self._served_precision()
            return tuned.content, tuned.path, card | {"precision": "bfloat16"}
        if arm.model == "base":
            return self.base.fingerprint, self.base.path, self.base.card() | self._served_precision()
        facts = self.others[arm.name]
        return facts.fingerprint, facts.path, facts.card()

    def _served_precision(self) -> dict[str, str]:
        return {"precision": "nf4"} if self.in_4_bits else {}

    def form_of(self, arm: ArmConfig) -> dict[str, str]:
        """What changes answers in how an arm's weights are held; nothing where they are as their files have them."""
        return self._served_precision() if arm.model in ("base", "tuned") and not arm.endpoint else {}

    def _tuning_note(self) -> str:
        adapter = self.config.train.adapter
        base = "4-bit base" if adapter.kind == "qlora" else "bf16 base"
        merged_into = f"the {'dequantized ' * (adapter.kind == 'qlora')}{base} it was trained on"
        where = f"beside the {base}" if self.unmerged else f"merged into {merged_into}"
        kind = " ".join(name for name, used in (("DoRA", adapter.dora), ("rsLoRA", adapter.rslora)) if used)
        return f"{adapter.kind}{kind and ' with '}{kind} rank {adapter.rank}, {where}"

    @cached_property
    def folder_tasks(self) -> list[Task]:
        """The tasks that stand in folders of their own."""
        return folder_tasks_of(self.config)

    @cached_property
    def questions(self) -> dict[str, list[str]]:
        """What the tasks ask, so that curation can keep it out of the training rows."""
        return questions_of(self.folder_tasks)

    @cached_property
    def template(self) -> str | None:
        """The base's chat template with its arguments and date pinned; None where nothing needs a pin."""
        return pinned_template(self.base.path, self.config.model)

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

    def template_input_of(self, arm: ArmConfig) -> dict[str, str]:
        """What the tuned model's pin was is part of how it was made, though it lies in its own folder now."""
        if arm.endpoint:
            return {}
        return template_input(self.template_of(arm) if isinstance(arm.model, ModelConfig) else self.template)

    @cached_property
    def _tasks(self) -> dict[str, list[Task]]:
        """By a data set's content: reading a split and hashing its items is worth doing once."""
        return {}

    def tasks(self, dataset: Artifact) -> list[Task]:
        """The tasks in the config's order; those from a split are read from the data set."""
        if dataset.content not in self._tasks:
            folders = iter(self.folder_tasks)
            self._tasks[dataset.content] = distinct(
                task_from_split(read_rows(dataset.path / f"{task.from_split}.jsonl"), task, seed=self.config.seed)
                if isinstance(task, SplitTaskConfig)
                else next(folders)
                for task in self.config.evaluate.tasks
            )
        return self._tasks[dataset.content]

    def items_asked(self, tasks: Sequence[Task]) -> dict[str, AskedItems]:
        """By task, the items that an arm is asked."""
        return {task.name: asked_items(task.first(self.config.evaluate.max_items)) for task in tasks}

    def selection(self, arm: ArmConfig, dataset: Artifact) -> Task | None:
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


def asked_items(task: Task) -> AskedItems:
    """What is remembered of a task's items when they are asked."""
    return AskedItems(task.digests["items"], frozenset(item.question_digest for item in task.items))


def weights_of(arm: ArmConfig) -> str:
    """Equal for arms that one engine answers."""
    return digest(
        arm.endpoint.identity()
        if arm.endpoint
        else arm.model
        if arm.model in ("base", "tuned")
        else arm.identity()["model"]
    )


def template_input(template: str | None) -> dict[str, str]:
    """What a pinned template adds to the inputs of what is made with it."""
    return {"template": digest(template)} if template is not None else {}


def folder_tasks_of(config: Config) -> list[Task]:
    """The tasks that stand in folders of their own, in the config's order."""
    return distinct(load_task(Path(task)) for task in config.evaluate.tasks if isinstance(task, str))


def questions_of(tasks: Sequence[Task]) -> dict[str, list[str]]:
    """By task, what its items ask."""
    return {task.name: [item.held_out for item in task.items] for task in tasks}
