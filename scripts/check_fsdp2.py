"""Does a model in NF4 compute the same when FSDP2 shards it? Losses and gradients against the unsharded model's.

    torchrun --standalone --nproc-per-node 1 scripts/check_fsdp2.py [--model FOLDER]

PyTorch's FSDP2 cuts weights into pieces of equal length and puts them together for each layer's forward and backward
pass. bitsandbytes keeps what a weight was quantized with beside it, so the pieces have to come back in the same order
and the same bytes: in `uint8` storage, which FSDP2 leaves alone here, and in `bfloat16` storage, which it shards
(bitsandbytes issue 1945 says that the second computes something else on a GPU). With one process nothing is
distributed and everything else is as with many. Without a model, a small random one is made.

Prints a line for each storage and pass: EQUAL or DIFFERENT, and by how much. Exit code 0 whatever it finds.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

SEED = 1
ROWS, TOKENS = 2, 24
CLOSE_LOGITS, CLOSE_GRADIENT = 0.05, 0.999
"""Largest difference of a logit by the largest logit, and least cosine of the gradients, that count as equal."""


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description="Compare an NF4 model that FSDP2 shards with the unsharded one.")
    parser.add_argument("--model", type=Path, help="a model's folder; without it a small random one")
    arguments = parser.parse_args()
    on_gpu = torch.cuda.is_available()
    rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", rank) if on_gpu else torch.device("cpu")
    if on_gpu:
        torch.cuda.set_device(rank)
    with tempfile.TemporaryDirectory() as folder:
        # Before there is a group: in one, transformers saves in the first process only.
        model = arguments.model or make_model(Path(folder))
        dist.init_process_group("nccl" if on_gpu else "gloo")
        try:
            for storage in (torch.uint8, torch.bfloat16):
                compare(model, storage, device)
        finally:
            dist.destroy_process_group()


def make_model(folder: Path) -> Path:
    """Four layers whose widths do not divide evenly by a block of 64 weights in each shard."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(SEED)
    config = LlamaConfig(
        vocab_size=512,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def compare(folder: Path, storage: torch.dtype, device: torch.device) -> None:
    """Two passes, since the second one meets weights that were sharded again after the first."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    model = build(folder, storage, device)
    ids = torch.randint(3, 400, (ROWS, TOKENS), generator=torch.Generator().manual_seed(SEED)).to(device)
    logits, gradient = passed(model, ids)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (dist.get_world_size(),)),
        "mp_policy": MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32),
    }
    if storage == torch.uint8:  # FSDP2 casts what it shards, which would ruin packed integers.
        options["ignored_params"] = {one for one in model.parameters() if type(one).__name__ == "Params4bit"}
    for layer in model.base_model.model.model.layers:
        fully_shard(layer, **options)
    fully_shard(model, **options)
    for turn in (1, 2):
        sharded_logits, sharded_gradient = passed(model, ids)
        largest = logits.abs().max().item()
        off = (sharded_logits - logits).abs().max().item()
        cosine = torch.nn.functional.cosine_similarity(sharded_gradient, gradient, dim=0).item()
        equal = off < CLOSE_LOGITS * largest and cosine > CLOSE_GRADIENT
        if dist.get_rank() == 0:
            print(
                f"{'EQUAL' if equal else 'DIFFERENT'} {str(storage).removeprefix('torch.')} storage, pass {turn}, "
                f"{dist.get_world_size()} processes: logits off by {off:.5f} of {largest:.3f}, "
                f"gradient's cosine {cosine:.5f}",
                flush=True,
            )


def build(folder: Path, storage: torch.dtype, device: torch.device) -> Any:
    """The model in NF4 with an adapter on every linear layer, in fp32."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_quant_storage=storage,
    )
    torch.manual_seed(SEED)
    base = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.bfloat16,
        quantization_config=quantization,
        device_map={"": device.index} if device.type == "cuda" else None,
        local_files_only=True,
    )
    for layer in base.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False  # A CPU that has it packs the weights anew, without a gradient.
    adapter = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    model = get_peft_model(base, adapter)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    return model


def passed(model: Any, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits, and the adapter's gradient as one vector."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        logits = model(input_ids=ids, use_cache=False).logits.float()
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    model.zero_grad(set_to_none=True)
    loss.backward()
    gradients = [one.grad for one in model.parameters() if one.grad is not None]
    whole = [one.full_tensor() if hasattr(one, "full_tensor") else one for one in gradients]
    return logits.detach(), torch.cat([one.flatten().float() for one in whole])


if __name__ == "__main__":
    main()
