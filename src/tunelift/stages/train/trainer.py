"""TRL's SFTTrainer with a loss on what is learnt alone, an order that resumes exactly, and a plain evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer

from tunelift.errors import MachineError
from tunelift.runtime.encoded import Row, collate
from tunelift.runtime.weights import keep_trained_in_fp32, supervised_logits
from tunelift.stages.train.order import Positions, RandomOrder
from tunelift.stages.train.packing import computed_positions, pack

SHOWN_IDS = 32


class SupervisedTrainer(SFTTrainer):  # type: ignore[misc]
    """Loss averaged over the supervised tokens of the whole global batch, and over nothing else.

    Args:
        model: The base.
        rows: The training rows.
        eval_rows: Rows for the evaluation loss.
        packing: Lay the rows of a micro-batch end to end instead of padding them.
    """

    loss_is_scaled_for_ga = True

    def __init__(
        self,
        model: PreTrainedModel,
        args: SFTConfig,
        *,
        rows: Sequence[Row],
        eval_rows: Sequence[Row],
        tokenizer: PreTrainedTokenizerFast,
        packing: bool = False,
        **kwargs: Any,
    ) -> None:
        from datasets import Dataset

        data = Dataset.from_list([{"input_ids": row.rendered.input_ids, "labels": row.labels} for row in rows])
        self.rows = rows
        self.eval_rows = sorted(eval_rows, key=len, reverse=True)
        batch = args.per_device_train_batch_size * args.gradient_accumulation_steps
        self.order = RandomOrder([len(row) for row in rows], batch, args.seed)
        self.step_tokens = 0
        self.step_positions = Positions(0, 0)
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

    def _get_train_sampler(self, train_dataset: Any = None) -> RandomOrder:
        return self.order

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> tuple[list[Any], Any]:
        """The micro-batches of one step and how many supervised tokens they hold together."""
        batches, tokens = super().get_batch_samples(*args, **kwargs)
        self.step_tokens = int(tokens)
        self.step_positions = computed_positions(batches)
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
            MachineError: the loss is not finite.
        """
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        if not torch.isfinite(loss):
            step = self.state.global_step + 1
            ids = [self.rows[number].id for number in self.order.rows_of_step(step)]
            more = f" and {len(ids) - SHOWN_IDS} more" if len(ids) > SHOWN_IDS else ""
            raise MachineError(
                f"The loss of step {step} is {loss.item()}. Its rows: {', '.join(ids[:SHOWN_IDS])}{more}.",
                remedy="Lower train.learning_rate, or look at these rows in the data set.",
            )
        return loss

    @torch.no_grad()
    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Mean loss per supervised token, and the share of them that the model would have written, on `eval_rows`."""
        self.model.eval()
        loss, right, tokens = 0.0, 0, 0
        size = self.args.per_device_train_batch_size
        for start in range(0, len(self.eval_rows), size):
            batch = collate(self.eval_rows[start : start + size], self._tokenizer.pad_token_id, str(self.args.device))
            logits, targets = supervised_logits(self.model_wrapped, batch)
            loss += cross_entropy(logits.float(), targets, reduction="sum").item()
            right += int((logits.argmax(-1) == targets).sum())
            tokens += len(targets)
        metrics = {"eval_loss": loss / tokens, "eval_accuracy": right / tokens}
        self.log(dict(metrics))
        self.model.train()
        self.control: Any = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint is no publication."""
