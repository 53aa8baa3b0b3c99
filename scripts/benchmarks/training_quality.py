"""What an adapter has learnt, whoever trained it: one function for all sides."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tunelift.config.schema import TrainConfig
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import collate, read_encoded
from tunelift.runtime.weights import Kind, load_base, supervised_logits
from tunelift.stages.train.settings import precision


def validation_loss(
    model: Path, config: TrainConfig, kind: Kind, adapter: Path, dataset: Path, limit: int | None = None
) -> float:
    """Mean loss in nats per supervised token on `limit` validation rows, or on all.

    Base and matmuls are in the precision of training; the adapter is in fp32, which holds each side's weights exactly.
    """
    import torch
    from peft import PeftModel
    from torch.nn.functional import cross_entropy

    tokenizer = load_tokenizer(model)
    rows = sorted(read_encoded(tokenizer, dataset, "validation", limit), key=len, reverse=True)
    computed_in = precision(config)
    base = load_base(model, kind=kind, device="cpu", precision=computed_in)
    tuned = PeftModel.from_pretrained(base, adapter).eval()
    for name, weights in tuned.named_parameters():
        if "lora_" in name:
            weights.data = weights.data.float()
    loss, tokens = 0.0, 0
    casting = torch.autocast("cpu", torch.bfloat16) if computed_in == "bf16" else contextlib.nullcontext()
    with torch.no_grad(), casting:
        for start in range(0, len(rows), 16):
            batch = collate(rows[start : start + 16], tokenizer.pad_token_id, "cpu")
            logits, targets = supervised_logits(tuned, batch)
            loss += cross_entropy(logits.float(), targets, reduction="sum").item()
            tokens += len(targets)
    return loss / tokens
