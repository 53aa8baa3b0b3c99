"""Trains and merges the tiny model in one line, and looks inside while it does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.stages.conversations import train_config
from tunelift.config.schema import MergeConfig
from tunelift.stages.merge import merge
from tunelift.stages.train import train
from tunelift.stages.train.trainer import SupervisedTrainer


def run_training(model: Path, dataset: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """The details of a run in fp32, which is exact, and fast on any CPU."""
    out.mkdir(parents=True, exist_ok=True)
    config = train_config(**({"precision": "fp32"} | changes))
    return train(config, model=model, dataset=dataset, seed=1, device="cpu", out=out)


def run_merge(model: Path, dataset: Path, adapter: Path, out: Path, kind: str, **limits: Any) -> dict[str, Any]:
    """The parity of what was merged into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    return merge(
        MergeConfig(parity_rows=6, **limits),
        kind=kind,
        precision="fp32",
        model=model,
        adapter=adapter,
        dataset=dataset,
        device="cpu",
        out=out,
    )


def losses(out: Path) -> list[float]:
    """Of each step."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


class Watched:
    """What is trained, before and after, and the trainer that did it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.before: dict[str, torch.Tensor] = {}
        self.after: dict[str, torch.Tensor] = {}
        self.trainer: Any = None
        original = SupervisedTrainer.train

        def watched(trainer: Any, *args: Any, **kwargs: Any) -> Any:
            self.before = self._trained(trainer)
            result = original(trainer, *args, **kwargs)
            self.after, self.trainer = self._trained(trainer), trainer
            return result

        monkeypatch.setattr(SupervisedTrainer, "train", watched)

    @staticmethod
    def _trained(trainer: Any) -> dict[str, torch.Tensor]:
        named = trainer.model.named_parameters()
        return {name: parameter.detach().clone() for name, parameter in named if parameter.requires_grad}

    def moved(self) -> dict[str, float]:
        """By parameter, the share of its entries that changed."""
        return {name: (self.after[name] != start).float().mean().item() for name, start in self.before.items()}
