"""The adapter folded into the weights it was trained on, and proof that the model still says the same."""

from __future__ import annotations

import gc
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tunelift.config.schema import MergeConfig
from tunelift.errors import GateError, UserError
from tunelift.runtime import console
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import Row, read_encoded
from tunelift.runtime.vocabulary import fit_embeddings
from tunelift.runtime.weights import (
    Device,
    Kind,
    Precision,
    keep_trained_in_fp32,
    load_base,
    machine_trouble,
    one_gpu,
    peak_memory_gib,
)
from tunelift.stages.merge.folder import write_model
from tunelift.stages.merge.parity import Parity, compare, reference, thinned

if TYPE_CHECKING:
    from transformers import PreTrainedModel

MEMORY_REMEDY = "Merge on a machine that holds the model in bf16 (2 bytes a parameter), or lower merge.parity_rows."


def merge(
    config: MergeConfig,
    *,
    kind: Kind,
    precision: Precision,
    model: Path,
    adapter: Path,
    dataset: Path,
    device: Device,
    out: Path,
) -> dict[str, Any]:
    """Write a Hugging Face folder into `out`: bf16 safetensors, what the adapter was trained with, and parity.json.

    Args:
        kind: What the adapter was trained on: `qlora` is a base in NF4, which is dequantized, `lora` one in bf16.
        precision: What training computed in; the two models are compared in it.
        model: The base model's folder.
        adapter: The train artifact; the adapter lies in its folder `adapter`.
        dataset: The data set whose validation rows the two models are compared on.

    Returns:
        The content of parity.json, and `peak_memory_gib` of this process.

    Raises:
        GateError: the merged model strays too far from the trained one.
        UserError: the adapter does not fit the model.
        MachineError: out of memory or disk.
    """
    if device == "cuda":
        one_gpu()
    with machine_trouble(out, MEMORY_REMEDY):
        _empty(out)
        rows, padding = _parity_rows(config, model, adapter / "adapter", dataset)
        trained = load_trained(kind, model, adapter / "adapter", device, precision)
        rows = thinned(rows, trained.config.get_text_config().vocab_size * (2 if precision == "bf16" else 4))
        said = reference(trained, rows, padding, device, precision)
        write_model(fold(trained, kind), model, adapter / "adapter", out)
        del trained
        _release(device)
        written = load_base(out, kind="lora", device=device, precision=precision)
        parity = compare(written, said, rows, padding, device, precision)
        found = parity.to_json() | {
            "rows": len(rows),
            "limits": {"kl_mean": config.max_kl, "top1_agreement": config.min_top1_agreement},
            "base": "nf4-dequantized" if kind == "qlora" else "bf16",
        }
        (out / "parity.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        hold(parity, config)
        console.say(
            f"merge: on {parity.positions:,} positions the merged model agrees with the trained one at "
            f"{parity.top1_agreement:.1%}; KL divergence {parity.kl_mean:.5f} nats a token"
        )
        return found | {"peak_memory_gib": peak_memory_gib(device)}  # Not in the folder: the next merge has another.


def _release(device: Device) -> None:
    """Give back what the trained model took, even where it holds a cycle: the written one needs the room."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()


def _empty(out: Path) -> None:
    """A killed merge leaves nothing worth keeping."""
    for path in out.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _parity_rows(config: MergeConfig, model: Path, adapter: Path, dataset: Path) -> tuple[list[Row], int]:
    """Validation rows (training rows if there are none), and a token to pad them with."""
    tokenizer = load_tokenizer(adapter)
    rows = read_encoded(tokenizer, dataset, "validation", config.parity_rows)
    rows = rows or read_encoded(tokenizer, dataset, "train", config.parity_rows)
    if not rows:
        raise UserError("The data set has no rows to compare on.", where=str(dataset), remedy="Run curate again.")
    return rows, tokenizer.pad_token_id or 0


def load_trained(kind: Kind, model: Path, adapter: Path, device: Device, precision: Precision) -> Any:
    """The model as it was trained: base in its training precision, adapter in fp32."""
    from peft import PeftModel, set_peft_model_state_dict
    from safetensors.torch import load_file

    base = load_base(model, kind=kind, device=device, precision=precision)
    fit_embeddings(base, load_tokenizer(adapter))
    try:
        trained = PeftModel.from_pretrained(base, str(adapter), is_trainable=True)
        keep_trained_in_fp32(trained)
        # Once more, since PEFT has rounded what is trained whole to the base's precision.
        set_peft_model_state_dict(trained, load_file(adapter / "adapter_model.safetensors", device=device))
        return trained.eval()
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            f"The adapter does not fit the model: {(str(error).splitlines() or [''])[0]}",
            where=str(adapter),
            remedy="Merge it into the model that it was trained on.",
        ) from error


def fold(trained: Any, kind: Kind) -> PreTrainedModel:
    """The base with what was trained in it, computed in fp32 by PEFT and rounded once to bf16, in place.

    A 4-bit W is dequantized first: merged in 4-bit, rounding erases the adapter; merged into the original weights, it
    corrects errors of quantization that are no longer there.
    """
    import torch
    from peft.tuners.lora import LoraLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    if kind == "qlora":
        _dequantize(trained)
    with torch.no_grad():
        for name, layer in reversed(list(trained.named_modules(remove_duplicate=False))):
            if isinstance(layer, LoraLayer):
                trained.set_submodule(name, _fold_lora(layer))
            elif isinstance(layer, AuxiliaryTrainingWrapper):  # Trained whole, or some of its tokens.
                trained.set_submodule(name, layer.unload_and_optionally_merge_module(True, False, None))
    merged: PreTrainedModel = trained.get_base_model()
    for parameter in merged.parameters():  # Not `to`, which would round the rotary frequencies as well.
        parameter.data = parameter.data.to(torch.bfloat16)
    return merged


def _fold_lora(layer: Any) -> Any:
    """The base layer with W + scale * B A, or what the adapter's variant (DoRA) makes of it."""
    linear = layer.get_base_layer()
    dtype = linear.weight.dtype
    # PEFT's own `merge` would add in bf16: it rounds the update, then the sum.
    weight = linear.weight.data.float()
    variant = layer.lora_variant.get("default")
    if variant is None:
        weight += layer.get_delta_weight("default")
    else:
        linear.weight.data = weight
        weight = variant.merge_safe(layer, "default", weight)
    linear.weight.data = weight.to(dtype)  # Rounds to the nearest bf16, unless the base is in fp32.
    return linear


def _dequantize(trained: Any) -> None:
    """Every 4-bit layer becomes the linear layer that it computed with, one at a time."""
    import torch
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit

    for name in [name for name, layer in trained.named_modules() if isinstance(layer, Linear4bit)]:
        layer = trained.get_submodule(name)
        weight = dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(layer.compute_dtype)
        linear = torch.nn.Linear(layer.in_features, layer.out_features, bias=False, device="meta")
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        linear.bias = layer.bias
        trained.set_submodule(name, linear)
        layer.weight.module = None  # It points back to its layer, so neither would go until the cycle is found.
    base = trained.get_base_model()
    base.hf_quantizer.remove_quantization_config(base)


def hold(parity: Parity, config: MergeConfig) -> None:
    """Raise GateError when the merged model is another model."""
    broken: Sequence[str] = [
        text
        for fails, text in (
            (not parity.kl_mean <= config.max_kl, f"KL divergence {parity.kl_mean:.4f} > merge.max_kl={config.max_kl}"),
            (
                not parity.top1_agreement >= config.min_top1_agreement,
                f"top-1 agreement {parity.top1_agreement:.4f} < merge.min_top1_agreement={config.min_top1_agreement}",
            ),
        )
        if fails
    ]
    if broken:
        raise GateError(
            f"The merged model differs from the trained one: {'; '.join(broken)} (on {parity.positions:,} positions).",
            remedy="If the model is known to be this sensitive to rounding, raise the limit knowingly.",
        )
