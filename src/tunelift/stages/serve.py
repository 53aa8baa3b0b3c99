"""The live endpoint: the very process that evaluation asks, in the foreground. Nothing is cached."""

from __future__ import annotations

import ipaddress
import os
import subprocess
from pathlib import Path

from tunelift.config.schema import EngineConfig, ServeConfig
from tunelift.engines.vllm import vllm_arguments, vllm_environment
from tunelift.errors import UserError
from tunelift.runtime import console, hardware
from tunelift.runtime.worker import die_with_parent, stop_group


def serve(config: ServeConfig, engine: EngineConfig, *, model: Path, name: str, seed: int) -> int:
    """Serve a model folder until it is stopped; returns the server's exit code.

    Raises:
        UserError: an address that others can reach, without an API key.
    """
    key = os.environ.get(config.api_key_env) or None
    if not is_loopback(config.host) and key is None:
        raise UserError(
            f"serve.host={config.host} can be reached from other machines, and no API key is set.",
            remedy=f"Set the environment variable {config.api_key_env}, or serve.host to 127.0.0.1.",
        )
    device = hardware.detect().device
    command = vllm_arguments(
        model, engine, device=device, seed=seed, host=config.host, port=config.port, served_name=name
    )
    console.say(f"serving {name} at http://{config.host}:{config.port}/v1 (Ctrl-C stops it)")
    server = subprocess.Popen(
        command,
        env=vllm_environment(engine, device=device, api_key=key),
        start_new_session=True,
        preexec_fn=die_with_parent,
    )
    try:
        return server.wait()
    finally:
        stop_group(server)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
