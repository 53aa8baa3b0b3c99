"""A merged model, of each family, is the same model wherever it is read: transformers 4 and 5, and vLLM."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from tests.published import PUBLISHED, Published, write_published
from tests.reading import PROMPT, TALK, TEXTS, reading
from tests.stages.conversations import conversation
from tests.stages.training import run_merge, run_training
from tunelift.config.schema import EngineConfig
from tunelift.engines.vllm import VllmEngine

pytestmark = [pytest.mark.elsewhere, pytest.mark.timeout(3600)]

ROOT = Path(__file__).parents[1]
PINS = ROOT / "requirements/transformers4.txt"
INSTALLED = ROOT / "runs/transformers4"
"""transformers 4 with the two packages that it has releases of its own of; all else is this environment's."""
FORMS = ("by transformers 4", "by transformers 5")
CASES = [(published, form) for published in PUBLISHED for form in FORMS]
NATS = 1e-4


@pytest.fixture(scope="module")
def transformers_4() -> dict[str, str]:
    """The environment of a process that imports it."""
    done = INSTALLED / PINS.name
    if not done.exists() or done.read_text() != PINS.read_text():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade"]
        made = subprocess.run(
            [*command, "--target", str(INSTALLED), "--requirement", str(PINS)], capture_output=True, text=True
        )
        if made.returncode:
            pytest.skip(f"transformers 4 cannot be installed: {made.stderr.strip()[-200:]}")
        done.write_text(PINS.read_text())
    return {**os.environ, "PYTHONPATH": str(INSTALLED), "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


@pytest.fixture(scope="module")
def merged(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], tuple[Path, Path]]:
    """By family and form, the base and what was merged into it."""
    root = tmp_path_factory.mktemp("families")
    dataset = root / "dataset"
    dataset.mkdir()
    rows = [conversation(number) for number in range(24)]
    for row in rows:
        del row["messages"][0]  # Some of the templates take no system message.
    for split, part in {"train": rows[:16], "validation": rows[16:], "test": []}.items():
        (dataset / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    made = {}
    for number, (published, form) in enumerate(CASES):
        base = write_published(root / f"base-{number}", published, by_transformers_5=form == FORMS[1])
        trained, out = root / f"trained-{number}", root / f"merged-{number}"
        settings = {"max_steps": 2, "max_length": 1024, "adapter": {"kind": "lora", "rank": 4, "alpha": 8}}
        run_training(base, dataset, trained, **settings)
        run_merge(base, dataset, trained, out, "lora")
        made[published.name, form] = base, out
    return made


@pytest.fixture(scope="module")
def read_by_4(
    merged: dict[tuple[str, str], tuple[Path, Path]], transformers_4: dict[str, str], tmp_path_factory: Any
) -> dict[str, Any]:
    answer = tmp_path_factory.mktemp("read") / "by_4.json"
    command = [sys.executable, str(ROOT / "tests/reading.py"), str(answer)]
    folders = [str(out) for _, out in merged.values()]
    subprocess.run([*command, *folders], env=transformers_4, check=True, capture_output=True, timeout=1800)
    return json.loads(answer.read_text())


@pytest.mark.parametrize(("published", "form"), CASES, ids=lambda value: getattr(value, "name", value))
def test_transformers_4_and_5_read_one_model(
    published: Published, form: str, merged: dict, read_by_4: dict[str, Any]
) -> None:
    base, out = merged[published.name, form]
    four, five = read_by_4[str(out)], reading(str(out))
    assert "error" not in four and "error" not in five, (four.get("error"), five.get("error"))
    assert four["transformers"].startswith("4.") and five["transformers"].startswith("5.")
    # A release that does not know a value by that name says None.
    known = [name for name in four["config"] if None not in (four["config"][name], five["config"][name])]
    assert {name: four["config"][name] for name in known} == {name: five["config"][name] for name in known}
    assert {"eos_token_id", "max_position_embeddings", "tie_word_embeddings", "dtype"} <= set(known)
    for same in ("rotary", "ids", "with_special", "talk", "special", "prompt", "largest"):
        assert four[same] == five[same], same
    assert four["logprobs"] == pytest.approx(five["logprobs"], abs=NATS)
    raw = Tokenizer.from_file(str(base / "tokenizer.json"))
    assert five["ids"] == [raw.encode(text, add_special_tokens=False).ids for text in TEXTS]
    generation = json.loads((out / "generation_config.json").read_text())
    assert generation["temperature"] == 0.6, "the base's own"


@pytest.fixture(scope="module", params=[case for case in CASES if case[1] == FORMS[0]], ids=lambda case: case[0].name)
def served(
    request: pytest.FixtureRequest, merged: dict, tmp_path_factory: Any, vllm_runs: None
) -> Iterator[tuple[Path, str]]:
    published, form = request.param
    _, out = merged[published.name, form]
    engine = EngineConfig(dtype="float32", max_model_len=1024, cpu_kv_cache_gib=1, max_num_seqs=2, enforce_eager=True)
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with VllmEngine(out, engine, device="cpu", seed=1, served_name="merged", log=log) as running:
        running.start()
        yield out, running.url


def ask(url: str, **body: Any) -> dict[str, Any]:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return dict(json.load(answer))


def test_vllm_reads_the_same_model(served: tuple[Path, str]) -> None:
    out, url = served
    read = reading(str(out))
    tokenize = url.removesuffix("/v1") + "/tokenize"
    for text, ids in zip(TEXTS, read["ids"], strict=True):
        assert ask(tokenize, model="merged", prompt=text, add_special_tokens=False)["tokens"] == ids, text
    assert ask(tokenize, model="merged", messages=TALK)["tokens"] == read["talk"]
    answer = ask(f"{url}/completions", model="merged", prompt=read["prompt"], max_tokens=1, prompt_logprobs=0)
    found = answer["choices"][0]["prompt_logprobs"][1:]
    ours = [position[str(token)]["logprob"] for position, token in zip(found, read["prompt"][1:], strict=True)]
    assert len(ours) > 64 and PROMPT and all(map(math.isfinite, ours))
    assert ours == pytest.approx(read["logprobs"], abs=10 * NATS)
