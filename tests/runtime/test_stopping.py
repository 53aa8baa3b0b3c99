"""Stopping: a signal is heeded even where Python swallows what its handler raises."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import os, signal, sys
from pathlib import Path
from tunelift.runtime.stopping import Stopped, heed_signals
from tunelift.runtime.worker import run_isolated

heed_signals()
number = getattr(signal, sys.argv[2])
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), number))
try:
    run_isolated("tests.runtime.test_worker:sleep", {"marker": sys.argv[1]}, Path(sys.argv[1]).with_suffix(".log"))
except Stopped as stop:
    sys.exit(stop.exit_code)
"""


def test_a_signal_swallowed_in_a_fork_hook_still_stops_the_run(tmp_path: Path) -> None:
    for name, code in (("SIGINT", 130), ("SIGTERM", 143)):
        began = time.monotonic()
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / name), name], capture_output=True, text=True, timeout=50
        )
        assert result.returncode == code, result.stderr
        assert "Traceback" not in result.stderr
        assert time.monotonic() - began < 45, "it waited for the worker instead"
