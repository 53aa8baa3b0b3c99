"""The chat templates of model families as published, each with a small tokenizer that has its control tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import trl

STORED = Path(__file__).parent / "templates"
TRL = Path(trl.__file__).parent / "chat_templates"


@dataclass(frozen=True)
class Family:
    """A template, its control tokens, and what it can do."""

    name: str
    file: Path
    end: str
    """The end-of-turn token."""
    special: tuple[str, ...]
    bos: str | None = None
    eos: str | None = None
    """The named end-of-sequence token, if it is another than the end of turn."""
    pad: str | None = None
    system: bool = True
    tools: bool = False
    thinking: bool = False
    """It renders thinking of the last turns and drops that of earlier ones."""
    dated: bool = False
    """It writes today's date."""
    moves: bool = False
    """It writes system message or tools into the last user message only."""
    call_ids: bool = False
    """Tool calls need ids of nine characters."""
    swallows: bool = False
    """Its control tokens take the white space behind them along (`rstrip`)."""
    arguments: dict[str, Any] = field(default_factory=dict, hash=False)
    training: str | None = None
    """The file of trl's version with generation markers, if it renders the same text."""

    @property
    def template(self) -> str:
        return self.file.read_text(encoding="utf-8")

    def tokenizer(self):  # type: ignore[no-untyped-def]
        """A tokenizer with this template."""
        return _tokenizer(self.name)


HEADERS = ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|begin_of_text|>", "<|end_of_text|>")
LLAMA_3 = {"end": "<|eot_id|>", "special": (*HEADERS, "<|python_tag|>", "<|eom_id|>"), "bos": "<|begin_of_text|>"}
CHATML = {"end": "<|im_end|>", "special": ("<|im_start|>", "<|im_end|>", "<|endoftext|>")}
GEMMA = {
    "end": "<end_of_turn>",
    "special": ("<start_of_turn>", "<end_of_turn>", "<bos>", "<eos>", "<pad>"),
    "bos": "<bos>",
    "eos": "<eos>",
    "pad": "<pad>",
}
PHI_3 = {
    "end": "<|end|>",
    "special": ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|endoftext|>", "<s>"),
    "eos": "<|endoftext|>",
    "pad": "<|endoftext|>",
    "swallows": True,
}
TEKKEN = ("<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]",
          "[/TOOL_RESULTS]", "[TOOL_CALLS]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]", "[CALL_ID]",
          "[ARGS]")  # fmt: skip
GRANITE = ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>", "<|tool_call|>")

FAMILIES = (
    Family("llama_2", STORED / "llama_2.jinja", "</s>", ("<s>", "</s>"), bos="<s>"),
    Family("llama_3", TRL / "llama3.jinja", training="llama3_training", **LLAMA_3),
    Family("llama_3_1", TRL / "llama3_1.jinja", tools=True, **LLAMA_3),
    Family("llama_3_2", TRL / "llama3_2.jinja", tools=True, dated=True, **LLAMA_3),
    Family("qwen_2_5", TRL / "qwen2_5.jinja", tools=True, training="qwen2_5_training", pad="<|endoftext|>", **CHATML),
    Family("qwen_3", TRL / "qwen3.jinja", tools=True, thinking=True, pad="<|endoftext|>", **CHATML),
    Family(
        "qwen_3_no_thinking",
        TRL / "qwen3.jinja",
        tools=True,
        pad="<|endoftext|>",
        arguments={"enable_thinking": False},
        **CHATML,
    ),
    Family(
        "qwen_3_2507",
        TRL / "qwen3_instruct_2507.jinja",
        tools=True,
        training="qwen3_instruct_2507_training",
        pad="<|endoftext|>",
        **CHATML,
    ),
    Family("mistral_7b_v0_2", STORED / "mistral_7b_v0_2.jinja", "</s>", ("<s>", "</s>"), bos="<s>", system=False),
    Family("mistral_nemo", STORED / "mistral_nemo.jinja", "</s>", TEKKEN, bos="<s>", tools=True, moves=True,
           call_ids=True),
    Family("mistral_large", STORED / "mistral_large_2411.jinja", "</s>", TEKKEN, bos="<s>"),
    Family("mistral_small", STORED / "mistral_small_3_2.jinja", "</s>", TEKKEN, bos="<s>", tools=True, dated=True,
           moves=True, call_ids=True),
    Family("gemma_2", TRL / "gemma.jinja", system=False, training="gemma_training", **GEMMA),
    Family("gemma_3", TRL / "gemma3.jinja", training="gemma3_training", **GEMMA),
    Family("phi_3", TRL / "phi3.jinja", training="phi3_training", **PHI_3),
    Family("phi_3_5", TRL / "phi3_5.jinja", training="phi3_5_training", **PHI_3),
    Family("phi_4", STORED / "phi_4.jinja", "<|im_end|>", ("<|im_start|>", "<|im_sep|>", "<|im_end|>", "<|endoftext|>"),
           bos="<|endoftext|>", pad="<|endoftext|>"),
    Family("smollm_2", STORED / "smollm2.jinja", bos="<|im_start|>", pad="<|im_end|>", **CHATML),
    Family("smollm_3", STORED / "smollm3.jinja", pad="<|im_end|>", **CHATML),
    Family("smollm_3_no_thinking", STORED / "smollm3.jinja", arguments={"enable_thinking": False}, **CHATML),
    Family("olmo_2", STORED / "olmo_2.jinja", "<|endoftext|>", ("<|endoftext|>", "<|pad|>"), bos="<|endoftext|>",
           pad="<|pad|>"),
    Family("granite_3_3", STORED / "granite_3_3.jinja", "<|end_of_text|>", GRANITE, pad="<|end_of_text|>", tools=True,
           dated=True),
    Family("granite_4", STORED / "granite_4_0.jinja", "<|end_of_text|>", GRANITE, tools=True),
)  # fmt: skip
BY_NAME = {family.name: family for family in FAMILIES}


@cache
def _tokenizer(name: str):  # type: ignore[no-untyped-def]
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from tests.tiny import TEXT

    family = BY_NAME[name]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        TEXT.split("\n"),
        trainers.BpeTrainer(vocab_size=512, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False),
    )
    # As in the real tokenizers, most control tokens have no name of their own.
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, rstrip=family.swallows) for token in family.special]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=family.bos,
        eos_token=family.eos or family.end,
        pad_token=family.pad,
        chat_template=family.template,
        clean_up_tokenization_spaces=False,
    )
