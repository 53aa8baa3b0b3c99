"""What is held in which precision, and that each token of the global batch counts the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy

from tests.stages.conversations import conversation, write_dataset
from tests.stages.training import Watched, losses, run_training
from tests.tiny import make_tiny_model
from tunelift.errors import MachineError
from tunelift.runtime.weights import load_base, supervised_logits
from tunelift.stages.train import trainer as module
from tunelift.stages.train.trainer import SupervisedTrainer

SPLITS = (8, 4, 2, 1)
SMALL_STEPS = {
    "learning_rate": 2e-5,
    "schedule": "constant_with_warmup",
    "warmup_ratio": 0,
    "max_steps": 4,
    "precision": "bf16",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
def test_each_4_bit_layer_is_nf4_with_double_quantization(tiny_model: Path, precision, dtype) -> None:
    from bitsandbytes.nn import Linear4bit

    model = load_base(tiny_model, kind="qlora", device="cpu", precision=precision)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, Linear4bit)}
    assert len(layers) == 14, "7 linear layers in each of 2 layers, the head not"
    for name, layer in layers.items():
        state = layer.weight.quant_state
        assert (state.quant_type, state.nested, state.blocksize) == ("nf4", True, 64), name
        assert state.state2 is not None and state.absmax.dtype == torch.uint8, name
        assert layer.compute_dtype == dtype, name


# --- adapters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"adapter": {"rank": 4, "alpha": 8}},
        {"adapter": {"rank": 4, "alpha": 8, "dora": True, "modules_to_save": ["norm"]}, "added_tokens": ["<|tool|>"]},
    ],
    ids=["lora", "dora, norms and a token"],
)
def test_every_trained_tensor_moves_at_a_small_learning_rate(
    changes: dict, tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Watched(monkeypatch)
    run_training(tiny_model, dataset, tmp_path, **SMALL_STEPS, **changes)
    layers = 14 * (3 if changes["adapter"].get("dora") else 2)
    assert len(seen.before) >= layers
    assert {tensor.dtype for tensor in seen.after.values()} == {torch.float32}
    still = {name: share for name, share in seen.moved().items() if share < 0.99}
    assert still == {}
    states = [value for state in seen.trainer.optimizer.state.values() for value in state.values()]
    assert len(states) >= 3 * layers and {value.dtype for value in states} == {torch.float32}


def test_in_bf16_most_of_a_small_update_is_lost(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the library casts adapters of a 4-bit model: what the test above is there to see."""
    monkeypatch.setattr(module, "keep_trained_in_fp32", lambda model: None)
    monkeypatch.setattr(module, "check_trained_in_fp32", lambda model: None)
    seen = Watched(monkeypatch)
    run_training(tiny_model, dataset, tmp_path, **SMALL_STEPS)
    assert {tensor.dtype for tensor in seen.after.values()} == {torch.bfloat16}
    shares = [share for name, share in seen.moved().items() if "lora_A" in name]
    assert max(shares) < 0.9


def test_biases_of_4_bit_layers_move_through_an_evaluation_the_probe_and_a_resume(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """bitsandbytes casts them in place, to the dtype of its input, in each forward; large ones then stand still."""
    model = make_tiny_model(tmp_path / "model", bias=True)
    weights = load_file(model / "model.safetensors")
    torch.manual_seed(0)
    drawn = {name: torch.randn_like(value) for name, value in weights.items() if name.endswith(".bias")}
    save_file(weights | drawn, model / "model.safetensors", metadata={"format": "pt"})
    adapter = {"rank": 4, "alpha": 8, "options": {"bias": "lora_only"}}
    changes = SMALL_STEPS | {"adapter": adapter, "memory_probe": True, "eval_steps": 1, "save_steps": 1}
    seen = Watched(monkeypatch)
    stop_after(2, monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        run_training(model, dataset, tmp_path / "out", **changes)
    run_training(model, dataset, tmp_path / "out", **changes)
    biases = {name: tensor for name, tensor in seen.after.items() if name.endswith(".bias")}
    assert len(biases) == 8 and {tensor.dtype for tensor in biases.values()} == {torch.float32}
    still = {name: share for name, share in seen.moved().items() if name in biases and share < 0.99}
    assert still == {}


def stop_after(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first run."""
    original, stopped = SupervisedTrainer.training_step, []

    def training_step(self, *args, **kwargs):
        if self.state.global_step == step and not stopped:
            stopped.append(True)
            raise KeyboardInterrupt
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SupervisedTrainer, "training_step", training_step)


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_a_4_bit_layer_adds_its_bias_as_it_did(precision, tmp_path: Path) -> None:
    from bitsandbytes.nn import Linear4bit

    folder = make_tiny_model(tmp_path, bias=True)
    layer = load_base(folder, kind="qlora", device="cpu", precision=precision).model.layers[0].self_attn.q_proj
    layer.bias.data = torch.randn(128)
    x = torch.randn(3, 128, dtype=layer.compute_dtype)
    ours = layer(x)
    assert layer.bias.dtype == torch.float32 and "bias" in dict(layer.named_parameters())
    theirs = Linear4bit.forward(layer, x)
    assert torch.allclose(ours, theirs, atol=0.05 if precision == "bf16" else 1e-6) and ours.dtype == theirs.dtype
    layer.bias.requires_grad_(True)
    layer(x).float().sum().backward()
    assert torch.equal(layer.bias.grad, torch.full((128,), 3.0))


def test_a_trained_parameter_that_a_library_casts_ends_the_run_by_name(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = SupervisedTrainer.compute_loss

    def casts(self, *args, **kwargs):
        if self.state.global_step == 1:
            parameter = next(one for one in self.model.parameters() if one.requires_grad)
            parameter.data = parameter.data.bfloat16()
        return original(self, *args, **kwargs)

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", casts)
    with pytest.raises(MachineError, match=r"layers\.0\.self_attn\.q_proj\.lora_A.* is trained in bfloat16"):
        run_training(tiny_model, dataset, tmp_path, **SMALL_STEPS)


# --- the loss -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with 2 to about 200 supervised tokens."""
    folder = write_dataset(tmp_path_factory.mktemp("uneven"), train=48, validation=4)
    rows = [conversation(number) for number in range(48)]
    for number, row in enumerate(rows):
        row["messages"][-1]["content"] = f"late {number} " * (1 + number % 5 * 9)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def run_splits(model: Path, dataset: Path, folder: Path, splits: tuple[int, ...] = SPLITS) -> list[list[float]]:
    """The losses of 4 steps for each micro-batch size."""
    for micro in splits:
        run_training(
            model,
            dataset,
            folder / str(micro),
            micro_batch_size=micro,
            max_steps=4,
            eval_rows=1,
            eval_steps=4,
            save_steps=4,
        )
    return [losses(folder / str(micro)) for micro in splits]


def test_micro_batch_times_accumulation_gives_the_same_losses(tiny_model: Path, uneven: Path, tmp_path: Path) -> None:
    whole, *others = run_splits(tiny_model, uneven, tmp_path)
    assert len(whole) == 4 and whole[-1] < whole[0] - 0.05, "four steps that learn"
    for micro, other in zip(SPLITS[1:], others, strict=True):
        assert other == pytest.approx(whole, abs=1e-3, rel=0), f"{micro} rows x {8 // micro}"


def test_a_mean_by_micro_batch_would_give_other_losses(
    tiny_model: Path, uneven: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The fault that the test above is there to see, as trainers had it until late 2024."""

    def mean_of_micro_batch(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        return cross_entropy(*supervised_logits(model, inputs)) / self.args.gradient_accumulation_steps

    monkeypatch.setattr(SupervisedTrainer, "compute_loss", mean_of_micro_batch)
    whole, split = run_splits(tiny_model, uneven, tmp_path, (8, 2))
    assert max(abs(one - other) for one, other in zip(whole, split, strict=True)) > 1e-2
