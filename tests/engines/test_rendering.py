"""Trained = evaluated = served: a prompt has the same token ids in all three, and a server that differs is told."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.endpoint import Stub
from tests.families import FAMILIES, Family
from tests.tiny import CHATML, tiny_tokenizer
from tunelift.config.schema import EngineConfig
from tunelift.engines.rendering import check_rendering, prompts_of, varied
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import GateError, MachineError
from tunelift.runtime.chat import load_tokenizer, prompt_ids, supervise
from tunelift.runtime.openai_form import openai_messages, openai_tools
from tunelift.runtime.template import pin
from tunelift.runtime.turns import UnusableRow
from tunelift.stages.curate.formats import to_conversation

WORDS = ["sun", "rain", "wind", "snow", "hail", "fog", "storm", "Grüße", "天気", "🧪", "thunder"]
CODE = "    if {w}:\n        return [{n},  {n}]\n    else:\n\n        pass"
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather in a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
KINDS = ("plain", "turns", "system", "empty system", "parts", "code")
WITH_TOOLS = (*KINDS, "tools", "parallel calls")


def raw_row(number: int, kinds: Sequence[str]) -> dict[str, Any]:
    """A row as users have it, and as their client would send it."""
    kind, word, more = kinds[number % len(kinds)], WORDS[number % len(WORDS)], WORDS[number % 7]
    user = {"role": "user", "content": f"Say {word} {number} times."}
    reply = {"role": "assistant", "content": f"{word} " * (number % 4) + more}
    if kind == "turns":
        user_again = {"role": "user", "content": f"And {more}?"}
        return {"messages": [user, reply, user_again, {"role": "assistant", "content": f"{more}, {number}."}]}
    if "system" in kind:
        return {
            "messages": [{"role": "system", "content": "" if kind.startswith("empty") else f"Be {word}."}, user, reply]
        }
    if kind in {"tools", "parallel calls"}:
        cities = [f"{word}town"] if kind == "tools" else [f"{word}town", f"{more}ville"]
        ids = [f"call{number:04}{place}" for place in range(len(cities))]
        calls = [
            {
                "id": identity,
                "type": "function",
                "function": {"name": "weather", "arguments": json.dumps({"city": city})},
            }
            for identity, city in zip(ids, cities, strict=True)
        ]
        results = [
            {"role": "tool", "tool_call_id": identity, "name": "weather", "content": f"{more} {place}"}
            for place, identity in enumerate(ids)
        ]
        called = {"role": "assistant", "content": None, "tool_calls": calls}
        return {"messages": [user, called, *results, reply], "tools": [TOOL]}
    if kind == "parts":
        parts = [{"type": "text", "text": text} for text in (f"First {word}.", "", f"  Then {more}.")]
        return {"messages": [user | {"content": parts}, reply]}
    if kind == "code":
        code = CODE.format(w=word, n=number)
        return {"messages": [user | {"content": f"Mend\n\n{code}\n"}, reply | {"content": code}]}
    return {"messages": [user, reply]}


def pinned(family: Family) -> Any:
    """The family's tokenizer with its template as training pins it."""
    tokenizer = family.tokenizer()
    template = pin(family.template, family.arguments, date(2024, 7, 26))
    return type(tokenizer)(tokenizer_object=tokenizer.backend_tokenizer, chat_template=template, **_named(tokenizer))


def _named(tokenizer: Any) -> dict[str, Any]:
    return {name: getattr(tokenizer, name) for name in ("bos_token", "eos_token", "pad_token")}


def trained_prompts(tokenizer: Any, messages: list[dict[str, Any]], tools: list[Any] | None) -> list[list[int]]:
    """Of each supervised turn, the token ids before it, in the rows that training sees."""
    found = []
    for row in supervise(tokenizer, messages, tools):
        edges = [place for place in range(len(row.mask)) if row.mask[place] and not (place and row.mask[place - 1])]
        found += [row.input_ids[:edge] for edge in edges]
    return found


def compared(family: Family, served: Any) -> tuple[int, dict[str, int]]:
    """Prompts whose token ids were equal in training, evaluation and serving; and the rows without, by reason."""
    tokenizer, equal, unusable = pinned(family), 0, dict[str, int]()
    for number in range(200):
        raw = raw_row(number, WITH_TOOLS if family.tools else KINDS)
        messages, tools = to_conversation(raw, "messages", None)
        try:
            trained = trained_prompts(tokenizer, messages, tools)
        except UnusableRow as error:
            unusable[error.reason] = unusable.get(error.reason, 0) + 1
            continue
        replies = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
        assert len(trained) == len(replies)
        for place, ids in zip(replies, trained, strict=True):
            evaluated = prompt_ids(tokenizer, messages[:place], tools)
            assert ids == evaluated, (number, tokenizer.decode(ids), tokenizer.decode(evaluated))
            # As evaluation sends it, and as the user's client would.
            for sent in (openai_messages(messages[:place]), raw["messages"][:place]):
                theirs = served(tokenizer, sent, tools)
                assert ids == theirs, (number, tokenizer.decode(ids), tokenizer.decode(theirs))
            equal += 1
    return equal, unusable


EVERY = [pytest.param(family, id=family.name) for family in FAMILIES]


@pytest.mark.parametrize("family", EVERY)
def test_what_is_evaluated_is_what_is_trained_in_every_family(family: Family) -> None:
    equal, unusable = compared(family, lambda tokenizer, sent, tools: _ours(tokenizer, sent, tools))
    assert equal >= 100, unusable


def _ours(tokenizer: Any, sent: list[dict[str, Any]], tools: list[Any] | None) -> list[int]:
    """What curation makes of the messages once more, since arguments come as text and contents in parts."""
    messages, _ = to_conversation({"messages": sent}, "messages", None)
    return prompt_ids(tokenizer, messages, tools)


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of what vLLM imports.
@pytest.mark.parametrize("family", EVERY)
def test_what_vllm_serves_is_what_is_trained_in_every_family(family: Family) -> None:
    equal, unusable = compared(family, _vllms)
    print(f"{family.name}: {equal} prompts equal, unusable {unusable}")
    assert equal >= 100, unusable


def _vllms(tokenizer: Any, sent: list[dict[str, Any]], tools: list[Any] | None) -> list[int]:
    """By vLLM's own request classes and functions, with the options that tunelift starts it with."""
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.renderers.chat_utils import parse_chat_messages
    from vllm.renderers.hf import safe_apply_chat_template

    request = ChatCompletionRequest(
        model="m", messages=json.loads(json.dumps(sent)), tools=openai_tools(tools) if tools else None
    )
    text_only: Any = SimpleNamespace(enable_prompt_embeds=False, is_multimodal_model=False, multimodal_config=None)
    messages, *_ = parse_chat_messages(request.messages, text_only, "string")
    text = safe_apply_chat_template(
        text_only,
        tokenizer,
        messages,
        tools=[tool.model_dump() for tool in request.tools or ()] or None,
        chat_template=tokenizer.chat_template,
        tokenize=False,
        add_generation_prompt=True,
        continue_final_message=False,
        documents=None,
    )
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


# --- a server that differs ------------------------------------------------------------------------------------------

ASKED = [({"role": "system", "content": "Be brief."}, {"role": "user", "content": "  Weather?\n\nNow"})]


def told(respond: Any, prompts: Any, key: str | None = None) -> tuple[Any, Stub]:
    """What the check says of a server whose `/tokenize` answers so."""
    stub = Stub(respond)
    engine: Any = SimpleNamespace(url=stub.url, served_name="tuned", api_key=key)
    try:
        return check_rendering(engine, tiny_tokenizer_with(CHATML), prompts), stub
    except (GateError, MachineError) as error:
        return error, stub
    finally:
        stub.close()


def tiny_tokenizer_with(template: str) -> Any:
    made = tiny_tokenizer()
    made.chat_template = template
    return made


def read_with(template: str) -> Any:
    """A server that renders with this template."""
    made = tiny_tokenizer_with(template)
    return lambda body, _: (200, {"tokens": prompt_ids(made, body["messages"], body.get("tools"))})


def test_a_server_that_reads_as_training_does_passes_and_is_sent_the_key() -> None:
    count, stub = told(read_with(CHATML), [(ASKED[0], [TOOL])] * 3, key="secret")
    assert count == 3
    assert set(stub.paths) == {"/tokenize"} and stub.headers[0]["Authorization"] == "Bearer secret"
    assert stub.bodies[0]["add_generation_prompt"] is True and stub.bodies[0]["tools"] == [TOOL]


def test_a_server_that_reads_otherwise_is_told_with_both_texts() -> None:
    error, _ = told(read_with(CHATML.replace("'\\n'", "' \\n'", 1)), [(ASKED[0], None)])
    assert isinstance(error, GateError) and error.exit_code == 1
    assert "does not read the prompt '  Weather?" in error.message and "training: '" in error.message
    assert "server:   '" in error.message and "chat_template" in error.remedy
    longer, _ = told(read_with(CHATML + "!"), [(ASKED[0], None)])
    assert isinstance(longer, GateError), "tokens behind the end of ours differ too"


def test_a_server_that_refuses_a_prompt_or_does_not_answer_is_told() -> None:
    refused, _ = told(lambda *_: (400, {"error": "no tools here"}), [(ASKED[0], None)])
    assert isinstance(refused, GateError) and "no tools here" in refused.message
    dead, _ = told(lambda *_: (500, {}), [(ASKED[0], None)])
    assert isinstance(dead, MachineError) and dead.exit_code == 3
    odd, _ = told(lambda *_: (200, {"count": 3}), [(ASKED[0], None)])
    assert isinstance(odd, MachineError)


def test_thinking_is_sent_under_the_name_that_the_route_knows() -> None:
    thought = {"role": "assistant", "content": "Hm.", "reasoning_content": "So."}
    _, stub = told(read_with(CHATML), [([ASKED[0][1], thought, ASKED[0][1]], None)])
    assert stub.bodies[0]["messages"][1]["reasoning"] == "So."
    assert "reasoning_content" not in stub.bodies[0]["messages"][1]


def test_prompts_of_every_shape_are_compared_however_rare() -> None:
    plain = [([{"role": "user", "content": str(number)}], None) for number in range(100)]
    tools = ([{"role": "user", "content": "t"}], [TOOL])
    chosen = varied([*plain, tools, *ASKED_IN_TURN], 4)
    assert len(chosen) == 4 and tools in chosen and ASKED_IN_TURN[0] in chosen
    rows = [{"messages": [*ASKED[0], {"role": "assistant", "content": "Rain."}], "tools": [TOOL]}]
    assert prompts_of(rows) == [(list(ASKED[0]), [TOOL])]


ASKED_IN_TURN = [([*ASKED[0], {"role": "assistant", "content": "Rain."}, ASKED[0][1]], None)]

PARTS = """{%- for message in messages %}{{- '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string %}{{- message['content'] }}
{%- else %}{%- for part in message['content'] %}{{- (part['text'] | trim) + '\\n' }}{%- endfor %}{%- endif %}
{{- '<|im_end|>\\n' }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"""
"""A template that loops over parts, by which vLLM takes it to want them."""


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("pinned_format", [True, False], ids=["as started", "as vLLM would guess"])
def test_a_real_server_reads_contents_as_training_does(
    pinned_format: bool, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tunelift.engines import vllm as module

    if not pinned_format:
        given = module.vllm_arguments
        monkeypatch.setattr(
            module,
            "vllm_arguments",
            lambda *one, **more: ["auto" if word == "string" else word for word in given(*one, **more)],
        )
    file, log = tmp_path / "parts.jinja", tmp_path / "vllm.log"
    file.write_text(PARTS)
    small = EngineConfig(dtype="float32", max_model_len=512, cpu_kv_cache_gib=1, max_num_seqs=8, enforce_eager=True)
    prompts = [(ASKED[0], None), *ASKED_IN_TURN]
    with VllmEngine(tiny_model, small, device="cpu", seed=1, served_name="t", log=log, template=file) as engine:
        engine.start()
        tokenizer = load_tokenizer(tiny_model, PARTS)
        if pinned_format:
            assert check_rendering(engine, tokenizer, prompts) == 2
        else:
            with pytest.raises(GateError, match="does not read the prompt"):
                check_rendering(engine, tokenizer, prompts)
