"""The vLLM process: its command and environment, failing clearly, and leaving nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import pytest
from tokenizers import Tokenizer

from tests.families import FAMILIES, Family
from tests.published import PUBLISHED, write_small_files
from tests.tiny import CHATML
from tunelift.config.schema import EngineConfig
from tunelift.engines import environment as surroundings
from tunelift.engines import vllm as module
from tunelift.engines.client import Likelihood, Reply, Request, Scoring
from tunelift.engines.vllm import VllmEngine, base_url, meaningful_lines, vllm_arguments, vllm_environment
from tunelift.errors import MachineError
from tunelift.runtime.hardware import Hardware, detect
from tunelift.runtime.openai_form import openai_messages, openai_tools
from tunelift.runtime.turns import render
from tunelift.starting.recipe import TEMPLATE

SMALL = EngineConfig(dtype="bfloat16", max_model_len=512, cpu_kv_cache_gib=1, max_num_seqs=8, enforce_eager=True)
KEY = "the-key-of-the-tests"


def arguments(engine: EngineConfig, device: module.Device = "cpu") -> list[str]:
    return vllm_arguments(Path("m"), engine, device=device, seed=5, host="127.0.0.1", port=81, served_name="tuned")


def after(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def test_a_tokenizer_of_the_models_own_folder_is_passed_on(tmp_path: Path) -> None:
    def command(**more: Path) -> list[str]:
        return vllm_arguments(tmp_path, SMALL, device="cpu", seed=5, host="h", port=81, served_name="tuned", **more)

    assert "--tokenizer" not in command()
    (tmp_path / "tokenizer").mkdir()
    assert after(command(), "--tokenizer") == str(tmp_path / "tokenizer")
    assert after(command(tokenizer=Path("other")), "--tokenizer") == "other"


def test_a_base_that_vllm_would_tokenize_otherwise_is_started_with_the_tokenizer_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SmolLM2 as it lies on the hub."""
    started: list[list[str]] = []

    import torch  # noqa: F401  Its CUDA build starts processes while it is imported, which are refused below.

    def refuse(command: list[str], **_: Any) -> None:
        started.append(command)
        raise MachineError("not started", remedy="none")

    monkeypatch.setattr(module.subprocess, "Popen", refuse)
    for name, given in (("smollm_2", True), ("llama_3_1", False)):
        published = next(one for one in PUBLISHED if one.name == name)
        write_small_files(tmp_path / name, published)
        log = tmp_path / "logs" / f"{name}.log"
        engine = VllmEngine(tmp_path / name, SMALL, device="cpu", seed=5, served_name="base", log=log)
        with pytest.raises(MachineError, match="not started"):
            engine.start()
        assert ("--tokenizer" in started[-1]) == given
    raw, handed = (
        Tokenizer.from_file(str(Path(folder) / "tokenizer.json")).to_str()
        for folder in (tmp_path / "smollm_2", after(started[0], "--tokenizer"))
    )
    assert raw == handed


def test_the_command_pins_what_the_answers_depend_on() -> None:
    command = arguments(SMALL)
    assert command[:3] == [sys.executable, "-m", "tunelift.engines.launch"]
    expected = {
        "--model": "m",
        "--served-model-name": "tuned",
        "--generation-config": "vllm",
        "--override-generation-config": '{"temperature": 0.0, "top_p": 1.0}',
        "--middleware": "tunelift.engines.guard.RefuseUnserved",
        "--chat-template-content-format": "string",
        "--tokenizer-mode": "hf",
        "--config-format": "hf",
        "--load-format": "safetensors",
        "--dtype": "bfloat16",
        "--max-model-len": "512",
        "--seed": "5",
        "--port": "81",
        "--max-num-seqs": "8",
    }
    assert {option: after(command, option) for option in expected} == expected
    assert "--enforce-eager" in command
    assert "--gpu-memory-utilization" not in command
    assert "tunelift.engines.guard.RequireKey" not in command


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("localhost", "http://localhost:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("::1", "http://[::1]:81"),
        ("::", "http://[::1]:81"),
        ("0:0:0:0:0:0:0:0", "http://[::1]:81"),
        ("2001:db8::7", "http://[2001:db8::7]:81"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:81"),
        ("gpu-box.example.com", "http://gpu-box.example.com:81"),
    ],
)
def test_the_url_is_one_that_a_client_can_use(host: str, url: str) -> None:
    assert base_url(host, 81) == url


def test_a_template_is_named_only_if_it_is_another_than_the_models() -> None:
    assert "--chat-template" not in arguments(SMALL)
    command = vllm_arguments(
        Path("m"), SMALL, device="cpu", seed=5, host="127.0.0.1", port=81, served_name="t", template=Path("t.jinja")
    )
    assert after(command, "--chat-template") == "t.jinja"


def test_on_a_cpu_without_a_cpp_compiler_nothing_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert vllm_environment(SMALL, device="cpu")["TORCHDYNAMO_DISABLE"] == "1"
    (tmp_path / "g++").touch(mode=0o755)
    assert "TORCHDYNAMO_DISABLE" not in vllm_environment(SMALL, device="cpu")


def test_on_a_gpu_the_memory_share_is_set_and_auto_compiles() -> None:
    command = arguments(EngineConfig(gpu_memory_utilization=0.5), "cuda")
    assert after(command, "--gpu-memory-utilization") == "0.5"
    assert "--enforce-eager" not in command


def test_the_environment_is_offline_and_silent_and_holds_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_API_KEY", "left over")
    environment = vllm_environment(SMALL, device="cpu", api_key="secret")
    assert {name: environment[name] for name in ("HF_HUB_OFFLINE", "VLLM_NO_USAGE_STATS", "DO_NOT_TRACK")} == {
        "HF_HUB_OFFLINE": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
    }
    assert environment["VLLM_API_KEY"] == "secret"
    assert environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert environment["PATH"] == os.environ["PATH"]
    on_gpu = vllm_environment(SMALL, device="cuda")
    assert "VLLM_API_KEY" not in on_gpu, "a key of the shell would lock evaluation out of its own engine"
    assert "VLLM_CPU_KVCACHE_SPACE" not in on_gpu
    assert on_gpu["VLLM_USE_FLASHINFER_SAMPLER"] == "0", "it would be compiled at the start, with nvcc and ninja"
    assert on_gpu["VLLM_PLUGINS"] == "" and vllm_environment(SMALL, device="cpu", in_4_bits=True)["VLLM_PLUGINS"]
    assert on_gpu["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID", "the numbers are those that training and planning go by"


def test_a_small_machine_computes_on_every_core_and_a_large_one_is_left_to_vllm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for cores, threads in ((2, "2"), (8, "8"), (64, None)):
        monkeypatch.setattr(surroundings, "detect", lambda cores=cores: Hardware("cpu", "x", 8, cores))
        environment = vllm_environment(SMALL, device="cpu")
        assert environment.get("OMP_NUM_THREADS") == threads
        assert environment.get("VLLM_ENABLE_V1_MULTIPROCESSING") == (threads and "0")


def test_on_a_gpu_a_missing_compiler_is_told_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(surroundings.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))
    surroundings.refuse_without_compiler("cpu")
    with pytest.raises(MachineError, match=r"a C compiler \(gcc\) and Python.h") as caught:
        surroundings.refuse_without_compiler("cuda")
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    assert f"apt-get install gcc python{version}-dev" in caught.value.remedy
    (tmp_path / "cache/built").mkdir(parents=True)
    surroundings.refuse_without_compiler("cuda")
    (tmp_path / "cache/built").rmdir()
    for name in ("Python.h", "clang"):
        (tmp_path / name).write_text("")
        (tmp_path / name).chmod(0o755)
    surroundings.refuse_without_compiler("cuda")


def broken(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """vLLM is replaced by a Python program."""
    monkeypatch.setattr(module, "vllm_arguments", lambda *_, **__: [sys.executable, "-c", code])


def engine(tmp_path: Path, config: EngineConfig = SMALL) -> VllmEngine:
    return VllmEngine(tmp_path, config, device="cpu", seed=1, served_name="t", log=tmp_path / "logs" / "vllm.log")


def test_an_engine_that_dies_while_starting_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "print('INFO loading'); raise ValueError('no such architecture')")
    with pytest.raises(MachineError, match="ended while starting") as caught, engine(tmp_path) as made:
        made.start()
    assert "ValueError: no such architecture" in caught.value.message
    assert "INFO loading" not in caught.value.message
    assert caught.value.where == str(tmp_path / "logs" / "vllm.log")


def test_an_engine_killed_for_memory_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "import os; os.kill(os.getpid(), 9)")
    with pytest.raises(MachineError) as caught, engine(tmp_path) as made:
        made.start()
    assert "memory ran out" in caught.value.remedy


def test_an_engine_that_does_not_get_ready_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(monkeypatch, "import time; print('thinking', flush=True); time.sleep(60)")
    with engine(tmp_path, SMALL.model_copy(update={"startup_timeout_seconds": 0.6})) as made:
        with pytest.raises(MachineError, match="was not ready after 1 s"):
            made.start()
        assert not [child for child in psutil.Process().children() if "thinking" in " ".join(child.cmdline())]


def test_an_engine_that_nobody_asks_never_starts(tmp_path: Path) -> None:
    with engine(tmp_path) as made:
        made.check()
    assert made.startup_seconds is None
    assert not (tmp_path / "logs").exists()


def test_meaningful_lines_are_the_errors_once_each_or_else_the_end() -> None:
    log = [
        "(APIServer pid=1) INFO 11-23 05:52:39 [a.py:3] hello",
        "(EngineCore pid=2) ERROR 11-23 05:52:39 [core.py:1136] Traceback (most recent call last):",
        "(EngineCore pid=2) ERROR 11-23 05:52:39 [core.py:1136] ValueError: Not enough memory",
        "(EngineCore pid=2) ValueError: Not enough memory",
        "(APIServer pid=1) RuntimeError: Engine core initialization failed.",
        "/x.py:3: UserWarning: leaked",
    ]
    assert meaningful_lines(log) == [
        "ValueError: Not enough memory",
        "RuntimeError: Engine core initialization failed.",
    ]
    assert meaningful_lines(["a", "(Worker pid=3) b"]) == ["a", "b"]


@pytest.fixture(scope="module")
def running(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory, vllm_runs: None) -> Iterator[VllmEngine]:
    log = tmp_path_factory.mktemp("vllm") / "vllm.log"
    with VllmEngine(
        tiny_model, SMALL, device="cpu", seed=1, served_name="tiny", log=log, api_key=KEY, host="::1"
    ) as made:
        made.start()
        yield made


def get(engine: VllmEngine, method: str, path: str, **options: Any) -> Any:
    import httpx

    return httpx.request(method, engine.url.removesuffix("/v1") + path, timeout=60, trust_env=False, **options)


@pytest.mark.timeout(240)
def test_of_all_routes_of_a_real_server_only_two_answer_without_the_key(running: VllmEngine) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    described = get(running, "GET", "/openapi.json", headers=headers).json()["paths"]
    assert {"/invocations", "/tokenize", "/scale_elastic_ep", "/v1/chat/completions", "/ping"} <= described.keys()
    hidden = {"/health", "/metrics", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"}
    asked = [(path, method) for path in described.keys() | hidden for method in ("GET", "POST", "OPTIONS")]
    answered = {path for path, method in asked if get(running, method, path).status_code != 401}
    assert answered == {"/health", "/ping"}
    assert get(running, "GET", "/metrics", headers=headers).status_code == 200
    assert get(running, "GET", "/metrics", headers={"Authorization": "Bearer other"}).status_code == 401
    assert KEY not in running._log.read_text()


@pytest.mark.timeout(240)
def test_a_request_that_leaves_the_decoding_open_gets_the_evaluated_one(running: VllmEngine) -> None:
    def said(**more: Any) -> str:
        body = {"model": "tiny", "max_tokens": 16, "messages": [{"role": "user", "content": "Which day?"}], **more}
        answer = get(running, "POST", "/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"})
        return str(answer.json()["choices"][0]["message"]["content"])

    greedy = said(temperature=0, top_p=1)
    assert [said() for _ in range(3)] == [greedy] * 3
    assert {said(temperature=1.5, seed=seed) for seed in range(4)} != {greedy}, "what a request says counts"


@pytest.mark.timeout(240)
def test_removed_fields_of_a_request_are_refused_with_the_form_that_works(running: VllmEngine) -> None:
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "guided_json": {"type": "object"}}
    answer = get(running, "POST", "/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {KEY}"})
    assert answer.status_code == 400
    assert "response_format" in answer.json()["error"]["message"]


def ask(engine: VllmEngine, count: int) -> dict[str, Reply]:
    replies: dict[str, Reply] = {}
    requests = [
        Request(str(n), [{"role": "system", "content": "Answer."}, {"role": "user", "content": f"Number {n}"}], 8)
        for n in range(count)
    ]
    client = engine.client(concurrency=4, timeout_seconds=60, decoding={"temperature": 0.0}, seed=1)
    client.generate(requests, lambda reply: replies.update({reply.id: reply}))
    return replies


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_engine_sees_the_tokens_that_training_sees_with_a_pinned_template(
    tiny_model: Path, tmp_path: Path
) -> None:
    """The pinned file beside a base, as untuned arms have it; what is saved with an adapter is the same text."""
    import httpx

    from tunelift.runtime.chat import load_tokenizer, supervise
    from tunelift.runtime.template import pin

    own = "{{ strftime_now('%d %b %Y') }}{% if loud is defined and loud %} LOUD{% endif %}" + CHATML
    template = pin(own, {"loud": True}, date(2024, 7, 26))
    file, log = tmp_path / "chat_template.jinja", tmp_path / "vllm.log"
    file.write_text(template)
    turns = [{"role": "user", "content": "Which day?"}, {"role": "assistant", "content": "That one."}]
    (row,) = supervise(load_tokenizer(tiny_model, template), turns)
    prompt = row.input_ids[: row.mask.index(True)]
    settings = SMALL.model_copy(update={"dtype": "float32"})
    with VllmEngine(tiny_model, settings, device="cpu", seed=1, served_name="tiny", log=log, template=file) as engine:
        engine.start()
        asked = {"model": "tiny", "messages": turns[:1], "add_generation_prompt": True}
        url = engine.url.removesuffix("/v1") + "/tokenize"
        assert httpx.post(url, json=asked, trust_env=False).json()["tokens"] == prompt
        undone = asked | {"chat_template_kwargs": {"loud": False}}
        assert httpx.post(url, json=undone, trust_env=False).json()["tokens"] == prompt, "a request cannot undo it"


@pytest.mark.timeout(240)
def test_a_real_engine_answers_and_greedy_answers_repeat(running: VllmEngine, tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    first, second = ask(running, 6), ask(running, 6)
    assert all(reply.error is None and 1 <= reply.tokens_out <= 8 for reply in first.values())
    assert {key: reply.text for key, reply in first.items()} == {key: reply.text for key, reply in second.items()}
    messages = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "Number 3"}]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert first["3"].tokens_in == len(tokenizer(text, add_special_tokens=False)["input_ids"])
    port = running.url
    running.start()
    assert running.url == port, "a running engine is not started again"


CALL = {"function": {"arguments": {"days": 2, "city": "Köln"}, "name": "weather"}, "type": "function"}
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Weather?"},
    {"role": "assistant", "content": "", "tool_calls": [CALL]},
    {"role": "tool", "content": "rain"},
    {"role": "assistant", "content": "It rains."},
    {"role": "user", "content": "And tomorrow?"},
]
"""As curation writes it: arguments are an object, calls have no id."""
BARE = {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.mark.timeout(240)
def test_a_conversation_with_earlier_calls_and_bare_tools_is_taken(running: VllmEngine) -> None:
    replies: list[Reply] = []
    client = running.client(concurrency=1, timeout_seconds=60, decoding={"temperature": 0.0}, seed=1)
    client.generate([Request("q", TALK, 8, tools=[BARE])], replies.append)
    assert replies[0].error is None


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Of what vLLM imports.
@pytest.mark.parametrize("family", [family for family in FAMILIES if family.tools], ids=lambda family: family.name)
def test_vllm_renders_earlier_calls_as_training_does(family: Family) -> None:
    """By its own request classes, and the function that prepares messages for the template."""
    from types import SimpleNamespace

    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.renderers.chat_utils import parse_chat_messages

    talk, tools = TALK, openai_tools([BARE])
    if family.call_ids:
        talk = openai_messages(TALK)
        talk[2]["tool_calls"] = [{"id": "call00001", **CALL}]  # Without ids the template refuses the row.
    request = ChatCompletionRequest(model="m", messages=openai_messages(talk), tools=openai_tools(tools))
    text_only = SimpleNamespace(enable_prompt_embeds=False, is_multimodal_model=False, multimodal_config=None)
    messages, *_ = parse_chat_messages(request.messages, text_only, "string")
    seen = render(family.tokenizer(), messages, [tool.model_dump() for tool in request.tools or ()], generate=True)
    assert seen == render(family.tokenizer(), talk, tools, generate=True)


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_real_engine_sees_the_tokens_that_training_sees_of_earlier_calls(tiny_model: Path, tmp_path: Path) -> None:
    import httpx

    from tunelift.runtime.chat import load_tokenizer, supervise

    log, settings = tmp_path / "vllm.log", SMALL.model_copy(update={"dtype": "float32"})
    row = [*TALK, {"role": "assistant", "content": "Sun."}]
    *_, learnt = supervise(load_tokenizer(tiny_model, TEMPLATE.read_text()), row, openai_tools([BARE]))
    reply = len(learnt.mask) - learnt.mask[::-1].index(True) - 1
    while learnt.mask[reply - 1]:
        reply -= 1
    with VllmEngine(
        tiny_model, settings, device="cpu", seed=1, served_name="tiny", log=log, template=TEMPLATE
    ) as engine:
        engine.start()
        asked = {"model": "tiny", "messages": openai_messages(TALK), "tools": openai_tools([BARE])}
        url = engine.url.removesuffix("/v1") + "/tokenize"
        tokens = httpx.post(url, json=asked | {"add_generation_prompt": True}, trust_env=False).json()["tokens"]
        assert tokens == learnt.input_ids[:reply]
        replies: list[Reply] = []
        client = engine.client(concurrency=1, timeout_seconds=60, decoding={"temperature": 0.0}, seed=1)
        client.generate([Request("q", TALK, 8, tools=[BARE])], replies.append)
        assert (replies[0].error, replies[0].tokens_in) == (None, reply)


@pytest.mark.timeout(240)
def test_a_prompt_beyond_the_context_is_refused_with_the_reason(running: VllmEngine) -> None:
    replies: list[Reply] = []
    client = running.client(concurrency=1, timeout_seconds=60, decoding={"temperature": 0.0}, seed=1)
    client.generate([Request("long", [{"role": "user", "content": "word " * 600}], 8)], replies.append)
    assert replies[0].error is not None
    assert "HTTP 400" in replies[0].error
    assert "512" in replies[0].error


@pytest.mark.timeout(240)
def test_a_schema_holds_the_answer_to_it(running: VllmEngine) -> None:
    schema = {"type": "object", "properties": {"mark": {"enum": [1, 2]}}, "required": ["mark"]}
    replies: list[Reply] = []
    client = running.client(concurrency=1, timeout_seconds=60, decoding={"temperature": 0.0}, seed=1)
    messages = [{"role": "user", "content": "Which mark?"}]
    client.generate([Request("q", messages, 60, schema=schema | {"additionalProperties": False})], replies.append)
    assert replies[0].error is None
    # A random model may fill the space that JSON allows between its parts.
    assert "".join(replies[0].text.split()).startswith('{"mark":') or not replies[0].text.strip("{ \n\t")


SCORINGS = [
    *(Scoring(f"letter {name}", "Which tool? Answer:", f" {name}", False) for name in "ABCD"),
    *(Scoring(f"long {name}", "Köln 🎉 is", f" {name} in Milan", False) for name in ("日本 Anna", "late", "1 2 3")),
    Scoring("straddles", "Put den", "tist in", False),
    Scoring("from a strange beginning", "🎉 Friday", " at 10:00", True),
    Scoring("whole text", "", "Remind me to call Anna on Friday 🎉 at 10:00.", True),
    Scoring("rendered", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n", "Send it", False),
]


def expected_likelihoods(model_folder: Path) -> dict[str, tuple[float, int]]:
    """By transformers in float32: sum and count of the tokens that end behind the context."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    expected = {}
    for scoring in SCORINGS:
        encoded = tokenizer(
            scoring.context + scoring.continuation,
            add_special_tokens=scoring.add_special_tokens,
            return_offsets_mapping=True,
        )
        ids = encoded["input_ids"]
        with torch.no_grad():
            logprobs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        counted = [
            logprobs[position - 1, ids[position]].item()
            for position, (_, end) in enumerate(encoded["offset_mapping"])
            if position and end > len(scoring.context)
        ]
        expected[scoring.id] = (sum(counted), len(counted))
    return expected


def check_likelihoods(engine: VllmEngine, model_folder: Path, tolerance: float) -> None:
    """Each within `tolerance` nats a token."""
    answers: dict[str, Likelihood] = {}
    client = engine.client(concurrency=4, timeout_seconds=60, decoding={"temperature": 0.0}, seed=1)
    client.loglikelihoods(SCORINGS, lambda answer: answers.update({answer.id: answer}))
    expected = expected_likelihoods(model_folder)
    assert {key: answer.error for key, answer in answers.items() if answer.error} == {}
    assert {key: answer.tokens for key, answer in answers.items()} == {
        key: tokens for key, (_, tokens) in expected.items()
    }
    for key, (logprob, tokens) in expected.items():
        assert answers[key].logprob == pytest.approx(logprob, abs=tolerance * tokens, rel=0), key


@pytest.mark.timeout(240)
def test_likelihoods_are_those_of_transformers_within_what_bfloat16_rounds(
    running: VllmEngine, tiny_model: Path
) -> None:
    check_likelihoods(running, tiny_model, 0.02)


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.slow
@pytest.mark.timeout(240)
def test_likelihoods_in_float32_are_those_of_transformers(tiny_model: Path, tmp_path: Path) -> None:
    exact, log = SMALL.model_copy(update={"dtype": "float32"}), tmp_path / "vllm.log"
    with VllmEngine(tiny_model, exact, device="cpu", seed=1, served_name="tiny", log=log) as made:
        made.start()
        check_likelihoods(made, tiny_model, 1e-4)


@pytest.mark.timeout(240)
def test_an_engine_that_is_killed_takes_its_children_along_and_is_noticed(running: VllmEngine) -> None:
    server = next(child for child in psutil.Process().children() if "tunelift.engines.launch" in child.cmdline())
    family = [server, *server.children(recursive=True)]
    assert len(family) >= 2, "the server and its engine process"
    server.kill()
    _wait_until_gone(family)
    running._process.wait()
    with pytest.raises(MachineError, match="vLLM ended"):
        running.check()


STARTER = """
import json, sys, time, psutil
from pathlib import Path
from tunelift.config.schema import EngineConfig
from tunelift.engines.vllm import VllmEngine
config = EngineConfig(max_model_len=512, cpu_kv_cache_gib=1, enforce_eager=True)
engine = VllmEngine(Path(sys.argv[1]), config, device="cpu", seed=1, served_name="t", log=Path(sys.argv[2]))
engine.start()
print(json.dumps([child.pid for child in psutil.Process().children(recursive=True)]), flush=True)
time.sleep(600)
"""


@pytest.mark.usefixtures("vllm_runs")
@pytest.mark.timeout(240)
def test_no_process_outlives_a_parent_that_was_killed(tiny_model: Path, tmp_path: Path) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTER, str(tiny_model), str(tmp_path / "vllm.log")], stdout=subprocess.PIPE, text=True
    )
    try:
        assert parent.stdout is not None
        line = parent.stdout.readline()
        assert line, "the engine did not start"
        family = [psutil.Process(pid) for pid in json.loads(line)]
        assert len(family) >= 2, "the server and its engine process"
        parent.send_signal(signal.SIGKILL)
    finally:
        parent.kill()
        parent.wait()
        if parent.stdout:
            parent.stdout.close()
    _wait_until_gone(family)


def _wait_until_gone(family: list[psutil.Process]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(_lives(process) for process in family):
        time.sleep(0.1)
    assert [process.pid for process in family if _lives(process)] == []


def _lives(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_the_engine_tells_its_package_version_and_machine(tmp_path: Path) -> None:
    engine = VllmEngine(
        tmp_path, EngineConfig(dtype="float32"), device="cpu", seed=1, served_name="m", log=tmp_path / "log"
    )
    described = engine.description
    assert described["version"] == metadata.version(described["package"])
    assert described["torch"] == metadata.version("torch")
    assert (described["device"], described["dtype"], described["hardware"]) == ("cpu", "float32", detect().name)
