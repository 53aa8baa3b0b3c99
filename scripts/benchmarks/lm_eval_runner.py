"""Runs in lm-eval's environment: put requests to its HF backend, and write down answers and times.

    python lm_eval_runner.py JOB.json RESULT.json

A job has `model` (a folder), `dtype`, `kind` (`generate_until` or `loglikelihood`), `requests` (a list of arguments),
`batch_sizes` and `trial` (so many requests are tried with each batch size; the fastest takes all).
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

started = time.perf_counter()

from lm_eval.api.instance import Instance  # noqa: E402
from lm_eval.models.huggingface import HFLM  # noqa: E402


def main() -> None:
    """Do the job."""
    job = json.loads(Path(sys.argv[1]).read_text())
    model = HFLM(pretrained=job["model"], dtype=job["dtype"], device="cpu", batch_size=1)
    start_seconds = time.perf_counter() - started
    trial = random.Random(0).sample(job["requests"], min(job["trial"], len(job["requests"])))
    trials = {size: ask(model, job["kind"], trial, size)[1] for size in job["batch_sizes"]}
    best = min(trials, key=lambda size: trials[size])
    answers, seconds = ask(model, job["kind"], job["requests"], best)
    result = {
        "start_seconds": start_seconds,
        "trial_seconds": trials,
        "batch_size": best,
        "seconds": seconds,
        "answers": answers,
    }
    Path(sys.argv[2]).write_text(json.dumps(result))


def ask(model: HFLM, kind: str, requests: list[list[Any]], batch_size: int) -> tuple[list[Any], float]:
    """Answers, and the seconds that they took."""
    model.batch_size_per_gpu = batch_size
    instances = [Instance(kind, {}, tuple(arguments), number) for number, arguments in enumerate(requests)]
    before = time.perf_counter()
    answers = getattr(model, kind)(instances, disable_tqdm=True)
    return answers, time.perf_counter() - before


main()
