"""The live endpoint: the very process that evaluation asks, in the foreground. Nothing is cached."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from collections.abc import Callable
from pathlib import Path

from tunelift.config.schema import EngineConfig, ServeConfig
from tunelift.engines.endpoint import refuse_unsendable
from tunelift.engines.vllm import VllmEngine
from tunelift.errors import UserError
from tunelift.runtime import console, hardware


def serve(
    config: ServeConfig,
    engine: EngineConfig,
    *,
    model: Path,
    name: str,
    seed: int,
    log: Path,
    check: Callable[[VllmEngine], None] | None = None,
    adapter: Path | None = None,
    in_4_bits: bool = False,
) -> None:
    """Serve a model folder until it is stopped.

    Args:
        model: The merged model's; the base's if there is an adapter.
        adapter: An adapter's folder, which is served under `name` beside the base.
        in_4_bits: The base is held in 4 bits.
        log: File that receives vLLM's own output.
        check: Called once the server answers, before it is said to be ready.

    Raises:
        UserError: as `check_address`.
        MachineError: the server did not start, or ended, with whatever code, though nobody stopped it.
    """
    key = check_address(config)
    with VllmEngine(
        model,
        engine,
        device=hardware.detect().device,
        seed=seed,
        served_name=name,
        log=log,
        host=config.host,
        port=config.port,
        api_key=key,
        adapter=adapter,
        in_4_bits=in_4_bits,
    ) as server:
        server.start()
        if check:
            check(server)
        console.say(f"ready: {server.url} (model {name}; greedy where a request says nothing else; Ctrl-C stops it)")
        server.wait()


def check_address(config: ServeConfig) -> str | None:
    """Hold that the address may be listened on, and return the API key, if one is set.

    Raises:
        UserError: an address that others can reach, without an API key, or one that cannot be had; a key that no client
            can send.
    """
    key = os.environ.get(config.api_key_env) or None
    if key is not None:
        refuse_unsendable(key, f"The environment variable {config.api_key_env}, the API key of the server,")
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
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
        return all(ipaddress.ip_address(str(address[0]).partition("%")[0]).is_loopback for *_, address in found)
    except (OSError, UnicodeError):
        return False
