"""The adapter's options: PEFT's, complete, and told where they are or why they cannot be."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from tunelift.config.adapter import AdapterConfig, LoraOptions
from tunelift.config.load import load_config
from tunelift.errors import UserError


def refused(tmp_path: Path, adapter: str) -> UserError:
    path = tmp_path / "a.yaml"
    text = "name: a\nmodel: {id: x}\ncurate: {sources: [{path: a.jsonl}]}\ntrain:\n  adapter:\n"
    path.write_text(text + "".join(f"    {line}\n" for line in adapter.splitlines()))
    with pytest.raises(UserError) as caught:
        load_config(path)
    return caught.value


def test_each_option_of_the_installed_peft_is_taken_or_told() -> None:
    from peft import LoraConfig

    ours = set(LoraOptions.model_fields) | set(LoraOptions.not_here)
    assert ours == {field.name for field in fields(LoraConfig)}
    assert not set(LoraOptions.model_fields) & set(LoraOptions.not_here)


def test_what_is_left_out_is_pefts_own_default() -> None:
    from peft import LoraConfig

    theirs = LoraConfig()
    for name, value in LoraOptions():
        assert value == getattr(theirs, name), name


@pytest.mark.parametrize(
    ("adapter", "line", "message"),
    [
        ("options:\n  r: 3", 7, "train.adapter.options.r: not taken here: it is train.adapter.rank."),
        ("options:\n  trainable_token_indices: [1]", 7, "it is train.added_tokens"),
        ("options:\n  rank_patern: {a: 1}", 7, "unknown key; did you mean `rank_pattern`?"),
        ("options:\n  layer_replication: [[0, 4]]", 7, "cannot hold several adapters"),
        ("options:\n  alora_invocation_tokens: [1]", 7, "cannot be merged"),
        ("options:\n  init_lora_weights: pisa", 7, "did you mean `pissa`?"),
        ("options:\n  rank_pattern: {q_proj: 0}", 7, "a value greater than or equal to 1"),
        ("options:\n  exclude_modules: '(down'", 7, "'(down' is not a regular expression"),
        ("options:\n  rank_pattern: {'(q_proj': 2}", 7, "'(q_proj' is not a regular expression"),
        ("options:\n  alpha_pattern: {'q_proj)': 2}", 7, "'q_proj)' is not a regular expression"),
        ("options:\n  init_lora_weights: pissa", 6, "which 4-bit weights do not allow; set kind to lora"),
        ("kind: lora\nrank: 3\noptions: {init_lora_weights: orthogonal}", 6, "needs even ranks"),
        ("options: {layers_to_transform: [0]}", 6, "write, for example, targets: [q_proj, v_proj]"),
        ("targets: [q_proj]\noptions: {layers_pattern: h}", 6, "says nothing without options.layers_to_transform"),
        ("targets: all-linaer", 6, "did you mean `all-linear`"),
        ("targets: 'q_proj,v_proj'", 6, "write a list: `[q_proj, v_proj]`"),
        ("targets: self_attn.q_proj v_proj", 6, "write a list: `[self_attn.q_proj, v_proj]`"),
        ("targets: q_proj|v_proj", 6, "write a list: `[q_proj, v_proj]`"),
        ("targets: '(q_proj'", 6, "is not a regular expression"),
        ("targets: []", 6, "at least one module name"),
        ("modules_to_save: lm_head", 6, "expected a list"),
    ],
)
def test_one_mistake_is_one_line_with_its_place(tmp_path: Path, adapter: str, line: int, message: str) -> None:
    error = refused(tmp_path, adapter)
    assert message in error.message
    # The place of a rule over several fields is its section.
    assert error.where.rsplit(":", 1)[-1] in {str(line), "5"}


def test_every_field_of_the_adapter_enters_the_fingerprint() -> None:
    plain = AdapterConfig(kind="lora")
    changed = [
        {"rslora": True},
        {"dora": True},
        {"modules_to_save": ["lm_head"]},
        {"targets": r".*\.q_proj"},
        {"options": {"init_lora_weights": "pissa"}},
        {"options": {"rank_pattern": {"q_proj": 2}}},
    ]
    identities = [AdapterConfig.model_validate({"kind": "lora"} | change).identity() for change in changed]
    assert all(identity != plain.identity() for identity in identities)
