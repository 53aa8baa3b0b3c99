"""vLLM's server, started so that none of its processes outlives the one that started it.

vLLM's engine process stays behind, with its memory, when the server is killed. A spawned child imports this module
again before it does anything else, and a forked one runs the hook, so each asks the kernel to end it with its parent.
"""

from __future__ import annotations

import os
import runpy

from tunelift.runtime.worker import die_with_parent

SERVER = "vllm.entrypoints.openai.api_server"
"""The module, not the `vllm` script, which the CPU build lacks."""

if __name__ in {"__main__", "__mp_main__"}:
    die_with_parent()
    os.register_at_fork(after_in_child=die_with_parent)

if __name__ == "__main__":
    # This module stays __main__, since spawned children import whatever that is.
    runpy.run_module(SERVER, run_name="__main__", alter_sys=False)
