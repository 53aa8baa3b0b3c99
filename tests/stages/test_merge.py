"""Merging: into the weights that were trained, rounded once, and held against the trained model."""

from __future__ import annotations

import gc
import json
import shutil
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from tests.published import PUBLISHED, Published, write_small_files
from tests.stages.conversations import conversation, train_config, write_dataset
from tests.tiny import make_tiny_model
from tunelift.config.schema import MergeConfig
from tunelift.errors import GateError, UserError
from tunelift.runtime.chat import Supervised, load_tokenizer, supervise
from tunelift.runtime.encoded import Row, read_encoded
from tunelift.runtime.weights import load_base, supervised_logits
from tunelift.stages.merge import merge, parity
from tunelift.stages.merge.folder import write_model
from tunelift.stages.merge.parity import compare, reference
from tunelift.stages.merge.stage import fold, load_trained
from tunelift.stages.train import train

LAYER = "model.layers.0.mlp.down_proj"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def adapters(tiny_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for kind in ("qlora", "lora"):
        out = made[kind] = tmp_path_factory.mktemp(kind)
        config = train_config(adapter={"kind": kind, "rank": 8, "alpha": 16}, max_steps=40)
        train(config, model=tiny_model, dataset=dataset, seed=1, device="cpu", out=out)
    return made


@pytest.fixture(scope="module")
def merged(
    tiny_model: Path, dataset: Path, adapters: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("merged")
    return out, run(tiny_model, dataset, adapters["qlora"], out)


def run(
    model: Path, dataset: Path, adapter: Path, out: Path, *, kind: str = "qlora", precision: str = "bf16", **limits
) -> dict:
    out.mkdir(exist_ok=True)
    return merge(
        MergeConfig(parity_rows=8, **limits),
        kind=kind,
        precision=precision,
        model=model,
        adapter=adapter,
        dataset=dataset,
        device="cpu",
        out=out,
    )


def test_the_merged_model_says_what_the_trained_one_says(merged: tuple[Path, dict]) -> None:
    found = json.loads((merged[0] / "parity.json").read_text())
    assert found == merged[1]
    assert found["rows"] == 8 and found["positions"] > 100
    assert 0 <= found["kl_mean"] < 1e-3 and found["kl_max"] < 1e-2
    assert found["top1_agreement"] > 0.97
    assert found["base"] == "nf4-dequantized"
    assert found["limits"] == {"kl_mean": 0.02, "top1_agreement": 0.95}


def test_what_was_trained_in_fp32_is_merged_and_written_in_bf16(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    config = train_config(adapter={"kind": "qlora", "rank": 8, "alpha": 16}, max_steps=40, precision="fp32")
    trained, merged = tmp_path / "trained", tmp_path / "merged"
    trained.mkdir()
    train(config, model=tiny_model, dataset=dataset, seed=1, device="cpu", out=trained)
    found = run(tiny_model, dataset, trained, merged, precision="fp32")
    assert found["kl_mean"] < 1e-3 and found["top1_agreement"] > 0.97
    assert {tensor.dtype for tensor in load_file(merged / "model.safetensors").values()} == {torch.bfloat16}


def test_a_bf16_adapter_is_merged_into_the_bf16_base(
    tiny_model: Path, dataset: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    found = run(tiny_model, dataset, adapters["lora"], tmp_path, kind="lora")
    assert found["base"] == "bf16" and found["kl_mean"] < 1e-3


def test_weights_are_dequantized_added_in_fp32_and_rounded_once(
    merged: tuple[Path, dict], tiny_model: Path, adapters: dict[str, Path]
) -> None:
    from bitsandbytes.functional import dequantize_4bit

    quantized = load_base(tiny_model, kind="qlora", device="cpu", precision="bf16").get_submodule(LAYER).weight
    weight = dequantize_4bit(quantized.data, quantized.quant_state)
    adapter = load_file(adapters["qlora"] / "adapter/adapter_model.safetensors")
    a, b = (adapter[f"base_model.model.{LAYER}.lora_{part}.weight"] for part in "AB")
    expected = (weight.float() + (b @ a) * (16 / 8)).to(torch.bfloat16)
    ours = load_file(merged[0] / "model.safetensors")[f"{LAYER}.weight"]
    assert weight.dtype == ours.dtype == torch.bfloat16
    assert torch.equal(ours, expected)


def test_the_folder_is_a_plain_model_with_tied_embeddings(merged: tuple[Path, dict], tiny_model: Path) -> None:
    described = json.loads((merged[0] / "config.json").read_text())
    assert "quantization_config" not in described and described["tie_word_embeddings"]
    ours, theirs = (set(load_file(folder / "model.safetensors")) for folder in (merged[0], tiny_model))
    assert ours == theirs
    model = load_base(merged[0], kind="lora", device="cpu", precision="bf16")
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not list(merged[0].glob("*.bin")) and not list(merged[0].glob("adapter*"))


def test_the_folder_renders_and_stops_as_it_was_trained(merged: tuple[Path, dict], tiny_model: Path) -> None:
    ours, theirs = load_tokenizer(merged[0]), load_tokenizer(tiny_model)
    messages = conversation(7)["messages"]
    assert supervise(ours, messages) == supervise(theirs, messages)
    generation = json.loads((merged[0] / "generation_config.json").read_text())
    assert generation["eos_token_id"] == supervise(theirs, messages)[0].input_ids[-2]


def test_an_adapter_that_got_lost_fails_the_gate(
    tiny_model: Path, dataset: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgets(trained, kind):
        for name, parameter in trained.named_parameters():
            if "lora_B" in name:
                parameter.data.zero_()
        return fold(trained, kind)

    monkeypatch.setattr("tunelift.stages.merge.stage.fold", forgets)
    with pytest.raises(GateError, match=r"KL divergence \d\.\d+ > merge.max_kl=0.02"):
        run(tiny_model, dataset, adapters["qlora"], tmp_path)
    assert json.loads((tmp_path / "parity.json").read_text())["kl_mean"] > 0.02


def test_a_limit_that_nothing_meets_fails_the_gate_with_value_and_limit(
    tiny_model: Path, dataset: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(GateError, match=r"KL divergence 0\.\d{4} > merge.max_kl=1e-12"):
        run(tiny_model, dataset, adapters["qlora"], tmp_path, max_kl=1e-12)


def test_the_base_that_was_trained_fits_better_than_the_original(
    tiny_model: Path, dataset: Path, adapters: dict[str, Path]
) -> None:
    adapter = adapters["qlora"] / "adapter"
    rows = read_encoded(load_tokenizer(tiny_model), dataset, "validation")
    said = reference(load_trained("qlora", tiny_model, adapter, "cpu", "bf16"), rows, 0, "cpu", "bf16")
    right, wrong = (
        compare(
            fold(load_trained(kind, tiny_model, adapter, "cpu", "bf16"), kind), said, rows, 0, "cpu", "bf16"
        ).kl_mean
        for kind in ("qlora", "lora")
    )
    assert wrong > 10 * right


def test_parity_is_measured_on_drawn_rows_and_however_many_positions_at_once(
    tiny_model: Path,
    dataset: Path,
    adapters: dict[str, Path],
    merged: tuple[Path, dict],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turned = shutil.copytree(dataset, tmp_path / "turned")
    lines = (dataset / "validation.jsonl").read_text().splitlines()
    (turned / "validation.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    monkeypatch.setattr(parity, "POSITIONS_AT_ONCE", 7)
    assert run(tiny_model, turned, adapters["qlora"], tmp_path / "out") == merged[1]


def test_distributions_are_let_go_before_the_next_batch_is_computed(
    tiny_model: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of a model with a large vocabulary would not fit beside its weights."""
    made: list[weakref.ref[torch.Tensor]] = []

    def watched(*arguments):
        assert not any(logits() is not None for logits in made)
        logits, targets = supervised_logits(*arguments)
        made.append(weakref.ref(logits))
        return logits, targets

    rows = read_encoded(load_tokenizer(tiny_model), dataset, "validation")
    model = load_base(tiny_model, kind="lora", device="cpu", precision="fp32")
    said = reference(model, rows, 0, "cpu", "fp32")
    monkeypatch.setattr(parity, "supervised_logits", watched)
    assert compare(model, said, rows, 0, "cpu", "fp32").kl_max == 0
    assert len(made) == 3


@pytest.fixture
def no_collection() -> Iterator[None]:
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collection")
def test_each_4_bit_layer_goes_when_its_weights_are_dequantized(tiny_model: Path, adapters: dict[str, Path]) -> None:
    from bitsandbytes.nn import Linear4bit

    trained = load_trained("qlora", tiny_model, adapters["qlora"] / "adapter", "cpu", "bf16")
    layers = [weakref.ref(layer.weight) for layer in trained.modules() if isinstance(layer, Linear4bit)]
    assert len(layers) == 14
    fold(trained, "qlora")
    assert not any(layer() is not None for layer in layers)


@pytest.mark.usefixtures("no_collection")
def test_the_trained_model_is_gone_when_the_written_one_is_loaded(
    tiny_model: Path, dataset: Path, adapters: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[weakref.ref[torch.nn.Module]] = []

    def watched(*arguments, **options):
        assert not any(model() is not None for model in loaded)
        model = load_base(*arguments, **options)
        model.__dict__["held"] = model  # A cycle, as some model's own code may make.
        loaded.append(weakref.ref(model))
        return model

    monkeypatch.setattr("tunelift.stages.merge.stage.load_base", watched)
    run(tiny_model, dataset, adapters["lora"], tmp_path, kind="lora")
    assert len(loaded) == 2


def test_a_killed_merge_leaves_nothing_behind_in_the_next(
    tiny_model: Path, dataset: Path, adapters: dict[str, Path], merged: tuple[Path, dict], tmp_path: Path
) -> None:
    (tmp_path / "model-00001-of-00002.safetensors").write_bytes(b"torn")
    run(tiny_model, dataset, adapters["qlora"], tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in merged[0].iterdir()
    }


def test_an_adapter_of_another_model_is_refused(dataset: Path, adapters: dict[str, Path], tmp_path: Path) -> None:
    other = make_tiny_model(tmp_path / "other", layers=1)
    copied = shutil.copytree(adapters["qlora"], tmp_path / "adapter")
    weights = copied / "adapter/adapter_model.safetensors"
    save_file({name: tensor[..., :7].contiguous() for name, tensor in load_file(weights).items()}, weights)
    with pytest.raises(UserError, match="The adapter does not fit the model"):
        run(other, dataset, copied, tmp_path / "out")


# --- the folder, as others read it ----------------------------------------------------------------------------------


GENERATION = {
    "temperature without sampling": {"temperature": 0.9, "top_p": 0.6},
    "top_k without sampling": {"do_sample": False, "top_k": 1},
    "beams' settings without beams": {"num_beams": 1, "length_penalty": 0.8, "early_stopping": True},
    "no padding": {"pad_token_id": -1, "max_length": 4096},
    "a temperature too small": {"do_sample": False, "temperature": 1e-6},
}


@pytest.mark.parametrize("settings", GENERATION.values(), ids=GENERATION)
def test_a_base_that_transformers_only_warns_of_is_merged_with_its_own_generation_config(
    settings: dict, tiny_model: Path, adapters: dict[str, Path], tmp_path: Path
) -> None:
    """Loaded with a warning, such settings are refused when the model saves them: after the training, for good."""
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "generation_config.json").write_text(json.dumps({"eos_token_id": 2, **settings}))
    adapter = shutil.copytree(adapters["lora"] / "adapter", tmp_path / "adapter")
    whole = {"eos_token_id": [2, 0], **settings}
    (adapter / "generation_config.json").write_text(json.dumps(whole))
    trained = load_trained("lora", base, adapter, "cpu", "bf16")
    out = tmp_path / "out"
    out.mkdir()
    write_model(fold(trained, "lora"), base, adapter, out)
    assert json.loads((out / "generation_config.json").read_text()) == whole


def test_all_templates_of_the_base_reach_adapter_and_merged_model(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_model, tmp_path / "base")
    (base / "additional_chat_templates").mkdir()
    template = (base / "chat_template.jinja").read_text()
    (base / "additional_chat_templates/tool_use.jinja").write_text(template + "{# tools #}")
    trained, out = tmp_path / "trained", tmp_path / "merged"
    trained.mkdir()
    train(train_config(max_steps=1), model=base, dataset=dataset, seed=1, device="cpu", out=trained)
    run(base, dataset, trained, out)
    for folder in (trained / "adapter", out):
        assert load_tokenizer(folder).chat_template == {"default": template, "tool_use": template + "{# tools #}"}


@pytest.mark.parametrize("form", ["as transformers 4 wrote it", "as transformers 5 writes it"])
@pytest.mark.parametrize("published", PUBLISHED, ids=lambda published: published.name)
def test_the_config_says_the_same_in_the_words_of_transformers_4_and_5(
    published: Published, form: str, tmp_path: Path
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    base, adapter, out = tmp_path / "base", tmp_path / "adapter", tmp_path / "out"
    own = write_small_files(base, published)
    read = AutoConfig.from_pretrained(base)
    if form == "as transformers 5 writes it":
        read.save_pretrained(base)
    for folder in (adapter, out):
        folder.mkdir()
    write_model(AutoModelForCausalLM.from_config(read).to(torch.bfloat16), base, adapter, out)
    again, saved = AutoConfig.from_pretrained(out), json.loads((out / "config.json").read_text())
    assert again.rope_parameters == read.rope_parameters
    for name in ("rope_theta", "rope_local_base_freq"):
        assert saved.get(name) == own.get(name), name
    assert saved.get("partial_rotary_factor", 1.0) == own.get("partial_rotary_factor", 1.0)
    assert (saved.get("rope_scaling") or {}) == (own.get("rope_scaling") or {})
    assert saved["dtype"] == saved["torch_dtype"] == "bfloat16" and "auto_map" not in saved


def test_a_vocabulary_that_grew_is_the_merged_models(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    trained, out = tmp_path / "trained", tmp_path / "merged"
    trained.mkdir()
    config = train_config(max_steps=1, added_tokens=["<|tool|>"])
    train(config, model=tiny_model, dataset=dataset, seed=1, device="cpu", out=trained)
    run(tiny_model, dataset, trained, out)
    sizes = [json.loads((folder / "config.json").read_text())["vocab_size"] for folder in (tiny_model, out)]
    assert sizes[1] == sizes[0] + 1


# --- how much is compared -------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.booleans(), max_size=60), min_size=1, max_size=8), st.integers(1, 200))
def test_no_more_positions_are_compared_than_memory_is_given_for(masks: list[list[bool]], most: int) -> None:
    rows = [Row(str(n), Supervised("", [0] * len(mask), mask)) for n, mask in enumerate(masks)]
    thin = parity.thinned(rows, parity.MOST_BYTES // most)
    before, after = (sum(row.rendered.supervised_tokens for row in some) for some in (rows, thin))
    assert after <= most + 1 and after >= min(before, most) - 1 and len(thin) == len(rows)
    if before <= most:
        assert thin == rows
    for row, thinner in zip(rows, thin, strict=True):
        assert all(was for was, now in zip(row.rendered.mask, thinner.rendered.mask, strict=True) if now)


def test_the_positions_compared_are_spread_over_all_rows(
    tiny_model: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_encoded(load_tokenizer(tiny_model), dataset, "validation")
    monkeypatch.setattr(parity, "MOST_POSITIONS", 60)
    thin = parity.thinned(rows, 1)
    each = [row.rendered.supervised_tokens for row in thin]
    assert sum(each) <= 61 and min(each) >= 3
    model = load_base(tiny_model, kind="lora", device="cpu", precision="fp32")
    said = reference(model, thin, 0, "cpu", "fp32")
    assert sum(map(len, said)) == sum(each)
    assert compare(model, said, thin, 0, "cpu", "fp32").positions == sum(each)


def test_rows_without_a_position_that_is_compared_do_no_harm(
    tiny_model: Path, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = read_encoded(load_tokenizer(tiny_model), dataset, "validation")
    monkeypatch.setattr(parity, "MOST_POSITIONS", 2)
    thin = parity.thinned(rows, 1)
    model = load_base(tiny_model, kind="lora", device="cpu", precision="fp32")
    found = compare(model, reference(model, thin, 0, "cpu", "fp32"), thin, 0, "cpu", "fp32")
    assert 0 < found.positions <= 3 and found.kl_max == 0
