"""Real training steps under the inventory of live tensors, beside what the plan says of them."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tunelift.config.schema import TrainConfig
from tunelift.runtime.memory import Peak, peak, training, weights
from tunelift.runtime.shape import read_shape

STEPS = 2
"""The optimizer's states exist from the second step on."""
SUPERVISED = 0.5
FIRST_WORD = 3


@dataclass(frozen=True)
class Compared:
    """Bytes that the plan gives and bytes that were alive."""

    planned: Peak
    planned_weights: int
    measured_weights: int
    """Base and adapters, before the first step."""
    measured: int
    """Most that was alive in the last step."""
    operation: str
    """After which that was."""

    @property
    def off(self) -> float:
        """How far the plan is from what was alive, as a share of the latter."""
        return self.planned.tensors / self.measured - 1

    @property
    def weights_off(self) -> float:
        """The same of base and adapters."""
        return self.planned_weights / self.measured_weights - 1


def compare(model: Path, config: TrainConfig, *, padded: bool = False) -> Compared:
    """Train two steps on random rows of `config.max_length` tokens, half of them supervised.

    Args:
        model: A model's folder.
        config: With no `auto` left.
        padded: Every second row is a token shorter, so that attention gets a mask.
    """
    held, measured, operation = _measured(model, config, padded)
    shape = read_shape(model)
    rows, length = int(config.micro_batch_size), config.max_length
    run = training(config, device="cpu")
    packed = config.packing is True
    run = replace(run, padded=padded or packed, packed=packed, scored=rows * int(SUPERVISED * length))
    base = sum(weights(shape, run.kind, run.width).values())
    planned = peak(shape, run)
    trained = ("adapters (fp32)", "trained whole (fp32)", "added tokens")
    return Compared(planned, base + sum(planned.parts[part] for part in trained), held, measured, operation)


def _measured(model: Path, config: TrainConfig, padded: bool) -> tuple[int, int, str]:
    from transformers import TrainerCallback

    from tunelift.runtime.inventory import Inventory
    from tunelift.runtime.weights import casting_by_autocast_alone

    with tempfile.TemporaryDirectory() as scratch:
        trainer = _trainer(model, config, padded, Path(scratch))
        inventory = Inventory()
        inventory.hold(_tensors(trainer.model))
        held = inventory.live

        class EachStep(TrainerCallback):
            def on_step_begin(self, *_: Any, **__: Any) -> None:
                inventory.forget_peak()

        trainer.add_callback(EachStep())
        with inventory, casting_by_autocast_alone(trainer.model):
            trainer.train()
        return held, inventory.peak, inventory.peak_operation


def _trainer(model: Path, config: TrainConfig, padded: bool, scratch: Path) -> Any:
    from transformers import PrinterCallback

    from tunelift.runtime.chat import Supervised, load_tokenizer
    from tunelift.runtime.encoded import Row
    from tunelift.runtime.vocabulary import add_tokens, fit_embeddings
    from tunelift.runtime.weights import load_base
    from tunelift.stages.train.adapters import adapter_for
    from tunelift.stages.train.settings import precision, sft_config
    from tunelift.stages.train.trainer import SupervisedTrainer

    tokenizer, draw, length = load_tokenizer(model), random.Random(1), config.max_length
    added = add_tokens(tokenizer, config.added_tokens)
    learnt = int(SUPERVISED * length)

    def row(number: int) -> Row:
        tokens = length - (number % 2 if padded else 0)
        ids = [draw.randrange(FIRST_WORD, len(tokenizer)) for _ in range(tokens)]
        return Row(str(number), Supervised("", ids, [place >= tokens - learnt for place in range(tokens)]))

    rows = [row(number) for number in range(config.global_batch_size * STEPS)]
    settings = sft_config(config, device="cpu", steps=STEPS, seed=1, checkpoints=scratch)
    settings.save_strategy = settings.eval_strategy = "no"
    base = load_base(
        model, kind=config.adapter.kind, device="cpu", precision=precision(config), attention=str(config.attention)
    )
    fit_embeddings(base, tokenizer)
    trainer = SupervisedTrainer(
        base,
        settings,
        rows=rows,
        eval_rows=rows[:1],
        tokenizer=tokenizer,
        packing=config.packing is True,
        peft_config=adapter_for(config, base, list(added)),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _tensors(model: Any) -> Iterator[Any]:
    """Parameters and buffers, with the statistics of those that are quantized."""
    for module in model.modules():
        for tensor in (*module._parameters.values(), *module._buffers.values()):
            if tensor is None:
                continue
            yield tensor.data
            state = getattr(tensor, "quant_state", None)
            if state is not None:
                nested = [] if state.state2 is None else [state.state2.absmax, state.state2.code]
                yield from (part for part in (state.absmax, state.code, state.offset, *nested) if part is not None)
