"""The config's adapter on the model at hand: what is trained beside LoRA, and proof that each option took hold."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.config.schema import MERGED_ONLY_INITS, TrainConfig
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.runtime.vocabulary import is_tied
from tunelift.runtime.weights import empty_model
from tunelift.stages.train.reach import (
    did_you_mean,
    in_words,
    layers_with_adapter,
    matches,
    reached,
    refuse_dead_alternatives,
)
from tunelift.stages.train.settings import lora_config

if TYPE_CHECKING:
    from peft import LoraConfig


def adapter_for(config: TrainConfig, model: Any, tokens: Sequence[int]) -> LoraConfig:
    """PEFT's settings for this model.

    Where the model ties input and output embeddings they stay one matrix, whichever of the two is named.

    Args:
        model: The base, with a row for each token.
        tokens: Ids of the tokens whose embeddings are trained.

    Raises:
        UserError: the config does not fit the model.
    """
    names = {_name_of(model, layer) for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    ends = {name for name in names if name}
    whole = _modules_to_save(config, model)
    tied = is_tied(model)
    embedding = _name_of(model, model.get_input_embeddings())
    saved = {name for name in ends if any(matches(name, one) for one in whole)}
    if tied and saved:
        whole = [one for one in whole if not any(matches(name, one) for name in ends)] + [embedding]
        saved = ends
        console.say(f"train: the model ties its embeddings, so {' and '.join(sorted(ends))} are trained as one matrix")
    _refuse_absent_targets(config, model)
    _refuse_targets_at_the_ends(config, embedding, _name_of(model, model.get_output_embeddings()), tied)
    _refuse_idle_exclusions(config, model)
    rows = {name: list(tokens) for name in sorted({embedding} if tied else ends) if name not in saved}
    with explained(config):
        return lora_config(
            config,
            modules_to_save=whole or None,
            trainable_token_indices=rows if tokens and rows else None,
            ensure_weight_tying=tied and bool(saved),
        )


def _modules_to_save(config: TrainConfig, model: Any) -> list[str]:
    """The names in the config, each of which the model must have as a module that can be trained."""
    modules = dict(model.named_modules(remove_duplicate=False))
    for one in config.adapter.modules_to_save:
        found = [name for name in modules if name and matches(name, one)]
        if not found:
            raise UserError(
                f"train.adapter.modules_to_save names {one!r}, which the model does not have.",
                remedy=did_you_mean(one, modules) or "Name modules of the model, such as lm_head.",
            )
        if any(_is_in_4_bits(config, model, modules[name]) for name in found):
            raise UserError(
                f"train.adapter.modules_to_save names {one!r}, which kind: qlora holds in 4 bits; such weights cannot "
                "be trained.",
                remedy="Take it out (it has an adapter), or set train.adapter.kind to lora.",
            )
    return list(config.adapter.modules_to_save)


def _is_in_4_bits(config: TrainConfig, model: Any, module: Any) -> bool:
    """Of a model without weights: whether loading puts them in 4 bits, as it does in linear layers but the head."""
    import torch

    if any(part.is_meta for part in module.parameters()):
        inner = (one for one in module.modules() if one is not model.get_output_embeddings())
        return config.adapter.kind == "qlora" and any(isinstance(one, torch.nn.Linear) for one in inner)
    return any(not part.is_floating_point() for part in module.parameters())


def _refuse_absent_targets(config: TrainConfig, model: Any) -> None:
    """PEFT says only that none was found; a name that is near is what helps."""
    targets = config.adapter.targets
    names = [name for name, _ in model.named_modules() if name]
    if targets == "all-linear":
        return
    if isinstance(targets, str) and not any(re.fullmatch(targets, name) for name in names):
        words = re.findall(r"\w+", targets)
        raise UserError(
            f"train.adapter.targets={targets} matches the whole name of no module, such as {names[-1]}.",
            remedy=(did_you_mean(words[-1], names) if words else "") or "Correct it, or set it to all-linear.",
        )
    for target in () if isinstance(targets, str) else targets:
        if not any(matches(name, target) for name in names):
            raise UserError(
                f"train.adapter.targets names {target!r}, which the model does not have.",
                remedy=did_you_mean(target, names) or "Take it out, or correct it.",
            )


def _refuse_targets_at_the_ends(config: TrainConfig, embedding: str, head: str, tied: bool) -> None:
    """LoRA on one of two tied matrices cannot be merged: the other one would change along. TRL takes none on a head."""
    targets = config.adapter.targets
    if targets == "all-linear":
        return
    for name, why in (
        (head, "the output head, whose weights the loss reads without an adapter's"),
        (embedding, "which the model ties to its output head: merged, its adapter would change the head too"),
    ):
        named = re.fullmatch(targets, name) if isinstance(targets, str) else any(matches(name, one) for one in targets)
        if name and named and (tied or name == head):
            raise UserError(
                f"train.adapter.targets names {name}, {why}.",
                remedy="Name it in train.adapter.modules_to_save instead, or new tokens in train.added_tokens.",
            )


def _refuse_idle_exclusions(config: TrainConfig, model: Any) -> None:
    """PEFT takes an exclusion that excludes nothing, such as a misspelt name or a whole block's."""
    excluded = config.adapter.options.exclude_modules
    layers = [name for name, module in model.named_modules() if not any(module.children())]
    if isinstance(excluded, str):
        if not any(re.fullmatch(excluded, name) for name in layers):
            raise _idle(f"exclude_modules={excluded} matches the whole name of no layer, such as {layers[0]}")
        refuse_dead_alternatives("train.adapter.options.exclude_modules", excluded, layers, layers)
        return
    for one in excluded or ():
        if not any(matches(name, one) for name in layers):
            raise _idle(f"exclude_modules names {one!r}, which is no layer of the model", did_you_mean(one, layers))


def _name_of(model: Any, module: Any) -> str:
    return next((name for name, one in model.named_modules(remove_duplicate=False) if one is module), "")


@contextmanager
def explained(config: TrainConfig) -> Iterator[None]:
    """PEFT's and TRL's objections to the adapter's settings as one message that names the settings.

    Raises:
        UserError: in their place, unless nothing but defaults was set.
    """
    try:
        yield
    except (ValueError, TypeError, NotImplementedError) as error:
        made = _settings_made(config)
        if not made:
            raise
        raise UserError(
            f"train.adapter: {made} does not fit this model: {(str(error).splitlines() or [type(error).__name__])[0]}",
            remedy="Set targets to all-linear, or name linear layers of the model other than its output head."
            if config.adapter.targets != "all-linear"
            else "Take out or correct what is named.",
        ) from error


def _settings_made(config: TrainConfig) -> str:
    """What PEFT may object to and is not as by default."""
    adapter = config.adapter
    made = adapter.model_dump(include={"targets", "dora", "modules_to_save"}, exclude_defaults=True, mode="json")
    made |= adapter.options.model_dump(exclude_defaults=True, mode="json")
    return ", ".join(f"{name}={value}" for name, value in made.items())


def check_took_hold(config: TrainConfig, model: Any) -> dict[str, tuple[int, int]]:
    """Refuse a target or an option that PEFT took and then applied to nothing.

    Args:
        model: The model with its adapter.

    Returns:
        As `reached`.

    Raises:
        UserError: a target, a pattern or an alternative in one, a layer number or `bias` that touched no module.
    """
    options = config.adapter.options
    names, known = layers_with_adapter(model), [name for name, _ in model.get_base_model().named_modules()]
    targets = config.adapter.targets
    if isinstance(targets, str) and targets != "all-linear":
        refuse_dead_alternatives("train.adapter.targets", targets, names, known)
    for target in () if isinstance(targets, str) else targets:
        if not any(matches(name, target) for name in names):
            raise UserError(
                f"train.adapter.targets names {target!r}, which no layer with an adapter matches.",
                remedy=did_you_mean(target, known) or "Take it out, or correct it.",
            )
    for field in ("rank_pattern", "alpha_pattern"):
        for key in getattr(options, field):
            if not any(re.match(rf"(.*\.)?({key})$", name) for name in names):
                raise _idle(f"{field} names {key!r}, which no layer with an adapter matches", did_you_mean(key, names))
            refuse_dead_alternatives(f"train.adapter.options.{field}", key, names, names, form=r"(.*\.)?({})")
    layers = options.layers_to_transform
    for number in () if layers is None else (layers,) if isinstance(layers, int) else layers:
        if not any(re.search(rf"\.{number}\.", name) for name in names):
            raise _idle(f"layers_to_transform names layer {number}, which the model does not have; it counts from 0")
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    if options.bias != "none" and not any(name.endswith(".bias") for name in trained):
        raise _idle(f"bias={options.bias} trains nothing: these layers have no bias")
    return reached(model)


def _idle(what: str, remedy: str = "") -> UserError:
    return UserError(f"train.adapter.options.{what}.", remedy=remedy or "Take it out, or correct it.")


def check_adapter(config: TrainConfig, folder: Path) -> str:
    """Hold before training what training would refuse of the adapter's settings; reads config.json and no weights.

    Returns:
        Which layers it reaches, in words.

    Raises:
        UserError: as `adapter_for` and `check_took_hold`, or config.json describes no model that transformers knows.
    """
    if not _settings_made(config):
        return "every linear layer but the output head"
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # It tells of kernels that are never fetched.
    from peft import get_peft_model

    model = empty_model(folder)
    # How the weights begin takes weights.
    options = config.adapter.options.model_copy(update={"init_lora_weights": True})
    config = config.model_copy(update={"adapter": config.adapter.model_copy(update={"options": options})})
    settings = adapter_for(config, model, ())
    with explained(config), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        adapted = get_peft_model(model, settings)
    return in_words(check_took_hold(config, adapted))


def serving_needs(described: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM needs to serve the adapter beside its base, from adapter_config.json.

    Returns:
        `max_lora_rank` (vLLM's own default is 16), and `merged_only`, the reasons why it cannot (empty if it can).
    """
    reasons = [
        reason
        for applies, reason in (
            (described.get("use_dora"), "dora"),
            (described.get("modules_to_save"), "modules_to_save"),
            (described.get("trainable_token_indices"), "added_tokens"),
            (described.get("bias") != "none", "bias"),
            (described.get("init_lora_weights") in MERGED_ONLY_INITS, "init_lora_weights"),
        )
        if applies
    ]
    return {
        "max_lora_rank": max([described["r"], *(described.get("rank_pattern") or {}).values()]),
        "merged_only": reasons,
    }
