"""What is trained: LoRA, its variants, and what is trained whole beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from tunelift.config.section import Section


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r} is not a regular expression: {error}.") from error
    return text


Rank = Annotated[int, Field(ge=1)]
Alpha = Annotated[float, Field(gt=0)]
Layer = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(min_length=1)]
Pattern = Annotated[str, AfterValidator(_regular_expression)]

NEEDS_WHOLE_WEIGHTS = {
    "pissa": "takes the weights apart by SVD and trains their largest part",
    "olora": "takes the weights apart by QR and trains their first part",
    "orthogonal": "starts from matrices in the weights' own precision",
    "mica": "starts from the singular vectors of the weights",
}
"""Initialisations of PEFT that 4-bit weights do not allow, or not so that the trained base can be made again."""

_BY_TUNELIFT = "tunelift sets it itself; take it out."
_NEEDS_DATA = "it needs a pass over data before training, which is not done; take it out."
_NEEDS_LOSS = "it needs a loss of its own, which is not added; take it out."
_MEGATRON = "it is for Megatron's parallel layers, which are not trained here; take it out."


class LoraOptions(Section):
    """The options of PEFT's `LoraConfig` that have no field above; what is left out keeps PEFT's default."""

    exclude_modules: Pattern | tuple[Name, ...] | None = None
    """Module names, or a regular expression over whole names, that get no adapter."""
    layers_to_transform: Layer | tuple[Layer, ...] | None = None
    """Numbers of the layers that get an adapter; needs `targets` by name."""
    layers_pattern: str | tuple[Name, ...] | None = None
    """Name of the list that the layers are numbered in, if PEFT does not know it."""
    rank_pattern: dict[Pattern, Rank] = Field(default_factory=dict)
    """Other ranks by module name or regular expression, such as `{down_proj: 32}`."""
    alpha_pattern: dict[Pattern, Alpha] = Field(default_factory=dict)
    """Other alphas, likewise."""
    init_lora_weights: bool | Literal["gaussian", "orthogonal", "pissa", "olora", "mica"] = True
    """How the adapter begins; all but `true` and `gaussian` need `kind: lora`."""
    bias: Literal["none", "all", "lora_only"] = "none"
    """Which of the base's biases are trained along."""
    fan_in_fan_out: bool = False
    """For layers that store their weight transposed, such as GPT-2's Conv1D."""

    not_here: ClassVar[Mapping[str, str]] = {
        "r": "it is train.adapter.rank.",
        "lora_alpha": "it is train.adapter.alpha.",
        "lora_dropout": "it is train.adapter.dropout.",
        "target_modules": "it is train.adapter.targets.",
        "use_rslora": "it is train.adapter.rslora.",
        "use_dora": "it is train.adapter.dora.",
        "modules_to_save": "it is train.adapter.modules_to_save.",
        "trainable_token_indices": "it is train.added_tokens, which takes the tokens' text.",
        "ensure_weight_tying": "embeddings that the model ties always stay tied; take it out.",
        **dict.fromkeys(
            (
                "task_type",
                "peft_type",
                "inference_mode",
                "auto_mapping",
                "peft_version",
                "base_model_name_or_path",
                "revision",
                "runtime_config",
            ),
            _BY_TUNELIFT,
        ),
        "loftq_config": "LoftQ quantizes the base itself, other than training does; take it out.",
        **dict.fromkeys(("eva_config", "corda_config", "lora_ga_config"), _NEEDS_DATA),
        **dict.fromkeys(("monteclora_config", "kasa_config"), _NEEDS_LOSS),
        **dict.fromkeys(("megatron_config", "megatron_core"), _MEGATRON),
        "lora_bias": "a merged layer without a bias has no place for it; take it out.",
        "layer_replication": "replicated layers share one weight, which cannot hold several adapters; take it out.",
        "alora_invocation_tokens": "an adapter that begins at a token cannot be merged; take it out.",
        "arrow_config": "it chooses among several adapters, and one is trained; take it out.",
        "use_qalora": "it is for GPTQ weights, and the base is NF4 or bf16; take it out.",
        "qalora_group_size": "it is for GPTQ weights, and the base is NF4 or bf16; take it out.",
        "target_parameters": "adapters on bare parameters (mixture of experts) are not merged; take it out.",
        "velora_config": "its gradients are approximate; set train.gradient_checkpointing to save memory.",
        "use_bdlora": "it is for serving many adapters on several GPUs, and the model is served merged; take it out.",
    }


class AdapterConfig(Section):
    """LoRA (arXiv 2106.09685), over 4-bit weights (QLoRA, arXiv 2305.14314) or bf16 weights."""

    kind: Literal["qlora", "lora"] = "qlora"
    """`qlora`: base in NF4 with double quantization; `lora`: base in bf16."""
    rank: Rank = 16
    """Rank of the update."""
    alpha: Alpha = 32
    """Scale: the update is multiplied by alpha / rank."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout on the adapter's input."""
    targets: str | tuple[Name, ...] = "all-linear"
    """Module names that get an adapter, or a regular expression over whole names; `all-linear` is every linear layer
    but the output head."""
    rslora: bool = False
    """Multiply the update by alpha / sqrt(rank) instead: rank-stabilized LoRA (arXiv 2312.03732)."""
    dora: bool = False
    """Train each weight's magnitude apart from its direction (DoRA, arXiv 2402.09353): slower, better at low ranks."""
    modules_to_save: tuple[Name, ...] = ()
    """Modules that are trained whole, in fp32, such as lm_head, embed_tokens or the norms; the model that is made
    holds them in bf16."""
    options: LoraOptions = LoraOptions()
    """Every other option of PEFT's LoraConfig."""

    @field_validator("targets")
    @classmethod
    def _names_or_pattern(cls, targets: str | tuple[str, ...]) -> str | tuple[str, ...]:
        if isinstance(targets, tuple) and not targets:
            raise ValueError("expected at least one module name; leave it out for all-linear.")
        if not isinstance(targets, str) or targets == "all-linear":
            return targets
        names = re.split(r"[\s,;|]+", targets.strip())
        # Dots alone may be a whole name's; commas and blanks stand between names.
        plain = r"[\w.-]+" if re.search(r"[\s,;]", targets) else r"[\w-]+"
        if all(re.fullmatch(plain, name) for name in names):
            listed = f"[{', '.join(names)}]"
            raise ValueError(
                f"{targets!r} is neither all-linear nor a regular expression over whole module names; "
                + (f"write a list: `{listed}`." if len(names) > 1 else f"did you mean `all-linear` or `{listed}`?")
            )
        return _regular_expression(targets)

    @model_validator(mode="after")
    def _combinations(self) -> AdapterConfig:
        init = self.options.init_lora_weights
        if self.kind == "qlora" and init in NEEDS_WHOLE_WEIGHTS:
            raise ValueError(
                f"options.init_lora_weights={init} {NEEDS_WHOLE_WEIGHTS[str(init)]}, which 4-bit weights do not allow; "
                "set kind to lora, or init_lora_weights to true."
            )
        if init == "orthogonal" and any(rank % 2 for rank in (self.rank, *self.options.rank_pattern.values())):
            raise ValueError("options.init_lora_weights=orthogonal needs even ranks; add 1 to the odd ones.")
        if isinstance(self.targets, str) and self.options.layers_to_transform is not None:
            raise ValueError(
                f"options.layers_to_transform needs targets by name, not targets={self.targets}; "
                "write, for example, targets: [q_proj, v_proj]."
            )
        if self.options.layers_pattern is not None and self.options.layers_to_transform is None:
            raise ValueError("options.layers_pattern says nothing without options.layers_to_transform; add it.")
        return self
