"""TRL's SFTTrainer with a loss on what is learnt alone, an order that resumes exactly, and a plain evaluation."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast, TrainerState
from trl import SFTConfig, SFTTrainer

from tunelift.runtime.encoded import Row, collate
from tunelift.runtime.weights import (
    check_trained_in_fp32,
    is_out_of_memory,
    keep_trained_in_fp32,
    supervised_logits,
)
from tunelift.stages.train.answers import Asked
from tunelift.stages.train.best import Measure
from tunelift.stages.train.health import BadStep
from tunelift.stages.train.order import Positions, RandomOrder
from tunelift.stages.train.packing import computed_positions, pack, row_lengths


class _CutShort(Exception):
    """A stop came while something was done that can be done again."""


class SupervisedTrainer(SFTTrainer):  # type: ignore[misc]
    """Loss averaged over the supervised tokens of the whole global batch, and over nothing else.

    Args:
        model: The base.
        rows: The training rows.
        eval_rows: Rows for the evaluation loss.
        packing: Lay the rows of a micro-batch end to end instead of padding them.
        asked: Rows whose answers are scored as well; none if steps are not chosen by a scorer.
        measure: What steps are chosen by, if any.
    """

    loss_is_scaled_for_ga = True
    control: Any

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        *,
        rows: Sequence[Row],
        eval_rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerFast,
        packing: bool = False,
        asked: Asked | None = None,
        measure: Measure | None = None,
        **kwargs: Any,
    ) -> None:
        from datasets import Dataset

        data = Dataset.from_list([{"input_ids": row.rendered.input_ids, "labels": row.labels} for row in rows])
        self.rows = rows
        self.eval_rows = sorted(eval_rows, key=len, reverse=True)
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        self.order = RandomOrder([len(row) for row in rows], batch, args.seed)
        self.asked, self.measure, self.packing = asked, measure, packing
        self.stopping = False
        """A signal came: no more than the step under way and a checkpoint of it is wanted."""
        self.step_tokens = 0
        self.step_positions = Positions(0, 0)
        self.step_lengths: list[int] = []
        """Tokens of each row of the step, without padding."""
        kwargs["data_collator"] = pack if packing else None
        # The Trainer wants an evaluation set; `evaluate` reads `eval_rows`.
        some = data.select([0])
        super().__init__(model, args, train_dataset=data, eval_dataset=some, processing_class=tokenizer, **kwargs)
        self.model_accepts_loss_kwargs = True  # So that the supervised tokens of the global batch are counted.
        # TRL casts adapters of 4-bit models to bf16: small updates round away, and a resumed run is not the same run.
        keep_trained_in_fp32(self.model)
        # PEFT would add whole embedding matrices to each checkpoint once the vocabulary has grown; what is trained of
        # them is in the adapter.
        self.model.save_pretrained = partial(self.model.save_pretrained, save_embedding_layers=False)

    def use_micro_batch(self, size: int) -> None:
        """Take so many rows at once, and as many micro-batches as make the same global batch."""
        whole = self.args.per_device_train_batch_size * self.args.gradient_accumulation_steps
        self.args.per_device_train_batch_size = self._train_batch_size = size
        self.args.gradient_accumulation_steps = whole // size

    def _get_train_sampler(self, train_dataset: Any = None) -> RandomOrder:
        return self.order

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one step and how many supervised tokens they hold together."""
        batches, tokens = super().get_batch_samples(*args, **kwargs)
        self.step_tokens = int(tokens)
        self.step_positions = computed_positions(batches)
        self.step_lengths = [length for batch in batches for length in row_lengths(batch)]
        return batches, tokens

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        """This micro-batch's share of the global batch's mean loss per supervised token, in nats."""
        logits, targets = supervised_logits(model, inputs)
        loss: torch.Tensor = cross_entropy(logits.float(), targets, reduction="sum") / num_items_in_batch
        return loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        """One forward and backward pass.

        Raises:
            BadStep: the loss is not finite.
            MachineError: a trained parameter is not held in fp32.
        """
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        check_trained_in_fp32(self.model)
        if not torch.isfinite(loss):
            raise BadStep(
                f"The loss of step {self.state.global_step + 1} is {loss.item()}.",
                remedy="Lower train.learning_rate, or look at these rows in the data set.",
                loss=loss.item(),
            )
        return loss

    def _get_grad_norm(self, *args: Any, **kwargs: Any) -> Any:
        """The gradient's norm; comes before the optimizer's step, so a bad gradient reaches no weight.

        Raises:
            BadStep: it is not finite.
        """
        norm = super()._get_grad_norm(*args, **kwargs)
        if not math.isfinite(norm):
            raise BadStep(
                f"The gradient of step {self.state.global_step + 1} is not finite.",
                remedy="Lower train.learning_rate, or look at these rows in the data set.",
                grad_norm=float(norm),
            )
        return norm

    def current_learning_rate(self) -> float:
        """Of the step that comes next."""
        return float(self._get_learning_rate())

    @torch.no_grad()
    def row_losses(self, numbers: Sequence[int]) -> dict[int, float | None]:
        """By number, its own mean loss by the weights as they are; None if not finite, absent if it cannot fit."""
        self.model.eval()
        found: dict[int, float | None] = {}
        for number in numbers:
            batch = collate([self.rows[number]], self._tokenizer.pad_token_id, str(self.args.device))
            try:
                logits, targets = supervised_logits(self.model_wrapped, batch)
                loss = cross_entropy(logits.float(), targets).item()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                break
            found[number] = loss if math.isfinite(loss) else None
        return found

    @contextmanager
    def cut_short_by_a_stop(self) -> Iterator[None]:
        """What is done in here breaks off at its next forward pass once `stopping` is set."""

        def check(*_: Any) -> None:
            if self.stopping:
                raise _CutShort

        # Every forward pass goes through it, whether the model is called bare, with its adapter or by `generate`.
        hook = self.model.get_input_embeddings().register_forward_pre_hook(check)
        try:
            with suppress(_CutShort):
                yield
        finally:
            hook.remove()
            self.end_if_stopping()

    def end_if_stopping(self) -> None:
        """Between two steps: have a checkpoint written and training end, if a signal came."""
        if self.stopping:
            self.control.should_save = self.control.should_training_stop = True

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Mean loss per supervised token, and the share of them that the model would have written, on `eval_rows`.

        Where steps are chosen by a scorer, its mean over the answers to `asked` as well. Nothing if a stop cuts it
        short.
        """
        self.model.eval()
        metrics: dict[str, float] = {}
        # Once training has begun the model brings its own autocast; before, at a resume, it does not.
        with self.cut_short_by_a_stop(), torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16):
            metrics = self._measured()
        if metrics:
            self.log(dict(metrics))
        self.model.train()
        if metrics:
            self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    @torch.no_grad()
    def _measured(self) -> dict[str, float]:
        loss, right, tokens = 0.0, 0, 0
        size = self.args.per_device_train_batch_size
        for start in range(0, len(self.eval_rows), size):
            batch = collate(self.eval_rows[start : start + size], self._tokenizer.pad_token_id, str(self.args.device))
            logits, targets = supervised_logits(self.model_wrapped, batch)
            loss += cross_entropy(logits.float(), targets, reduction="sum").item()
            right += int((logits.argmax(-1) == targets).sum())
            tokens += len(targets)
        metrics = {"eval_loss": loss / tokens, "eval_accuracy": right / tokens}
        if self.asked and self.measure:
            metrics[self.measure.key] = self.asked.mean_score(self)
        return metrics

    def stand_at(self, checkpoint: Path) -> None:
        """Be as after a checkpoint's step, to make up for what a signal cut short there; training loads it anew."""
        self._load_from_checkpoint(str(checkpoint))
        self.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint is no publication."""
