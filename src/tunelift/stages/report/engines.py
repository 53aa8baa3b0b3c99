"""Which engine answered an arm. Another version, machine or precision alone changes some answers."""

from __future__ import annotations

from collections.abc import Sequence

from tunelift.stages.report.evidence import Asked, Json
from tunelift.stages.report.wording import listed

ALWAYS = ("package", "version")
WHERE_UNLIKE = {"torch": "with torch {}", "hardware": "on {}", "device": "on the device {}", "dtype": "in {}"}
"""Named only where the two differ in it."""


def engines_differ(task: Asked, one: str, other: str) -> str:
    """`base was answered by vllm 0.32.0, tuned by vllm 0.33.0`; empty where the same engine answered both.

    What an endpoint runs on is not known, and is the arm itself. Evaluations of older runs do not tell their engine's
    version: that is said only where the other one does.
    """
    engines = {arm: task.answered_by.get(arm, ()) for arm in (one, other)}
    every = [engine for found in engines.values() for engine in found]
    if not all(engines.values()):
        return ""
    # What only some tell shows no difference, except for the version.
    unlike = [
        key
        for key in (*ALWAYS, *WHERE_UNLIKE)
        if len({engine[key] for engine in every if key in engine}) > 1
        or (key == "version" and len({key in engine for engine in every}) > 1)
    ]
    if not unlike:
        return ""
    if "hardware" in unlike and "device" in unlike:
        unlike.remove("device")
    named = {arm: listed([_named(engine, unlike) for engine in found]) for arm, found in engines.items()}
    return f"{one} was answered by {named[one]}, {other} by {named[other]}"


def _named(engine: Json, unlike: Sequence[str]) -> str:
    package = str(engine.get("package") or engine.get("name") or engine.get("kind") or "an engine")
    version = str(engine["version"]) if "version" in engine else "of a version that was not recorded"
    more = [words.format(engine[key]) for key, words in WHERE_UNLIKE.items() if key in unlike and key in engine]
    return " ".join((package, version, *more))
