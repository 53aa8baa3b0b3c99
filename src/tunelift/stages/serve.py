"""The live endpoint: the very process that evaluation asks, in the foreground. Nothing is cached."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
import subprocess
from functools import partial
from pathlib import Path

from tunelift.config.schema import EngineConfig, ServeConfig
from tunelift.engines.vllm import vllm_arguments, vllm_environment
from tunelift.errors import MachineError, UserError
from tunelift.runtime import console, hardware
from tunelift.runtime.worker import die_with_parent, stop_group


def serve(config: ServeConfig, engine: EngineConfig, *, model: Path, name: str, seed: int) -> None:
    """Serve a model folder until it is stopped.

    Raises:
        UserError: as `check_address`.
        MachineError: the server ended with an error.
    """
    key = check_address(config)
    device = hardware.detect().device
    command = vllm_arguments(
        model, engine, device=device, seed=seed, host=config.host, port=config.port, served_name=name
    )
    console.say(f"serving {name} at http://{config.host}:{config.port}/v1 (Ctrl-C stops it)")
    server = subprocess.Popen(
        command,
        env=vllm_environment(engine, device=device, api_key=key),
        start_new_session=True,
        preexec_fn=partial(die_with_parent, os.getpid()),
    )
    try:
        code = server.wait()
    finally:
        stop_group(server)
    if code:
        raise MachineError(
            f"The server ended with code {code}; what it printed above says why.",
            remedy="If memory ran out, lower engine.cpu_kv_cache_gib (CPU), engine.gpu_memory_utilization (GPU) or "
            "engine.max_model_len.",
        )


def check_address(config: ServeConfig) -> str | None:
    """Hold that the address may be listened on, and return the API key, if one is set.

    Raises:
        UserError: an address that others can reach, without an API key, or one that cannot be had.
    """
    key = os.environ.get(config.api_key_env) or None
    if not is_loopback(config.host) and key is None:
        raise UserError(
            f"serve.host={config.host} can be reached from other machines, and no API key is set.",
            remedy=f"Set the environment variable {config.api_key_env}, or serve.host to 127.0.0.1.",
        )
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # A port just let go is free, as vLLM sees it.
            probe.bind(address)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        raise UserError(
            f"Cannot listen on serve.host={config.host}, serve.port={config.port} ({error.strerror or error}).",
            remedy=f"Stop what listens there, or choose another port, such as serve.port={config.port % 65535 + 1}."
            if taken
            else "Correct serve.host and serve.port; 127.0.0.1 and a port above 1023 always work.",
        ) from error
    return key


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
