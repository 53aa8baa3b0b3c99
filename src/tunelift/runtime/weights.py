"""Models in memory: loading a base, scoring it where it is supervised, and the machine's trouble with both."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tunelift.artifacts.store import disk_error, writing
from tunelift.errors import MachineError, UserError
from tunelift.runtime import quantized
from tunelift.runtime.attention import keeping_the_cap
from tunelift.runtime.encoded import IGNORED
from tunelift.runtime.hardware import DEVICE_ORDER, first_visible, free_gib
from tunelift.runtime.modeling import file_of

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig, PreTrainedModel

Device = Literal["cpu", "cuda"]
Kind = Literal["qlora", "lora"]
Precision = Literal["bf16", "fp32"]
"""What is computed in. Adapters are fp32 in either."""

MEMORY_REMEDY = (
    "Lower train.micro_batch_size or train.max_length, set train.gradient_checkpointing to true, "
    "or use a machine with more memory; the same command goes on from the last checkpoint."
)


def torch_dtype(precision: Precision) -> torch.dtype:
    """PyTorch's name of it."""
    import torch

    return {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]


def nf4(precision: Precision) -> BitsAndBytesConfig:
    """QLoRA's base (arXiv 2305.14314): NF4, double quantization, computed in `precision`; FP4 is the default."""
    import torch
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch_dtype(precision),
        bnb_4bit_quant_storage=torch.uint8,
    )


def load_base(
    folder: Path,
    *,
    kind: Kind,
    device: Device,
    precision: Precision,
    attention: str | None = None,
) -> PreTrainedModel:
    """The base model: linear layers in NF4 for `qlora`, all else (everything for `lora`) in `precision`.

    Args:
        folder: The model's.
        kind: What is trained on it.
        device: Where it is to lie.
        precision: What it is computed in.
        attention: As in `train.attention`, resolved; by default PyTorch's own where the model takes it. Eager in place
            of PyTorch's own where that would compute another model.

    Raises:
        UserError: the folder's weights cannot be loaded, or not with this attention, or are not those of the model that
            its config.json describes, or hold what is no finite number.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, GenerationConfig

    # In place of the folder's own, which plays no part here and may be refused.
    unset = GenerationConfig()  # type: ignore[no-untyped-call]
    broken: list[str] = []
    try:
        with quantized.noting_broken(broken) if kind == "qlora" else nullcontext():
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                dtype=torch_dtype(precision),
                quantization_config=nf4(precision) if kind == "qlora" else None,
                attn_implementation=keeping_the_cap(folder, attention),
                device_map={"": 0} if device == "cuda" else None,
                local_files_only=True,
                trust_remote_code=False,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # They are refused below, by name.
                generation_config=unset,
            )
    except (OSError, ValueError, ImportError, SafetensorError) as error:
        raise UserError(
            f"The model cannot be loaded ({(str(error).splitlines() or [type(error).__name__])[0]}).",
            where=str(folder),
            remedy=_loading_remedy(error),
        ) from error
    model: PreTrainedModel = loaded[0]
    found: dict[str, Any] = loaded[1]
    if kind == "qlora":
        found["mismatched_keys"] = _misshapen(model)
        _refuse_transposed(quantized.transposed_layers(model), folder)
        quantized.put_right(model)
    _refuse_other_weights(found, folder)
    broken += [name for name, value in model.named_parameters() if not quantized.is_finite(value)]
    _refuse_broken(broken, folder)
    return model


def empty_model(folder: Path) -> PreTrainedModel:
    """The model that a folder's config.json describes, without weights, which takes no memory.

    Raises:
        UserError: transformers knows no such model.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        described = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                described, attn_implementation="eager", trust_remote_code=False
            )
    except (OSError, ValueError, ImportError) as error:
        raise UserError(
            f"The model cannot be loaded ({(str(error).splitlines() or [type(error).__name__])[0]}).",
            where=str(folder),
            remedy=_loading_remedy(error),
        ) from error
    return model


MASKS = re.compile(r"\.(masked_bias|attn\.bias|attention\.bias)$")
"""Causal masks in checkpoints of GPT-2's time. What else is harmless, transformers leaves out itself."""
NAMED = 3
"""Of many tensors, so many are told by name."""


def _misshapen(model: PreTrainedModel) -> set[tuple[str, ...]]:
    """Names of parameters of another shape than the config's, for which transformers does not look in 4 bits.

    Sizes are compared in any order: GPT-2's layers are turned around as they are quantized.
    """
    import torch

    config = deepcopy(model.config)
    config._attn_implementation = "eager"  # Every model takes it, on any device.
    with torch.device("meta"):
        described = {name: value.shape for name, value in type(model)(config).named_parameters()}
    shapes = {name: getattr(value, "quant_state", value).shape for name, value in model.named_parameters()}
    return {(name,) for name, shape in shapes.items() if sorted(shape) != sorted(described.get(name, shape))}


def _refuse_other_weights(found: dict[str, Any], folder: Path) -> None:
    """transformers draws at random what the files lack and overlooks what the model has no place for."""
    kinds = {
        "are missing": sorted(found["missing_keys"]),
        "have another shape": sorted(key for key, *_ in found["mismatched_keys"]),
        "have no place in it": sorted(key for key in found["unexpected_keys"] if not MASKS.search(key)),
    }
    told = [
        f"{len(keys):,} {how} ({', '.join(keys[:NAMED])}{', ...' if len(keys) > NAMED else ''})"
        for how, keys in kinds.items()
        if keys
    ]
    if told:
        raise UserError(
            f"The weights are not those of the model that config.json describes: of the tensors {'; '.join(told)}.",
            where=str(folder),
            remedy="Copy or download the model again, config.json and weights alike. Tensors added on purpose, such "
            "as a value head, go when it is written anew with AutoModelForCausalLM and save_pretrained().",
        )


def _refuse_broken(names: Sequence[str], folder: Path) -> None:
    """In a prompt they would make a loss of NaN, which tells nothing of where it came from; in 4 bits not even that."""
    if names:
        raise UserError(
            f"The model's weights hold NaN or infinity, in {len(names):,} tensors ({', '.join(names[:NAMED])}"
            f"{', ...' if len(names) > NAMED else ''}).",
            where=str(file_of(folder, names[0])),
            remedy="Copy or download the model again; if it is the same then, it was published broken: take another.",
        )


def _refuse_transposed(names: Sequence[str], folder: Path) -> None:
    """The merge would write them the other way round."""
    if names:
        raise UserError(
            f"train.adapter.kind=qlora does not work with this model, whose weights lie transposed ({names[0]}).",
            where=str(folder),
            remedy="Set train.adapter.kind to lora.",
        )


def _loading_remedy(error: Exception) -> str:
    if re.search(r"flash.?att|attention implementation|attn_implementation", str(error), re.IGNORECASE):
        return "Set train.attention to sdpa, or to eager, which every model takes."
    if isinstance(error, ImportError):
        return "Install what the message names, or run `make setup`, which installs the locked packages."
    return "Copy or download the model again; its architecture must be one that transformers knows."


def keep_trained_in_fp32(model: torch.nn.Module) -> None:
    """Hold every trainable parameter in fp32: in bf16, updates below 2^-9 of a weight round away."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def check_trained_in_fp32(model: torch.nn.Module) -> None:
    """Hold that no library has cast a trained parameter since `keep_trained_in_fp32`.

    Raises:
        MachineError: one has.
    """
    import torch

    for name, parameter in model.named_parameters():
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise MachineError(
                f"{name} is trained in {str(parameter.dtype).removeprefix('torch.')}, in which small updates round "
                "away; a library has cast it.",
                remedy="Take out the option of train.adapter that trains it, or set train.precision to fp32; and "
                "report it with the versions of the installed packages.",
            )


@contextmanager
def casting_by_autocast_alone(model: torch.nn.Module) -> Iterator[None]:
    """Keep LoRA layers from casting their input as well: on a CPU PEFT overlooks autocast, which costs 12% of a step.

    PEFT's own `disable_input_dtype_casting` fails on a model with trained tokens.
    """
    from peft.tuners.lora import LoraLayer

    layers = [layer for layer in model.modules() if isinstance(layer, LoraLayer)]
    before = [layer.cast_input_dtype_enabled for layer in layers]
    for layer in layers:
        layer.cast_input_dtype_enabled = False
    try:
        yield
    finally:
        for layer, enabled in zip(layers, before, strict=True):
            layer.cast_input_dtype_enabled = enabled


def supervised_logits(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the model, and its output head only where the next token is supervised.

    Prompts and padding are most of a batch and the head is a large part of a small model, so this saves time and
    memory. It goes through the model's own forward: autocast, soft-capping and scaling apply.

    Args:
        model: A causal language model, bare or with an adapter.
        inputs: `input_ids`, `labels`, and `attention_mask` or, of rows that are packed into one, `position_ids`; each
            [rows, tokens].

    Returns:
        Logits [positions, vocabulary] and the token ids to predict [positions].
    """
    import torch

    following = inputs["labels"][:, 1:]
    supervised = following != IGNORED
    scored = torch.nn.functional.pad(supervised, (0, 1), value=False)
    head = model.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda _module, hidden: (hidden[0][scored],))
    try:
        # Without a cache: with one, transformers would take packed rows for a single row.
        output = model(**{name: value for name, value in inputs.items() if name != "labels"}, use_cache=False)
    finally:
        hook.remove()
    return output.logits, following[supervised]


def one_gpu() -> None:
    """Let this process see one GPU, the one that was planned for. Call before torch is used.

    Several without a launcher make the Trainer refuse.

    Raises:
        MachineError: PyTorch cannot use it, with PyTorch's own reason.
    """
    os.environ |= {**DEVICE_ORDER, "CUDA_VISIBLE_DEVICES": first_visible()}
    import torch

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        usable = torch.cuda.is_available()
    if not usable:
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build for the CPU"
        reason = f" ({str(said[-1].message).splitlines()[0]})" if said else ""
        raise MachineError(
            f"The GPU cannot be used by PyTorch {torch.__version__}, {built}{reason}.",
            remedy="Update NVIDIA's driver to one that supports that version of CUDA (`nvidia-smi` names the newest it "
            "does), or set the environment variable CUDA_VISIBLE_DEVICES to nothing to run on the CPU.",
        )


@contextmanager
def machine_trouble(out: Path, memory_remedy: str = MEMORY_REMEDY) -> Iterator[None]:
    """Turn exhausted memory and a full disk into messages with a remedy.

    Raises:
        MachineError: in their place.
    """
    from safetensors import SafetensorError

    try:
        with writing(out):
            yield
    except (MemoryError, RuntimeError, SafetensorError) as error:  # torch's own OutOfMemoryError is a RuntimeError.
        words = str(error)
        if is_out_of_memory(error):
            on_cpu = isinstance(error, MemoryError) or CPU_OUT_OF_MEMORY in words
            where = "The machine" if on_cpu else "The GPU"
            raise MachineError(f"{where} ran out of memory.", remedy=memory_remedy) from error
        if "No space left" in words or free_gib(out) < FULL_DISK_GIB:
            raise disk_error(OSError(28, "No space left on device"), out) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, on a GPU or on the CPU.

    Outside of PyTorch's own allocator, as for a library's workspace, there is nothing but words to go by. Unlike a
    bad memory access they leave the process's CUDA context usable, so that what fits can still be computed.
    """
    import torch

    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in OUT_OF_MEMORY)


CPU_OUT_OF_MEMORY = "can't allocate memory"
"""In the words of PyTorch's CPU allocator."""
OUT_OF_MEMORY = (CPU_OUT_OF_MEMORY, "CUDA error: out of memory", "_STATUS_ALLOC_FAILED")
"""The others are the CUDA runtime's and its libraries' (CUBLAS, CUDNN, CUSPARSE)."""


FULL_DISK_GIB = 0.01
"""Writers that hide the reason failed for want of space when less than this is left."""


def peak_memory_gib(device: Device) -> float:
    """The most memory that this process held: of the GPU, or of the machine."""
    import resource

    import torch

    if device == "cuda":
        return float(round(torch.cuda.max_memory_allocated() / 2**30, 2))
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
