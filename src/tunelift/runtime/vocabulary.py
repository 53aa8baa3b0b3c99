"""Tokens added to a vocabulary, and the embeddings that go with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tunelift.errors import UserError
from tunelift.runtime.scripts import UNSPACED

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerFast


def add_tokens(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> dict[int, list[int]]:
    """Add tokens to a tokenizer, as plain ones: rows may hold them, and decoding shows them.

    Returns:
        By token id, the ids that its text was written with until now; none for a token that was there already.

    Raises:
        UserError: a text is an ordinary piece of the vocabulary: it would not become a token of its own, and the
            embedding that training changes would be that of a part of many words.
    """
    if not texts:
        return {}
    from tokenizers import AddedToken

    known = tokenizer.get_vocab()
    own = {token.content for token in tokenizer.added_tokens_decoder.values()}
    if pieces_of_words := [text for text in texts if text in known and text not in own]:
        raise UserError(
            f"train.added_tokens names {', '.join(map(repr, pieces_of_words))}, which the vocabulary has already, as a "
            "piece of ordinary words: nothing would be added.",
            remedy="Take it out, or choose a text that is no piece of words, such as <|name|>.",
        )
    pieces = {text: list(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts if text not in known}
    tokenizer.add_tokens([AddedToken(text, normalized=False, special=False) for text in pieces])
    ids = tokenizer.get_vocab()
    return {ids[text]: pieces.get(text, []) for text in texts}


class Cuts:
    """Looks for words that an added token cuts: `sku` makes of `skull` the tokens `sku` and `ll`.

    A token is found wherever its text stands (it is not limited to whole words, since llama.cpp knows no such limit).
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._words = {token: re.compile(_at_edges(token)) for token in tokens}

    def of(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> tuple[tuple[str, str], ...]:
        """Token and word, once for each place."""
        return tuple(self._of(messages, tools)) if self._words else ()

    def _of(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any] | None) -> Iterator[tuple[str, str]]:
        text = "\n".join(_strings([*messages, *(tools or ())]))
        for token, word in self._words.items():
            if token in text:
                yield from ((token, found) for found in word.findall(text) if found != token)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _strings(entry)


def _at_edges(token: str) -> str:
    """The token with the letters and digits that touch it; scripts without blanks have no word to be cut."""
    letter = r"(?:(?!" + UNSPACED.pattern + r")\w)*"
    before, after = (
        letter if re.match(r"\w", end) and not UNSPACED.match(end) else "" for end in (token[0], token[-1])
    )
    return before + re.escape(token) + after


def cut_lines(counted: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """`added_tokens` of a data set's stats.json as lines for people."""
    return [
        f"added token {token!r} cuts {cut['words']:,} words of {cut['rows']:,} rows, such as {cut['such_as']} "
        f"({cut['first']})"
        for token, cut in counted.items()
    ]


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
