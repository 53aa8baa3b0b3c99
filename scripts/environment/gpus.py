"""What nvidia-smi says of the driver, the cards and their MIG slices."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import NamedTuple

from environment.words import last_line

SECONDS = 60


class Card(NamedTuple):
    """A GPU as the driver lists it."""

    name: str
    capability: float
    """0 where the driver is too old to tell."""
    mig: bool
    """It is cut into slices, or set up to be."""


class Driver(NamedTuple):
    """What nvidia-smi answers."""

    failure: str = ""
    """Its own words if it fails; nothing else is known then."""
    version: str = ""
    cards: tuple[Card, ...] = ()
    slices: tuple[tuple[str, str], ...] = ()
    """Profile and UUID of each MIG slice, in the order in which CUDA takes them."""


def ask_driver() -> Driver | None:
    """What nvidia-smi says; nothing where there is none."""
    if not shutil.which("nvidia-smi"):
        return None
    try:
        # Drivers before 510 know no compute_cap, and then answer nothing else.
        listed = _nvidia_smi("--query-gpu=driver_version,name", "--format=csv,noheader")
        capabilities = _nvidia_smi("--query-gpu=compute_cap", "--format=csv,noheader", or_nothing=True)
        mig = _nvidia_smi("--query-gpu=mig.mode.current", "--format=csv,noheader", or_nothing=True)
        slices = re.findall(r"^\s+MIG (\S+).*\(UUID: (\S+)\)", "\n".join(_nvidia_smi("-L")), re.MULTILINE)
    except (OSError, subprocess.SubprocessError) as error:
        return Driver(failure=str(error))
    rows = [line.partition(",") for line in listed if "," in line]
    if not rows:
        return Driver(failure=last_line("\n".join(listed) or "it lists no GPU"))
    cards = []
    for number, (_, _, name) in enumerate(rows):
        capability = re.match(r"\d+\.\d+", capabilities[number]) if number < len(capabilities) else None
        on = number < len(mig) and mig[number].strip() == "Enabled"
        cards.append(Card(name.strip(), float(capability.group()) if capability else 0.0, on))
    return Driver(version=rows[0][0].strip(), cards=tuple(cards), slices=tuple(slices))


def _nvidia_smi(*arguments: str, or_nothing: bool = False) -> list[str]:
    """Lines that it answers.

    Raises:
        SubprocessError: it failed; with its own words.
    """
    command = ["nvidia-smi", *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, errors="replace")
    if answer.returncode == 0:
        return answer.stdout.strip().splitlines()
    if or_nothing:
        return []
    words = " ".join((answer.stdout + " " + answer.stderr).split())
    raise subprocess.SubprocessError(words[:300] or f"exit code {answer.returncode}, without a word")
