"""What the judge's judgements add up to, by pair of arms and by arm."""

from __future__ import annotations

from collections import defaultdict

from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.pairing import Pairing
from tunelift.tasks.judgements import count_wins, mean_mark
from tunelift.tasks.statistics import holm

SHOWN = ("model", "rubric", "modes", "scale", "calibration", "flip_rate", "length_bias", "missing", "usd")


def judged(pairing: Pairing, evidence: Evidence) -> Json | None:
    """The judge with its calibration, wins and losses, and mean marks; none if no judge was asked.

    p of wins and losses is corrected (Holm) for all pairs of arms and tasks that were judged.
    """
    if not evidence.judge:
        return None
    tasks = {task.name: task for task in evidence.tasks}
    pairs, marks = defaultdict(list), defaultdict(list)
    for line in evidence.judgements:
        if line["task"] in tasks and line["mode"] == "pairwise":
            pairs[line["task"], line["a"], line["b"]].append(line)
        elif line["task"] in tasks:
            marks[line["task"], line["arm"]].append(line)
    absolute: Json = {}
    for (task, arm), lines in marks.items():
        absolute.setdefault(task, {})[arm] = _marks(pairing, tasks[task], lines, evidence.judge["scale"])
    won = [_wins(pairing, tasks[task], a, b, lines) for (task, a, b), lines in pairs.items()]
    # A family of its own: the claims do not rest on what a judge thinks.
    adjusted = holm([pair["p"] for pair in won])
    return {key: evidence.judge.get(key) for key in SHOWN} | {
        "pairs": [pair | {"p_adjusted": p} for pair, p in zip(won, adjusted, strict=True)],
        "absolute": absolute,
    }


def _wins(pairing: Pairing, task: Asked, a: str, b: str, lines: list[Json]) -> Json:
    found = count_wins(
        [line["winner"] for line in lines],
        clusters=task.clusters_of([line["id"] for line in lines]),
        samples=pairing.samples,
        seed=pairing.seed,
    )
    counts: Json = {"wins": found.wins, "ties": found.ties, "losses": found.losses, "missing": found.missing}
    numbers = {key: getattr(found.pair, key) for key in ("difference", "low", "high", "p", "method", "clusters")}
    return {"task": task.name, "a": a, "b": b} | counts | numbers


def _marks(pairing: Pairing, task: Asked, lines: list[Json], scale: int) -> Json:
    clusters = task.clusters_of([line["id"] for line in lines])
    marks = [line["score"] for line in lines]
    return mean_mark(marks, scale, clusters=clusters, samples=pairing.samples, seed=pairing.seed)
