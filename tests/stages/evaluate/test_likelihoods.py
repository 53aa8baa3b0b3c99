"""Tasks that are asked by likelihood: multiple choice and the perplexity of text."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.stages.evaluate.completions import Completions
from tests.stages.evaluate.making import BASE, PROMPTED, StubEngine, item, row, run, samples, summary, task
from tests.tiny import CHATML, tiny_tokenizer
from tunelift.errors import MachineError, UserError
from tunelift.stages.evaluate import check_askable
from tunelift.tasks.likelihood import LIKELIHOOD
from tunelift.tasks.task import Item, Task

COLOURS = (" red", " deep blue", " green")


def asks(number: int, right: int) -> Item:
    user = {"role": "user", "content": f"Colour {number}?"}
    rule = {"role": "system", "content": "Choose."}
    return item(
        number, prompt=(user,), instructed=(rule, user), accepted=(COLOURS[right],), choices=COLOURS, right=right
    )


def choice(rendering: str = "plain", count: int = 4, **changes: Any) -> Task:
    values = {
        "items": tuple(asks(number, number % 3) for number in range(count)),
        "kind": "choice",
        "rendering": rendering,
        "scorers": tuple(LIKELIHOOD["choice"].values()),
        "primary": "accuracy",
    }
    return task(**({"name": "colours"} | values | changes))


def texts(*contents: str) -> Task:
    items = tuple(
        item(number, prompt=(), instructed=(), accepted=(), text=text) for number, text in enumerate(contents)
    )
    return task(
        "texts",
        items=items,
        role="guard",
        margin=0.1,
        kind="perplexity",
        scorers=tuple(LIKELIHOOD["perplexity"].values()),
        primary="bits_per_byte",
    )


LIKELY = {"red": -3.0, "deep": -1.0, "blue": -1.5, "green": -4.0}


@pytest.fixture
def stub() -> Iterator[Completions]:
    made = Completions(lambda word, prompt: LIKELY.get(word, -1.0))
    yield made
    made.close()


@pytest.fixture
def scoring(stub: Completions) -> StubEngine:
    return StubEngine(url=stub.url)


def test_the_likeliest_choice_is_the_answer(stub: Completions, scoring: StubEngine, tmp_path: Path) -> None:
    run(scoring, tmp_path, arm=BASE, tasks=[choice()])
    assert {**samples(tmp_path)[0], "seconds": 0} == {
        "id": "i0",
        "task": "colours",
        "kind": "choice",
        "arm": "base",
        "prompt": [{"role": "system", "content": "Choose."}, {"role": "user", "content": "Colour 0?"}],
        "expected": [" red"],
        "output": " deep blue",
        "scores": {"accuracy": 0.0, "accuracy_norm": 0.0},
        "tokens_in": 4,
        "tokens_out": 0,
        "seconds": 0,
        "finish_reason": None,
        "cluster": "c0",
        "tags": ["t"],
        "error": None,
        "choices": [" red", " deep blue", " green"],
        "logprobs": [-3.0, -2.5, -4.0],
    }
    part = summary(tmp_path)["tasks"]["colours"]
    assert (part["kind"], part["n"], part["metrics"]["accuracy"]["mean"]) == ("choice", 4, 0.25)
    assert part["asking"]["requests"] == 4, "items, not their choices"
    assert part["metrics"]["accuracy"]["kind"] == "binary"
    assert {body["prompt"] for body in stub.bodies if "Colour 0?" in body["prompt"]} == {
        f"Choose.\n\nColour 0?{colour}" for colour in COLOURS
    }
    assert {body["add_special_tokens"] for body in stub.bodies} == {True}


def test_through_the_chat_template_its_own_special_tokens_are_enough(
    stub: Completions, scoring: StubEngine, tmp_path: Path
) -> None:
    tokenizer = tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(tokenizer)
    run(scoring, tmp_path / "out", arm=BASE, tasks=[choice("chat", 1)], tokenizer=tokenizer)
    assert {body["prompt"] for body in stub.bodies} == {
        "<|im_start|>system\nChoose.<|im_end|>\n<|im_start|>user\nColour 0?<|im_end|>\n<|im_start|>assistant\n" + colour
        for colour in COLOURS
    }
    assert {body["add_special_tokens"] for body in stub.bodies} == {False}
    assert len(summary(tmp_path / "out")["template"]) == 64


def test_a_pinned_template_renders_the_questions_and_is_the_one_named(
    stub: Completions, scoring: StubEngine, tmp_path: Path
) -> None:
    tokenizer, pinned = tmp_path / "tokenizer", "26 Jul 2024 " + CHATML
    tiny_tokenizer().save_pretrained(tokenizer)
    run(scoring, tmp_path / "out", arm=BASE, tasks=[choice("chat", 1)], tokenizer=tokenizer, template=pinned)
    assert all(body["prompt"].startswith("26 Jul 2024 <|im_start|>system") for body in stub.bodies)
    (tokenizer / "chat_template.jinja").write_text(pinned)
    run(scoring, tmp_path / "tuned", arm=BASE, tasks=[choice("chat", 1)], tokenizer=tokenizer)
    assert summary(tmp_path / "out")["template"] == summary(tmp_path / "tuned")["template"], "as a tuned model keeps it"


def test_examples_are_shown_before_a_choice_too(stub: Completions, scoring: StubEngine, tmp_path: Path) -> None:
    rows = [row("a", "one"), row("b", "two")]
    run(scoring, tmp_path, arm=PROMPTED, tasks=[choice(count=1)], examples=rows)
    (before,) = {body["prompt"].removesuffix(" red") for body in stub.bodies if body["prompt"].endswith(" red")}
    assert before.startswith("Choose.\n\nask ")
    assert before.endswith("\n\nColour 0?")
    assert {"one", "two"} <= set(before.split("\n\n"))


def test_a_text_is_measured_in_bits_per_byte(stub: Completions, scoring: StubEngine, tmp_path: Path) -> None:
    run(scoring, tmp_path, arm=BASE, tasks=[texts("a red b", "ünï x")])
    first, second = samples(tmp_path)
    assert (first["logprobs"], first["output"], first["expected"]) == ([-4.0], "", [])
    assert first["scores"]["bits_per_byte"] == pytest.approx(4 / math.log(2) / 7)
    assert second["scores"]["bits_per_byte"] == pytest.approx(1 / math.log(2) / 7)
    assert first["prompt"] == [{"role": "text", "content": "a red b"}]
    metric = summary(tmp_path)["tasks"]["texts"]["metrics"]["bits_per_byte"]
    assert (metric["lower_is_better"], metric["bounded"]) == (True, False)
    assert metric["low"] < metric["mean"] < metric["high"]


def test_an_item_is_kept_once_all_its_choices_are_known_and_not_asked_again(
    stub: Completions, scoring: StubEngine, tmp_path: Path
) -> None:
    stub.refuse = lambda prompt: (500, "gone") if "Colour 2? green" in prompt else None
    with pytest.raises(MachineError, match=r"1 of 12 log-likelihoods of task colours are missing.*HTTP 500"):
        run(scoring, tmp_path, arm=BASE, tasks=[choice()])
    assert {sample["id"] for sample in samples(tmp_path)} == {"i0", "i1", "i3"}
    assert not (tmp_path / "summary.json").exists()
    stub.refuse = lambda prompt: None
    stub.tries.clear()
    run(scoring, tmp_path, arm=BASE, tasks=[choice()])
    assert set(stub.tries) == {f"Choose.\n\nColour 2?{colour}" for colour in COLOURS}
    assert [sample["id"] for sample in samples(tmp_path)] == ["i0", "i1", "i2", "i3"]


def test_a_text_that_is_too_long_is_told(stub: Completions, scoring: StubEngine, tmp_path: Path) -> None:
    stub.refuse = lambda prompt: (400, "maximum context length is 512") if prompt == "long text" else None
    with pytest.raises(UserError, match=r"1 of 2 log-likelihoods of task texts .* context length is 512") as caught:
        run(scoring, tmp_path, arm=BASE, tasks=[texts("a b c", "long text")])
    assert "engine.max_model_len" in caught.value.remedy


def test_a_chat_template_that_is_not_here_cannot_be_rendered(scoring: StubEngine, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Task colours compares likelihoods after the model's chat template") as caught:
        run(scoring, tmp_path, arm=BASE, tasks=[choice("chat")])
    assert "rendering: plain" in caught.value.remedy
    assert scoring.starts == 0
    check_askable(BASE, [choice("plain"), texts("a")], None, has_tokenizer=False)


def test_a_template_that_refuses_an_item_says_which_before_the_engine_starts(
    scoring: StubEngine, tmp_path: Path
) -> None:
    tokenizer = tmp_path / "tokenizer"
    tiny_tokenizer().save_pretrained(tokenizer)
    (tokenizer / "chat_template.jinja").write_text("{{ raise_exception('no system role') }}")
    with pytest.raises(UserError, match="no system role") as caught:
        run(scoring, tmp_path / "out", arm=BASE, tasks=[choice("chat")], tokenizer=tokenizer)
    assert caught.value.where == "task colours, item i0"
    assert scoring.starts == 0


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_all_kinds_are_asked_of_a_real_engine_and_its_likelihoods_are_the_models(
    tiny_model: Path, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from tunelift.config.schema import EngineConfig
    from tunelift.engines.vllm import VllmEngine

    contents = "Remind me to call Anna on Friday.", "What is the weather in Milan?"
    tasks = [task("says", 3), choice("chat"), choice("plain", name="plain"), texts(*contents)]
    config = EngineConfig(max_model_len=512, cpu_kv_cache_gib=1, max_num_seqs=8, enforce_eager=True)
    with VllmEngine(tiny_model, config, device="cpu", seed=1, served_name="tiny", log=tmp_path / "vllm.log") as engine:
        run(engine, tmp_path / "out", arm=BASE, tasks=tasks, tokenizer=tiny_model)
        assert engine.startup_seconds is not None
    written = samples(tmp_path / "out")
    assert [sample["task"] for sample in written] == ["says"] * 3 + ["colours"] * 4 + ["plain"] * 4 + ["texts"] * 2
    assert all(sample["error"] is None for sample in written)
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)

    def expected(context: str, continuation: str) -> float:
        """In the model's own words, one forward pass each."""
        ids = tokenizer(context + continuation, add_special_tokens=False)["input_ids"]
        start = len(tokenizer(context, add_special_tokens=False)["input_ids"]) if context else 1
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        return sum(float(logprobs[place - 1, ids[place]]) for place in range(start, len(ids)))

    for sample in written[3:]:
        if sample["kind"] == "perplexity":
            pairs = [("", sample["prompt"][0]["content"])]
        else:
            chat = tokenizer.apply_chat_template(sample["prompt"], tokenize=False, add_generation_prompt=True)
            plain = "\n\n".join(message["content"] for message in sample["prompt"])
            pairs = [(chat if sample["task"] == "colours" else plain, colour) for colour in COLOURS]
        for logprob, pair in zip(sample["logprobs"], pairs, strict=True):
            assert logprob == pytest.approx(expected(*pair), abs=0.05), (sample["task"], sample["id"], pair)
    parts = json.loads((tmp_path / "out" / "summary.json").read_text())["tasks"]
    assert {name: part["n"] for name, part in parts.items()} == {"says": 3, "colours": 4, "plain": 4, "texts": 2}
