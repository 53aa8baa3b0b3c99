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

from tests.stages.conversations import conversation, train_config, write_dataset
from tests.tiny import make_tiny_model
from tunelift.config.schema import MergeConfig
from tunelift.errors import GateError, UserError
from tunelift.runtime.chat import Supervised, load_tokenizer, supervise
from tunelift.runtime.encoded import Row, read_encoded
from tunelift.runtime.weights import load_base, supervised_logits
from tunelift.stages.merge import merge, parity
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


def compared(details: dict) -> dict:
    """What was measured of the models, without what this process took."""
    return {key: value for key, value in details.items() if key != "peak_memory_gib"}


def test_the_merged_model_says_what_the_trained_one_says(merged: tuple[Path, dict]) -> None:
    found = json.loads((merged[0] / "parity.json").read_text())
    assert merged[1]["peak_memory_gib"] > 0 and found == compared(merged[1])
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
    assert compared(run(tiny_model, turned, adapters["qlora"], tmp_path / "out")) == compared(merged[1])


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
