"""What a run measures beside its target tasks, as files: guard tasks by log-likelihood, a repeated base, a judge."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

GUARDED = {"base": 0.52, "tuned": 0.51, "yardstick": 0.83}
"""Share of the knowledge questions right; `prompted` has a prompt of its own and is not asked."""
BITS = {"base": 0.962, "tuned": 0.971, "yardstick": 0.755}
"""Bits per byte of general text; lower is better."""
SUBJECTS = ("history", "law", "physics", "biology")
PROMPTS = {
    "base": "the task's full instruction",
    "prompted": "the task's full instruction and 6 examples from the training split",
    "tuned": "the short prompt that it was trained with",
    "yardstick": "the task's full instruction",
    "base-again": "the task's full instruction",
}


def add_guards(folder: Path, arm: str, items: int) -> None:
    """Append the answers to a choice guard and a perplexity guard, and their part of summary.json."""
    summary = json.loads((folder / "summary.json").read_text())
    like = "base" if arm == "base-again" else arm
    with (folder / "samples.jsonl").open("a", encoding="utf-8") as file:
        for number in range(items):
            file.write(json.dumps(_choice(arm, like, number)) + "\n")
        for number in range(items // 3):
            file.write(json.dumps(_text(arm, like, number)) + "\n")
    summary["tasks"]["general_knowledge"] = _about("choice", items, 0.04)
    summary["tasks"]["general_text"] = _about("perplexity", items // 3, 0.02)
    (folder / "summary.json").write_text(json.dumps(summary))


def _choice(arm: str, like: str, number: int) -> dict[str, Any]:
    # One draw an item for all arms: what one model knows, the other mostly knows too.
    luck = random.Random(f"knowledge{number}").random() + random.Random(f"{like}{number}").uniform(-0.05, 0.05)
    right, options = number % 4, [f" option {letter} of {number}" for letter in "ABCD"]
    chosen = right if luck < GUARDED[like] else (right + 1) % 4
    logprobs = [-4.0 - 0.25 * abs(place - chosen) for place in range(4)]
    subject = SUBJECTS[number % len(SUBJECTS)]
    return _sample("general_knowledge", "choice", arm, number) | {
        "prompt": [{"role": "user", "content": f"Question {number} about {subject}?"}],
        "expected": [options[right]],
        "output": options[chosen],
        "scores": {"accuracy": int(chosen == right), "accuracy_norm": int(chosen == right)},
        "logprobs": logprobs,
        "tags": [f"subject: {subject}"],
    }


def _text(arm: str, like: str, number: int) -> dict[str, Any]:
    bits = BITS[like] + random.Random(f"text{number}").uniform(-0.2, 0.2)
    bits += random.Random(f"{like}text{number}").uniform(-0.01, 0.01)
    return _sample("general_text", "perplexity", arm, number) | {
        "prompt": [],
        "expected": [],
        "output": "",
        "scores": {"bits_per_byte": bits},
        "logprobs": [-bits * 800 * 0.6931],
        "tags": [],
    }


def _sample(task: str, kind: str, arm: str, number: int) -> dict[str, Any]:
    return {
        "id": f"{task.split('_')[-1]}-{number + 1:03d}",
        "task": task,
        "kind": kind,
        "arm": arm,
        "tokens_in": 140,
        "tokens_out": 0,
        "seconds": 0.08,
        "cluster": None,
        "error": None,
    }


def _about(kind: str, items: int, margin: float) -> dict[str, Any]:
    metrics: dict[str, Any] = {"bits_per_byte": {"kind": "graded", "lower_is_better": True, "bounded": False}}
    if kind == "choice":
        metrics = {
            metric: {"kind": "binary", "lower_is_better": False, "bounded": True}
            for metric in ("accuracy", "accuracy_norm")
        }
    return {
        "version": 1,
        "role": "guard",
        "kind": kind,
        "margin": margin,
        "effect": margin,
        "primary": next(iter(metrics)),
        "description": "General knowledge, in four choices." if kind == "choice" else "Everyday prose.",
        "cut_off": 0,
        "asking": {"requests": items * (4 if kind == "choice" else 1), "seconds": items * 0.09},
        "digests": {"items": "d4" * 32, "scorers": "e5" * 32, "decoding": "f6" * 32},
        "n": items,
        "metrics": metrics,
    }


def make_judge(root: Path, task: str, ids: list[str], rivals: tuple[str, ...] = ("base", "prompted")) -> Path:
    """A judge's folder: both modes, every outcome, and judgements that are missing."""
    folder, rng = root / "judge", random.Random(11)
    folder.mkdir(parents=True)
    lines = []
    for item in ids:
        for arm in ("tuned", *rivals):
            score = None if rng.random() < 0.04 else rng.randint(3, 5) if arm == "tuned" else rng.randint(1, 4)
            reason = "Names the right tool." if score else ""
            lines.append(
                {"mode": "absolute", "task": task, "id": item, "arm": arm, "score": score, "reason": reason}
                | {"error": None if score else "the reply was no JSON object"}
            )
        lines += [_pairwise(task, item, rival, rng) for rival in rivals]
    (folder / "judgements.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    shares = {"value": 0.91, "low": 0.82, "high": 0.96, "n": 60}
    rates = dict.fromkeys(("sensitivity", "specificity", "agreement", "kappa"), shares)
    calibration = {"n": 60, "missing": 1, **rates}
    by_arm = {"tuned": calibration, "base": calibration}
    judged = {
        "model": "yardstick-judge",
        "rubric": "A good answer calls the right tool with the right arguments.",
        "modes": ["absolute", "pairwise"],
        "scale": 5,
        "calibration": {"absolute": calibration | {"by_arm": by_arm}, "pairwise": calibration | {"by_arm": {}}},
        "flip_rate": {"value": 0.08, "low": 0.05, "high": 0.13, "n": len(ids)},
        "length_bias": {
            "longer_wins": {"value": 0.52, "low": 0.44, "high": 0.6, "n": len(ids)},
            "mark_correlation": {"value": 0.12, "low": -0.05, "high": 0.28, "n": 3 * len(ids)},
        },
        "missing": sum(line["error"] is not None for line in lines),
        "tokens_in": 120_000,
        "tokens_out": 9_000,
        "usd": 0.41,
    }
    (folder / "judge.json").write_text(json.dumps(judged))
    return folder


def _pairwise(task: str, item: str, rival: str, rng: random.Random) -> dict[str, Any]:
    winners = [rng.choices(("a", "b", "tie", None), (70, 12, 12, 3))[0] for _ in range(2)]
    if rng.random() < 0.8:
        winners[1] = winners[0]
    missing = None in winners
    return {
        "mode": "pairwise",
        "task": task,
        "id": item,
        "a": "tuned",
        "b": rival,
        "orders": [
            {"first": first, "winner": winner, "reason": "It does <b>what</b> was asked." if winner else ""}
            for first, winner in zip(("tuned", rival), winners, strict=True)
        ],
        "winner": None if missing else winners[0] if winners[0] == winners[1] else "tie",
        "error": "the reply was no JSON object" if missing else None,
    }
