"""docs/gpu.md: its commands load, and its figures are those that the plan gives."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tunelift import cli
from tunelift.config.load import load_config
from tunelift.config.resolve import resolve
from tunelift.facts import facts_for
from tunelift.planning import _machine, forecast_on
from tunelift.runtime import gpus
from tunelift.runtime.forecast import Tokens, forecast, speed_of
from tunelift.runtime.published import published_shape
from tunelift.runtime.serving import serving_fits

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "gpu.md").read_text()
ROWS = re.findall(
    r"^\| (\S+) \(\d+ GB\) \| `(\S+)` \| (\S+) of (\S+) GiB \| (\d+) \| (.+?), (\S+) GiB \| (\d+) of (\S+) tokens \|$",
    PAGE,
    re.MULTILINE,
)
TOKENS = 150_000


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shapes come from the built-in table, without a wait for what cannot be reached."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


def test_the_page_has_a_row_for_each_kind_of_card() -> None:
    assert len(ROWS) == 5


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def test_memory_minutes_and_room_are_what_the_plan_gives(row: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    card, recipe, peak, of, minutes, form, weights, requests, length = row
    shape = published_shape("meta-llama/Llama-3.1-8B-Instruct")
    assert shape is not None
    config = load_config(ROOT / "configs" / recipe, ["train.attention=sdpa"])
    machine = _machine(gpus.find(card))
    resolved = resolve(config, facts_for(machine, shape.context, shape)).config
    plan = forecast_on(config, card)
    assert (f"{plan.peak.total / 2**30:.1f}", f"{plan.memory_gib:.1f}") == (peak, of)
    full = Tokens(round(TOKENS / config.train.max_length), TOKENS, TOKENS)
    tflops = speed_of(gpus.find(card), str(resolved.train.precision))
    timed = forecast(shape, resolved.train, memory_gib=machine.memory_gib, tflops=tflops, data=full)
    assert timed.seconds is not None and round(timed.seconds / 60) == int(minutes)
    fit = serving_fits(shape, resolved.engine, machine.memory_gib, resolved.train.adapter)[resolved.serve.mode]
    assert fit.form.split(",")[0] == form and f"{fit.weights_gib:.1f}" == weights
    assert (fit.sequences, resolved.engine.max_model_len) == (int(requests), int(length.replace(",", "")))


@pytest.mark.parametrize(
    "line", [line for line in re.findall(r"tunelift (?:run|train|plan) .*", PAGE) if "configs/" in line]
)
def test_each_command_loads(line: str) -> None:
    parsed = cli._parsed(shlex.split(line.split("#")[0])[1:])
    load_config(ROOT / parsed.config, parsed.overrides)


def test_its_links_are_there() -> None:
    for target in re.findall(r"\]\(([^)#:]+)", PAGE):
        assert (ROOT / "docs" / target).exists(), target
