"""Greedy answers of a model that is in memory: to look at, and to choose a step by, while it trains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def greedy(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[Sequence[int]],
    *,
    max_tokens: int,
    stops: Sequence[int],
    rows_at_once: int,
    bf16: bool,
) -> list[str]:
    """The likeliest continuation of each prompt, token by token, as text without its end token.

    As vLLM is asked here: no penalty, no sampling, nothing from the model's own generation config. The model comes back
    in the mode it was in, and no random state moves.

    Args:
        model: A causal language model, bare or with a PEFT adapter, whose adapter then answers.
        tokenizer: Turns the answer into text; its padding token fills prompts on the left.
        prompts: Token ids, each ending where the answer begins.
        max_tokens: Longest answer.
        stops: Token ids that end an answer.
        rows_at_once: Prompts in one batch.
        bf16: Compute in it by autocast, as training does; fp32 adapters need it over a bf16 base.
    """
    import torch

    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    device = next(bare.parameters()).device
    answers: dict[int, str] = {}
    # Prompts of like length together: less padding.
    order = sorted(range(len(prompts)), key=lambda number: len(prompts[number]), reverse=True)
    with (
        _answering(model, bare, max_tokens, stops, tokenizer.pad_token_id),
        torch.autocast(device.type, torch.bfloat16, enabled=bf16),
    ):
        for start in range(0, len(order), rows_at_once):
            numbers = order[start : start + rows_at_once]
            batch = [list(prompts[number]) for number in numbers]
            longest = max(map(len, batch))
            ids = [[tokenizer.pad_token_id] * (longest - len(row)) + row for row in batch]
            mask = [[0] * (longest - len(row)) + [1] * len(row) for row in batch]
            written = bare.generate(
                input_ids=torch.tensor(ids, device=device), attention_mask=torch.tensor(mask, device=device)
            )
            for number, row in zip(numbers, written[:, longest:].tolist(), strict=True):
                answers[number] = _text(tokenizer, row, stops)
    return [answers[number] for number in range(len(prompts))]


def _text(tokenizer: PreTrainedTokenizerFast, ids: list[int], stops: Sequence[int]) -> str:
    end = next((position for position, token in enumerate(ids) if token in stops), len(ids))
    return str(tokenizer.decode(ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False))


@contextmanager
def _answering(model: Any, bare: Any, max_tokens: int, stops: Sequence[int], padding: int) -> Iterator[None]:
    import torch
    from transformers import GenerationConfig

    own, training = bare.generation_config, model.training
    # As the model's own: what a config given to `generate` leaves open is filled in from the model's, penalties too.
    bare.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=False, max_new_tokens=max_tokens, eos_token_id=list(stops), pad_token_id=padding, use_cache=True
    )
    model.eval()
    try:
        with torch.no_grad(), torch.random.fork_rng():
            yield
    finally:
        bare.generation_config = own
        model.train(training)
