"""Heavy work in its own process, so that its memory is really free for the next stage.

The parent names a function and JSON arguments; the child checks the arguments against the function's annotations, runs
it and hands back its JSON result, or the error to show. The child's own output goes to a log file; what is meant for a
person goes through `runtime.console`. The child dies with its parent, even on `kill -9`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from tunelift.errors import KINDS, MachineError, TuneliftError
from tunelift.runtime import console
from tunelift.runtime.hardware import openmp_environment
from tunelift.runtime.stopping import Stopped, raise_if_stopped

LOG_TAIL_LINES = 15
REMEDIES = {
    "curate": "Lower curate.processes, or use a machine with more memory",
    "train": "Use a smaller train.micro_batch_size or a machine with more memory",
    "merge": "Use a machine with more memory: it must hold the model in bf16, 2 bytes a parameter, and some GiB beside "
    "it, fewer of them with a lower merge.parity_rows",
}
"""Where a stage's process was killed, by its function's name."""
GRACE_SECONDS = 20.0
"""For a process that has nothing to save to let go of what it holds."""


def run_isolated(
    target: str,
    arguments: dict[str, Any],
    log: Path,
    watch: Callable[[], None] | None = None,
    *,
    needs_torch: bool = True,
    saves_within_seconds: float | None = None,
) -> dict[str, Any]:
    """Run `module:function` in a child process and return its result.

    Args:
        target: The function, as `package.module:name`; it takes keyword arguments and returns a JSON object.
        arguments: Its arguments as JSON values.
        log: File that receives the child's output.
        watch: Called about once a second while the child runs.
        needs_torch: Whether the function computes with torch; seconds are saved if not.
        saves_within_seconds: How long, after SIGTERM, the function may take to save what it has done. A person is told
            that it is waited for, and a second Ctrl-C or SIGTERM ends the wait.

    Raises:
        TuneliftError: what the child raised.
        MachineError: the child died without a word, for example killed for memory.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tunelift-") as folder:
        request, answer = Path(folder, "request.json"), Path(folder, "answer.json")
        request.write_text(json.dumps({"target": target, "arguments": arguments, "needs_torch": needs_torch}))
        descriptor = os.dup(console.descriptor())  # A number of its own: in the child, 1 and 2 are the log.
        with log.open("ab") as output:
            child = subprocess.Popen(
                [sys.executable, "-m", "tunelift.runtime.worker", str(request), str(answer)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **openmp_environment(), console.CONSOLE_FD: str(descriptor)},
                pass_fds=(descriptor,),
                start_new_session=True,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )
        os.close(descriptor)
        try:
            _wait(child, watch)
        except Stopped:
            if saves_within_seconds:
                console.say("stopping: what is under way is saved first; a second Ctrl-C or SIGTERM ends it at once")
            raise
        finally:
            stop_group(child, saves_within_seconds or GRACE_SECONDS)
        return _result(child, answer, log, target.rpartition(":")[2])


def _wait(child: subprocess.Popen[bytes], watch: Callable[[], None] | None) -> None:
    running = True
    while running:
        raise_if_stopped()
        try:
            child.wait(timeout=1)
            running = False
        except subprocess.TimeoutExpired:
            pass
        if watch:
            watch()
    raise_if_stopped()


def _result(child: subprocess.Popen[bytes], answer: Path, log: Path, stage: str) -> dict[str, Any]:
    if answer.exists():
        content = json.loads(answer.read_text())
        if "error" in content:
            error = content["error"]
            raise KINDS[error["kind"]](error["message"], remedy=error["remedy"], where=error["where"])
        return dict(content["result"])
    tail = "\n".join("    " + line for line in last_lines(log, LOG_TAIL_LINES))
    if child.returncode == -signal.SIGKILL:
        raise MachineError(
            "The process was killed, most likely because the machine ran out of memory.",
            where=str(log),
            remedy=f"{REMEDIES.get(stage, 'Use a machine with more memory')}, then run the same command again.",
        )
    raise MachineError(
        f"The process ended with code {child.returncode}. The end of its log:\n{tail}",
        where=str(log),
        remedy="If the log names no cause that you can mend, report it with the log.",
    )


def last_lines(path: Path, count: int) -> list[str]:
    """The last `count` non-empty lines of a log, from its last 64 KiB."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 65536))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.rstrip() for line in text.splitlines() if line.strip()][-count:]


def stop_group(child: subprocess.Popen[bytes], grace_seconds: float = GRACE_SECONDS) -> None:
    """End a child that leads its own process group, and all that it started: politely, then by force.

    An exception in the meantime, such as that of a second Ctrl-C, ends the patience.
    """
    try:
        with suppress(ProcessLookupError, PermissionError, subprocess.TimeoutExpired):
            os.killpg(child.pid, signal.SIGTERM)
            child.wait(timeout=grace_seconds)
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def die_with_parent(parent: int | None = None) -> None:
    """In a new child on Linux: be killed when the parent dies, whatever it dies of.

    Args:
        parent: Its process id: where it died before the child could ask for this, the child ends now.
    """
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if parent is not None and os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)


def leave_torch_out() -> None:
    """For a process of its own that needs no more than a tokenizer: transformers imports torch wherever it finds it."""
    if "torch" not in sys.modules:
        sys.modules["torch"] = None  # type: ignore[assignment]
        os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def main() -> int:
    """Entry of the child."""
    request, answer = Path(sys.argv[1]), Path(sys.argv[2])
    content = json.loads(request.read_text())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business: it ends this process.
    if not content["needs_torch"]:
        leave_torch_out()
    # Where this package is installed, bitsandbytes fetches code from the hub at its import, and runs it.
    sys.modules["kernels"] = None  # type: ignore[assignment]
    try:
        outcome: dict[str, Any] = {"result": call(content["target"], content["arguments"])}
    except TuneliftError as error:
        kind = next(name for name, cls in KINDS.items() if isinstance(error, cls))
        outcome = {"error": {"kind": kind, "message": error.message, "remedy": error.remedy, "where": error.where}}
    temporary = answer.with_suffix(".tmp")
    temporary.write_text(json.dumps(outcome))
    temporary.replace(answer)
    return 0


def call(target: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call `module:function` with JSON arguments, coerced to the function's annotations."""
    from pydantic import ConfigDict, validate_call

    module, name = target.split(":")
    function = getattr(importlib.import_module(module), name)
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(function)
    return dict(checked(**arguments))


if __name__ == "__main__":
    sys.exit(main())
