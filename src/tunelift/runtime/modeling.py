"""Base models: where they lie, what they are, what to say when they cannot be had. Reads headers, loads no weights."""

from __future__ import annotations

import json
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunelift.artifacts.provenance import FileHashes
from tunelift.artifacts.records import digest
from tunelift.config.section import ModelConfig
from tunelift.errors import UserError
from tunelift.runtime import hub
from tunelift.runtime.shape import has_experts, shape_from

SMALL_FILES = ["*.json", "*.jinja", "tokenizer*", "*.model", "merges.txt"]
"""What is taken from a hub repository to look at a model: config, tokenizer, templates."""
HUB_FILES = ["*.safetensors", *SMALL_FILES]
"""And to run it: never pickled weights, never code."""
TWICE = ["consolidated*"]
"""And not the same weights once more, in the form of Mistral's own library."""
ORIGIN = "tunelift_origin.json"
"""Optional file in a model folder: {"source", "note"}, such as `dequantized from Q4_1`."""

BESIDE_TEXT = ("vision_config", "audio_config")
"""Where config.json tells of a model's parts for images and sound."""

AGAIN = "Copy or download it again."


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model from its small files."""

    id: str
    path: Path
    fingerprint: str
    architecture: str
    context: int
    """Longest sequence in tokens."""
    parameters: int
    """0 where its weights are not here, and its config.json is of an unknown architecture."""
    linear_dims: int
    """Inputs plus outputs, summed over the layers' linear weights: times the rank, the parameters of LoRA on all."""
    dtype: str
    note: str
    """Anything unusual about the weights, for reports."""

    def card(self) -> dict[str, Any]:
        """For summaries and reports."""
        return {
            "id": self.id,
            "architecture": self.architecture,
            "parameters": self.parameters,
            "precision": self.dtype,
            "note": self.note,
        }


def locate(config: ModelConfig, *, weights: bool = True) -> tuple[Path, str]:
    """The model's folder, downloaded if it has to be, and the hub commit (empty for a local folder).

    Without `weights`, only the small files of a hub model are sure to be there.

    Raises:
        UserError: the folder is not there, or the hub has no such model, refuses it, or cannot be reached.
    """
    folder = Path(config.id)
    if folder.is_dir():
        if config.revision:
            raise UserError(
                f"model.revision={config.revision!r} means nothing for the local folder {config.id}.",
                remedy="Remove model.revision.",
            )
        return folder, ""
    if folder.is_file():
        raise UserError(
            f"model.id={config.id!r} is a file, not a model's folder.",
            remedy="Set it to a folder with config.json, *.safetensors and tokenizer.json; GGUF files are not read.",
        )
    if config.id.startswith((".", "/", "~", "runs/")) or config.id.count("/") != 1:
        raise UserError(
            f"model.id={config.id!r} is no folder here and no hub id (owner/name).",
            remedy="Check the path; `make quickstart` fetches the quickstart's own model.",
        )
    return _from_hub(config, HUB_FILES if weights else SMALL_FILES)


def locate_config(config: ModelConfig) -> Path:
    """A folder with the model's config.json; of a hub model nothing else is downloaded.

    Raises:
        UserError: as `locate`.
    """
    if Path(config.id).is_dir() or config.id.count("/") != 1 or config.id.startswith((".", "/", "~", "runs/")):
        return locate(config)[0]
    from huggingface_hub import hf_hub_download

    with _asking_hub(config):
        return Path(hf_hub_download(config.id, "config.json", revision=config.revision)).parent


def _from_hub(config: ModelConfig, files: list[str]) -> tuple[Path, str]:
    from huggingface_hub import snapshot_download

    with _asking_hub(config):
        path = Path(snapshot_download(config.id, revision=config.revision, allow_patterns=files, ignore_patterns=TWICE))
    return path, path.name  # A snapshot's folder is named by its commit.


def _asking_hub(config: ModelConfig) -> AbstractContextManager[None]:
    return hub.explained(
        "model",
        f"model.id={config.id}",
        revision=str(config.revision),
        field="model.revision",
        otherwise="download the model elsewhere and set model.id to its local folder",
    )


def inspect_base(config: ModelConfig, hashes: FileHashes, *, weights: bool = True) -> ModelFacts:
    """`inspect`, of the model that is to be trained.

    Raises:
        UserError: as `inspect` and `refuse_untrainable_base`.
    """
    facts = inspect(config, hashes, weights=weights)
    refuse_untrainable_base(config.id, facts.path)
    return facts


def refuse_untrainable_base(name: str, folder: Path) -> None:
    """Tell from config.json that a model cannot be trained here.

    Args:
        name: What the user calls the model.
        folder: Holds its config.json.

    Raises:
        UserError: it reads more than text: adapters on its other parts would learn nothing from text, and what prepares
            images and sound is not written beside a merged model; or it is a mixture of experts: those are bare
            parameters, which get no adapter and are not held in 4 bits; or it is quantized: its numbers are no weights
            without their scales; or its generation_config.json is damaged.
    """
    described = _json(folder / "config.json", AGAIN)
    if has_experts(described):
        raise UserError(
            f"model.id={name} is a mixture of experts, whose experts would be neither trained nor quantized.",
            where=str(folder / "config.json"),
            remedy="Take a dense model, such as Qwen/Qwen3-8B.",
        )
    if quantized := described.get("quantization_config"):
        method = (
            f" ({quantized['quant_method']})" if isinstance(quantized, dict) and "quant_method" in quantized else ""
        )
        raise UserError(
            f"model.id={name} is quantized already{method}; adapters are trained on weights that are not.",
            where=str(folder / "config.json"),
            remedy="Take the model that it was made from, in bf16: with train.adapter.kind=qlora it is held in 4 bits "
            "while it is trained, as it is loaded.",
        )
    read_generation_config(folder)
    found = [part for part in BESIDE_TEXT if described.get(part)]
    if found:
        raise UserError(
            f"model.id={name} reads more than text (its config.json has {' and '.join(found)}); "
            "only text models are trained.",
            where=str(folder / "config.json"),
            remedy="Take a model that reads text alone, such as google/gemma-3-1b-it among Gemma 3.",
        )


def read_generation_config(folder: Path) -> dict[str, Any]:
    """A model's generation_config.json; empty if it has none.

    Raises:
        UserError: it cannot be read, or its `eos_token_id` is no token id and no list of some.
    """
    path = folder / "generation_config.json"
    if not path.exists():
        return {}
    content = _json(path, AGAIN)
    ends = content.get("eos_token_id")
    wrong = [end for end in (ends if isinstance(ends, list) else [ends]) if end is not None and type(end) is not int]
    if wrong:
        raise UserError(f"eos_token_id={wrong[0]!r} is no token id, a whole number.", where=str(path), remedy=AGAIN)
    return content


def inspect(config: ModelConfig, hashes: FileHashes, *, weights: bool = True) -> ModelFacts:
    """Find the model and read its small files; without `weights`, those of a hub model are not downloaded.

    Raises:
        UserError: as `locate`, or the folder is no model with safetensors weights.
    """
    path, commit = locate(config, weights=weights)
    try:
        return _described(config.id, path, commit, hashes, weights=weights or not commit)
    except OSError as error:
        raise UserError(
            f"The model's file cannot be read: {error.strerror or error}.",
            where=str(error.filename or path),
            remedy=f"Check its permissions. {AGAIN}",
        ) from error


def _described(name: str, path: Path, commit: str, hashes: FileHashes, *, weights: bool) -> ModelFacts:
    described = _json(path / "config.json", "A model folder needs config.json and *.safetensors.")
    parameters, linear_dims = _size_of_weights(path) if weights else _size_from_config(described, path)
    origin = path / ORIGIN
    context = described.get("max_position_embeddings") or (described.get("text_config") or {}).get(
        "max_position_embeddings"
    )
    return ModelFacts(
        id=name,
        path=path,
        fingerprint=digest({"hub": name, "commit": commit}) if commit else digest(hashes.of_folder(path)),
        architecture=str((described.get("architectures") or ["unknown"])[0]),
        context=int(context) if context else 4096,
        parameters=parameters,
        linear_dims=linear_dims,
        dtype=str(described.get("dtype") or described.get("torch_dtype") or "float32"),
        note=str(_json(origin, "").get("note", "")) if origin.exists() else "",
    )


def _size_from_config(described: dict[str, Any], path: Path) -> tuple[int, int]:
    """As `_size_of_weights`, or as much of it as config.json tells."""
    try:
        shape = shape_from(described, where=str(path))
    except UserError:
        return 0, 0
    return shape.parameters, shape.layers * sum(linear.inputs + linear.outputs for linear in shape.linears)


def _size_of_weights(path: Path) -> tuple[int, int]:
    """The number of parameters, and `linear_dims`, from the headers of the weights' files."""
    weights = _weight_files(path)
    if not weights:
        pickled = any(path.glob("*.bin")) or any(path.glob("*.pt"))
        raise UserError(
            "The folder holds no *.safetensors weights"
            + (", only pickled ones, which can run code when loaded." if pickled else "."),
            where=str(path),
            remedy="Convert the model to safetensors with save_pretrained()."
            if pickled
            else "Copy the model's weights into it.",
        )
    shapes = {name: entry["shape"] for file in weights for name, entry in _safetensors_header(file).items()}
    linear_dims = sum(sum(shape) for name, shape in shapes.items() if len(shape) == 2 and ".layers." in name)
    return sum(math.prod(shape) for shape in shapes.values()), linear_dims


def _weight_files(path: Path) -> list[Path]:
    """Those that transformers loads; by other names than its own, any that are there."""
    whole, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if whole.exists():
        return [whole]
    if not index.exists():
        return sorted(path.glob("*.safetensors"))
    places = _json(index, AGAIN).get("weight_map")
    if not isinstance(places, dict):
        raise UserError("The file is damaged: it holds no `weight_map`.", where=str(index), remedy=AGAIN)
    files = [path / str(name) for name in sorted(set(places.values()))]
    if missing := [file.name for file in files if not file.exists()]:
        raise UserError(f"The folder lacks {missing[0]}, which holds weights.", where=str(index), remedy=AGAIN)
    return files


def file_of(folder: Path, tensor: str) -> Path:
    """The weights file that holds a tensor; the folder where none has one of that name."""
    return next((file for file in _weight_files(folder) if tensor in _safetensors_header(file)), folder)


def _json(path: Path, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError("The file is missing.", where=str(path), remedy=remedy) from None
    except ValueError as error:
        raise UserError(f"The file is damaged: {error}.", where=str(path), remedy=AGAIN) from error
    if not isinstance(content, dict):
        raise UserError("The file is damaged: it holds no JSON object.", where=str(path), remedy=AGAIN)
    return content


def _safetensors_header(path: Path) -> dict[str, Any]:
    """Names, dtypes and shapes of the tensors in one file, from its first bytes (safetensors format)."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > size:
                raise ValueError("the header is longer than the file")
            header = json.loads(file.read(length))
            tensors = {name: entry for name, entry in header.items() if name != "__metadata__"}
            whole = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
            if whole > size:
                raise ValueError(f"it has {size:,} bytes and should have {whole:,}")
    except (ValueError, AttributeError, TypeError, LookupError) as error:
        reason = error if isinstance(error, ValueError) else "its header is not that of a safetensors file"
        raise UserError(f"The weights file is damaged: {reason}.", where=str(path), remedy=AGAIN) from error
    return tensors
