"""What must hold before the first step, looked up in the very token ids that training will see."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.config.schema import TrainConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.chat import mark_supervised
from tunelift.runtime.encoded import Row
from tunelift.runtime.lengths import LongRow, Lost, percent
from tunelift.runtime.modeling import read_generation_config
from tunelift.runtime.vocabulary import cut_lines
from tunelift.stages.train.settings import micro_batch_size, packing, total_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SHOWN_ROWS = 3


def check(
    tokenizer: PreTrainedTokenizerFast, model: Path, rows: Sequence[Row], eval_rows: Sequence[Row], max_length: int
) -> dict[str, Any]:
    """Refuse what would train wrongly, and return what was found, as JSON.

    Raises:
        UserError: no rows, a row with nothing to learn, or a row that would have to be cut.
    """
    if not rows:
        raise UserError("The training split is empty.", remedy="Look at what curation dropped, in its dropped.jsonl.")
    _refuse_unsupervised([*rows, *eval_rows])
    _refuse_too_long([*rows, *eval_rows], max_length)
    learnt = Counter(token for row in rows for token in turn_ends(row))
    stops = stop_tokens(tokenizer, model)
    bos = tokenizer.bos_token_id
    return {
        "rows": len(rows),
        "validation_rows": len(eval_rows),
        "tokens": sum(map(len, rows)),
        "supervised_tokens": sum(row.rendered.supervised_tokens for row in rows),
        "longest_row": max(map(len, rows)),
        "max_length": max_length,
        "rows_cut": 0,
        "end_of_turn": {
            "learnt": {tokenizer.convert_ids_to_tokens(token): count for token, count in learnt.items()},
            "ids": sorted(learnt),
            "stops_generation": set(learnt) <= set(stops),
        },
        "double_bos": sum(1 for row in rows if bos is not None and row.rendered.input_ids[:2] == [bos, bos]),
        "padding": tokenizer.convert_ids_to_tokens(padding_token(tokenizer, [*stops, *learnt])),
        "samples": [{"id": row.id, "text": mark_supervised(tokenizer, row.rendered)} for row in rows[:SHOWN_ROWS]],
    }


def _refuse_unsupervised(rows: Sequence[Row]) -> None:
    for row in rows:
        if not row.rendered.supervised_tokens:
            raise UserError(
                f"Row {row.id} has no token to learn from.",
                remedy="Give it an assistant turn with content, or remove it.",
            )


def _refuse_too_long(rows: Sequence[Row], max_length: int) -> None:
    """Curation has dropped, and told, what is too long for it: here nothing is left to lose."""
    long = tuple(LongRow(row.id, "", len(row), row.rendered.supervised_tokens) for row in rows if len(row) > max_length)
    if long:
        left = sum(row.rendered.supervised_tokens for row in rows if len(row) <= max_length)
        lost = Lost(max_length, long, left)
        raise UserError(
            f"{len(long)} rows are longer than train.max_length={max_length} tokens and nothing is ever cut. They hold "
            f"{percent(lost.ratio)} of the supervised tokens.\n{lost.account()}",
            remedy=f"Set train.max_length to {lost.longest}, or run curate with the same train.max_length.",
        )


def by_curation(dataset: Path, name: str) -> Any:
    """A part of curation's stats.json, such as `truncation`; none for a data set without it."""
    path = dataset / "stats.json"
    stats = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return stats.get(name)


def plan_batches(config: TrainConfig, rows: Sequence[Row], seed: int) -> dict[str, Any]:
    """What the run will compute: `padding_share` of all positions, and `batches` with the layout not chosen beside it.

    The order of the rows is a pure function of the seed, so this is known before the first step.
    """
    from tunelift.stages.train.order import Positions, RandomOrder, padded_positions

    lengths = [len(row) for row in rows]
    steps = list(RandomOrder(lengths, config.global_batch_size, seed).steps(total_steps(config, len(rows))))
    padded = padded_positions(lengths, steps, micro_batch_size(config))
    packed = Positions(padded.computed - padded.padding, 0)
    return {
        "padding_share": (packed if packing(config) else padded).padding_share,
        "batches": {
            "packing": packing(config),
            "micro_batch_size": micro_batch_size(config),
            "padded": padded.as_json(),
            "packed": packed.as_json(),
        },
    }


def turn_ends(row: Row) -> list[int]:
    """The last token of each learnt turn."""
    mask, ids = row.rendered.mask, row.rendered.input_ids
    following = [*mask[1:], False]
    return [token for token, learnt, goes_on in zip(ids, mask, following, strict=True) if learnt and not goes_on]


def stop_tokens(tokenizer: PreTrainedTokenizerFast, model: Path) -> list[int]:
    """What ends generation: the generation config's and the tokenizer's end-of-sequence tokens."""
    configured = read_generation_config(model).get("eos_token_id")
    stops = configured if isinstance(configured, list) else [configured]
    return sorted({int(token) for token in (*stops, tokenizer.eos_token_id) if token is not None})


def padding_token(tokenizer: PreTrainedTokenizerFast, taken: Sequence[int]) -> int:
    """A token to fill rows with: never learnt or attended to, and if possible none that ends a turn."""
    special = sorted(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)
    named = [token for token in special if "pad" in str(tokenizer.convert_ids_to_tokens(token)).lower()]
    wanted = (tokenizer.pad_token_id, *named, tokenizer.unk_token_id, *special)
    return int(next((token for token in wanted if token is not None and token not in taken), taken[0]))


def show(found: dict[str, Any]) -> None:
    """Print what was found."""
    learnt = ", ".join(found["end_of_turn"]["learnt"])
    console.say(
        f"train: {found['rows']:,} rows, {found['supervised_tokens']:,} of {found['tokens']:,} tokens are learnt; "
        f"longest row {found['longest_row']} of {found['max_length']} tokens, none is cut"
    )
    if found["truncation"]:
        lost = found["truncation"]
        console.say(
            f"train: curation dropped {lost['rows']:,} rows over {lost['max_length']} tokens, with "
            f"{lost['supervised_tokens']:,} supervised tokens, {percent(lost['ratio'])} of what could be learnt"
        )
    for line in cut_lines(found["added_tokens"] or {}):
        console.say(f"train: {line}")
    console.say(f"train: {_layout(found['batches'])}")
    console.say(f"train: every reply ends with {learnt}, which is learnt; rows are padded with {found['padding']}")
    if not found["end_of_turn"]["stops_generation"]:
        console.say(f"train: {learnt} did not end generation in the base; in the tuned model it does")
    for sample in found["samples"]:
        console.say(f"train: row {sample['id']}, learnt part in ⟦ ⟧:")
        for line in sample["text"].rstrip("\n").split("\n"):
            console.say(f"    {line}")


def _layout(batches: dict[str, Any]) -> str:
    padded = batches["padded"]
    more = padded["positions"] / batches["packed"]["positions"] - 1
    if batches["packing"]:
        return f"rows are packed, no computed position is padding; padded they would compute {percent(more)} more"
    return (
        f"{percent(padded['padding_share'])} of the computed positions are padding, with rows of like length together; "
        "packed, none would be"
    )
