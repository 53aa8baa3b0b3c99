"""Make a random checkpoint with the exact shapes of Llama 3.1 8B: to load, train and resume the real size anywhere.

    python scripts/make_big_model.py [--folder runs/models/llama-3.1-8b-random] [--remove]

32 layers, hidden size 4,096, feed-forward 14,336, 32 heads over 8 key-value heads, 128,256 tokens, an output head of
its own, and the published rope scaling (config.json of meta-llama/Llama-3.1-8B-Instruct): 8,030,261,248 parameters in
bf16, 16 GB in a shard for each layer. The weights are random, so it answers nonsense; tokenizer and chat template are
small and of this project's own making, with the vocabulary filled up to its size.

One layer is in memory at a time. A killed run goes on with the next shard; config.json is written last, and until then
the folder bears another name, so a half-written model is never taken for a whole one.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.artifacts.store import writing
from tunelift.errors import MachineError, TuneliftError, UserError
from tunelift.runtime.console import progress, say

if TYPE_CHECKING:
    import torch

REPOSITORY = Path(__file__).resolve().parents[1]
LLAMA_31_8B: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "max_position_embeddings": 131072,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "hidden_act": "silu",
    "attention_bias": False,
    "attention_dropout": 0.0,
    "mlp_bias": False,
    "pretraining_tp": 1,
    "initializer_range": 0.02,
    "use_cache": True,
    "torch_dtype": "bfloat16",
}
SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|finetune_right_pad_id|>")
TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + '<|eot_id|>' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
BYTES_A_PARAMETER = 2
SPARE_BYTES = 2**30
"""Left free beside the model: a disk without room breaks more than this."""
MADE_BY = "tunelift_big_model.json"
"""Says that this script made the folder, so that `--remove` deletes nothing else."""


def main() -> int:
    """Make or remove the checkpoint; returns the exit code."""
    parser = argparse.ArgumentParser(description="Make a random checkpoint with the shapes of Llama 3.1 8B.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "models" / "llama-3.1-8b-random")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--remove", action="store_true", help="delete what was made, whole or not")
    arguments = parser.parse_args()
    try:
        if arguments.remove:
            remove(arguments.folder)
        else:
            make(arguments.folder, LLAMA_31_8B, seed=arguments.seed)
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on, or with --remove to delete it.", file=sys.stderr)
        return 130
    return 0


def make(target: Path, config: dict[str, Any], *, seed: int) -> Path:
    """Write the model folder, or go on with it; a finished one is found at once.

    Raises:
        UserError: the folder is there and was not made by this script from this config and seed.
        MachineError: the disk has no room.
    """
    work = partial(target)
    wanted = {"config": config, "seed": seed}
    if target.exists():
        if origin(target) != wanted:
            raise UserError("The folder is there, and is another model.", where=str(target), remedy="Name another one.")
        say(f"{target} is there already.")
        return target
    if work.exists() and origin(work) != wanted:
        shutil.rmtree(work)
    shards = plan(config)
    total = sum(bytes_of(shapes) for shapes in shards.values())
    missing = sum(bytes_of(shapes) for name, shapes in shards.items() if not (work / name).exists())
    need_disk(target, missing)
    with writing(target):
        work.mkdir(parents=True, exist_ok=True)
        (work / MADE_BY).write_text(json.dumps(wanted))
        write_shards(work, shards, seed)
        write_index(work, shards, total)
        write_tokenizer(work, int(config["vocab_size"]), int(config["max_position_embeddings"]))
        write_config(work, config)
        work.rename(target)
    say(f"Model: {target} ({total // BYTES_A_PARAMETER:,} random parameters in bf16, {total / 1e9:.1f} GB)")
    return target


def partial(target: Path) -> Path:
    """Where a model lies while it is being made."""
    return target.with_name(f".{target.name}.partial")


def origin(folder: Path) -> dict[str, Any] | None:
    """What this script made the folder from; none if it did not."""
    try:
        return dict(json.loads((folder / MADE_BY).read_text()))
    except (OSError, ValueError, TypeError):
        return None


def remove(target: Path) -> None:
    """Delete a model that this script made, whole or not.

    Raises:
        UserError: the folder is something else.
    """
    for folder in (target, partial(target)):
        if folder.exists():
            if origin(folder) is None:
                raise UserError(
                    "This script did not make that folder.", where=str(folder), remedy="Delete it yourself."
                )
            shutil.rmtree(folder)
            say(f"{folder} is deleted.")


def plan(config: dict[str, Any]) -> dict[str, dict[str, tuple[int, ...]]]:
    """Shapes by tensor by shard: one for the embeddings, one a layer, one for the head (Llama's names)."""
    hidden, inner, head = config["hidden_size"], config["intermediate_size"], config["head_dim"]
    queries, keys = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    layer = {
        "self_attn.q_proj": (queries, hidden),
        "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden),
        "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden),
        "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
        "input_layernorm": (hidden,),
        "post_attention_layernorm": (hidden,),
    }
    parts: list[dict[str, tuple[int, ...]]] = [{"model.embed_tokens.weight": (config["vocab_size"], hidden)}]
    parts += [
        {f"model.layers.{number}.{name}.weight": shape for name, shape in layer.items()}
        for number in range(config["num_hidden_layers"])
    ]
    parts.append({"model.norm.weight": (hidden,), "lm_head.weight": (config["vocab_size"], hidden)})
    return {f"model-{number:05}-of-{len(parts):05}.safetensors": part for number, part in enumerate(parts, 1)}


def bytes_of(shapes: dict[str, tuple[int, ...]]) -> int:
    """Of the tensors on disk."""
    return sum(elements(shape) for shape in shapes.values()) * BYTES_A_PARAMETER


def elements(shape: tuple[int, ...]) -> int:
    """How many numbers a tensor of this shape has."""
    return shape[0] if len(shape) == 1 else shape[0] * shape[1]


def need_disk(target: Path, missing: int) -> None:
    """Say what is needed, and refuse to begin what the disk cannot hold.

    Raises:
        MachineError: too little is free.
    """
    folder = target.parent
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    say(f"{missing / 1e9:.1f} GB are to be written to {folder}, where {free / 1e9:.1f} GB are free.")
    if free < missing + SPARE_BYTES:
        raise MachineError(
            f"The model needs {(missing + SPARE_BYTES) / 1e9:.1f} GB of disk, {free / 1e9:.1f} GB are free.",
            where=str(folder),
            remedy="Free some space, or name a --folder on another disk.",
        )


def write_shards(work: Path, shards: dict[str, dict[str, tuple[int, ...]]], seed: int) -> None:
    """Write what is missing; a shard is either whole or not there, and the same seed gives the same bytes."""
    from safetensors.torch import save_file

    done = [name for name in shards if (work / name).exists()]
    before, total = (sum(bytes_of(shards[name]) for name in names) // 10**6 for names in (done, shards))
    with progress("random weights", total=total, unit="MB", done=before) as bar:
        for number, (name, shapes) in enumerate(shards.items()):
            if name in done:
                continue
            temporary = work / f"{name}.tmp"
            save_file(dict(random_tensors(shapes, seed * len(shards) + number)), temporary, metadata={"format": "pt"})
            temporary.replace(work / name)
            bar.advance(bytes_of(shapes) // 10**6)


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int) -> Iterator[tuple[str, torch.Tensor]]:
    """Normal with a standard deviation of 0.02 (Llama's `initializer_range`), ones in the norms; all in bf16."""
    import torch

    # A normal sample of 2^20 values, tiled at random offsets: drawing 8 billion takes minutes, and nothing here
    # depends on their independence. NF4's statistics are those of a normal either way.
    generator = torch.Generator().manual_seed(seed)
    pool = (torch.randn(2**20, generator=generator) * 0.02).to(torch.bfloat16)
    for name, shape in shapes.items():
        if len(shape) == 1:
            yield name, torch.ones(shape, dtype=torch.bfloat16)
            continue
        offset = int(torch.randint(len(pool), (1,), generator=generator))
        rolled = pool.roll(offset)
        repeats = -(-elements(shape) // len(pool))
        yield name, rolled.repeat(repeats)[: elements(shape)].view(shape).contiguous()


def write_index(work: Path, shards: dict[str, dict[str, tuple[int, ...]]], total: int) -> None:
    """The file that says which shard holds which tensor."""
    places = {tensor: name for name, shapes in shards.items() for tensor in shapes}
    index = {"metadata": {"total_size": total}, "weight_map": places}
    (work / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def write_config(work: Path, config: dict[str, Any]) -> None:
    """The file that makes a folder a model. Without a version, transformers takes a large vocabulary for Mistral's."""
    import transformers

    described = config | special_ids() | {"transformers_version": transformers.__version__}
    (work / "config.json").write_text(json.dumps(described, indent=2) + "\n")


def special_ids() -> dict[str, int]:
    """The special tokens come first in the vocabulary."""
    return {"bos_token_id": 0, "eos_token_id": SPECIAL.index("<|eot_id|>")}


def write_tokenizer(work: Path, size: int, context: int) -> None:
    """A byte-level tokenizer without merges that writes any text, filled up to `size` tokens, with a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GenerationConfig, PreTrainedTokenizerFast

    words = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    vocabulary = {word: number for number, word in enumerate(words)}
    vocabulary |= {f"<|unused_{number}|>": number for number in range(len(words), size)}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=SPECIAL[0],
        eos_token="<|eot_id|>",
        pad_token="<|finetune_right_pad_id|>",
        additional_special_tokens=list(SPECIAL[1:3]),
        chat_template=TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    ).save_pretrained(work)
    GenerationConfig(**special_ids(), pad_token_id=SPECIAL.index("<|finetune_right_pad_id|>")).save_pretrained(work)


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    sys.exit(main())
