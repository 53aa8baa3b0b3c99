"""How far one model's next-token distributions are from another's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tunelift.runtime import console
from tunelift.runtime.encoded import Row, collate
from tunelift.runtime.weights import Device, Precision, casting_by_autocast_alone, supervised_logits

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 4


@dataclass(frozen=True)
class Parity:
    """Divergence of the merged from the trained model, over the supervised positions."""

    positions: int
    kl_mean: float
    """Mean of KL(trained || merged) in nats."""
    kl_max: float
    """The largest at one position."""
    top1_agreement: float
    """Share of the positions where both find the same token likeliest."""
    nll_trained: float
    """The trained model's mean loss at these positions, in nats."""
    nll_merged: float
    """The merged model's."""

    def to_json(self) -> dict[str, Any]:
        """For parity.json."""
        return asdict(self)


def reference(
    model: Any, rows: Sequence[Row], padding: int, device: Device, precision: Precision
) -> list[torch.Tensor]:
    """Log-probabilities [positions, vocabulary] of the trained model by batch, in fp32 on the CPU."""
    return [scores.cpu() for scores, _ in _log_probabilities("trained", model, rows, padding, device, precision)]


def compare(
    model: Any,
    trained: Sequence[torch.Tensor],
    rows: Sequence[Row],
    padding: int,
    device: Device,
    precision: Precision,
) -> Parity:
    """Hold the merged model's distributions against the trained model's at the same positions."""
    import torch

    divergences, agreements, losses = [], [], []
    merged = _log_probabilities("merged", model, rows, padding, device, precision)
    for p, (q, targets) in zip(trained, merged, strict=True):
        p = p.to(q.device)
        divergences.append((p.exp() * (p - q)).sum(-1).clamp(min=0))
        agreements.append(p.argmax(-1) == q.argmax(-1))
        chosen = targets[:, None]
        losses.append(-torch.cat([p.gather(1, chosen), q.gather(1, chosen)], dim=1))
    kl, agree, loss = torch.cat(divergences), torch.cat(agreements), torch.cat(losses).mean(0)
    return Parity(
        len(kl),
        kl.mean().item(),
        kl.max().item(),
        agree.float().mean().item(),
        loss[0].item(),
        loss[1].item(),
    )


def _log_probabilities(
    name: str, model: Any, rows: Sequence[Row], padding: int, device: Device, precision: Precision
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Log-probabilities and the tokens that follow, by batch, in the precision that training computes with."""
    import torch

    model.eval()
    batches = []
    with (
        console.progress(f"parity, {name} model", total=len(rows), unit="rows") as bar,
        torch.no_grad(),
        torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"),
        casting_by_autocast_alone(model),
    ):
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            logits, targets = supervised_logits(model, collate(some, padding, device))
            batches.append((logits.float().log_softmax(-1), targets))
            bar.advance(len(some))
    return batches
