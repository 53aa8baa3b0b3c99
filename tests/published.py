"""Tiny models of the families, in the files that they were published with: config.json, tokenizer and template.

The weights are random. config.json and tokenizer_config.json are as transformers 4 wrote them and the hub holds them,
and tokenizer.json has the family's own steps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.families import BY_NAME, Family
from tests.tiny import TEXT

WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3's tokenizer cuts text; Qwen's cuts numbers into digits."""
SIZES = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 1024,
    "initializer_range": 0.1,
    "attention_dropout": 0.0,
    "use_cache": True,
    "torch_dtype": "bfloat16",
    "transformers_version": "4.43.0",
}
LLAMA_3_ROPE = {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
GEMMA = {"hidden_activation": "gelu_pytorch_tanh", "head_dim": 64, "query_pre_attn_scalar": 64, "sliding_window": 64}


def _longrope(pairs: int) -> dict[str, Any]:
    """For so many pairs of dimensions."""
    factors = {"short_factor": [1.0 + 0.1 * n for n in range(pairs)], "long_factor": [2.0 + n for n in range(pairs)]}
    return {
        "rope_theta": 10000.0,
        "rope_scaling": {"type": "longrope", **factors},
        "original_max_position_embeddings": 64,
        "auto_map": {"AutoConfig": "configuration_phi3.Phi3Config"},
        "sliding_window": 262144,
    }


@dataclass(frozen=True)
class Published:
    """One family: whose template it has, its tokenizer, and what else its config.json says."""

    name: str
    family: str
    """Of tests/families.py."""
    tokenizer_class: str | None
    steps: str
    config: dict[str, Any] = field(hash=False)
    tokenizer_settings: dict[str, Any] = field(default_factory=dict, hash=False)


PUBLISHED = (
    Published(
        "llama_3_1", "llama_3_1", "PreTrainedTokenizerFast", "words",
        {"model_type": "llama", "rope_theta": 500000.0, "tie_word_embeddings": False, "mlp_bias": False,
         "rope_scaling": {"factor": 8.0, "rope_type": "llama3", **LLAMA_3_ROPE}},
    ),
    Published(
        "llama_2", "llama_2", "LlamaTokenizer", "metaspace",
        {"model_type": "llama", "rope_theta": 10000.0, "tie_word_embeddings": False, "rope_scaling": None},
        {"legacy": False, "add_bos_token": True, "add_eos_token": False},
    ),
    Published(
        "smollm_2", "smollm_2", "GPT2Tokenizer", "digits",
        {"model_type": "llama", "rope_theta": 100000, "tie_word_embeddings": True, "rope_interleaved": False},
    ),
    Published(
        "smollm_3", "smollm_3", "PreTrainedTokenizerFast", "words",
        {"model_type": "smollm3", "rope_theta": 5000000.0, "tie_word_embeddings": True, "no_rope_layer_interval": 4,
         "no_rope_layers": [1, 1, 1, 0], "use_sliding_window": False, "sliding_window": None},
    ),
    Published(
        "qwen_2_5", "qwen_2_5", "Qwen2Tokenizer", "qwen",
        {"model_type": "qwen2", "rope_theta": 1000000.0, "tie_word_embeddings": True, "use_sliding_window": False,
         "sliding_window": 32768, "max_window_layers": 4},
    ),
    Published(
        "qwen_2_5_distilled", "llama_3", "LlamaTokenizerFast", "digits",
        {"model_type": "qwen2", "rope_theta": 10000, "tie_word_embeddings": False, "use_sliding_window": False,
         "sliding_window": 4096, "max_window_layers": 4, "use_mrope": False},
    ),
    Published(
        "qwen_3", "qwen_3", "Qwen2Tokenizer", "qwen",
        {"model_type": "qwen3", "rope_theta": 1000000, "head_dim": 64, "tie_word_embeddings": True,
         "attention_bias": False, "use_sliding_window": False, "sliding_window": None, "max_window_layers": 4},
        {"add_bos_token": False},
    ),
    Published(
        "mistral_7b", "mistral_7b_v0_2", "LlamaTokenizer", "metaspace",
        {"model_type": "mistral", "rope_theta": 10000.0, "sliding_window": 64, "tie_word_embeddings": False},
        {"legacy": True, "add_bos_token": True, "add_eos_token": False},
    ),
    Published(
        "gemma_2", "gemma_2", "GemmaTokenizer", "gemma",
        {"model_type": "gemma2", "rope_theta": 10000.0, "attn_logit_softcapping": 50.0, **GEMMA,
         "final_logit_softcapping": 30.0},
        {"add_bos_token": True, "add_eos_token": False},
    ),
    Published(
        "gemma_3", "gemma_3", "GemmaTokenizer", "gemma",
        {"model_type": "gemma3_text", "rope_theta": 1000000, "rope_local_base_freq": 10000, "rope_scaling": None,
         "sliding_window_pattern": 2, **GEMMA},
        {"add_bos_token": True, "add_eos_token": False},
    ),
    Published("phi_3", "phi_3", "LlamaTokenizer", "metaspace", {"model_type": "phi3", **_longrope(32)},
              {"legacy": False, "add_bos_token": False, "add_eos_token": False}),
    Published("phi_4_mini", "phi_4", "GPT2Tokenizer", "words",
              {"model_type": "phi3", "partial_rotary_factor": 0.75, "tie_word_embeddings": True, **_longrope(24)}),
    Published("olmo_2", "olmo_2", "GPT2Tokenizer", "words",
              {"model_type": "olmo2", "rope_theta": 500000, "tie_word_embeddings": False, "rope_scaling": None}),
    Published(
        "granite_3_3", "granite_3_3", "GPT2Tokenizer", "digits",
        {"model_type": "granite", "rope_theta": 10000000.0, "tie_word_embeddings": True, "logits_scaling": 8.0,
         "attention_multiplier": 0.015625, "embedding_multiplier": 12.0, "residual_multiplier": 0.22},
    ),
)  # fmt: skip


def write_published(folder: Path, published: Published, *, by_transformers_5: bool = False) -> Path:
    """Write the model's folder and return it.

    Args:
        folder: Where to.
        published: The family.
        by_transformers_5: Its config.json as transformers 5 writes it again.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = write_small_files(folder, published)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).to(torch.bfloat16)
    model.save_pretrained(folder)
    if not by_transformers_5:
        config["architectures"] = [type(model).__name__]
        (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    generation = {"eos_token_id": config["eos_token_id"], "pad_token_id": config["pad_token_id"]}
    # As in many files of the hub, which transformers 5 takes with a warning and would not write.
    (folder / "generation_config.json").write_text(json.dumps({**generation, "temperature": 0.6, "top_p": 0.9}))
    return folder


def write_small_files(folder: Path, published: Published) -> dict[str, Any]:
    """Write config.json and the tokenizer alone, and return the config."""
    folder.mkdir(parents=True)
    family = BY_NAME[published.family]
    tokens = _write_tokenizer(folder, published, family)
    config = {**SIZES, **published.config, "vocab_size": len(tokens)}
    ends = [tokens[token] for token in dict.fromkeys((family.end, family.eos or family.end))]
    config |= {
        "bos_token_id": tokens.get(family.bos),
        "eos_token_id": ends if len(ends) > 1 else ends[0],
        "pad_token_id": tokens.get(family.pad),
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True))
    return config


def _write_tokenizer(folder: Path, published: Published, family: Family) -> dict[str, int]:
    from tokenizers import AddedToken, processors

    tokenizer = _trained(published.steps)
    special = [*(["<unk>"] if tokenizer.token_to_id("<unk>") is not None else []), *family.special]
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False, rstrip=family.swallows) for token in special]
    )
    if family.bos:
        bos = tokenizer.token_to_id(family.bos)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{family.bos} $A", pair=f"{family.bos} $A $B", special_tokens=[(family.bos, bos)]
        )
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "bos_token": family.bos,
        "eos_token": family.eos or family.end,
        "pad_token": family.pad,
        "unk_token": "<unk>" if tokenizer.token_to_id("<unk>") is not None else None,
        "chat_template": family.template,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1024,
        "tokenizer_class": published.tokenizer_class,
        **published.tokenizer_settings,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2))
    return dict(tokenizer.get_vocab())


def _trained(steps: str) -> Any:
    """A tokenizer whose text goes through the steps of a kind."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if steps in ("metaspace", "gemma"):
        return _of_sentencepiece(steps)
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=steps == "digits")
    words = WORDS.replace("{1,3}", "") if steps == "qwen" else WORDS
    first = pre_tokenizers.Digits(individual_digits=True)
    if steps != "digits":
        first = pre_tokenizers.Split(Regex(words), behavior="isolated", invert=False)
    tokenizer = Tokenizer(models.BPE(ignore_merges=steps == "words"))
    tokenizer.normalizer = normalizers.NFC() if steps == "qwen" else None
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=480, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT.split("\n"), trainer)
    # Only now, so that the vocabulary holds pieces that the steps do not let through: without them ids differ.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])
    return tokenizer


def _of_sentencepiece(steps: str) -> Any:
    """As converted from SentencePiece's: blanks are written as ▁, unknown characters as bytes."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "▁")
    trained.train_from_iterator(TEXT.split("\n"), trainers.BpeTrainer(vocab_size=220, show_progress=False))
    model = json.loads(trained.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [piece for piece in model["vocab"] if piece not in first]
    vocabulary = {piece: number for number, piece in enumerate([*first, *pieces])}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    blanks = normalizers.Replace(" ", "▁")
    undone = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    if steps == "gemma":
        tokenizer.normalizer = blanks
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", behavior="merged_with_previous", invert=False)
        tokenizer.decoder = decoders.Sequence(undone)
    else:
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blanks])
        tokenizer.decoder = decoders.Sequence([*undone, decoders.Strip(" ", 1, 0)])
    return tokenizer
