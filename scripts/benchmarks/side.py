"""Other tools beside this project: environments of their own that share the installed torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tunelift.errors import MachineError
from tunelift.runtime.console import say


@dataclass(frozen=True)
class Tool:
    """A tool, with those of its dependencies that are not installed here, or not in a release that it takes."""

    name: str
    version: str
    packages: tuple[str, ...]
    unused: tuple[str, ...] = ()
    """Modules that it imports at its top and that this project's use of it never calls: they are empty."""


LM_EVAL = Tool(
    "lm-eval",
    "0.4.13",
    (
        "lm_eval==0.4.13",
        "chardet==7.7.0",
        "DataProperty==1.1.1",
        "mbstrdecoder==1.1.5",
        "more-itertools==11.2.1",
        "pathvalidate==3.3.1",
        "pytablewriter==1.2.1",
        "scikit-learn==1.9.1",
        "sqlitedict==2.1.0",
        "tabledata==1.3.5",
        "tcolorpy==0.1.7",
        "threadpoolctl==3.8.0",
        "typepy==2.0.0",
        "word2number==1.1",
    ),
)
LLAMA_FACTORY = Tool(
    "llamafactory",
    "0.9.5",
    (
        "llamafactory==0.9.5",
        "accelerate==1.11.0",
        "datasets==4.0.0",
        "huggingface-hub==1.33.0",
        "omegaconf==2.4.0",
        "peft==0.18.1",
        "tokenizers==0.22.2",
        "torchdata==0.11.0",
        "transformers==5.6.0",
        "trl==0.24.0",
        "tyro==0.8.14",
    ),
    unused=("torchaudio",),  # Its published builds are for CUDA and do not load beside a torch for the CPU.
)
RUNNER = Path(__file__).with_name("lm_eval_runner.py")


def environment(folder: Path, tool: Tool) -> Path:
    """The folder of the environment's commands, made on the first call.

    Installed without dependencies, so that pip replaces nothing: what is missing is found in this environment.

    Raises:
        MachineError: pip could not install.
    """
    target = folder / f"{tool.name}-{tool.version}"
    commands = target / "bin"
    made_from = target / "packages.json"
    wanted = json.dumps(asdict(tool) | {"shared": sysconfig.get_path("purelib")})
    if made_from.is_file() and made_from.read_text() == wanted:
        return commands
    say(f"Installing {tool.name} {tool.version} into {target} (once)")
    shutil.rmtree(target, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(target)])
    pip = [str(commands / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
    _run([*pip, *tool.packages])
    [packages] = (target / "lib").glob("python*/site-packages")
    for module in tool.unused:
        (packages / f"{module}.py").touch()
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    made_from.write_text(wanted)
    return commands


def lm_eval(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """What lm-eval's HF backend answers to a job; see lm_eval_runner.py.

    Raises:
        MachineError: it failed.
    """
    python = environment(folder, LM_EVAL) / "python"
    asked, answered = folder / "lm-eval-job.json", folder / "lm-eval-result.json"
    asked.write_text(json.dumps(job))
    answered.unlink(missing_ok=True)
    offline = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    _run([str(python), str(RUNNER), str(asked), str(answered)], env=offline)
    return dict(json.loads(answered.read_text()))


def _run(command: list[str], **options: Any) -> None:
    done = subprocess.run(command, check=False, capture_output=True, text=True, **options)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-12:])
        raise MachineError(f"{' '.join(command[:4])} … failed:\n{last}", remedy="Read its message; then try again.")
