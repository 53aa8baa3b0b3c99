"""What transformers reads in a model's folder, as JSON. Run by whichever release of it is meant:

python tests/reading.py ANSWER.json FOLDER...
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

TEXTS = (
    "Steps:\n\n1. Mix 12 eggs.\n\n2. Bake 345 minutes.",
    "  two blanks, then\ttabs\r\nand  more ",
    "Ünïcode e\u0301 日本 🙂 <|im_end|> </s> <end_of_turn> x",
    "On 2026-03-10 at 15:30 for 48213:\n    return 3.14159",
)
TALK = [{"role": "user", "content": "Add 12 and 345, then  tell me."}]
PROMPT = " ".join(f"Request {number}: what is the weather in Milan on day {number}?" for number in range(8))
"""Longer than the windows and the original contexts of the tiny models."""
VALUES = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
    "num_key_value_heads", "head_dim", "max_position_embeddings", "sliding_window", "layer_types", "no_rope_layers",
    "tie_word_embeddings", "bos_token_id", "eos_token_id", "pad_token_id", "rms_norm_eps", "attention_bias",
    "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar", "attention_multiplier",
    "embedding_multiplier", "residual_multiplier", "logits_scaling", "hidden_act", "hidden_activation",
)  # fmt: skip


def read(folder: str) -> dict[str, Any]:
    """Config values, token ids and logits."""
    import torch
    import transformers
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    # A merged folder says where its tokenizer lies if a release of transformers would take another.
    own = Path(folder, "tokenizer")
    tokenizer = AutoTokenizer.from_pretrained(own if own.is_dir() else folder)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    prompt = tokenizer(PROMPT, add_special_tokens=False)["input_ids"][:200]
    # The default, PyTorch's own, leaves out Gemma 2's soft-capping in both releases.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
    rotary = {
        name: [round(value, 9) for value in buffer.tolist()]
        for name, buffer in model.named_buffers()
        if name.split(".")[-1].endswith("inv_freq") and "original" not in name
    }
    return {
        "transformers": transformers.__version__,
        "tokenizer": type(tokenizer).__name__,
        "config": {name: getattr(config, name, None) for name in VALUES} | {"dtype": str(config.dtype)},
        "rotary": sorted(map(str, rotary.values())),
        "ids": ids,
        "with_special": [tokenizer(text)["input_ids"] for text in TEXTS],
        "talk": tokenizer.apply_chat_template(TALK, add_generation_prompt=True, tokenize=True, return_dict=False),
        "special": {name: str(token) for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)},
        "prompt": prompt,
        "logprobs": logits.log_softmax(-1)[range(len(prompt) - 1), prompt[1:]].tolist(),
        "largest": logits.argmax(-1).tolist(),
    }


def reading(folder: str) -> dict[str, Any]:
    """`read`, or the error."""
    try:
        return read(folder)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"[:500]}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({folder: reading(folder) for folder in sys.argv[2:]}))
