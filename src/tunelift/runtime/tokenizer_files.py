"""A model's tokenizer as its tokenizer.json says it: the one that is trained with, saved, and handed to the engine.

transformers 5 builds the tokenizers of many classes (Llama's, GPT-2's, Qwen2's, Gemma's) anew from vocabulary and
merges, with the normalizer, pre-tokenizer and decoder of its own code. Where tokenizer.json has others, such as
SmolLM2's rule that cuts numbers into digits, the ids are not those that the model was trained with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

FILE, CONFIG = "tokenizer.json", "tokenizer_config.json"
FOLDER = "tokenizer"
"""In a merged model's folder, the tokenizer for vLLM, where it would take another from the folder itself."""
AS_FILED = "PreTrainedTokenizerFast"
"""The class by which transformers 4 and 5 take tokenizer.json as it is; 5 calls it TokenizersBackend, unknown to 4."""
DROPPED = ("add_bos_token", "add_eos_token")
"""What transformers 5 does not write again, though transformers 4 needs it."""
OF_LOADING = ("is_local", "local_files_only")
"""How the tokenizer was loaded, which transformers 5 writes among its settings."""


def load(folder: Path) -> PreTrainedTokenizerFast:
    """The folder's tokenizer as transformers builds it, or where that is another than tokenizer.json's, the file's."""
    built = _as_built(folder)
    return _as_filed(built, folder) or built


def save(tokenizer: PreTrainedTokenizerFast, model: Path, out: Path) -> None:
    """Write a tokenizer that transformers 4 and 5 both read as it is.

    Args:
        tokenizer: By `load`, perhaps with tokens and a template added.
        model: The folder that it was loaded from.
        out: The folder to write into.
    """
    tokenizer.save_pretrained(out)
    own, saved = _config(model), _config(out)
    reads_file = type(tokenizer).__name__ == "TokenizersBackend"
    saved["tokenizer_class"] = AS_FILED if reads_file else own.get("tokenizer_class") or saved["tokenizer_class"]
    saved |= {key: own[key] for key in DROPPED if key in own}
    if isinstance(extra := saved.pop("extra_special_tokens", None), list):
        saved["additional_special_tokens"] = extra  # transformers 4 wants named ones under the other name.
    elif extra:
        saved["extra_special_tokens"] = extra
    text = json.dumps({key: saved[key] for key in sorted(saved) if key not in OF_LOADING}, indent=2, ensure_ascii=False)
    (out / CONFIG).write_text(text + "\n", encoding="utf-8")


def for_engine(model: Path, out: Path) -> Path | None:
    """`out`, with the tokenizer for vLLM in it, where the model's own folder would give vLLM another; else None.

    vLLM takes what transformers builds. Without a config.json beside it, that is tokenizer.json's.
    """
    try:
        filed = _as_filed(_as_built(model), model)
    except Exception:  # Whatever is wrong with it, vLLM tells in its log.
        return None
    if filed is None:
        return None
    save(filed, model, out)
    return out


def _as_built(folder: Path) -> PreTrainedTokenizerFast:
    from transformers import AutoTokenizer

    # Where tekken.json lies beside it, Mistral's own library would be taken, which has no chat template.
    tokenizer: Any = AutoTokenizer.from_pretrained(
        folder, local_files_only=True, trust_remote_code=False, mistral_format=False
    )
    return tokenizer  # type: ignore[no-any-return]


def _as_filed(built: PreTrainedTokenizerFast, folder: Path) -> PreTrainedTokenizerFast | None:
    """The tokenizer of tokenizer.json, if `built` is another."""
    from transformers import PreTrainedTokenizerFast

    if type(built) is PreTrainedTokenizerFast or not built.is_fast or not (folder / FILE).exists():
        return None
    filed: Any = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    for name, token in built.special_tokens_map.items():
        # Some stand in the class alone; not all of those are in every vocabulary, and some are no other class's.
        if (
            name in filed.SPECIAL_TOKENS_ATTRIBUTES
            and getattr(filed, name) is None
            and filed.backend_tokenizer.token_to_id(token) is not None
        ):
            setattr(filed, name, token)
    return None if _pipeline(filed) == _pipeline(built) else filed


def _pipeline(tokenizer: PreTrainedTokenizerFast) -> tuple[Any, str]:
    """All that decides which ids a text becomes, comparable: the steps around the model, and the model's JSON."""
    steps, _, model = tokenizer.backend_tokenizer.to_str().partition(',"model":{')
    return _meaning(json.loads(steps + "}")), model


def _meaning(value: Any) -> Any:
    """Without what changes no id: how offsets are trimmed, and what a byte-level decoder is told."""
    if isinstance(value, list):
        return [_meaning(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: _meaning(each) for key, each in value.items() if key != "trim_offsets"}
    if isinstance(decoder := kept.get("decoder"), dict) and decoder.get("type") == "ByteLevel":
        kept["decoder"] = "ByteLevel"
    return kept


def _config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
