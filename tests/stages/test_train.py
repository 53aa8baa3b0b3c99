"""Training: what is learnt, what is refused, and that a killed run ends as an undisturbed one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy

from tests.stages.conversations import conversation, train_config, write_dataset
from tests.stages.training import Watched
from tests.tiny import tiny_tokenizer
from tunelift.errors import MachineError, UserError
from tunelift.runtime.chat import load_tokenizer, supervise
from tunelift.runtime.encoded import IGNORED, collate, read_encoded
from tunelift.runtime.weights import load_base, supervised_logits
from tunelift.stages.train import checkpoints, lora_config, preflight, quantization, sft_config, train
from tunelift.stages.train.answers import ask
from tunelift.stages.train.order import RandomOrder

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def run(model: Path, dataset: Path, out: Path, **changes) -> dict:
    out.mkdir(parents=True, exist_ok=True)
    return train(train_config(**changes), model=model, dataset=dataset, seed=1, device="cpu", out=out)


def metrics(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


# --- what comes out -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tiny_model: Path, dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    out = tmp_path_factory.mktemp("trained")
    return out, run(tiny_model, dataset, out)


def test_training_lowers_the_loss_and_says_what_it_did(trained: tuple[Path, dict]) -> None:
    out, details = trained
    lines = metrics(out)
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert [line["step"] for line in lines if "eval_loss" in line] == [4, 8]
    assert steps[-1]["loss"] < steps[0]["loss"] - 0.3
    assert details["steps"] == 8 and details["epochs"] == pytest.approx(1.6)
    assert details["eval_loss"] == pytest.approx(lines[-1]["eval_loss"], abs=1e-6)
    assert details["supervised_tokens"] == sum(line["supervised_tokens"] for line in steps)
    assert (details["micro_batch_size"], details["accumulation"]) == (4, 2)


def test_the_adapter_is_fp32_and_the_checkpoints_are_gone(trained: tuple[Path, dict]) -> None:
    out, details = trained
    tensors = load_file(out / "adapter/adapter_model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    assert sum(tensor.numel() for tensor in tensors.values()) == details["trainable_parameters"]
    assert not (out / "checkpoints").exists()


def test_the_adapter_folder_renders_the_very_same_tokens(trained: tuple[Path, dict], tiny_model: Path) -> None:
    ours, theirs = load_tokenizer(trained[0] / "adapter"), load_tokenizer(tiny_model)
    for number in range(5):
        messages = conversation(number)["messages"]
        assert supervise(ours, messages) == supervise(theirs, messages)


def test_the_adapter_folder_names_no_path_of_this_machine(trained: tuple[Path, dict]) -> None:
    described = json.loads((trained[0] / "adapter/adapter_config.json").read_text())
    assert described["base_model_name_or_path"] == "model"
    assert (trained[0] / "adapter/adapter_config.json").read_text().count(str(ROOT)) == 0


def test_the_learnt_end_of_turn_stops_generation(trained: tuple[Path, dict], tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    described = json.loads((trained[0] / "adapter/generation_config.json").read_text())
    assert described["eos_token_id"] == tokenizer.convert_tokens_to_ids("<|im_end|>")


def test_a_generation_config_that_transformers_refuses_stops_nothing(
    tiny_model: Path, dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from transformers import GenerationConfig

    base, out = shutil.copytree(tiny_model, tmp_path / "base"), tmp_path / "out"
    refused = {"eos_token_id": 2, "num_return_sequences": 3, "watermarking_config": {"foo": 1}}
    (base / "generation_config.json").write_text(json.dumps(refused))
    run(base, dataset, out, max_steps=1)
    assert "only token ids are kept" in capsys.readouterr().err
    assert GenerationConfig.from_pretrained(out / "adapter").eos_token_id == 2


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_fp32_learns_what_bf16_learns(kind: str, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    adapter = {"kind": kind, "rank": 4, "alpha": 8}
    losses = []
    for precision in ("bf16", "fp32"):
        run(tiny_model, dataset, tmp_path / precision, adapter=adapter, precision=precision)
        losses.append([line["loss"] for line in metrics(tmp_path / precision) if "loss" in line])
    assert losses[0] != losses[1], "the two differ by rounding"
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_two_runs_with_one_seed_give_the_same_bytes(kind: str, tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    adapter = {"kind": kind, "rank": 4, "alpha": 8, "dropout": 0.1}
    first, second = (run(tiny_model, dataset, tmp_path / name, adapter=adapter, max_steps=4) for name in "ab")
    assert first["content"] == second["content"]


def test_a_finished_run_does_not_train_again(trained: tuple[Path, dict], tiny_model: Path, dataset: Path) -> None:
    before = (trained[0] / "metrics.jsonl").read_bytes()
    (trained[0] / "checkpoints/checkpoint-3").mkdir(parents=True)  # Killed while it removed them.
    assert run(tiny_model, dataset, trained[0]) == trained[1]
    assert (trained[0] / "metrics.jsonl").read_bytes() == before
    assert not (trained[0] / "checkpoints").exists()


def test_the_validation_loss_is_that_of_rows_drawn_by_the_seed(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    turned = shutil.copytree(dataset, tmp_path / "turned")
    lines = (dataset / "validation.jsonl").read_text().splitlines()
    (turned / "validation.jsonl").write_text("\n".join(reversed(lines)) + "\n")
    first, second = (
        run(tiny_model, data, tmp_path / str(number), eval_rows=3, max_steps=1)["eval_loss"]
        for number, data in enumerate((dataset, turned))
    )
    assert first == second


def test_line_separators_in_a_row_do_not_tear_its_line(tiny_model: Path, tmp_path: Path) -> None:
    row = conversation(0)
    row["messages"][-1]["content"] = "one\u2028two\u2029three\u0085four"
    for split in ("train", "validation"):  # As curation writes them, which escapes only what JSON makes it escape.
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row, ensure_ascii=False) + "\n", encoding="utf-8")
    tokenizer = load_tokenizer(tiny_model)
    (encoded,) = read_encoded(tokenizer, tmp_path, "train")
    assert "one\u2028two\u2029three\u0085four" in tokenizer.decode(encoded.rendered.input_ids)
    asked = ask(tokenizer, tmp_path, rows=1, max_tokens=5, scorer=None, seed=1, stops=[2])
    assert [item.id for item in asked.task.items] == [row["id"]]


def test_a_run_of_one_step_moves_the_adapter(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Watched(monkeypatch)
    run(tiny_model, dataset, tmp_path, max_steps=1)
    moved = {name: share for name, share in seen.moved().items() if "lora_B" in name}
    assert len(moved) == 14 and all(share > 0.5 for share in moved.values()), moved


@pytest.mark.parametrize(("ratio", "steps", "warmup"), [(0.05, 19, 0), (0.05, 21, 2), (0.1, 10, 1), (0.0, 500, 0)])
def test_warm_up_takes_whole_steps_or_none(ratio: float, steps: int, warmup: int, tmp_path: Path) -> None:
    settings = sft_config(train_config(warmup_ratio=ratio), device="cpu", steps=steps, seed=1, checkpoints=tmp_path)
    assert settings.warmup_steps == warmup


def test_a_data_set_without_validation_rows_trains(tiny_model: Path, tmp_path: Path) -> None:
    details = run(tiny_model, write_dataset(tmp_path / "data", validation=0), tmp_path / "out", max_steps=2)
    assert details["eval_loss"] is None


# --- the loss -------------------------------------------------------------------------------------------------------


def test_scoring_only_what_is_supervised_is_the_loss_over_all_logits(tiny_model: Path, dataset: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    batch = collate(read_encoded(tokenizer, dataset, "train", 6), tokenizer.pad_token_id, "cpu")
    model = load_base(tiny_model, kind="lora", device="cpu", precision="fp32")
    logits, targets = supervised_logits(model, batch)
    full = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    expected = cross_entropy(full[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten(), ignore_index=IGNORED)
    assert logits.shape == (int((batch["labels"] != IGNORED).sum()), len(tokenizer))
    assert cross_entropy(logits, targets).item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_micro_batch_size_does_not_change_what_a_step_learns(
    tiny_model: Path, dataset: Path, tmp_path: Path
) -> None:
    firsts = []
    for micro in (1, 2, 8):
        run(tiny_model, dataset, tmp_path / str(micro), micro_batch_size=micro, max_steps=1, warmup_ratio=0)
        firsts.append(metrics(tmp_path / str(micro))[0])
    for key in ("loss", "grad_norm", "supervised_tokens"):
        values = [first[key] for first in firsts]
        assert values == pytest.approx([values[0]] * 3, rel=5e-3), key


def test_gradients_through_4_bit_layers_survive_an_evaluation(tiny_model: Path, dataset: Path) -> None:
    from peft import get_peft_model

    tokenizer = load_tokenizer(tiny_model)
    batch = collate(read_encoded(tokenizer, dataset, "train", 4), tokenizer.pad_token_id, "cpu")
    torch.manual_seed(0)
    model = get_peft_model(
        load_base(tiny_model, kind="qlora", device="cpu", precision="bf16"), lora_config(train_config())
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)

    def gradients() -> list[torch.Tensor]:
        model.train()
        model.zero_grad()
        cross_entropy(*supervised_logits(model, batch)).backward()
        return [p.grad.clone() for p in model.parameters() if p.grad is not None]

    before = gradients()
    model.eval()
    with torch.no_grad():
        supervised_logits(model, batch)
    after = gradients()
    assert len(before) == 28
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


# --- the order ------------------------------------------------------------------------------------------------------


@given(
    lengths=st.lists(st.integers(1, 500), min_size=1, max_size=400), batch=st.integers(1, 9), epoch=st.integers(0, 3)
)
def test_an_epoch_holds_each_row_once_and_a_batch_its_longest_rows_first(
    lengths: list[int], batch: int, epoch: int
) -> None:
    order = RandomOrder(lengths, batch, seed=3)
    order.set_epoch(epoch)
    batches = order.batches(epoch)
    assert sorted(order) == list(range(len(lengths)))
    assert [len(rows) for rows in batches[:-1]] == [batch] * (len(batches) - 1)
    assert all(
        [lengths[row] for row in rows] == sorted((lengths[row] for row in rows), reverse=True) for rows in batches
    )
    per_epoch = len(batches)
    assert order.rows_of_step(epoch * per_epoch + 1) == batches[0]
    assert order.rows_of_step((epoch + 1) * per_epoch) == batches[-1]


def test_the_order_differs_between_epochs_and_seeds() -> None:
    order = RandomOrder(range(100), 4, seed=1)
    assert order.batches(0) != order.batches(1)
    assert order.batches(0) != RandomOrder(range(100), 4, seed=2).batches(0)


def test_the_rows_of_a_step_are_a_random_sample_whatever_their_length() -> None:
    lengths = [10 if number < 160 else 90 for number in range(320)]
    batches = RandomOrder(lengths, 16, seed=1).batches(0)
    assert all(2 <= sum(lengths[row] == 90 for row in rows) <= 14 for rows in batches)


# --- before the first step ------------------------------------------------------------------------------------------


def test_preflight_shows_what_is_learnt(trained: tuple[Path, dict]) -> None:
    found = json.loads((trained[0] / "preflight.json").read_text())
    assert found["rows"] == 40 and found["validation_rows"] == 8 and found["double_bos"] == 0
    assert found["end_of_turn"]["learnt"] == {"<|im_end|>": 40} and found["end_of_turn"]["stops_generation"]
    assert found["padding"] == "<|endoftext|>"
    assert len(found["samples"]) == 3
    assert found["samples"][0]["text"].endswith('⟦{"tool": "create_event", "number": 0}<|im_end|>⟧\n')


def test_rows_that_would_be_cut_are_refused(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"rows are longer than train.max_length=40 tokens") as caught:
        run(tiny_model, dataset, tmp_path, max_length=40)
    assert "row-" in caught.value.message and "train.max_length" in caught.value.remedy


def test_a_row_with_nothing_to_learn_is_refused_by_name(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupervised(tokenizer, messages, tools=None):
        (row,) = supervise(tokenizer, messages, tools)
        silent = "Request 3:" in row.text
        return (type(row)(row.text, row.input_ids, [False] * len(row.mask) if silent else row.mask),)

    monkeypatch.setattr("tunelift.runtime.encoded.supervise", unsupervised)
    with pytest.raises(UserError, match="Row row-3 has no token to learn from"):
        run(tiny_model, dataset, tmp_path)


def test_a_row_that_the_template_refuses_is_named_with_its_line(tiny_model: Path, tmp_path: Path) -> None:
    silent = {"id": "silent", "messages": [{"role": "user", "content": "hello"}]}
    data = write_dataset(tmp_path / "data", extra=(silent,))
    with pytest.raises(UserError, match="Row silent") as caught:
        run(tiny_model, data, tmp_path / "out")
    assert caught.value.where.endswith("train.jsonl:41")


def test_an_empty_training_split_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="training split is empty"):
        run(tiny_model, write_dataset(tmp_path / "data", train=0), tmp_path / "out")


def test_padding_is_not_the_token_that_ends_a_turn() -> None:
    tokenizer = tiny_tokenizer()
    end = tokenizer.eos_token_id
    tokenizer.pad_token = tokenizer.eos_token
    chosen = preflight.padding_token(tokenizer, [end])
    assert chosen != end and tokenizer.convert_ids_to_tokens(chosen) == "<|endoftext|>"


def test_targets_that_the_model_lacks_are_refused(tiny_model: Path, dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.adapter\.targets names 'nowhere', which the model does not have"):
        run(tiny_model, dataset, tmp_path, adapter={"rank": 4, "targets": ["nowhere"]})


# --- trouble on the way ---------------------------------------------------------------------------------------------


def test_memory_that_runs_out_while_the_base_is_loaded_names_the_settings_to_lower(
    tiny_model: Path, dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("tunelift.stages.train.stage.load_base", exhausted)
    with pytest.raises(MachineError, match="The GPU ran out of memory") as caught:
        run(tiny_model, dataset, tmp_path)
    assert all(f"train.{name}" in caught.value.remedy for name in ("micro_batch_size", "max_length"))


def test_a_checkpoint_with_a_short_file_is_not_complete(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint-4"
    checkpoint.mkdir()
    (checkpoint / "optimizer.pt").write_bytes(b"12345678")
    checkpoints.mark_complete(checkpoint)
    assert checkpoints.newest(tmp_path) == checkpoint
    (checkpoint / "optimizer.pt").write_bytes(b"1234")
    assert checkpoints.newest(tmp_path) is None and not checkpoint.exists()


# --- the same code for a GPU ----------------------------------------------------------------------------------------


def test_a_gpu_run_differs_in_settings_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("transformers.training_args.is_torch_bf16_gpu_available", lambda: True)
    config = train_config(gradient_checkpointing=True, optimizer="paged_adamw_8bit")
    settings = sft_config(config, device="cuda", steps=100, seed=1, checkpoints=tmp_path)
    assert settings.bf16 and not settings.use_cpu and settings.gradient_checkpointing
    assert settings.per_device_train_batch_size * settings.gradient_accumulation_steps == config.global_batch_size
    assert settings.max_length is None and settings.dataset_kwargs == {"skip_prepare_dataset": True}
    assert settings.warmup_steps == 5 and settings.optim == "paged_adamw_8bit"


def test_the_4_bit_base_is_nf4_with_double_quantization_and_bf16_compute() -> None:
    quantized = quantization(train_config())
    assert quantized is not None
    assert (quantized.bnb_4bit_quant_type, quantized.bnb_4bit_use_double_quant) == ("nf4", True)
    assert (quantized.bnb_4bit_compute_dtype, quantized.bnb_4bit_quant_storage) == (torch.bfloat16, torch.uint8)
    assert quantization(train_config(adapter={"kind": "lora"})) is None


def test_without_native_bf16_everything_is_computed_in_fp32(tmp_path: Path) -> None:
    config = train_config(precision="fp32")
    assert quantization(config).bnb_4bit_compute_dtype == torch.float32
    assert not sft_config(config, device="cpu", steps=1, seed=1, checkpoints=tmp_path).bf16


def test_an_unresolved_config_does_not_train(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train\.micro_batch_size is still auto"):
        sft_config(train_config(micro_batch_size="auto"), device="cpu", steps=1, seed=1, checkpoints=tmp_path)
