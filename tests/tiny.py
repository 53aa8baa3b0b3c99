"""A tiny Llama with a tokenizer and a ChatML template, made in seconds: for tests that need a real model folder."""

from __future__ import annotations

from pathlib import Path

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

TEXT = """Put dentist in my calendar for tomorrow, half past three. Remind me to call Anna on Friday at 10:00.
{"tool": "create_event", "arguments": {"title": "Dentist", "date": "2026-03-11", "time": "15:30"}}
{"tool": "set_reminder", "arguments": {"text": "Call Anna", "date": "2026-03-13", "time": "10:00"}}
{"tool": "send_message", "arguments": {"to": "Anna", "text": "I am late", "channel": "sms"}} {"tool": null}
Answer with one JSON object and nothing else. Today is Tuesday 2026-03-10. You are a helpful assistant. user system
Switch the light in the kitchen on, please, and track my order 48213. What is the weather in Milan on Monday?
""".replace("\n", " \n ")


def make_tiny_model(
    path: Path, *, seed: int = 0, layers: int = 2, context: int = 512, tied: bool = True, bias: bool = False
) -> Path:
    """Write a random Llama (hidden 128, 2 heads of 64, about 500 tokens) as a Hugging Face folder and return its path.

    The same seed gives the same bytes. End of turn and of generation is <|im_end|>, padding <|endoftext|>; there is no
    BOS. The head size of 64 is one that vLLM's CPU attention takes. `tied` makes input and output embeddings one
    matrix, `bias` gives the attention's layers biases.
    """
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(context)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=64,
        max_position_embeddings=context,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        tie_word_embeddings=tied,
        attention_bias=bias,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).to(torch.bfloat16)
    model.generation_config = GenerationConfig(eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def tiny_tokenizer(context: int = 512):  # type: ignore[no-untyped-def]
    """A byte-level BPE tokenizer trained on `TEXT`; it can write any string."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT.split("\n"), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
        chat_template=CHATML,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
