"""From what was seen to the choices of a config: scorers, splits, lengths, model and batch, each with its reason."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from tunelift.config.curation import SplitConfig
from tunelift.config.resolve import MAX_AUTO_CONTEXT, resolve
from tunelift.config.schema import Config
from tunelift.facts import facts_for
from tunelift.runtime import hardware
from tunelift.runtime.forecast import forecast
from tunelift.runtime.published import published_shape
from tunelift.runtime.serving import serving_fits
from tunelift.runtime.shape import ModelShape
from tunelift.runtime.template import read_template
from tunelift.stages.curate.split import split_of_key
from tunelift.starting.shapes import kind_of
from tunelift.starting.survey import SHOWN, Survey, estimate, quantile
from tunelift.starting.thinking import Thinking
from tunelift.tasks.scorers import canonical_text

SEED = 17
SMALL_MODEL = "runs/models/smollm2-135m-instruct"
"""The quickstart's; scripts/fetch_assets.py makes it."""
TEMPLATE = Path(__file__).parent / "chatml-tools.jinja"
"""A chat template for rows with tools, copied beside the config where the model's own knows none."""
LARGE_MODELS = (
    "meta-llama/Llama-3.1-8B-Instruct",
    "meta-llama/Llama-3.2-3B-Instruct",
    "meta-llama/Llama-3.2-1B-Instruct",
)
"""Largest first."""
REVISIONS = {"meta-llama/Llama-3.1-8B-Instruct": "0e9e39f249a16976918f6564b8830bc894c89659"}
FEW_LABELS, MOST_LABELS, LABEL_WORDS = 50, 500, 5
"""Labels are few, short, and each stands for several rows. More than a few are no numbers, and rarely stand alone."""
LABELS_ONCE = 0.25
"""Share of more than a few labels that may stand in one row only."""
LABEL_CHARACTERS, SHORT_CHARACTERS = 24, 12
"""Longest label and longest short answer in a script without blanks, where five words have some twelve characters."""
NEARLY_ALL = 0.95
LEAST_ITEMS = 10
"""Rows that validation and test should have, at least as the shares have it."""
LARGEST_SHARE = 0.25
SMALL_CONTEXT = 8192
"""Its longest sequence, before it is made."""
LONGEST = {"cpu": 1024, "cuda": 4096}
"""Tokens of a row, where that costs no more than `SPARED` of all tokens; longer only where it would."""
SPARED, MOST_LOST = 0.02, 0.05
"""Share of all tokens that may lie in rows beyond `max_length`, by what is seen here and by what curation measures."""
TEMPLATE_TOKENS, TURN_TOKENS = 32, 8
"""What a chat template adds: its own system message, and marks around each message."""
MAX_ANSWER = 4096
LEAST_THINKING = 2048
"""Tokens of an answer that begins with thinking: an arm that is cut off inside it has not answered."""
MOST_SHOTS = 6
"""Examples in a prompt, where it is not searched for."""
LEAST_STEPS = 10
"""In an epoch."""
ROOM = 1.25
"""A group's share may grow so much, since rows are dropped."""
ENOUGH_GROUPS = 100
"""With a tenth of so many a split is never empty."""
SEEDS = 2000
NO_THINKING = Thinking()


@dataclass(frozen=True)
class Chosen:
    """A value, and why."""

    value: Any
    why: str


def scorers(seen: Survey) -> Chosen:
    """The scorers that fit nearly all replies; the first is what the verdict goes by."""
    share = {kind: count / max(1, seen.usable) for kind, count in seen.kinds.items()}
    calls = share.get("tool_call", 0) + share.get("calls_in_text", 0)
    if calls + no_calls(seen) / max(1, seen.usable) >= NEARLY_ALL:
        judge = {"scorer": "tool_call", "find": "anywhere"} if seen.fences else "tool_call"
        return Chosen([judge], "the replies are tool calls")
    if share.get("json", 0) + share.get("calls_in_text", 0) >= NEARLY_ALL:
        kinds = " and ".join(f"{kind}s" for kind in ("object", "list") if seen.shape.kinds[kind])
        if seen.fences:  # `valid_json` knows no fence.
            fenced = [{"scorer": name, "find": "anywhere"} for name in ("field_f1", "exact_match")]
            return Chosen(fenced, f"the replies are JSON {kinds} in code fences")
        return Chosen(["field_f1", "valid_json", "exact_match"], f"the replies are JSON {kinds}")
    if calls > 1 - NEARLY_ALL:
        why = f"{calls:.0%} of the replies are tool calls, and the others want none; chrf: how alike those texts are"
        return Chosen(["tool_call", "chrf"], why)
    if has_labels(seen):
        why = f"the replies are {len(seen.replies)} different labels"
        if spelling_counts(seen):
            return Chosen([{"scorer": "exact_match", "strict": True}], f"{why}, some alike but for case or marks")
        return Chosen(["exact_match"], why)
    if share.get("number", 0) == 1:  # By `number`, a reply without one is never right.
        return Chosen(["number", "exact_match"], "the replies are numbers")
    if _short(seen, SHORT_CHARACTERS):
        return Chosen(["exact_match", "chrf"], "the replies are short answers")
    # Where a script has no blanks, words are not counted by them.
    unit = "characters" if seen.unspaced > (1 - NEARLY_ALL) * seen.usable else "words"
    sizes = seen.reply_characters if unit == "characters" else seen.reply_words
    least, most = max(1, int(quantile(sizes, 0.01))), int(quantile(sizes, 0.99))
    length = {"scorer": "length", "unit": unit, "at_least": least, "at_most": most}
    return Chosen(["chrf", length], "the replies are free text; length: as 98% of them")


def no_calls(seen: Survey) -> int:
    """Rows that call no tool by an empty list, where others make calls."""
    return seen.replies["[]"] if seen.kinds["tool_call"] + seen.kinds["calls_in_text"] else 0


def name_of(scorer: Any) -> str:
    """The scorer's name, by its entry in a config."""
    return str(scorer if isinstance(scorer, str) else scorer["scorer"])


def has_labels(seen: Survey) -> bool:
    """Whether the replies are a small set of labels."""
    calls = seen.kinds["tool_call"] + seen.kinds["calls_in_text"]
    plain = max(calls, seen.kinds["json"] + seen.kinds["calls_in_text"]) < NEARLY_ALL * seen.usable
    different = len(seen.replies)
    few = different <= MOST_LABELS and different * 3 <= seen.usable
    if different > FEW_LABELS:
        once = sum(count == 1 for count in seen.replies.values())
        few = few and once <= LABELS_ONCE * different and seen.kinds["number"] < NEARLY_ALL * seen.usable
        few = few and kind_of([answer for _, answer in seen.answers]) is None
    return plain and calls <= (1 - NEARLY_ALL) * seen.usable and few and _short(seen, LABEL_CHARACTERS)


def spelling_counts(seen: Survey) -> bool:
    """Whether there are labels that differ only in what `exact_match` does not see unless it is strict."""
    return has_labels(seen) and len({canonical_text(label) for label in seen.replies}) < len(seen.replies)


def _short(seen: Survey, characters: int) -> bool:
    """Whether nearly all replies have few words; or few characters, where most are in a script without blanks."""
    if 2 * seen.unspaced > seen.usable:
        return quantile(seen.reply_characters, 0.95) <= characters
    return quantile(seen.reply_words, 0.95) <= LABEL_WORDS


def splits(seen: Survey) -> Chosen:
    """Shares of validation and test: a tenth each, or more where that would be too few groups."""
    groups = seen.groups
    share = min(LARGEST_SHARE, max(0.1, ceil(100 * LEAST_ITEMS / max(1, groups)) / 100))
    what = "rows" if groups == seen.usable else "groups of rows (rows that are alike or ask the same stay together)"
    why = "" if share == 0.1 else f"A tenth of {groups} {what} would be too few"
    return Chosen({"validation": share, "test": share}, why)


def training_replies(seen: Survey, shares: dict[str, float], seed: int) -> list[str]:
    """Short replies of the sample's rows that the split will put into train."""
    config = SplitConfig.model_validate(shares)
    return [answer for key, answer in seen.answers if answer and split_of_key(key, config, seed) == "train"]


def group_ratio(seen: Survey) -> Chosen | None:
    """`max_group_ratio` where many rows have one first message; None where the default allows for it."""
    (key, rows), *_ = seen.prompts.most_common(1)
    share = rows / seen.usable
    if share * ROOM <= SplitConfig.model_fields["max_group_ratio"].default:
        return None
    opening = repr(seen.shared[key][:SHOWN])
    how = f"begin with {opening} and"
    if key in seen.alike:
        how = f"begin alike or ask the same (one of them begins with {opening}), so they"
    why = f"{rows:,} of {seen.usable:,} rows {how} stay in one split"
    return Chosen(min(1.0, ceil(100 * share * ROOM) / 100), why)


def seed(seen: Survey, shares: dict[str, float]) -> Chosen:
    """The usual one, or the first from there on with which no split is empty, or filled by one group of rows."""
    number = next((one for one in range(SEED, SEED + SEEDS) if _divides(seen, shares, one)), SEED)
    reasons = (
        ("each split gets its share of the prompts", seen.groups < ENOUGH_GROUPS),
        ("the prompt of most rows is in train", group_ratio(seen) is not None),
    )
    why = "with this seed " + " and ".join(reason for reason, counts in reasons if counts)
    return Chosen(number, why if number != SEED else "")


def _divides(seen: Survey, shares: dict[str, float], seed: int) -> bool:
    config = SplitConfig.model_validate(shares)
    (commonest, _), *_ = seen.prompts.most_common(1)
    if group_ratio(seen) and split_of_key(commonest, config, seed) != "train":
        return False
    if seen.groups >= ENOUGH_GROUPS:
        return True
    found = Counter(split_of_key(key, config, seed) for key in seen.prompts)
    return all(found[split] == int(share * seen.groups) for split, share in shares.items())


@dataclass(frozen=True)
class Lengths:
    """Tokens, with what the template adds."""

    max_length: int
    truncated: float
    """Share of what is in rows that are longer: of all tokens or of the last replies', the greater."""
    longer: int
    """Those rows."""
    answer: int
    """Longest reply, for the evaluation."""
    usual: int
    """Of the 99th percentile of the rows."""
    longest: int
    engine: int
    """What `engine.max_model_len: auto` comes to, at least."""
    context: int
    """The model's; where it is not known, what `max_length` and the engine take it for."""
    why: str
    told: int = 0
    """What untuned arms are told."""


def lengths(
    seen: Survey, device: str, folder: Path | None, context: int | None = None, thought: Thinking = NO_THINKING
) -> Lengths:
    """Tokens of rows and replies: by the model's tokenizer where its folder is there, otherwise from words and bytes.

    Args:
        seen: What was seen.
        device: `cpu` or `cuda`: how long rows may be.
        folder: Of the model, with its tokenizer.json.
        context: The model's, if it is known.
        thought: What answers begin with.
    """
    measured = _measured(seen.sample, folder)
    ratios = _ratios(seen, measured)
    extra = [TEMPLATE_TOKENS + TURN_TOKENS * messages for messages in seen.messages]
    rows = [ratio * value + more for ratio, value, more in zip(ratios, seen.estimates, extra, strict=True)]
    learnt = [ratio * value for ratio, value in zip(ratios, seen.reply_estimates, strict=True)]
    usual, longest = quantile(rows, 0.99), max(rows)
    engine = min(MAX_AUTO_CONTEXT, context or MAX_AUTO_CONTEXT)
    wanted = longest if longest <= 2 * usual else usual
    # Of the first rows more is known: what they lose, the others may lose too.
    weighed = [(rows[:some], values[:some]) for some in (len(rows), len(seen.sample)) for values in (rows, learnt)]
    # Where the limit of this start would lose more than a few of the rows, the model's context is the limit.
    wanted = max(min(LONGEST[device], wanted), *(_holding(*some) for some in weighed))
    max_length = min(context or _rounded(wanted, 64), _rounded(wanted, 64))
    around = next(iter(_measured([thought.around], folder)), estimate(thought.around))
    written = _rounded(1.25 * quantile(learnt, 0.99) + around, 16)
    room = context // 2 if context else max(engine // 2, max_length)
    answer = min(MAX_ANSWER, max(written, LEAST_THINKING if thought.thinks or thought.unseen else 0), room)
    how = "by the model's tokenizer" if measured else "estimated from words and bytes"
    return Lengths(
        max_length=max_length,
        truncated=max(_beyond(max_length, *some) for some in weighed),
        longer=sum(value > max_length for value in rows),
        answer=answer,
        usual=ceil(usual),
        longest=ceil(longest),
        engine=engine,
        context=context or max(engine, _rounded(max_length + answer, 64)),
        why=f"{how}: 99% of the rows have at most {ceil(usual):,} tokens, the longest {ceil(longest):,}"
        + (f"; the model's context is {context:,}" if max_length == context else ""),
    )


def _holding(rows: Sequence[float], weights: Sequence[float]) -> float:
    """The least length up to which the rows hold all of the weight but `SPARED`."""
    left = (1 - SPARED) * sum(weights)
    for length, weight in sorted(zip(rows, weights, strict=True)):
        left -= weight
        if left <= 0:
            return length
    return max(rows)


def _beyond(limit: float, rows: Sequence[float], weights: Sequence[float]) -> float:
    """Share of the weight in rows that are longer."""
    return sum(weight for length, weight in zip(rows, weights, strict=True) if length > limit) / sum(weights)


def allowed_loss(sizes: Lengths) -> float:
    """`train.max_truncated_ratio`: twice what was seen, since the tokenizer may find more, and never much."""
    return min(MOST_LOST, round(2 * sizes.truncated + 0.01, 2)) if sizes.longer else 0.0


def _measured(texts: Sequence[str], folder: Path | None) -> list[int]:
    """Tokens of each of the texts; none of them without a tokenizer."""
    file = folder / "tokenizer.json" if folder else None
    if file is None or not file.is_file():
        return []
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return [len(one.ids) for one in tokenizer.encode_batch(list(texts), add_special_tokens=False)]


def _ratios(seen: Survey, measured: Sequence[int]) -> list[float]:
    """By how much `estimate` is off for each row: as measured, and for rows beyond the sample nearly at worst."""
    known = [tokens / max(1.0, value) for tokens, value in zip(measured, seen.estimates, strict=False)]
    return known + [quantile(known, 0.95) if known else 1.0] * (seen.usable - len(known))


def _rounded(value: float, step: int) -> int:
    return max(step, ceil(value / step) * step)


def few_shot(sizes: Lengths, most: int = MOST_SHOTS) -> int:
    """Examples that the prompted arm has room for; 0 if the model's context holds none beside a row."""
    fitting = min(most, (sizes.engine - sizes.answer - sizes.told) // max(1, sizes.usual) - 1)
    return fitting if fitting >= 1 else int(_needed(sizes, 1) <= sizes.context)


def max_model_len(sizes: Lengths, shots: int) -> int | None:
    """`engine.max_model_len` where `auto` is too small for these examples, a row and its answer."""
    needed = min(sizes.context, _needed(sizes, shots))
    return needed if needed > sizes.engine else None


def _needed(sizes: Lengths, shots: int) -> int:
    return _rounded(shots * sizes.usual + sizes.told + sizes.max_length + sizes.answer, 64)


def batch(seen: Survey, share: float, device: str) -> int:
    """Rows in a step: so that an epoch has some steps."""
    rows = seen.usable * (1 - 2 * share)
    sizes = (8, 4, 2, 1) if device == "cpu" else (16, 8, 4, 2, 1)
    return next((size for size in sizes if rows / size >= LEAST_STEPS), 1)


def base_model(machine: hardware.Hardware, given: str | None, seen: Survey) -> Chosen:
    """The model: the one given; on a CPU the quickstart's; on a GPU the largest that it can train and serve."""
    if given is not None:
        return Chosen(given, "as asked for")
    if machine.device == "cpu":
        return Chosen(SMALL_MODEL, "no GPU here: the quickstart's small model, made by scripts/fetch_assets.py")
    for name in LARGE_MODELS:
        shape = published_shape(name)
        if shape and _fits(name, shape, machine, seen):
            return Chosen(name, f"the largest of {len(LARGE_MODELS)} that {machine.name} trains and serves")
    return Chosen(SMALL_MODEL, f"{machine.name} has too little memory for a larger one")


def context_of(model: str) -> int | None:
    """The tokens that a model takes, where its config.json is there or its shape is known."""
    file = Path(model) / "config.json"
    if file.is_file():
        described = json.loads(file.read_text(encoding="utf-8"))
        return int(described.get("max_position_embeddings") or 0) or None
    shape = published_shape(model)
    return shape.context if shape else SMALL_CONTEXT if model == SMALL_MODEL else None


def needs_template(seen: Survey, model: str) -> bool:
    """Whether the rows use tools and the model knows ChatML but no tools, so that `TEMPLATE` serves it."""
    if not seen.tools:
        return False
    template = read_template(Path(model)) if Path(model).is_dir() else None
    if template is None:
        return model == SMALL_MODEL
    return isinstance(template, str) and "<|im_start|>" in template and "tools" not in template


def _fits(name: str, shape: ModelShape, machine: hardware.Hardware, seen: Survey) -> bool:
    sizes = lengths(seen, machine.device, None, shape.context)
    config = Config.model_validate(
        {
            "name": "fit",
            "model": {"id": name},
            "curate": {"sources": [{"path": "any.jsonl"}]},
            "train": {**training(machine.device), "max_length": sizes.max_length},
            "engine": {"max_model_len": max_model_len(sizes, few_shot(sizes)) or "auto"},
        }
    )
    chosen = resolve(config, facts_for(machine, shape.context, shape)).config
    plan = forecast(shape, chosen.train, memory_gib=machine.memory_gib, tflops=None)
    merged = serving_fits(shape, chosen.engine, machine.memory_gib, chosen.train.adapter)["merged"]
    return plan.fits and merged.sequences > 0


def training(device: str) -> dict[str, Any]:
    """Settings as in the shipped recipes, by the kind of machine."""
    adapter = {"kind": "qlora", "rank": 16, "alpha": 32}
    if device == "cpu":
        return {"adapter": adapter, "learning_rate": 2e-3, "epochs": 2}
    return {"adapter": adapter, "learning_rate": 2e-4, "epochs": 3, "optimizer": "paged_adamw_8bit"}
