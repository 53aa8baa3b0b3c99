"""LoRA's variants, options, modules trained whole and added tokens: trained, resumed, saved, merged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.stages.conversations import train_config, write_dataset
from tests.stages.training import Watched, losses, run_merge, run_training
from tests.tiny import make_tiny_model
from tunelift.errors import UserError
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import collate, read_encoded
from tunelift.runtime.vocabulary import add_tokens, embedding_weights, fit_embeddings, is_tied, start_embeddings
from tunelift.runtime.weights import keep_trained_in_fp32, load_base, supervised_logits
from tunelift.stages.merge.stage import load_trained
from tunelift.stages.train.adapters import check_adapter, serving_needs
from tunelift.stages.train.trainer import SupervisedTrainer

TOKEN = "<|tool|>"


@pytest.fixture(scope="module")
def models(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    untied = make_tiny_model(folder / "untied", tied=False)
    return {"tied": tiny_model, "untied": untied, "biased": make_tiny_model(folder / "biased", bias=True)}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Answers begin with a token that the vocabulary lacks."""
    folder = write_dataset(tmp_path_factory.mktemp("dataset"))
    for split in ("train", "validation"):
        path = folder / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            row["messages"][-1]["content"] = TOKEN + row["messages"][-1]["content"]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


BASE: dict[str, Any] = {"kind": "qlora", "rank": 4, "alpha": 8}
VARIANTS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "rslora with patterns": (
        "tied",
        {"rslora": True, "options": {"rank_pattern": {"down_proj": 8}, "alpha_pattern": {"q_proj": 32}}},
        [],
    ),
    "dora, head and token": ("tied", {"dora": True, "modules_to_save": ["lm_head"]}, [TOKEN]),
    "token, tied": ("tied", {}, [TOKEN]),
    "token, untied": ("untied", {"modules_to_save": ["norm"]}, [TOKEN]),
    "head and token, untied": ("untied", {"modules_to_save": ["lm_head"]}, [TOKEN]),
    "some layers": ("tied", {"targets": ["q_proj", "v_proj"], "options": {"layers_to_transform": [1]}}, []),
    "biases": ("biased", {"targets": r".*\.[qv]_proj", "options": {"bias": "lora_only"}}, []),
    "pissa": ("tied", {"kind": "lora", "options": {"init_lora_weights": "pissa"}}, []),
    "olora": ("tied", {"kind": "lora", "options": {"init_lora_weights": "olora"}}, []),
    "mica": ("tied", {"kind": "lora", "options": {"init_lora_weights": "mica"}}, []),
    "orthogonal": ("tied", {"kind": "lora", "options": {"init_lora_weights": "orthogonal"}}, []),
}


RARELY_USED = ("some layers", "olora", "mica", "orthogonal")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in RARELY_USED else name for name in VARIANTS]
)
def test_what_was_trained_is_what_is_saved_and_merged(
    name: str, models: dict[str, Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    which, adapter, tokens = VARIANTS[name]
    seen, adapter, model = Watched(monkeypatch), BASE | adapter, models[which]
    run_training(model, dataset, tmp_path / "a", adapter=adapter, added_tokens=tokens, max_steps=6)
    saved = tmp_path / "a/adapter"
    rows = read_encoded(load_tokenizer(saved), dataset, "validation", 6)
    batch = collate(rows, 0, "cpu")
    with torch.no_grad():
        trained = supervised_logits(seen.trainer.model.eval(), batch)[0]
        loaded = supervised_logits(load_trained(adapter["kind"], model, saved, "cpu", "fp32"), batch)[0]
    assert torch.allclose(loaded, trained, atol=1e-5), "saved and loaded again, to the last digits"
    steps = losses(tmp_path / "a")
    assert steps[-1] < steps[0] - 0.05, "what is compared has learnt something"
    assert not list(saved.glob("*.bin"))

    found = run_merge(model, dataset, tmp_path / "a", tmp_path / "m", adapter["kind"], max_kl=1e-5)
    merged = load_base(tmp_path / "m", kind="lora", device="cpu", precision="fp32")
    assert found["top1_agreement"] > 0.98
    with torch.no_grad():
        # The weights are rounded to bf16 once: 2^-9 of each, some of which cancels.
        assert (supervised_logits(merged, batch)[0] - trained).abs().max() < 0.02
    assert is_tied(merged) == (which != "untied")
    assert {tensor.dtype for tensor in load_file(tmp_path / "m/model.safetensors").values()} == {torch.bfloat16}
    tokenizer = load_tokenizer(tmp_path / "m")
    assert embedding_weights(merged)[0].shape[0] == merged.config.vocab_size >= len(tokenizer)
    assert all(tokenizer.tokenize(f"x{token}y")[1] == token for token in tokens)


# --- added tokens ---------------------------------------------------------------------------------------------------


def test_an_added_token_begins_as_the_mean_of_its_pieces_and_takes_nothing_from_others(models: dict[str, Path]) -> None:
    for name in ("tied", "untied"):
        tokenizer = load_tokenizer(models[name])
        model = load_base(models[name], kind="qlora", device="cpu", precision="bf16")
        before, pieces = [weight.clone() for weight in embedding_weights(model)], tokenizer(TOKEN)["input_ids"]
        added = add_tokens(tokenizer, [TOKEN, "<|im_start|>"])
        fit_embeddings(model, tokenizer)
        start_embeddings(model, added)
        new = len(tokenizer) - 1
        assert added == {new: pieces, tokenizer.convert_tokens_to_ids("<|im_start|>"): []}
        assert tokenizer.convert_tokens_to_ids(TOKEN) == new and tokenizer(TOKEN)["input_ids"] == [new]
        assert tokenizer.decode([new], skip_special_tokens=True) == TOKEN
        for old, weight in zip(before, embedding_weights(model), strict=True):
            assert torch.equal(weight[:new], old)
            assert torch.equal(weight[new], old[pieces].float().mean(0).bfloat16())


def test_only_the_added_tokens_rows_are_saved(models: dict[str, Path], dataset: Path, tmp_path: Path) -> None:
    details = run_training(models["untied"], dataset, tmp_path, added_tokens=[TOKEN], max_steps=1, adapter=BASE)
    tensors = load_file(tmp_path / "adapter/adapter_model.safetensors")
    rows = {name: tensor for name, tensor in tensors.items() if "lora_" not in name}
    assert {tuple(tensor.shape) for tensor in rows.values()} == {(1, 128)} and len(rows) == 2
    assert sum(tensor.numel() for tensor in tensors.values()) == details["trainable_parameters"]
    assert details["serving"] == {"max_lora_rank": 4, "merged_only": ["added_tokens"]}


def test_a_run_with_tokens_and_a_head_that_stopped_goes_on_to_the_same_bytes(
    models: dict[str, Path], dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"adapter": BASE | {"dora": True, "modules_to_save": ["lm_head"]}, "added_tokens": [TOKEN]}
    whole = run_training(models["untied"], dataset, tmp_path / "whole", **settings)
    step = SupervisedTrainer.training_step

    def stops(self, *args, **kwargs):
        if self.state.global_step == 5:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(SupervisedTrainer, "training_step", stops)
        with pytest.raises(KeyboardInterrupt):
            run_training(models["untied"], dataset, tmp_path / "stopped", **settings)
    assert (tmp_path / "stopped/checkpoints/checkpoint-3/adapter_model.safetensors").exists()
    resumed = run_training(models["untied"], dataset, tmp_path / "stopped", **settings)
    assert resumed["content"] == whole["content"]
    assert losses(tmp_path / "stopped") == losses(tmp_path / "whole")


# --- what does not fit ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "adapter", "message", "remedy"),
    [
        ("tied", {"modules_to_save": ["lm_haed"]}, "names 'lm_haed', which the model does not have", "lm_head"),
        ("tied", {"modules_to_save": ["down_proj"]}, "holds in 4 bits", "kind to lora"),
        ("tied", {"targets": ["embed_tokens"]}, "ties to its output head", "modules_to_save"),
        ("tied", {"targets": ["q_proj", "v_porj"]}, "targets names 'v_porj', which the model", "mean v_proj?"),
        ("tied", {"targets": r".*\.(q_proj|v_porj)"}, "has the alternative `v_porj`, which matches no", "mean v_proj?"),
        ("tied", {"targets": r".*\.layers\.(0|1|7)\.mlp.*_proj"}, "has the alternative `7`, which", "correct"),
        ("tied", {"targets": r".*\.(self_attn\.(q|w)_proj|mlp\.up_proj)"}, "the alternative `w`", "correct"),
        ("tied", {"targets": r"layers\..*\.v_porj"}, "matches the whole name of no module", "mean v_proj?"),
        (
            "tied",
            {"options": {"exclude_modules": r".*\.(down_proj|up_prj)"}},
            "the alternative `up_prj`",
            "mean up_proj?",
        ),
        ("tied", {"options": {"rank_pattern": {"q_proj|v_porj": 2}}}, "the alternative `v_porj`", "mean v_proj?"),
        ("tied", {"targets": ["q_proj", "self_atn.v_proj"]}, "names 'self_atn.v_proj'", "mean self_attn.v_proj?"),
        ("tied", {"options": {"exclude_modules": ["down_prj"]}}, "'down_prj', which is no layer", "mean down_proj?"),
        ("tied", {"options": {"exclude_modules": ["layers.0"]}}, "'layers.0', which is no layer of", "correct"),
        ("tied", {"options": {"exclude_modules": "down_proj"}}, "matches the whole name of no layer, such", "correct"),
        ("tied", {"options": {"rank_pattern": {"nowhere": 2}}}, "'nowhere', which no layer with an adapter", "correct"),
        ("tied", {"options": {"bias": "all"}}, "bias=all trains nothing", "Take it out"),
        (
            "tied",
            {"targets": ["q_proj"], "options": {"layers_to_transform": [1, 2]}},
            "names layer 2, which the model does not have",
            "correct",
        ),
        (
            "tied",
            {"kind": "lora", "rank": 500, "options": {"init_lora_weights": "mica"}},
            "init_lora_weights=mica does not fit this model: MiCA requires",
            "Take out",
        ),
        ("untied", {"targets": ["q_proj", "lm_head"]}, "names lm_head, the output head, whose", "modules_to_save"),
    ],
)
def test_what_does_not_fit_the_model_is_told_before_training(
    model: str, adapter: dict, message: str, remedy: str, models: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError) as caught:
        run_training(models[model], dataset, tmp_path, adapter=BASE | adapter)
    assert message in caught.value.message and remedy in caught.value.remedy
    if "mica" not in message:  # How the weights begin is not looked at without them.
        with pytest.raises(UserError) as planned:
            check_adapter(train_config(adapter=BASE | adapter), models[model])
        assert str(planned.value) == str(caught.value)


def test_training_and_plan_tell_how_many_layers_get_an_adapter(
    models: dict[str, Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = BASE | {"targets": r".*layers\.1\.self_attn\.(q|v)_proj|.*up_proj"}
    details = run_training(models["tied"], dataset, tmp_path, adapter=adapter, max_steps=1)
    words = "q_proj 1 of 2, up_proj 2 of 2, v_proj 1 of 2 layers"
    assert f"train: adapters on {words}\n" in capsys.readouterr().err
    assert details["adapted_layers"]["q_proj"] == {"layers": 1, "of": 2}
    assert check_adapter(train_config(adapter=adapter), models["tied"]) == words


@pytest.mark.parametrize(
    "options",
    [
        {"dora": True},
        {"modules_to_save": ["lm_head", "norm"]},
        {"kind": "lora", "options": {"init_lora_weights": "pissa"}},
    ],
)
def test_what_trains_passes_the_plan(options: dict, models: dict[str, Path]) -> None:
    assert check_adapter(train_config(adapter=BASE | options), models["tied"]).startswith("down_proj 2 of 2, ")


@pytest.mark.parametrize("excluded", [["down_proj", "up_proj"], r".*\.(down|up)_proj"])
def test_what_is_excluded_gets_no_adapter(
    excluded: list[str] | str, models: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    adapter = BASE | {"options": {"exclude_modules": excluded}}
    run_training(models["tied"], dataset, tmp_path, adapter=adapter, max_steps=1)
    names = load_file(tmp_path / "adapter/adapter_model.safetensors")
    assert names and not any("down_proj" in name or "up_proj" in name for name in names)


def test_tied_embeddings_stay_one_matrix_whichever_is_named(
    models: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    made = []
    for name in ("lm_head", "embed_tokens"):
        out = tmp_path / name
        made.append(run_training(models["tied"], dataset, out, adapter=BASE | {"modules_to_save": [name]}, max_steps=2))
        tensors = load_file(out / "adapter/adapter_model.safetensors")
        matrices = [tensor for key, tensor in tensors.items() if "lora_" not in key]
        assert all(torch.equal(tensor, matrices[0]) for tensor in matrices)
        assert {tensor.dtype for tensor in matrices} == {torch.float32}
    assert made[0]["content"] == made[1]["content"]


def test_what_is_trained_whole_is_not_rounded_when_loaded(
    models: dict[str, Path], dataset: Path, tmp_path: Path
) -> None:
    run_training(models["untied"], dataset, tmp_path, adapter=BASE | {"modules_to_save": ["lm_head"]}, max_steps=2)
    saved = load_file(tmp_path / "adapter/adapter_model.safetensors")["base_model.model.lm_head.weight"]
    loaded = load_trained("qlora", models["untied"], tmp_path / "adapter", "cpu", "bf16").get_output_embeddings().weight
    assert torch.equal(loaded, saved) and not torch.equal(saved, saved.bfloat16().float())


def test_serving_needs_the_largest_rank() -> None:
    plain = {"r": 8, "rank_pattern": {"q_proj": 64}, "bias": "none", "init_lora_weights": True}
    assert serving_needs(plain) == {"max_lora_rank": 64, "merged_only": []}
    assert serving_needs(plain | {"use_dora": True})["merged_only"] == ["dora"]


def test_keeping_in_fp32_leaves_what_is_frozen() -> None:
    layer = torch.nn.Linear(2, 2, dtype=torch.bfloat16)
    layer.bias.requires_grad_(False)
    keep_trained_in_fp32(layer)
    assert (layer.weight.dtype, layer.bias.dtype) == (torch.float32, torch.bfloat16)


def test_a_data_set_is_measured_with_the_added_tokens(tmp_path: Path, models: dict[str, Path]) -> None:
    from tunelift.config.curation import CurateConfig
    from tunelift.stages.curate import curate

    rows = [{"instruction": f"Ask {n}", "output": f"{TOKEN}{n}"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = CurateConfig.model_validate(
        {"sources": [{"path": str(tmp_path / "rows.jsonl")}], "clean": {"foreign_marks": "off"}}
    )
    tokens = []
    for added in ([], [TOKEN]):
        out = tmp_path / f"out{len(added)}"
        out.mkdir()
        found = curate(
            config,
            tokenizer_folder=models["tied"],
            max_length=256,
            questions={},
            seed=1,
            out=out,
            added_tokens=added,
        )
        tokens.append(found["splits"]["train"]["supervised_tokens"])
    pieces = len(load_tokenizer(models["tied"])(TOKEN)["input_ids"])
    assert tokens[0] - tokens[1] == (pieces - 1) * found["splits"]["train"]["rows"]
