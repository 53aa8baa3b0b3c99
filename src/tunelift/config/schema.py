"""The config: one closed, frozen section per stage.

A field marked `RUNTIME` changes how a stage runs and not what it makes, so it stays out of the fingerprint.
`auto` is resolved once, in `resolve.py`, before anything runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from tunelift.config.adapter import AdapterConfig
from tunelift.config.curation import CurateConfig
from tunelift.config.evaluation import EvaluateConfig, GateConfig, JudgeConfig, ReportConfig, SplitTaskConfig
from tunelift.config.section import RUNTIME, ModelConfig, Section

StageName = Literal["curate", "train", "merge", "evaluate", "judge", "report"]


class BestConfig(Section):
    """Which step's weights become the adapter, and when training ends before its last step.

    By default the last: a schedule that falls to nothing averages the noise of single steps away, each evaluation costs
    time, and the least loss often comes before the best answers (a model that grows too sure has a higher loss and
    more exact matches). What chooses is the validation split; the test split and the tasks never do.
    """

    by: str = Field("last", pattern=r"^[A-Za-z][A-Za-z0-9_]*$")
    """`last`, `eval_loss`, or a scorer such as `exact_match`, of greedy answers to some validation rows."""
    rows: int = Field(32, ge=1)
    """Validation rows that a scorer is given answers to."""
    max_tokens: int = Field(256, ge=1)
    """Longest such answer."""
    patience: int | None = Field(None, ge=1)
    """End training after so many evaluations without a better value; never by default."""
    min_delta: float = Field(0.0, ge=0)
    """How much better a value must be for `patience` to begin anew."""

    def identity(self) -> dict[str, Any]:
        """What `by` makes no use of changes nothing."""
        unused = {"last": {"rows", "max_tokens", "patience", "min_delta"}, "eval_loss": {"rows", "max_tokens"}}
        return {key: value for key, value in super().identity().items() if key not in unused.get(self.by, set())}

    @model_validator(mode="after")
    def _patience_needs_a_measure(self) -> BestConfig:
        if self.by == "last" and self.patience is not None:
            raise ValueError("patience has nothing to go by while by=last; set train.best.by to eval_loss or a scorer")
        return self


class SamplesConfig(Section):
    """Answers to validation rows while training goes on, beside the base's own."""

    every: int | None = Field(None, ge=1)
    """Answer after every so many steps, and at the end; never by default, since answering takes time."""
    rows: int = Field(3, ge=1)
    """Rows to answer."""
    max_tokens: int = Field(64, ge=1)
    """Longest answer."""


class TrainConfig(Section):
    """Supervised fine-tuning."""

    adapter: AdapterConfig = AdapterConfig()
    """What is trained."""
    added_tokens: tuple[Annotated[str, Field(pattern=r"\S")], ...] = ()
    """Tokens to add to the vocabulary, such as `<|tool|>`, that training rows hold and answers may; their embeddings
    are trained. Tokens that the tokenizer holds apart already, such as reserved ones, are trained too; a piece of
    ordinary words is refused. One that stands inside words cuts them: curation counts where."""
    learning_rate: float = Field(2e-4, gt=0)
    """Peak learning rate, after warm-up."""
    schedule: Literal["linear", "cosine", "constant_with_warmup"] = "cosine"
    """Learning rate after warm-up."""
    warmup_ratio: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; of less than one step, it starts at its peak."""
    weight_decay: float = Field(0.0, ge=0)
    """AdamW's decoupled weight decay."""
    max_grad_norm: float = Field(1.0, gt=0)
    """Clip the gradient's norm at this."""
    optimizer: Literal["adamw_torch", "adamw_8bit", "paged_adamw_8bit"] = "adamw_torch"
    """The optimizer; the 8-bit ones need a GPU."""
    epochs: float = Field(1.0, gt=0)
    """Passes over the training split; `max_steps` overrides it."""
    max_steps: int | None = Field(None, gt=0)
    """Optimizer steps."""
    global_batch_size: int = Field(16, ge=1)
    """Rows per optimizer step, over all micro-batches and processes."""
    micro_batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = Field("auto", json_schema_extra=RUNTIME)
    """Rows per forward pass; the accumulation is derived, so that the global batch stays."""
    max_length: int = Field(1024, ge=8)
    """Longest row in tokens; longer rows are dropped whole, none is cut."""
    max_truncated_ratio: float = Field(0.0, ge=0, le=1, json_schema_extra=RUNTIME)
    """Share of the supervised tokens that may be lost with rows longer than `max_length`. If more would be, curation
    fails and lists the rows."""
    packing: bool | Literal["auto"] = Field("auto", json_schema_extra=RUNTIME)
    """Lay a micro-batch's rows end to end instead of padding them; no row sees another, and each step has the same
    rows. `auto`: on a CPU, and with FlashAttention, which attend to each row apart; otherwise the rows of a
    micro-batch are chosen for like length."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """What training computes in; `auto`: bf16 where the hardware multiplies it, fp32 where it is emulated."""
    gradient_checkpointing: bool | Literal["auto"] = Field("auto", json_schema_extra=RUNTIME)
    """Recompute activations in the backward pass: less memory, more time. `auto`: on a GPU where few rows fit."""
    attention: Literal["auto", "sdpa", "eager", "flash_attention_2"] = Field("auto", json_schema_extra=RUNTIME)
    """Attention kernel; `auto`: FlashAttention where its package is installed, the GPU takes it and training computes
    in bf16, else PyTorch's."""
    eval_steps: int = Field(50, ge=1, json_schema_extra=RUNTIME)
    """Evaluate on the validation split this often; also at the end."""
    eval_rows: int = Field(128, ge=1, json_schema_extra=RUNTIME)
    """Validation rows for the loss, drawn by the seed."""
    save_steps: int = Field(50, ge=1, json_schema_extra=RUNTIME)
    """Write a checkpoint this often; a killed run goes on from the last."""
    keep_checkpoints: int = Field(2, ge=1, json_schema_extra=RUNTIME)
    """Whole checkpoints that are kept while training, beside the best one and the last whose loss is known to be
    sound."""
    best: BestConfig = BestConfig()
    """Which step's weights become the adapter."""
    memory_probe: bool | Literal["auto"] = Field("auto", json_schema_extra=RUNTIME)
    """Try the largest micro-batch before the first step, and halve it until it fits. `auto`: on a GPU only."""
    max_loss_ratio: float | None = Field(2.0, gt=1, json_schema_extra=RUNTIME)
    """Stop when the smoothed loss stays above its lowest by this factor, and above where it began; null: never."""
    samples: SamplesConfig = Field(SamplesConfig(), json_schema_extra=RUNTIME)
    """Answers to look at while training."""

    not_here: ClassVar[Mapping[str, str]] = {
        "kernels": "of the hub's kernels the one for rotations gives wrong gradients, so none is used; take it out.",
    }

    def identity(self) -> dict[str, Any]:
        """When and on what is evaluated decides what is made only where the evaluation chooses the step."""
        chooses = self.best.by != "last"
        return super().identity() | ({"eval_steps": self.eval_steps, "eval_rows": self.eval_rows} if chooses else {})


class MergeConfig(Section):
    """Adapter into base. A 4-bit base is dequantized first: merged in 4-bit, rounding erases the adapter."""

    parity_rows: int = Field(32, ge=1)
    """Validation rows, drawn at random, on which merged and trained model are compared."""
    max_kl: float = Field(0.02, gt=0)
    """Fail when the mean KL divergence (nats per supervised token) of merged from trained model is above this."""
    min_top1_agreement: float = Field(0.95, gt=0, le=1)
    """Fail when the two models' likeliest tokens agree on a smaller share of the positions."""


class EngineConfig(Section):
    """vLLM: evaluation and `tunelift serve` start the very same process."""

    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    """Compute precision; `auto`: bfloat16 where the hardware multiplies it, else float16 on a GPU and
    float32 on a CPU."""
    max_model_len: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Longest prompt plus answer in tokens; `auto`: the model's context, at most 4,096, or train.max_length and the
    longest answer where that is more."""
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1, json_schema_extra=RUNTIME)
    """Share of the GPU's memory for vLLM."""
    cpu_kv_cache_gib: int = Field(2, ge=1, json_schema_extra=RUNTIME)
    """Key-value cache when serving on the CPU."""
    enforce_eager: bool | Literal["auto"] = Field("auto", json_schema_extra=RUNTIME)
    """Start without compiling (ready sooner, slower after). `auto`: on the CPU only."""
    max_num_seqs: int = Field(64, ge=1, json_schema_extra=RUNTIME)
    """Requests in one batch."""
    startup_timeout_seconds: float = Field(1800, gt=0, json_schema_extra=RUNTIME)
    """Give up when the engine is not ready by then: weights from a slow disk and compiling take minutes on a GPU."""


class TrackingConfig(Section):
    """Where metrics go beside the local metrics.jsonl."""

    wandb: Literal["auto", "off", "offline", "online"] = Field("auto", json_schema_extra=RUNTIME)
    """`auto`: as WANDB_MODE says (`disabled`: off); without it online when WANDB_API_KEY is set, offline otherwise."""
    project: str = Field("tunelift", json_schema_extra=RUNTIME)
    """W&B project."""
    log_samples: bool = Field(False, json_schema_extra=RUNTIME)
    """Send prompts, expected answers and outputs to W&B as tables, and the report's page, which shows some of them."""


class ServeConfig(Section):
    """The live endpoint, and in which form evaluation asks the tuned model: the same."""

    mode: Literal["merged", "adapter"] = "merged"
    """`merged`: the merged model. `adapter`: the base, in 4 bits where it was trained so, with the adapter beside it,
    which takes a third of the memory and answers more slowly; the base's arms are then asked in the same form."""
    host: str = Field("127.0.0.1", json_schema_extra=RUNTIME)
    """Address to listen on; anything but loopback needs an API key."""
    port: int = Field(8000, ge=1, le=65535, json_schema_extra=RUNTIME)
    """Port to listen on."""
    api_key_env: str = Field("TUNELIFT_API_KEY", json_schema_extra=RUNTIME)
    """Environment variable that holds the API key, if any."""


MAX_SERVED_RANK = 512
"""vLLM's largest `--max-lora-rank`."""
MERGED_ONLY_INITS = {"pissa", "olora"}
"""Initialisations that change the base, which is then not the served one."""


def merged_only(train: TrainConfig) -> list[str]:
    """The settings of training whose adapter vLLM cannot serve beside its base (vllm/lora/peft_helper.py)."""
    adapter, options = train.adapter, train.adapter.options
    settings = {
        "train.adapter.dora": adapter.dora,
        "train.adapter.modules_to_save": adapter.modules_to_save,
        "train.added_tokens": train.added_tokens,
        f"train.adapter.options.bias={options.bias}": options.bias != "none",
        f"train.adapter.options.init_lora_weights={options.init_lora_weights}": (
            options.init_lora_weights in MERGED_ONLY_INITS
        ),
        f"a rank above {MAX_SERVED_RANK}": max([adapter.rank, *options.rank_pattern.values()]) > MAX_SERVED_RANK,
    }
    return [name for name, is_set in settings.items() if is_set]


def _none_as_empty(value: Any) -> Any:
    """`report:` with nothing under it means the defaults."""
    return {} if value is None else value


class Config(Section):
    """One run, from raw data to report."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60, examples=["my-run"])]
    """Names the run's folder and its W&B run."""
    seed: int = Field(17, ge=0, lt=2**32)
    """Seeds splits, initialisation, order and resampling."""
    model: ModelConfig = Field(examples=["{id: meta-llama/Llama-3.1-8B-Instruct}"])
    """The base model."""
    curate: CurateConfig = Field(examples=["{sources: [{path: data/train.jsonl}]}"])
    """Raw data to a data set."""
    train: Annotated[TrainConfig, BeforeValidator(_none_as_empty)] = TrainConfig()
    """Fine-tuning."""
    merge: Annotated[MergeConfig, BeforeValidator(_none_as_empty)] = MergeConfig()
    """Adapter into base."""
    engine: Annotated[EngineConfig, BeforeValidator(_none_as_empty)] = EngineConfig()
    """What answers requests."""
    evaluate: Annotated[EvaluateConfig, BeforeValidator(_none_as_empty)] = EvaluateConfig()
    """Before and after."""
    judge: JudgeConfig | None = None
    """Model-graded comparison, if any."""
    report: Annotated[ReportConfig, BeforeValidator(_none_as_empty)] = ReportConfig()
    """The evidence, shown."""
    gate: GateConfig | None = None
    """What must hold."""
    tracking: Annotated[TrackingConfig, BeforeValidator(_none_as_empty)] = TrackingConfig()
    """Where metrics go."""
    serve: Annotated[ServeConfig, BeforeValidator(_none_as_empty)] = ServeConfig()
    """The live endpoint."""

    @model_validator(mode="after")
    def _combinations(self) -> Config:
        if len(set(self.train.added_tokens)) < len(self.train.added_tokens):
            raise ValueError("train.added_tokens names a token twice; take one out")
        micro, whole = self.train.micro_batch_size, self.train.global_batch_size
        if isinstance(micro, int) and whole % micro:
            raise ValueError(
                f"train.global_batch_size={whole} is not a multiple of train.micro_batch_size={micro}; "
                f"set train.micro_batch_size to a divisor of {whole}"
            )
        if self.curate.split.validation + self.curate.split.test >= 0.9:
            raise ValueError(
                "curate.split.validation + curate.split.test leave less than 10% for training; lower one of them"
            )
        tests_own_split = any(
            isinstance(task, SplitTaskConfig) and task.from_split == "test" for task in self.evaluate.tasks
        )
        if tests_own_split and self.curate.split.test == 0:
            raise ValueError("evaluate.tasks asks for the test split, but curate.split.test is 0; set it to 0.1, say")
        self._refuse_claims_on_what_chose()
        self._refuse_what_only_merging_serves()
        return self

    def _refuse_what_only_merging_serves(self) -> None:
        if self.serve.mode == "adapter" and (found := merged_only(self.train)):
            raise ValueError(
                f"serve.mode is adapter, but vLLM serves no adapter with {found[0]} unmerged; take it out, or set "
                "serve.mode to merged"
            )

    def _refuse_claims_on_what_chose(self) -> None:
        """A target task is claimed by being one. Arms that search for their prompt: `EvaluateConfig`."""
        validation = [
            task.name or task.from_split
            for task in self.evaluate.tasks
            if isinstance(task, SplitTaskConfig) and task.from_split == "validation"
        ]
        for claim in self.gate.improved if self.gate else ():
            if claim.task in validation:
                raise ValueError(
                    f"gate.improved claims {claim.task}, which is the validation split: it selects checkpoints and "
                    "prompts, and what selects cannot prove; claim a task on the test split, or one with a folder"
                )
        if validation and self.train.best.by != "last":
            raise ValueError(
                f"evaluate.tasks has {validation[0]}, which is the validation split, but its rows choose the step that "
                f"is kept (train.best.by={self.train.best.by}): what selects cannot prove; evaluate on the test split, "
                "or set train.best.by to last"
            )
