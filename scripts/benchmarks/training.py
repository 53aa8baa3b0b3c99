"""The same training, by this project and by others: rows, settings, and a clock on what each prints."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.side import LLAMA_FACTORY, environment
from tunelift.artifacts.jsonl import read_lines
from tunelift.config.schema import TrainConfig
from tunelift.errors import MachineError
from tunelift.runtime.chat import load_tokenizer
from tunelift.runtime.encoded import Row, read_encoded
from tunelift.runtime.hardware import detect, openmp_environment
from tunelift.runtime.worker import die_with_parent, last_lines, run_isolated, stop_group
from tunelift.stages.train import sft_config
from tunelift.stages.train.order import RandomOrder

LOSS = re.compile(r"\{'loss': '?([-+.\deE]+)'?,")
"""A step as transformers' Trainer prints it."""
POLL_SECONDS = 0.02


@dataclass(frozen=True)
class Job:
    """What every side trains: the same rows in the same order, with the same settings."""

    config: TrainConfig
    """Resolved, with `max_steps` set; nothing is evaluated or saved between the first step and the last."""
    model: Path
    dataset: Path
    seed: int
    steps: tuple[tuple[Row, ...], ...]
    """The rows of each optimizer step."""
    folder: Path
    """For all that is written."""


@dataclass(frozen=True)
class Measured:
    """One run of one side."""

    seconds: tuple[float, ...]
    """From its start to the end of each step."""
    losses: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    """Of its processes, at the end of each step."""
    adapter: Path

    @property
    def first_step_seconds(self) -> float:
        """From its start to the end of the first step."""
        return self.seconds[0]

    def rate(self, tokens: Sequence[int], after: int) -> float:
        """Supervised tokens a second over the steps that follow step `after`, counted from 1."""
        return sum(tokens[after:]) / (self.seconds[-1] - self.seconds[after - 1])

    def rate_per_cpu_second(self, tokens: Sequence[int], after: int) -> float:
        """The same by the time that its threads ran, which other work on the machine hardly changes."""
        return sum(tokens[after:]) / (self.cpu_seconds[-1] - self.cpu_seconds[after - 1])


def make_job(config: TrainConfig, *, steps: int, model: Path, dataset: Path, seed: int, folder: Path) -> Job:
    """A job of so many steps over the data set's training rows, in the order in which the train stage sees them."""
    unbroken = config.model_copy(update={"max_steps": steps, "eval_steps": 10 * steps, "save_steps": 10 * steps})
    rows = read_encoded(load_tokenizer(model), dataset, "train")
    order = RandomOrder([len(row) for row in rows], config.global_batch_size, seed)
    batches = tuple(tuple(rows[number] for number in order.rows_of_step(step)) for step in range(1, steps + 1))
    return Job(unbroken, model, dataset, seed, batches, folder)


def tokens(job: Job) -> list[int]:
    """Supervised tokens of each step."""
    return [sum(row.rendered.supervised_tokens for row in rows) for rows in job.steps]


def tunelift(job: Job) -> Measured:
    """This project's train stage, in a process of its own as the command runs it."""
    out = _emptied(job.folder / f"tunelift-{job.config.adapter.kind}")
    arguments = {
        "config": job.config.model_dump(mode="json"),
        "model": str(job.model),
        "dataset": str(job.dataset),
        "seed": job.seed,
        "device": detect().device,
        "out": str(out),
    }
    metrics, started = out / "metrics.jsonl", time.monotonic()
    with Lines(metrics) as seen:
        run_isolated("tunelift.stages.train:train", arguments, out / "log.txt")
    lines = [json.loads(line) for line in read_lines(metrics)]
    steps = [line for line in lines if "loss" in line]
    assert [line["supervised_tokens"] for line in steps] == tokens(job), "the train stage saw other rows"
    # Its own clock, which starts when its process has imported what it needs, is finer than watching the file.
    before = seen.at[0] - started - steps[0]["seconds"]
    return Measured(
        tuple(line["seconds"] + before for line in steps),
        tuple(line["loss"] for line in steps),
        tuple(seen.cpu_seconds[: len(steps)]),
        out / "adapter",
    )


def trl(job: Job, *options: str) -> Measured:
    """`trl sft` of the installed TRL; rows come as token ids with labels, so that both learn the very same tokens."""
    out = _emptied(job.folder / "trl")
    data = out / "rows"
    data.mkdir()
    lines = (json.dumps({"input_ids": row.rendered.input_ids, "labels": row.labels}) for row in _flat(job))
    (data / "train.jsonl").write_text("\n".join(lines) + "\n")
    adapter, settings = job.config.adapter, _shared_settings(job)
    quantized = ["--load_in_4bit", "--bnb_4bit_quant_type", "nf4", "--use_bnb_nested_quant"]
    command = [str(Path(sys.executable).with_name("trl")), "sft"]
    command += [
        "--model_name_or_path",
        str(job.model),
        "--dataset_name",
        str(data),
        "--output_dir",
        str(out / "adapter"),
    ]
    command += ["--use_peft", "--lora_r", str(adapter.rank), "--lora_alpha", f"{adapter.alpha:g}"]
    command += ["--lora_dropout", str(adapter.dropout), "--lora_target_modules", *_targets(job, "all-linear")]
    command += [*(quantized if adapter.kind == "qlora" else []), "--dtype", dtype(settings)]
    command += ["--max_length", str(job.config.max_length), "--train_sampling_strategy", "sequential"]
    for name, value in settings.items():
        command += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return clocked([*command, *options], out, len(job.steps))


def llama_factory(job: Job) -> Measured:
    """LLaMA-Factory's command, on rows tokenized before, with its gradient checkpointing off."""
    out = _emptied(job.folder / "llamafactory")
    from datasets import Dataset, DatasetDict

    rows = [
        {"input_ids": row.rendered.input_ids, "attention_mask": [1] * len(row), "labels": row.labels}
        for row in _flat(job)
    ]
    DatasetDict({"train": Dataset.from_list(rows)}).save_to_disk(out / "rows")
    adapter = job.config.adapter
    if adapter.kind != "lora":
        raise ValueError("LLaMA-Factory is compared with train.adapter.kind=lora")
    shared = _shared_settings(job)
    settings = shared | {
        "model_name_or_path": str(_named(job.model, dtype(shared), out / "model")),
        "stage": "sft",
        "do_train": True,
        "dataset": "rows",  # A name must be given; the folder of token ids is read in its stead.
        "tokenized_path": str(out / "rows"),
        "template": "empty",
        "cutoff_len": job.config.max_length,
        "finetuning_type": "lora",
        "lora_rank": adapter.rank,
        "lora_alpha": int(adapter.alpha),
        "lora_dropout": adapter.dropout,
        "lora_target": ",".join(_targets(job, "all")),
        "disable_gradient_checkpointing": True,
        "disable_shuffling": True,
        "output_dir": str(out / "adapter"),
    }
    # JSON is YAML too; its reader of *.json files fails on any (llamafactory/hparams/parser.py).
    (out / "settings.yaml").write_text(json.dumps(settings))
    command = environment(job.folder.parent, LLAMA_FACTORY) / "llamafactory-cli"
    return clocked([str(command), "train", str(out / "settings.yaml")], out, len(job.steps))


def _shared_settings(job: Job) -> dict[str, Any]:
    """What transformers' Trainer calls the same under either tool, from the very settings of the train stage."""
    settings = sft_config(job.config, device="cpu", steps=len(job.steps), seed=job.seed, checkpoints=job.folder)
    names = (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "warmup_steps",
        "weight_decay",
        "max_grad_norm",
        "max_steps",
        "seed",
        "bf16",
        "use_cpu",
    )
    own = {"lr_scheduler_type": job.config.schedule, "logging_steps": 1, "save_strategy": "no"}
    return {name: getattr(settings, name) for name in names} | own | {"report_to": "none", "disable_tqdm": True}


def dtype(settings: Mapping[str, Any]) -> str:
    """That of weights and matmuls: autocast in bf16 goes with weights in bf16, as in the train stage."""
    return "bfloat16" if settings["bf16"] else "float32"


def _named(model: Path, dtype: str, folder: Path) -> Path:
    """The model with its config naming that dtype: LLaMA-Factory trains in the config's dtype, whatever it is told."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).symlink_to(file.resolve())
    config = json.loads((model / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config | {"dtype": dtype, "torch_dtype": dtype}))
    return folder


def _targets(job: Job, every: str) -> list[str]:
    targets = job.config.adapter.targets
    return [every] if isinstance(targets, str) else list(targets)


def _flat(job: Job) -> list[Row]:
    return [row for rows in job.steps for row in rows]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def clocked(command: Sequence[str], out: Path, steps: int) -> Measured:
    """Run a command that prints one line a step, and note when each comes.

    Raises:
        MachineError: it failed, or printed fewer steps.
    """
    environ = {**os.environ, **openmp_environment(), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    seconds, losses, cpu, log = [], [], [], out / "log.txt"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environ,
            start_new_session=True,  # trl's launcher starts a process of its own, which must end with it.
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                file.write(line)
                loss = step_loss(line)
                if loss is not None:
                    seconds.append(time.monotonic() - started)
                    losses.append(loss)
                    cpu.append(cpu_seconds())
            process.wait()
        finally:
            stop_group(process)
    if process.returncode or len(seconds) != steps:
        tail = "\n".join(last_lines(log, 12))
        raise MachineError(
            f"{Path(command[0]).name} printed {len(seconds)} of {steps} steps and ended with code "
            f"{process.returncode}:\n{tail}",
            where=str(log),
            remedy="Read its log.",
        )
    return Measured(tuple(seconds), tuple(losses), tuple(cpu), out / "adapter")


def step_loss(line: str) -> float | None:
    """The loss in a line that transformers' Trainer prints for a step; none in any other line."""
    found = LOSS.match(line)
    return float(found[1]) if found else None


def cpu_seconds() -> float:
    """User and system time of all processes that this one started and that are alive."""
    import psutil

    total = 0.0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class Lines:
    """Notes when each line of a file appears, and the CPU time until then, while the block runs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at: list[float] = []
        self.cpu_seconds: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        size = 0
        while not self._over.wait(POLL_SECONDS):
            if not self.path.exists() or self.path.stat().st_size == size:
                continue
            content = self.path.read_bytes()
            size = len(content)
            for _ in range(content.count(b"\n") - len(self.at)):
                self.at.append(time.monotonic())
                self.cpu_seconds.append(cpu_seconds())

    def __enter__(self) -> Lines:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()


@dataclass(frozen=True)
class Side:
    """A baseline: its name, what it is compared with, and how it is run."""

    name: str
    kind: str
    """The adapter kind of this project that it is compared with."""
    run: Callable[[Job], Measured]
    note: str
    at_least: float
    """The ratio that this project promises."""


SIDES = (
    Side("trl", "qlora", trl, "trl sft as it comes, so with gradient checkpointing", 2.0),
    Side(
        "trl-fast",
        "qlora",
        lambda job: trl(job, "--gradient_checkpointing", "false"),
        "trl sft with --gradient_checkpointing false",
        1.0,
    ),
    Side("llamafactory", "lora", llama_factory, "LLaMA-Factory 0.9.5, LoRA over plain weights, no checkpointing", 1.3),
)
