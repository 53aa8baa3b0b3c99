"""How far one model's next-token distributions are from another's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from tunelift.runtime import console
from tunelift.runtime.encoded import Row, collate
from tunelift.runtime.weights import Device, Precision, casting_by_autocast_alone, supervised_logits

if TYPE_CHECKING:
    import torch

ROWS_AT_ONCE = 4
POSITIONS_AT_ONCE = 512
"""That distributions are compared at: of 128,256 tokens, each of the five tensors that takes is 0.26 GB in fp32."""
MOST_POSITIONS = 4096
"""That are compared: a mean over more says the same."""
MOST_BYTES = 2**30
"""Of the trained model's logits, which are kept while the merged one is computed."""


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


def thinned(rows: Sequence[Row], position_bytes: int) -> list[Row]:
    """The rows with no more supervised positions than are compared, drawn evenly from all of them.

    Args:
        rows: As read.
        position_bytes: Of the logits at one position.
    """
    most = max(1, min(MOST_POSITIONS, MOST_BYTES // position_bytes))
    every = max(1.0, sum(row.rendered.supervised_tokens for row in rows) / most)
    number = count()
    found = []
    for row in rows:
        mask = [learnt and next(number) % every < 1 for learnt in row.rendered.mask]
        found.append(replace(row, rendered=replace(row.rendered, mask=mask)))
    return found


def reference(
    model: Any, rows: Sequence[Row], padding: int, device: Device, precision: Precision
) -> list[torch.Tensor]:
    """Logits [positions, vocabulary] of the trained model by batch, on the CPU as they were computed.

    In bf16 they are half of what log-probabilities would be, and give the same ones.
    """
    said = []
    for logits, _ in _logits("trained", model, rows, padding, device, precision):
        said.append(logits.cpu())
        del logits
    return said


def compare(
    model: Any,
    trained: Sequence[torch.Tensor],
    rows: Sequence[Row],
    padding: int,
    device: Device,
    precision: Precision,
) -> Parity:
    """Hold the merged model's distributions against the trained model's at the same positions.

    Args:
        model: The merged one.
        trained: From `reference`, of the same rows.
    """
    import torch

    divergences, agreements, losses = [], [], []
    said = iter(trained)
    for logits, targets in _logits("merged", model, rows, padding, device, precision):
        parts = (torch.split(each, POSITIONS_AT_ONCE) for each in (next(said), logits, targets))
        for part in zip(*parts, strict=True):
            divergence, agreement, loss = _compared(*part)
            divergences.append(divergence)
            agreements.append(agreement)
            losses.append(loss)
        del logits, targets, part
    kl, agree, loss = torch.cat(divergences), torch.cat(agreements), torch.cat(losses).mean(0)
    return Parity(
        len(kl),
        kl.mean().item(),
        kl.max().item(),
        agree.float().mean().item(),
        loss[0].item(),
        loss[1].item(),
    )


def _compared(
    trained: torch.Tensor, merged: torch.Tensor, targets: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """By position: KL(trained || merged), whether both find the same token likeliest, and the two losses."""
    import torch

    p, q = (logits.to(merged.device).float().log_softmax(-1) for logits in (trained, merged))
    chosen = targets[:, None]
    return (
        (p.exp() * (p - q)).sum(-1).clamp(min=0),
        p.argmax(-1) == q.argmax(-1),
        -torch.cat([p.gather(1, chosen), q.gather(1, chosen)], dim=1),
    )


def _logits(
    name: str, model: Any, rows: Sequence[Row], padding: int, device: Device, precision: Precision
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Logits and the tokens that follow, in the precision that training computes with, a batch at a time.

    All of them, beside the weights, would be more than a GPU has.
    """
    import torch

    model.eval()
    with console.progress(f"parity, {name} model", total=len(rows), unit="rows") as bar:
        for start in range(0, len(rows), ROWS_AT_ONCE):
            some = rows[start : start + ROWS_AT_ONCE]
            with (
                torch.no_grad(),
                torch.autocast(device, dtype=torch.bfloat16, enabled=precision == "bf16"),
                casting_by_autocast_alone(model),
            ):
                scored = supervised_logits(model, collate(some, padding, device))
            yield scored
            del scored
            bar.advance(len(some))
