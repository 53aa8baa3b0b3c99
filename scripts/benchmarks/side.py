"""lm-eval beside this project: an environment of its own that shares the installed torch and transformers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from tunelift.errors import MachineError
from tunelift.runtime.console import say

LM_EVAL = "0.4.13"
PACKAGES = (
    f"lm_eval=={LM_EVAL}",
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
)
"""lm-eval and those of its dependencies that are not installed here."""
RUNNER = Path(__file__).with_name("lm_eval_runner.py")


def environment(folder: Path) -> Path:
    """The environment's Python, made on the first call.

    Installed without dependencies, so that pip replaces nothing: what is missing is found in this environment.

    Raises:
        MachineError: pip could not install.
    """
    target = folder / f"lm-eval-{LM_EVAL}"
    python = target / "bin" / "python"
    made_from = target / "packages.json"
    wanted = json.dumps([*PACKAGES, sysconfig.get_path("purelib")])
    if made_from.is_file() and made_from.read_text() == wanted:
        return python
    say(f"Installing lm-eval {LM_EVAL} into {target} (once)")
    shutil.rmtree(target, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(target)])
    _run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", *PACKAGES])
    [packages] = (target / "lib").glob("python*/site-packages")
    (packages / "shared.pth").write_text(sysconfig.get_path("purelib") + "\n")
    made_from.write_text(wanted)
    return python


def lm_eval(folder: Path, job: dict[str, Any]) -> dict[str, Any]:
    """What lm-eval's HF backend answers to a job; see lm_eval_runner.py.

    Raises:
        MachineError: it failed.
    """
    python = environment(folder)
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
