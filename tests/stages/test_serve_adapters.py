"""A model with an added token and a head that was trained whole, and one beside its adapter, as vLLM serves them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from tests.stages.conversations import write_dataset
from tests.stages.training import run_merge, run_training
from tests.tiny import make_tiny_model
from tunelift.config.schema import EngineConfig
from tunelift.engines.client import Reply, Request
from tunelift.engines.rendering import check_rendering
from tunelift.engines.vllm import VllmEngine
from tunelift.runtime.chat import load_tokenizer
from tunelift.stages.merge.stage import load_trained

TOKEN = "<|tool|>"
EXACT = EngineConfig(max_model_len=512, cpu_kv_cache_gib=1, max_num_seqs=8, enforce_eager=True, dtype="float32")


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_the_served_model_answers_as_the_trained_one(tied: bool, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = make_tiny_model(tmp_path / "model", tied=tied)
    dataset = write_dataset(tmp_path / "data")
    rows = [json.loads(line) for line in (dataset / "train.jsonl").read_text().splitlines()]
    for row in rows:
        row["messages"][-1]["content"] = TOKEN + row["messages"][-1]["content"]
    (dataset / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    adapter = {"rank": 4, "alpha": 8, "modules_to_save": ["lm_head"]}
    run_training(model, dataset, tmp_path / "a", adapter=adapter, added_tokens=[TOKEN], max_steps=40)
    run_merge(model, dataset, tmp_path / "a", tmp_path / "m", "qlora")

    asked = [row["messages"][:-1] for row in rows[:6]]
    replies: dict[str, Reply] = {}
    log = tmp_path / "vllm.log"
    with VllmEngine(tmp_path / "m", EXACT, device="cpu", seed=1, served_name="tuned", log=log) as engine:
        engine.start()
        client = engine.client(concurrency=4, timeout_seconds=60, decoding={"temperature": 0.0}, seed=1)
        client.generate(
            [Request(str(number), messages, 24) for number, messages in enumerate(asked)],
            lambda reply: replies.update({reply.id: reply}),
        )

    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "m", dtype=torch.float32)
    for number, messages in enumerate(asked):
        prompt = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        written = plain.generate(**prompt, max_new_tokens=24, do_sample=False)[0, prompt["input_ids"].shape[1] :]
        expected = tokenizer.decode(written, skip_special_tokens=True)
        reply = replies[str(number)]
        assert reply.error is None and reply.text == expected
        assert expected.startswith(TOKEN), "the answers hold the token that was added"


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("kind", ["qlora", "lora"])
def test_an_adapter_beside_its_base_answers_as_it_was_trained(kind: str, tmp_path: Path) -> None:
    """The base in 4 bits for one that was trained so: likelihoods of prompts agree with the trained model's."""
    model, dataset = make_tiny_model(tmp_path / "model"), write_dataset(tmp_path / "data")
    run_training(model, dataset, tmp_path / "a", adapter={"kind": kind, "rank": 4, "alpha": 8}, max_steps=40)
    rows = [json.loads(line) for line in (dataset / "train.jsonl").read_text().splitlines()][:6]
    adapter = tmp_path / "a" / "adapter"
    trained, tokenizer = load_trained(kind, model, adapter, "cpu", "bf16"), load_tokenizer(adapter)
    texts = [tokenizer.apply_chat_template(row["messages"], tokenize=False) for row in rows]
    found: dict[str, Any] = {}
    with VllmEngine(
        model,
        EXACT.model_copy(update={"dtype": "bfloat16"}),
        device="cpu",
        seed=1,
        served_name="tuned",
        log=tmp_path / "vllm.log",
        adapter=adapter,
        in_4_bits=kind == "qlora",
    ) as engine:
        engine.start()
        assert check_rendering(engine, tokenizer, [(row["messages"][:-1], None) for row in rows]) == len(rows)
        for name in ("tuned", "tuned-base"):
            asked = {"model": name, "prompt": texts, "max_tokens": 1, "echo": True, "logprobs": 0}
            answer = httpx.post(f"{engine.url}/completions", json=asked, timeout=120).raise_for_status().json()
            found[name] = [choice["logprobs"]["token_logprobs"][1:-1] for choice in answer["choices"]]
    for number, text in enumerate(texts):
        ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.no_grad():
            scores = trained(input_ids=ids).logits[0].float().log_softmax(-1)
        ours = scores[:-1].gather(1, ids[0, 1:, None])[:, 0]
        theirs, of_base = (torch.tensor(found[name][number][: len(ours)]) for name in ("tuned", "tuned-base"))
        assert (ours - theirs).abs().mean() < 0.05, (number, (ours - theirs).abs().max())
        assert (ours - of_base).abs().mean() > 0.2, "the base says something else"
