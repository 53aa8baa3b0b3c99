"""Rows laid end to end instead of padded, so that nothing but rows is computed; and the proof that they stay apart.

Each row's positions start again at 0. From that, FlashAttention is called with the rows' own lengths, and SDPA and
eager attention get a mask of blocks on the diagonal. Both hold only without an attention mask and without a cache:
with either, transformers takes the pack for one long row and says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunelift.config.schema import TrainConfig
from tunelift.runtime import console
from tunelift.runtime.encoded import IGNORED, Row
from tunelift.stages.train.order import Positions
from tunelift.stages.train.settings import packing

if TYPE_CHECKING:
    import torch


def pack(rows: Sequence[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """One row out of several: `input_ids`, `labels` and `position_ids`, each [1, tokens of all rows].

    Args:
        rows: Each with `input_ids` and `labels`. No row predicts the first token of the next.
    """
    import torch

    def joined(values: list[list[int]]) -> torch.Tensor:
        return torch.tensor([[value for row in values for value in row]])

    return {
        "input_ids": joined([row["input_ids"] for row in rows]),
        "labels": joined([[IGNORED, *row["labels"][1:]] for row in rows]),
        "position_ids": joined([list(range(len(row["input_ids"]))) for row in rows]),
    }


def row_lengths(batch: dict[str, torch.Tensor]) -> list[int]:
    """Tokens of each row in a micro-batch, packed or padded, without padding."""
    if "attention_mask" in batch:
        return [int(length) for length in batch["attention_mask"].sum(1)]
    starts = (batch["position_ids"][0] == 0).nonzero().flatten().tolist()
    ends = [*starts[1:], batch["position_ids"].shape[1]]
    return [end - start for start, end in zip(starts, ends, strict=True)]


def computed_positions(batches: Sequence[dict[str, torch.Tensor]]) -> Positions:
    """What the forward passes of these micro-batches compute, counted in the very tensors."""
    computed = sum(batch["input_ids"].numel() for batch in batches)
    return Positions(computed, computed - sum(sum(row_lengths(batch)) for batch in batches))


def padded_if_rows_mix(config: TrainConfig, model: Any, rows: Sequence[Row]) -> TrainConfig:
    """`config`; without packing, and with a warning, where the model lets a packed row see another."""
    if not packing(config) or rows_stay_apart(model, rows):
        return config
    console.warn(f"{type(model).__name__} lets a packed row see the row before it, so rows are padded instead")
    return config.model_copy(update={"packing": False})


def rows_stay_apart(model: Any, rows: Sequence[Row]) -> bool:
    """Pack the two shortest rows, and look whether the second one's logits have any gradient to the first one.

    Where a row sees nothing of another, that gradient is exactly 0, whatever the precision. State-space and
    linear-attention layers, and models that make their own masks, let it through.
    """
    import torch

    shortest = sorted(rows, key=len)[:2]
    first, second = shortest[0], shortest[-1]
    batch = pack([{"input_ids": row.rendered.input_ids, "labels": row.labels} for row in (first, second)])
    device = next(model.parameters()).device
    embedded: list[torch.Tensor] = []

    def watch(_module: Any, _inputs: Any, output: torch.Tensor) -> torch.Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    handle = model.get_input_embeddings().register_forward_hook(watch)
    try:
        with torch.enable_grad():
            logits = model(
                input_ids=batch["input_ids"].to(device), position_ids=batch["position_ids"].to(device), use_cache=False
            ).logits
        seen = torch.autograd.grad(logits[:, len(first) :].float().square().sum(), embedded[0])[0]
    finally:
        handle.remove()
    return not seen[:, : len(first)].any()
