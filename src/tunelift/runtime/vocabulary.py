"""Tokens added to a vocabulary, and the embeddings that go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast


def add_tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> dict[int, list[int]]:
    """Add tokens to a tokenizer, as plain ones: rows may hold them, and decoding shows them.

    Returns:
        By token id, the ids that its text was written with until now; none for a token that was there already.
    """
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    pieces = {text: list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts if text not in known}
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in pieces])
    ids = tokenizer.get_vocab()
    return {ids[text]: pieces.get(text, []) for text in texts}


def fit_embeddings(model: Any, tokenizer: PreTrainedTokenizerFast) -> None:
    """Give the model an embedding, and a place in its output, for each of the tokenizer's tokens; never take any."""
    if len(tokenizer) > model.get_input_embeddings().weight.shape[0]:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)


def start_embeddings(model: Any, pieces: Mapping[int, Sequence[int]]) -> None:
    """Let each new token begin as the mean of the tokens that its text was written with.

    It begins near its meaning, and the same in every run (transformers draws new rows at random).
    """
    import torch

    with torch.no_grad():
        for weight in embedding_weights(model):
            for token, parts in pieces.items():
                if parts:
                    weight[token] = weight[list(parts)].float().mean(0).to(weight.dtype)


def embedding_weights(model: Any) -> list[torch.Tensor]:
    """The matrices [vocabulary, hidden] of input and output; one if the model ties them."""
    layers = (model.get_input_embeddings(), model.get_output_embeddings())
    return list({id(layer.weight): layer.weight for layer in layers if layer is not None}.values())


def is_tied(model: Any) -> bool:
    """Whether input and output embeddings are one matrix."""
    return len(embedding_weights(model)) == 1
