"""Runs in lm-eval's environment: put requests to its HF backend, and write down answers and times.

    python lm_eval_runner.py JOB.json RESULT.json

A job has `model` (a folder), `dtype`, `batch_size`, `kind` (`generate_until` or `loglikelihood`) and `requests` (a list
of arguments).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

started = time.perf_counter()

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402


def main() -> None:
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    model = HFLM(pretrained=job["model"], dtype=job["dtype"], device="cpu", batch_size=job["batch_size"])
    instances = [
        Instance(job["kind"], {}, tuple(arguments), number) for number, arguments in enumerate(job["requests"])
    ]
    ready = time.perf_counter()
    answers = getattr(model, job["kind"])(instances, disable_tqdm=True)
    result = {"start_seconds": ready - started, "seconds": time.perf_counter() - ready, "answers": answers}
    Path(sys.argv[2]).write_text(json.dumps(result))


main()
