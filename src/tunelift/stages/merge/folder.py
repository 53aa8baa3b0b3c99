"""The merged model's folder: read alike by transformers 4 and 5, vLLM, and whatever else reads the base's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.runtime import console, tokenizer_files

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SHARD_SIZE = "2GB"
"""Of the weights' files: a copy of one is held in memory while it is written."""
WEIGHTS_ONLY = {"adapter_model.safetensors", "adapter_config.json"}
NOT_HERE = {"auto_map", "_name_or_path"}
"""In the base's config.json, what does not hold for the merged model: code that lies beside the base."""


def write_model(merged: PreTrainedModel, base: Path, adapter: Path, out: Path) -> None:
    """Weights and config, and beside them what the adapter was trained with: tokenizer, template, stop tokens.

    Args:
        merged: The model.
        base: The base's folder.
        adapter: The adapter's folder.
        out: An empty folder.
    """
    from transformers import GenerationConfig

    # The adapter's is written below. The base's own would be validated here, more strictly than when it was loaded.
    merged.generation_config = GenerationConfig()  # type: ignore[no-untyped-call]
    merged.save_pretrained(out, max_shard_size=SHARD_SIZE)
    _write_config(base, out)
    for path in sorted(adapter.iterdir()):
        if path.name not in WEIGHTS_ONLY:
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, out / path.name)
    if tokenizer_files.for_engine(out, out / tokenizer_files.FOLDER):
        console.say(
            f"merge: of this architecture transformers 5 builds another tokenizer than tokenizer.json says; tunelift "
            f"serves with that in the folder {tokenizer_files.FOLDER}, and other programs should be given it too"
        )


def _write_config(base: Path, out: Path) -> None:
    """Add to config.json what the base's says and transformers 5 does not write again, though others read it."""
    path = out / "config.json"
    saved, own = (json.loads((folder / path.name).read_text(encoding="utf-8")) for folder in (out, base))
    rope = rope_before_5(saved)  # What was trained with, where the base says another thing in each form.
    spelling = own if rope and _rope(own) == _rope(rope) else rope
    whole = rope | own | saved | spelling | {"dtype": saved["dtype"], "torch_dtype": saved["dtype"]}
    whole = {key: value for key, value in whole.items() if key not in NOT_HERE}
    path.write_text(json.dumps(whole, indent=2, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")


def _rope(config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """Base and scaling as transformers 4 reads them, comparable: it takes `type` for `rope_type`."""
    scaling = dict(config.get("rope_scaling") or {})
    kind = scaling.pop("type", None)
    return config.get("rope_theta"), {"rope_type": kind} | scaling if scaling or kind else {}


def rope_before_5(config: dict[str, Any]) -> dict[str, Any]:
    """The rotary embedding's settings as transformers 4 reads them, from `rope_parameters`; nothing without those.

    Transformers 5 reads these as well, and before `rope_parameters`.
    """
    rope = config.get("rope_parameters") or {}
    local = rope.get("sliding_attention")
    rope = rope.get("full_attention", rope)
    if "rope_theta" not in rope:
        return {}
    kind = rope.get("rope_type", "default")
    scaling = {key: value for key, value in rope.items() if key not in {"rope_theta", "partial_rotary_factor"}}
    if kind == "longrope":  # Phi-3 takes no other fields than these.
        scaling = {"type": kind, "short_factor": rope["short_factor"], "long_factor": rope["long_factor"]}
    found = {"rope_theta": rope["rope_theta"], "rope_scaling": None if kind == "default" else scaling}
    if "partial_rotary_factor" in rope:
        found["partial_rotary_factor"] = rope["partial_rotary_factor"]
    if local:
        found["rope_local_base_freq"] = local["rope_theta"]
    return found
