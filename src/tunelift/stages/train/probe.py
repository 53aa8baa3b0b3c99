"""Does the largest micro-batch fit? Tried before the first step, and put back as if it had never been.

What does not fit is halved while the accumulation doubles, so the global batch, and with it what is learnt, stays. The
choice lies in the output folder, since a resumed run must add up the same micro-batches to end with the same bytes.
"""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.errors import MachineError
from tunelift.runtime import console
from tunelift.runtime.encoded import Row
from tunelift.runtime.weights import is_out_of_memory

if TYPE_CHECKING:
    from tunelift.stages.train.trainer import SupervisedTrainer

FILE = "micro_batch.json"
REMEDY = (
    "Lower train.max_length so that curation drops such rows, set train.gradient_checkpointing to true, "
    "train.adapter.kind to qlora or train.adapter.rank lower, or use a device with more memory."
)


def settle(trainer: SupervisedTrainer, out: Path, *, probe: bool) -> dict[str, Any]:
    """Set the trainer's micro-batch: as chosen earlier in this folder, or as found by trying if `probe`.

    Returns:
        `asked` (rows, of the config), `micro_batch_size`, `accumulation`, `probed`, and `why`. It is also written to
        micro_batch.json.

    Raises:
        MachineError: not even one row fits; it names the row.
    """
    asked = int(trainer.args.per_device_train_batch_size)
    chosen = _earlier(out, asked) or _found(trainer, asked, probe)
    trainer.use_micro_batch(chosen["micro_batch_size"])
    save(out, chosen)
    if chosen["micro_batch_size"] != asked:
        console.say(
            f"train: {chosen['micro_batch_size']} rows at once instead of {asked}, "
            f"{chosen['accumulation']} times a step: {chosen['why']}"
        )
    return chosen


def _earlier(out: Path, asked: int) -> dict[str, Any] | None:
    """What was chosen before the run was killed, if the config still asks for the same."""
    try:
        chosen: dict[str, Any] = json.loads((out / FILE).read_text(encoding="utf-8"))
        return chosen if chosen["asked"] == asked and chosen["micro_batch_size"] > 0 else None
    except (OSError, ValueError, LookupError, TypeError):
        return None


def save(out: Path, chosen: dict[str, Any]) -> None:
    """Write it for a resumed run."""
    temporary = (out / FILE).with_suffix(".tmp")
    temporary.write_text(json.dumps(chosen, indent=2) + "\n", encoding="utf-8")
    temporary.replace(out / FILE)


def _found(trainer: SupervisedTrainer, asked: int, probe: bool) -> dict[str, Any]:
    micro, why = asked, "as configured"
    whole = asked * int(trainer.args.gradient_accumulation_steps)
    candidates = [*trainer.rows, *trainer.eval_rows]
    while probe:
        rows = largest(candidates, micro, packed=trainer.packing)
        if fits(trainer, rows):
            break
        longest = rows[0]
        if micro == 1:
            raise MachineError(
                f"Not even one row fits into memory: {longest.id} has {len(longest)} tokens, "
                f"{longest.rendered.supervised_tokens} of them learnt.",
                remedy=REMEDY,
            )
        why = f"{micro} rows of up to {len(longest)} tokens, such as {longest.id}, do not fit into memory"
        micro = halved(micro, whole)
    return {"asked": asked, "micro_batch_size": micro, "accumulation": whole // micro, "probed": probe, "why": why}


def halved(micro: int, whole: int) -> int:
    """Half of a micro-batch or a little less: it must divide the global batch."""
    return next(size for size in range(micro // 2, 0, -1) if whole % size == 0)


def largest(rows: Sequence[Row], micro: int, *, packed: bool) -> list[Row]:
    """Rows that as one micro-batch need about what the largest of that size does; the longest comes first.

    Padded, activations go by the longest row, and logits by the supervised tokens: the longest row, and with it those
    with the most supervised tokens. Packed, activations go by all tokens: the longest rows.
    """
    if packed:
        return sorted(rows, key=lambda row: (len(row), row.rendered.supervised_tokens), reverse=True)[:micro]
    longest = max(rows, key=lambda row: (len(row), row.rendered.supervised_tokens))
    others = sorted((row for row in rows if row is not longest), key=lambda row: -row.rendered.supervised_tokens)
    return [longest, *others[: micro - 1]]


def fits(trainer: SupervisedTrainer, rows: Sequence[Row]) -> bool:
    """Whether a forward and backward pass over these rows fits beside the optimizer's state and gradients.

    Afterwards weights, gradients, optimizer and random states are as they were.
    """
    with _put_back(trainer):
        try:
            _largest_step(trainer, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return False
    return True


def _largest_step(trainer: SupervisedTrainer, rows: Sequence[Row]) -> None:
    # A step of the shortest row first: during the second micro-batch of a run's second step, gradients and the
    # optimizer's state are there already.
    shortest = min(rows, key=len)
    _forward_and_backward(trainer, [shortest])
    # Of a paged optimizer the state need not fit, and bitsandbytes would never free it.
    if "paged" not in str(trainer.args.optim).lower():
        trainer.create_optimizer().step()
    _forward_and_backward(trainer, rows)


def _forward_and_backward(trainer: SupervisedTrainer, rows: Sequence[Row]) -> None:
    import torch

    device = str(trainer.args.device)
    made = trainer.data_collator([{"input_ids": row.rendered.input_ids, "labels": row.labels} for row in rows])
    batch = {name: tensor.to(device) for name, tensor in made.items()}
    tokens = torch.tensor(sum(row.rendered.supervised_tokens for row in rows), device=device)
    with torch.autocast(torch.device(device).type, torch.bfloat16, enabled=trainer.args.bf16):
        loss = trainer.compute_loss(trainer.model, batch, num_items_in_batch=tokens)
    loss.backward()  # type: ignore[no-untyped-call]


@contextmanager
def _put_back(trainer: SupervisedTrainer) -> Iterator[None]:
    import numpy as np
    import torch

    model, args = trainer.model, trainer.args
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = [parameter.detach().to("cpu", copy=True) for parameter in trained]
    states = random.getstate(), np.random.get_state()
    training = model.training
    model.train()
    if args.gradient_checkpointing:  # The Trainer does so at its own beginning, which is later.
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=args.gradient_checkpointing_kwargs)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        trainer.optimizer = None  # The Trainer makes a new one.
        with torch.no_grad():
            for parameter, value in zip(trained, before, strict=True):
                parameter.grad = None
                parameter.copy_(value)
        random.setstate(states[0])
        np.random.set_state(states[1])
        model.train(training)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            with suppress(RuntimeError):
                torch.cuda.reset_peak_memory_stats()


def ran_out(trainer: SupervisedTrainer, out: Path, chosen: dict[str, Any], kept: int | None) -> MachineError:
    """Memory ran out in the middle: write down that the next start halves the micro-batch, and say so.

    The run ends rather than going on by itself, since a fresh process has its memory in one piece.
    """
    step = int(trainer.state.global_step) + 1
    rows = [trainer.rows[number] for number in trainer.order.rows_of_step(step)]
    longest = max(rows, key=len)
    told = f"Memory ran out in step {step}, whose longest row, {longest.id}, has {len(longest)} tokens."
    micro, whole = chosen["micro_batch_size"], chosen["micro_batch_size"] * chosen["accumulation"]
    if micro == 1:
        return MachineError(told, remedy=f"The micro-batch is one row already. {REMEDY}")
    half = halved(micro, whole)
    why = f"with {micro} rows memory ran out in step {step}"
    save(out, chosen | {"micro_batch_size": half, "accumulation": whole // half, "why": why})
    goes_on = f"goes on from step {kept}" if kept else "starts again"
    return MachineError(
        told,
        remedy=f"Run the same command again: it {goes_on} with {half} rows at once instead of {micro} and the same "
        "global batch.",
    )
