"""A tokenizer is what its tokenizer.json says, whatever transformers builds for its class."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from tests.published import PUBLISHED, Published, write_small_files
from tests.reading import TEXTS
from tunelift.runtime import tokenizer_files
from tunelift.runtime.vocabulary import add_tokens

BY_NAME = {published.name: published for published in PUBLISHED}
REBUILT = {"smollm_2", "llama_2", "qwen_2_5_distilled"}
"""For which transformers 5 builds another pipeline, seen in the ids of `TEXTS`."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("published")
    for published in PUBLISHED:
        write_small_files(root / published.name, published)
    return {name: root / name for name in BY_NAME}


def of_file(folder: Path) -> list[list[int]]:
    raw = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [raw.encode(text, add_special_tokens=False).ids for text in TEXTS]


def steps(folder: Path) -> dict[str, Any]:
    """All but the post-processor, in whose place transformers writes one that does nothing where there is none."""
    read = json.loads(Tokenizer.from_file(str(folder / "tokenizer.json")).to_str())
    return {name: step for name, step in read.items() if name != "post_processor"}


def ids(tokenizer) -> list[list[int]]:  # type: ignore[no-untyped-def]
    return [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]


@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_the_ids_are_those_of_the_file_and_so_they_are_saved(
    published: Published, folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = folders[published.name]
    assert (ids(AutoTokenizer.from_pretrained(folder)) != of_file(folder)) == (published.name in REBUILT)
    tokenizer = tokenizer_files.load(folder)
    assert ids(tokenizer) == of_file(folder)
    tokenizer_files.save(tokenizer, folder, tmp_path)
    assert steps(tmp_path) == steps(folder)
    assert ids(AutoTokenizer.from_pretrained(tmp_path)) == of_file(folder)
    own, saved = (json.loads((where / "tokenizer_config.json").read_text()) for where in (folder, tmp_path))
    assert saved["tokenizer_class"] in ("PreTrainedTokenizerFast", own["tokenizer_class"])
    for kept in ("bos_token", "eos_token", "pad_token", "add_bos_token", "add_eos_token", "model_max_length"):
        assert saved.get(kept) == own.get(kept), kept
    assert not {"is_local", "local_files_only", "extra_special_tokens"} & saved.keys()


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_vllm_is_given_a_tokenizer_where_it_would_take_another(
    name: str, folders: dict[str, Path], tmp_path: Path
) -> None:
    given = tokenizer_files.for_engine(folders[name], tmp_path / "given")
    assert given is not None or name not in REBUILT
    assert ids(AutoTokenizer.from_pretrained(given or folders[name])) == of_file(folders[name])
    if given:
        assert AutoTokenizer.from_pretrained(given).chat_template, "the engine renders with it"


def test_a_folder_that_cannot_be_read_is_left_to_vllm(tmp_path: Path) -> None:
    assert tokenizer_files.for_engine(tmp_path, tmp_path / "given") is None


@given(st.text())
def test_any_text_has_the_ids_of_the_file(folders: dict[str, Path], text: str) -> None:
    for name in REBUILT:
        raw, tokenizer = _pair(folders[name])
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == raw.encode(text, add_special_tokens=False).ids


_known: dict[Path, tuple] = {}


def _pair(folder: Path) -> tuple:  # type: ignore[type-arg]
    if folder not in _known:
        _known[folder] = Tokenizer.from_file(str(folder / "tokenizer.json")), tokenizer_files.load(folder)
    return _known[folder]


def test_a_token_of_the_class_alone_is_named_if_the_vocabulary_has_it_and_never_added(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    """Gemma's class brings <mask>, GPT-2's an end token."""
    gemma, raw = folders["gemma_2"], Tokenizer.from_file(str(folders["gemma_2"] / "tokenizer.json"))
    assert len(AutoTokenizer.from_pretrained(gemma)) > raw.get_vocab_size()
    loaded = tokenizer_files.load(gemma)
    assert len(loaded) == raw.get_vocab_size() and loaded.mask_token is None
    published = Published("gpt_2", "smollm_2", "GPT2Tokenizer", "digits", {"model_type": "gpt2"})
    write_small_files(tmp_path / "gpt_2", published)
    path = tmp_path / "gpt_2/tokenizer_config.json"
    path.write_text(json.dumps({"tokenizer_class": "GPT2Tokenizer", "model_max_length": 1024}))
    tokenizer = tokenizer_files.load(tmp_path / "gpt_2")
    assert ids(tokenizer) == of_file(tmp_path / "gpt_2")
    assert tokenizer.eos_token == "<|endoftext|>" and tokenizer.pad_token is None


def test_a_class_with_tokens_of_its_own_is_loaded_as_its_file_says(folders: dict[str, Path], tmp_path: Path) -> None:
    """CodeLlama's class has a prefix token and more, which no other class has."""
    folder = shutil.copytree(folders["llama_2"], tmp_path / "code_llama")
    described = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps(described | {"tokenizer_class": "CodeLlamaTokenizer"}))
    assert "prefix_token" in AutoTokenizer.from_pretrained(folder).special_tokens_map
    assert ids(tokenizer_files.load(folder)) == of_file(folder)


def test_added_tokens_are_saved_among_those_of_the_file(folders: dict[str, Path], tmp_path: Path) -> None:
    tokenizer = tokenizer_files.load(folders["smollm_2"])
    (new,) = add_tokens(tokenizer, ["<|tool|>"])
    tokenizer_files.save(tokenizer, folders["smollm_2"], tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    assert saved("2026<|tool|>", add_special_tokens=False)["input_ids"][-1] == new
    assert ids(saved) == of_file(folders["smollm_2"])


def test_further_special_tokens_are_saved_under_the_name_that_transformers_4_reads(
    tiny_model: Path, tmp_path: Path
) -> None:
    """Under the other it wants names for them."""
    tokenizer_files.save(tokenizer_files.load(tiny_model), tiny_model, tmp_path)
    saved = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert saved["additional_special_tokens"] == ["<|im_start|>"] and "extra_special_tokens" not in saved
    assert AutoTokenizer.from_pretrained(tmp_path).extra_special_tokens == ["<|im_start|>"]
