"""`tunelift init` pins a template's thinking off where the rows hold none, and leaves it room where they do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.families import BY_NAME, TRL
from tests.tiny import tiny_tokenizer
from tunelift.config.evaluation import SplitTaskConfig
from tunelift.config.load import load_config
from tunelift.config.schema import Config
from tunelift.runtime import hardware
from tunelift.runtime.chat import load_tokenizer, supervise
from tunelift.runtime.hardware import Hardware
from tunelift.runtime.template import pinned_template
from tunelift.starting import start
from tunelift.starting.recipe import LARGE_MODELS

FAMILIES = {
    "qwen_3": {"enable_thinking": False},
    "smollm_3": {"enable_thinking": False},
    "granite_3_3": {},
    "qwen_3_2507": {},
    "llama_3_1": {},
    "smollm_2": {},
}
"""By family, what is pinned where the rows hold no thinking; Granite's `thinking` is off already."""
SWITCHES = {
    "glm4moe": {"enable_thinking": False},
    "qwen3_6": {"enable_thinking": False},
    "qwen3_8": {"enable_thinking": False},
    "qwen3_5_nothink": {},
    "nemotron_3_nano": {"enable_thinking": False},
    "gemma4": {},
    "lfm2_2_5": {},
}


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, on a machine without a GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hardware, "detect", lambda: Hardware("cpu", "cpu", 16.0, 2))
    return tmp_path


def row(number: int, **more: str) -> dict[str, Any]:
    reply = {"role": "assistant", "content": ("late", "broken", "thanks")[number % 3], **more}
    return {"messages": [{"role": "user", "content": f"Ticket {number}: it came on day {number * 7}"}, reply]}


def begun(rows: list[dict[str, Any]], model: str) -> Config:
    Path("a.yaml").unlink(missing_ok=True)
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    _, path = start("a.jsonl", out=Path("a.yaml"), model=model)
    return load_config(path)


def max_tokens(config: Config) -> int:
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig)
    return task.max_tokens


def model_with(template: str) -> str:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained("model")
    return "model"


@pytest.mark.parametrize("family", FAMILIES)
def test_thinking_is_pinned_off_where_the_template_has_a_switch_that_does_something(family: str) -> None:
    BY_NAME[family].tokenizer().save_pretrained("model")
    config = begun([row(number) for number in range(60)], "model")
    assert config.model.template_arguments == FAMILIES[family]
    assert max_tokens(config) <= 32
    tokenizer = load_tokenizer(Path("model"), pinned_template(Path("model"), config.model))
    (taught,) = supervise(tokenizer, row(0)["messages"])
    learnt = tokenizer.decode([one for one, mask in zip(taught.input_ids, taught.mask, strict=True) if mask])
    assert learnt == f"late{BY_NAME[family].end}", "nothing but the answer"


@pytest.mark.parametrize("template", SWITCHES)
def test_the_switch_is_found_by_rendering(template: str) -> None:
    config = begun([row(number) for number in range(30)], model_with((TRL / f"{template}.jinja").read_text()))
    assert config.model.template_arguments == SWITCHES[template]
    assert ("the template lets the model think" in Path("a.yaml").read_text()) == bool(SWITCHES[template])
    assert max_tokens(config) <= 32


OWN = """{%- for message in messages %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% if SWITCH %}<think>
{% endif %}{% endif %}"""


@pytest.mark.parametrize("name", ["thinking", "enable_thinking", "enable_reasoning", "think"])
def test_the_switch_has_the_name_that_the_template_reads(name: str) -> None:
    always = OWN.replace("SWITCH", f"{name} is not defined or {name}")
    assert begun([row(number) for number in range(30)], model_with(always)).model.template_arguments == {name: False}
    asked_for = OWN.replace("SWITCH", f"{name} is defined and {name}")
    assert begun([row(number) for number in range(30)], model_with(asked_for)).model.template_arguments == {}


THOUGHTS = "The parcel came after the day that was told, and the sender says sorry for it. " * 3


@pytest.mark.parametrize("field", [True, False])
def test_rows_with_thinking_keep_it_and_get_room_for_it(field: bool) -> None:
    BY_NAME["qwen_3"].tokenizer().save_pretrained("model")
    Path("model/config.json").write_text('{"max_position_embeddings": 40960}')
    thought = {"reasoning_content": THOUGHTS}
    rows = [row(number, **thought) for number in range(60)]
    for one in rows if not field else ():
        reply = one["messages"][-1]
        reply["content"] = f"<think>\n{reply.pop('reasoning_content')}\n</think>\n\n{reply['content']}"
    config = begun(rows, "model")
    assert config.model.template_arguments == {}
    assert max_tokens(config) == 2048
    (task,) = config.evaluate.tasks
    assert isinstance(task, SplitTaskConfig) and task.primary == "exact_match"
    assert task.instruction == "Answer with one of: broken, late, thanks."
    told, _ = start("a.jsonl", out=Path("b.yaml"), model="model")
    assert "thinking   before a reply in 60 rows" in told
    assert "3 different" in told
    longer = [row(number, reasoning_content=THOUGHTS * 30) for number in range(60)]
    config = begun(longer, "model")
    tokenizer = load_tokenizer(Path("model"), None)
    written = f"<think>\n{THOUGHTS * 30}\n</think>\n\nlate<|im_end|>"
    tokens = len(tokenizer.encode(written, add_special_tokens=False))
    assert 2048 < tokens <= max_tokens(config) <= 4096
    assert isinstance(config.engine.max_model_len, int) and config.engine.max_model_len > max_tokens(config)


def test_one_row_with_thinking_is_enough_to_leave_the_switch_alone() -> None:
    BY_NAME["qwen_3"].tokenizer().save_pretrained("model")
    rows = [row(number) for number in range(60)]
    rows[7]["messages"][-1]["reasoning_content"] = THOUGHTS
    assert begun(rows, "model").model.template_arguments == {}


def test_thinking_is_switched_on_where_the_template_would_leave_it_out() -> None:
    shown = OWN.replace(
        "{{ message.content }}",
        "{% if thinking is defined and thinking and message.reasoning_content %}<think>\n"
        "{{ message.reasoning_content }}</think>{% endif %}{{ message.content }}",
    ).replace("SWITCH", "false")
    rows = [row(number, reasoning_content=THOUGHTS) for number in range(30)]
    assert begun(rows, model_with(shown)).model.template_arguments == {"thinking": True}
    assert begun([row(number) for number in range(30)], "model").model.template_arguments == {}


def test_a_template_that_always_thinks_is_not_pinned_and_gets_room() -> None:
    model = model_with(OWN.replace("SWITCH", "true"))
    config = begun([row(number) for number in range(60)], model)
    assert (config.model.template_arguments, max_tokens(config)) == ({}, 2048)
    assert "For the thinking before the answer" in Path("a.yaml").read_text()


def test_a_model_that_is_not_here_is_known_by_its_name_or_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    rows = [row(number) for number in range(30)]
    for model, arguments, fewest in (
        ("Qwen/Qwen3-8B", {"enable_thinking": False}, 16),
        ("Qwen/Qwen3-30B-A3B", {"enable_thinking": False}, 16),
        ("Qwen/Qwen3-4B-Instruct-2507", {}, 16),
        ("Qwen/Qwen3-4B-Thinking-2507", {}, 2048),
        ("unsloth/Qwen3-8B", {"enable_thinking": False}, 16),
        ("unsloth/Qwen3-8B-unsloth-bnb-4bit", {"enable_thinking": False}, 16),
        ("Qwen/Qwen3.5-9B", {"enable_thinking": False}, 16),
        ("unsloth/SmolLM3-3B-bnb-4bit", {"enable_thinking": False}, 16),
        ("unsloth/Qwen3-4B-Instruct-2507-bnb-4bit", {}, 16),
        ("unsloth/Llama-3.2-3B-Instruct", {}, 16),
        ("Qwen/Qwen2.5-7B-Instruct", {}, 16),
        *((recipe, {}, 16) for recipe in LARGE_MODELS),
        ("zai-org/GLM-4.5-Air", {}, 2048),
        ("tencent/Hunyuan-7B-Instruct", {}, 2048),
        ("somebody/Qwen3-8B-doctor", {}, 2048),
        ("somebody/else", {}, 2048),
    ):
        config = begun(rows, model)
        assert (config.model.template_arguments, max_tokens(config)) == (arguments, fewest), model
    assert begun([row(1, reasoning_content="Hm."), *rows], "Qwen/Qwen3-8B").model.template_arguments == {}


def test_a_template_that_is_not_here_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_, **__: None)
    Path("a.jsonl").write_text("".join(json.dumps(row(number)) + "\n" for number in range(30)))
    told, path = start("a.jsonl", out=Path("a.yaml"), model="zai-org/GLM-4.5-Air")
    assert "template   of zai-org/GLM-4.5-Air is not here" in told
    assert "hf download zai-org/GLM-4.5-Air --include" in told and "run init again" in told
    assert "may think before it answers" in path.read_text()
    for known in ("unsloth/Qwen3-8B", "meta-llama/Llama-3.2-1B-Instruct"):
        assert "template  " not in start("a.jsonl", out=Path(f"{known[:4]}.yaml"), model=known)[0]


def test_a_template_in_the_hubs_cache_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    BY_NAME["qwen_3"].tokenizer().save_pretrained("snapshot")
    here = {"tokenizer_config.json": "snapshot/tokenizer_config.json"}
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, name, **__: here.get(name))
    config = begun([row(number) for number in range(30)], "somebody/tuned-qwen")
    assert config.model.template_arguments == {"enable_thinking": False}
    assert "by the model's tokenizer" in " ".join(Path("a.yaml").read_text().split()).lower()


@pytest.mark.parametrize("template", ["{% if %}", "{{ raise_exception('no') }}{{ enable_thinking }}", "{{ 1 / 0 }}"])
def test_a_template_that_cannot_be_rendered_is_left_to_the_run(template: str) -> None:
    assert begun([row(number) for number in range(30)], model_with(template)).model.template_arguments == {}


def test_a_model_with_several_templates_is_not_pinned() -> None:
    named = [{"name": name, "template": BY_NAME["qwen_3"].template} for name in ("default", "tool_use")]
    Path("model").mkdir()
    Path("model/tokenizer_config.json").write_text(json.dumps({"chat_template": named}))
    assert begun([row(number) for number in range(30)], "model").model.template_arguments == {}


def test_replies_longer_than_a_thousand_tokens_get_room() -> None:
    tiny_tokenizer().save_pretrained("model")
    Path("model/config.json").write_text('{"max_position_embeddings": 32768}')
    rows = [{"prompt": f"Tell {n}", "completion": f"It rains on {n} days in this town. " * 150} for n in range(30)]
    config = begun(rows, "model")
    tokens = len(tiny_tokenizer().encode(rows[-1]["completion"], add_special_tokens=False))
    assert 1024 < tokens < max_tokens(config)
