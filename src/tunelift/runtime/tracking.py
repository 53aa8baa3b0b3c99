"""Where metrics go: always a local metrics.jsonl; W&B beside it. A tracker that fails is switched off, once, aloud.

It lives in the parent process and follows the files that stages write, so that no trouble with it can reach training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tunelift.artifacts.jsonl import read_lines
from tunelift.artifacts.records import digest
from tunelift.artifacts.store import write_durably
from tunelift.config.schema import TrackingConfig
from tunelift.runtime import console

METRICS = "metrics.jsonl"
SENT = "wandb_sent.txt"
"""A digest of the results that W&B has."""
MARK = "-"
"""Between a fingerprint and the training's number."""
NOTHING = (-1, False)
"""The step before any."""


class Tracker:
    """Sends to `folder/metrics.jsonl`, and to W&B once something was really done.

    Args:
        config: Where to send; `wandb` is resolved.
        folder: The run's folder; its name is the W&B run's id, with a number for each further training in it.
        description: The resolved config, shown in W&B.
    """

    def __init__(self, config: TrackingConfig, folder: Path, description: Mapping[str, Any]) -> None:
        self._config = config
        self._folder = folder
        self._description = dict(description)
        self._wandb_run: Any = None
        self._off = config.wandb == "off"
        self._training = 1
        """Number of the training whose curve is sent: one folder may see several, after a change of data or --force."""
        self._results = ""
        """A digest of the results sent to the W&B run that is not finished yet."""

    def log(self, stage: str, values: Mapping[str, Any]) -> None:
        """One record of numbers; `step` in it is the x-axis of its curves."""
        with (self._folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, **values}) + "\n")
        numbers = {f"{stage}/{key}": value for key, value in values.items() if isinstance(value, int | float)}
        self._to_wandb(lambda run: run.log(numbers))

    def follow(self, stage: str, source: Path, made_from: str) -> Callable[[], None]:
        """A function that forwards what `source` has gained since its last call; a step is forwarded once a training.

        Records bear the training's mark. Those of another one give way to the first record of this one, and W&B gets a
        run of its own: two trainings would make one false curve.

        Args:
            source: Metrics of a training under way, or of one that is done.
            made_from: The fingerprint of what is trained. With an equal one and no `source` yet, it is trained again.
        """
        before, number, seen = _last(self._folder / METRICS, stage)
        goes_on = before == made_from and source.exists()
        self._training = number if goes_on else number + 1
        mark = f"{made_from}{MARK}{self._training}"
        if not goes_on:
            seen = NOTHING
        offset = inode = 0

        def forward() -> None:
            nonlocal offset, inode, seen
            if not source.exists():
                return
            with source.open("rb") as file:
                if os.fstat(file.fileno()).st_ino != inode:  # A resumed stage puts a file cut back in its place.
                    offset, inode = 0, os.fstat(file.fileno()).st_ino
                file.seek(offset)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    offset += len(line)
                    values = json.loads(line)
                    if (step := _step(values)) > seen:
                        if seen == NOTHING:
                            _forget(self._folder / METRICS, stage)
                        seen = step
                        self.log(stage, {"training": mark, **values})

        return forward

    def follow_samples(self, stage: str, source: Path) -> Callable[[], None]:
        """A function that sends the table of answers in `source` when it has grown, if the config says so."""
        size = 0

        def forward() -> None:
            nonlocal size
            if not self._config.log_samples or not source.exists() or source.stat().st_size == size:
                return
            size = source.stat().st_size
            self._to_wandb(partial(_log_answers, f"{stage}/samples", source))

        return forward

    def results(self, report: Path, evaluations: Mapping[str, Path], lineage: Sequence[Mapping[str, Any]]) -> None:
        """What a finished run showed: numbers with intervals, verdict, artifacts by digest; samples only if asked for.

        What W&B has already is not sent again, whichever command made it.

        Args:
            report: The folder with comparison.json and report.html.
            evaluations: By arm, the folder with samples.jsonl.
            lineage: One object an artifact: stage, fingerprint, content, inputs.
        """
        made_from = [made["fingerprint"] for made in lineage]
        results = digest([self._wandb_id, made_from, self._config.model_dump(mode="json")])
        if self._off or results == self._sent():
            return
        self._to_wandb(lambda run: run.summary.update(_numbers(report)))
        for made in lineage:
            self._to_wandb(partial(_log_reference, self._folder.name, made))
        if self._config.log_samples:
            self._to_wandb(lambda run: run.log({"samples": _side_by_side(evaluations), "report": _page(report)}))
        self._results = results

    def close(self, exit_code: int = 0) -> None:
        """Finish the W&B run, if one was begun."""
        if self._wandb_run is not None:
            self._to_wandb(partial(self._finish, exit_code))
            self._wandb_run = None

    def _finish(self, exit_code: int, run: Any) -> None:
        run.finish(exit_code=exit_code)
        if self._results:  # Only now has everything arrived.
            write_durably(self._folder / SENT, self._results)

    def _sent(self) -> str:
        path = self._folder / SENT
        return path.read_text(encoding="utf-8") if path.exists() else ""

    def _to_wandb(self, send: Callable[[Any], None]) -> None:
        if self._off:
            return
        try:
            if self._wandb_run is None:
                self._wandb_run = self._begin()
            send(self._wandb_run)
        except Exception as error:
            self._off = True
            reason = (str(error).splitlines() or [""])[0][:200]
            console.warn(f"W&B is switched off for this run ({type(error).__name__}: {reason}); metrics.jsonl goes on.")

    @property
    def _wandb_id(self) -> str:
        return self._folder.name if self._training == 1 else f"{self._folder.name}-{self._training}"

    def _begin(self) -> Any:
        import wandb

        return wandb.init(
            project=self._config.project,
            name=self._wandb_id,
            id=self._wandb_id,
            dir=str(self._folder),
            mode="online" if self._config.wandb == "online" else "offline",
            resume="allow" if self._config.wandb == "online" else None,
            config=self._description,
            # No source code, console output, host or command line leaves the machine.
            settings=wandb.Settings(
                silent=True,
                console="off",
                disable_code=True,
                disable_git=True,
                x_disable_meta=True,
                x_disable_machine_info=True,
            ),
        )


TYPES = {"curate": "dataset", "train": "adapter", "merge": "model", "evaluate": "evaluation"}
"""W&B's type of what a stage makes; any other has the stage's own name."""


def _numbers(report: Path) -> dict[str, Any]:
    """W&B's summary: means and paired differences with their intervals, the verdict, the gate."""
    comparison = json.loads((report / "comparison.json").read_text(encoding="utf-8"))
    numbers: dict[str, Any] = {"verdict": comparison["verdict"]}
    if comparison["gate"]["declared"]:
        numbers["gate/passed"] = comparison["gate"]["passed"]
    for task, metrics in comparison["tasks"].items():
        for metric, shown in metrics.items():
            for arm, values in shown["arms"].items():
                numbers |= {f"{task}/{metric}/{arm}/{key}": values[key] for key in ("mean", "low", "high")}
            for pair in shown["pairs"]:
                name = f"{task}/{metric}/{pair['a']} - {pair['b']}"
                numbers |= {f"{name}/{key}": pair[key] for key in ("difference", "low", "high", "p", "verdict")}
    for guard in comparison["guards"]:
        numbers[f"{guard['task']}/guard"] = guard["verdict"]
    return numbers


def _log_reference(name: str, made: Mapping[str, Any], run: Any) -> None:
    """An artifact that holds no file, only digests: its own and those of what it was made from."""
    import wandb
    from wandb.sdk.artifacts.artifact_manifest_entry import ArtifactManifestEntry

    kind = str(made["stage"]).split("-")[0]
    artifact = wandb.Artifact(
        f"{name}-{made['stage']}",
        type=TYPES.get(kind, kind),
        metadata={"fingerprint": made["fingerprint"], "content": made["content"], "made_from": dict(made["inputs"])},
    )
    # Not a path of this machine: the name under which any store of tunelift holds it. `add_reference` would warn that
    # it cannot read such an address, and hash the address; the digest of what the artifact holds is known.
    uri = f"tunelift://{kind}/{made['fingerprint']}"
    artifact.manifest.add_entry(ArtifactManifestEntry(path=made["stage"], ref=uri, digest=made["content"]))
    run.log_artifact(artifact)


def _log_answers(name: str, source: Path, run: Any) -> None:
    """A table of what was answered while training; the line that is still being written is left out."""
    *written, _ = source.read_text(encoding="utf-8").split("\n")
    answers = [json.loads(line) for line in written]
    if answers:
        run.log({name: _table([*answers[0]], [[_text(value) for value in one.values()] for one in answers])})


def _side_by_side(evaluations: Mapping[str, Path]) -> Any:
    """A table with one row an item: what was asked and is right, then each arm's output and scores."""
    answers: dict[tuple[str, str], dict[str, Any]] = {}
    for arm, folder in evaluations.items():
        for line in read_lines(folder / "samples.jsonl"):
            sample = json.loads(line)
            answers.setdefault((sample["task"], sample["id"]), {})[arm] = sample
    columns = ["task", "id", "prompt", "expected"]
    columns += [f"{arm} {shown}" for arm in evaluations for shown in ("output", "scores")]
    rows = []
    for (task, item), by_arm in answers.items():
        first = next(iter(by_arm.values()))
        row = [task, item, _text(first["prompt"]), _text(first["expected"])]
        for arm in evaluations:
            sample = by_arm.get(arm, {"output": "", "scores": {}})
            row += [sample["output"], _text(sample["scores"])]
        rows.append(row)
    return _table(columns, rows)


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _table(columns: list[str], rows: list[list[Any]]) -> Any:
    import wandb

    return wandb.Table(columns=[*columns], data=rows)


def _page(report: Path) -> Any:
    import wandb

    return wandb.Html((report / "report.html").read_text(encoding="utf-8"), inject=False)


def _step(record: Mapping[str, Any]) -> tuple[int, bool]:
    """What a record is of: a step, and after it the evaluation."""
    return record.get("step", 0), "eval_loss" in record


def _last(path: Path, stage: str) -> tuple[str, int, tuple[int, bool]]:
    """What was forwarded last: what it was made from, the training's number (0 for none), and its last step."""
    records = [record for record in _records(path) if record.get("stage") == stage]
    if not records:
        return "", 0, NOTHING
    made_from, _, number = str(records[-1].get("training", "")).rpartition(MARK)
    return made_from, int(number) if number.isdecimal() else 1, max(map(_step, records))


def _forget(path: Path, stage: str) -> None:
    """Take a stage's records out of the file."""
    if path.exists():
        kept = [json.dumps(record) + "\n" for record in _records(path) if record.get("stage") != stage]
        write_durably(path, "".join(kept))


def _records(path: Path) -> list[dict[str, Any]]:
    """What was forwarded so far; a torn line is ignored."""
    records = []
    for line in read_lines(path) if path.exists() else []:
        with suppress(ValueError):
            records.append(json.loads(line))
    return records
