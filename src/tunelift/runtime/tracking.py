"""Where metrics go: always a local metrics.jsonl; W&B beside it. A tracker that fails is switched off, once, aloud.

It lives in the parent process and follows the files that stages write, so that no trouble with it can reach training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunelift.config.schema import TrackingConfig
from tunelift.runtime import console

METRICS = "metrics.jsonl"


class Tracker:
    """Sends to `folder/metrics.jsonl`, and to W&B once something was really done.

    Args:
        config: Where to send; `wandb` is resolved.
        folder: The run's folder; its name is the W&B run's id.
        description: The resolved config, shown in W&B.
    """

    def __init__(self, config: TrackingConfig, folder: Path, description: Mapping[str, Any]) -> None:
        self._config = config
        self._folder = folder
        self._description = dict(description)
        self._wandb_run: Any = None
        self._off = config.wandb == "off"

    def log(self, stage: str, values: Mapping[str, Any]) -> None:
        """One record of numbers; `step` in it is the x-axis of its curves."""
        with (self._folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"stage": stage, **values}) + "\n")
        numbers = {f"{stage}/{key}": value for key, value in values.items() if isinstance(value, int | float)}
        self._to_wandb(lambda run: run.log(numbers))

    def follow(self, stage: str, source: Path) -> Callable[[], None]:
        """A function that forwards what `source` has gained since its last call; a step is forwarded once."""
        seen = _last_step(self._folder / METRICS, stage)
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
                    mark = (values.get("step", 0), "eval_loss" in values)
                    if mark > seen:
                        seen = mark
                        self.log(stage, values)

        return forward

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final numbers, shown beside the run's name."""
        self._to_wandb(lambda run: run.summary.update(dict(values)))

    def samples(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table of prompts and outputs; sent only when `tracking.log_samples` says so."""
        if not self._config.log_samples:
            return

        def send(run: Any) -> None:
            import wandb

            run.log({name: wandb.Table(columns=list(columns), data=[list(row) for row in rows])})

        self._to_wandb(send)

    def close(self, exit_code: int = 0) -> None:
        """Finish the W&B run, if one was begun."""
        if self._wandb_run is not None:
            self._to_wandb(lambda run: run.finish(exit_code=exit_code))
            self._wandb_run = None

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

    def _begin(self) -> Any:
        import wandb

        return wandb.init(
            project=self._config.project,
            name=self._folder.name,
            id=self._folder.name,
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


def _last_step(path: Path, stage: str) -> tuple[int, bool]:
    """The last (step, is an evaluation) that was forwarded; a torn last line is ignored."""
    seen = (-1, False)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return seen
    for line in lines:
        try:
            values = json.loads(line)
        except ValueError:
            continue
        if values.get("stage") == stage:
            seen = max(seen, (values.get("step", 0), "eval_loss" in values))
    return seen
