"""The base with an adapter beside it, unmerged: what vLLM is given, so that it answers as the merged model would."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

WEIGHTS = {"adapter_model.safetensors", "adapter_config.json"}
RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as `--max-lora-rank` (MaxLoRARanks in vllm/config/lora.py)."""
REPLACED = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "chat_template*",
            "additional_chat_templates", "generation_config.json")  # fmt: skip
"""In the base's folder, what the adapter's has in its place."""


def as_served(base: Path, adapter: Path, out: Path) -> Path:
    """`out`, with links to the base's weights and config, and the tokenizer, template and ends of the adapter's folder.

    The ends count: where training taught another than the base's, an answer would not stop.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    replaced = {path.name for pattern in REPLACED for path in base.glob(pattern)}
    for path in sorted(base.iterdir()):
        if path.name not in replaced:
            (out / path.name).symlink_to(path.resolve())
    for path in sorted(adapter.iterdir()):
        if path.name not in WEIGHTS:
            (out / path.name).symlink_to(path.resolve())
    return out


def arguments(name: str, adapter: Path) -> list[str]:
    """vLLM's options for serving an adapter under a name."""
    from safetensors import safe_open

    described = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    most = max([described["r"], *(described.get("rank_pattern") or {}).values()])
    rank = next(rank for rank in RANKS if rank >= most)
    module = json.dumps({"name": name, "path": str(adapter.resolve())})
    with safe_open(adapter / "adapter_model.safetensors", framework="numpy") as tensors:
        layers = {key.partition(".lora_")[0].rpartition(".")[2] for key in tensors.keys()}  # noqa: SIM118
    # Those alone: by itself vLLM also prepares the output head, which on a CPU fails at the likelihoods of a prompt.
    targets = ["--lora-target-modules", *sorted(layers)]
    return ["--enable-lora", "--max-lora-rank", str(rank), *targets, "--lora-modules", module]
