"""Judging: the examination first, then every answer or pair of answers, each question on disk once it is answered."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunelift.artifacts.records import digest
from tunelift.artifacts.store import write_durably
from tunelift.config.evaluation import EndpointConfig, JudgeConfig
from tunelift.engines.protocol import Engine
from tunelift.errors import UserError
from tunelift.runtime import console
from tunelift.stages.judge import questions
from tunelift.stages.judge.asking import Judge, Verdict, check_requests, total
from tunelift.stages.judge.calibration import calibrate, check_labels
from tunelift.stages.judge.labels import read_labels
from tunelift.stages.judge.questions import Question
from tunelift.tasks.judgements import flip_rate, length_correlation, longer_wins, settle
from tunelift.tasks.task import Item, Task
from tunelift.tasks.thinking import part

Judgement = dict[str, Any]

DECIDED = ("mode", "task", "id", "arm", "a", "b", "score", "winner")
LOWEST = 1
NO_ANSWER, EQUAL, JUDGED = "no answer", "equal answers", "judge"
"""Who decided: an arm that failed loses unasked, equal answers tie unasked, the rest is the judge's."""


def judge(
    config: JudgeConfig,
    *,
    evaluations: Mapping[str, Path],
    tasks: Sequence[Task],
    focus: str,
    endpoint: Engine,
    seed: int,
    out: Path,
) -> dict[str, Any]:
    """Examine the judge, let it judge the arms' answers, and write judgements.jsonl and judge.json into `out`.

    Args:
        evaluations: By arm, the folder with samples.jsonl.
        tasks: The run's; judged are those that judge.tasks names, or all target tasks whose answers are text.
        focus: The arm that is compared with each of the others.
        endpoint: The judge.

    Raises:
        UserError: the judge failed its calibration, or there is nothing that it could judge.
        MachineError: requests failed through no fault of their own; the replies so far are kept.
    """
    check(config, tasks, list(evaluations))
    labels = read_labels(Path(config.calibration.items))
    answers = _answers(_chosen(config, tasks), evaluations)
    asked = Judge(config, endpoint, seed, out / "replies.jsonl")
    calibration = calibrate(config, asked, labels, seed, out)
    judgements: list[Judgement] = []
    if "absolute" in config.modes:
        judgements += _marks(config, asked, answers, seed)
    if "pairwise" in config.modes:
        judgements += _pairs(config, asked, answers, focus, seed)
    write_durably(out / "judgements.jsonl", "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in judgements))
    summary = {
        "model": config.endpoint.model,
        "rubric": config.rubric,
        "modes": list(config.modes),
        "scale": config.scale,
        "calibration": calibration,
        **_biases(config, judgements, answers),
        "missing": sum(_is_missing(one) for one in judgements),
        **_cost(config.endpoint, asked.verdicts.values()),
    }
    write_durably(out / "judge.json", json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
    _warn(judgements)
    return {
        # What was decided; a rerun may word its reasons differently.
        "content": digest([[one.get(key) for key in DECIDED] for one in judgements]),
        "judgements": len(judgements),
        **{key: summary[key] for key in ("model", "flip_rate", "missing", "tokens_in", "tokens_out", "usd")},
    }


def check(config: JudgeConfig, tasks: Sequence[Task], arms: Sequence[str]) -> None:
    """Refuse, before hours of training, what could not be judged.

    Args:
        arms: Names of those whose answers are to be judged.

    Raises:
        UserError: calibration items that are missing, malformed or too few, no task to judge, or no other arm.
    """
    check_labels(config, read_labels(Path(config.calibration.items)))
    _chosen(config, tasks)
    if "pairwise" in config.modes and len(arms) < 2:
        raise UserError(
            f"judge.modes asks for pairs, but {' '.join(arms)} is the only arm.",
            remedy="Add an arm to evaluate.arms, or set judge.modes to [absolute].",
        )


@dataclass(frozen=True)
class _Answered:
    """An item and what the arms answered."""

    task: str
    item: Item
    arms: tuple[str, ...]
    """Those that were asked this task."""
    outputs: Mapping[str, str]
    """By arm; of one that gave no answer there is none."""

    @property
    def request(self) -> str:
        return questions.conversation(self.item.prompt)

    @property
    def accepted(self) -> list[str]:
        return [questions.as_text(right) for right in self.item.accepted]


def _chosen(config: JudgeConfig, tasks: Sequence[Task]) -> list[Task]:
    possible = [task for task in tasks if task.kind == "generate"]
    unknown = next((name for name in config.tasks if name not in {task.name for task in possible}), None)
    if unknown is not None:
        raise UserError(
            f"judge.tasks names {unknown!r}, which is no task of this run that generates answers.",
            remedy=f"Its tasks are {', '.join(task.name for task in possible) or 'none'}.",
        )
    chosen = [task for task in possible if (task.name in config.tasks if config.tasks else task.role == "target")]
    if not chosen:
        raise UserError(
            "No task is there to judge: none of the role `target` generates answers.",
            remedy="Name tasks that generate under judge.tasks, or remove the section `judge`.",
        )
    return chosen


def _answers(tasks: Sequence[Task], evaluations: Mapping[str, Path]) -> list[_Answered]:
    """The items that some arm was asked, in the tasks' order."""
    samples = {arm: _samples(folder) for arm, folder in evaluations.items()}
    answers = []
    for task in tasks:
        of_arm = {arm: found[task.name] for arm, found in samples.items() if task.name in found}
        for item in task.items:
            given = {arm: found[item.id] for arm, found in of_arm.items() if item.id in found}
            # The judge is to see what is scored: the answer, without the thinking before it.
            outputs = {arm: _answer(sample) for arm, sample in given.items() if sample["error"] is None}
            if given:
                answers.append(_Answered(task.name, item, tuple(of_arm), outputs))
    return answers


def _answer(sample: Mapping[str, Any]) -> str:
    return str(sample["answer"] if "answer" in sample else part(sample["output"]).answer)


def _samples(folder: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """By task and item."""
    samples: dict[str, dict[str, dict[str, Any]]] = {}
    with (folder / "samples.jsonl").open(encoding="utf-8") as file:
        for row in map(json.loads, file):
            samples.setdefault(row["task"], {})[row["id"]] = row
    return samples


def _marks(config: JudgeConfig, asked: Judge, answers: Sequence[_Answered], seed: int) -> list[Judgement]:
    """A mark for each answer; an arm that gave none gets the lowest."""
    given = [(answered, arm) for answered in answers for arm in answered.outputs]
    verdicts = asked.ask(
        [
            questions.absolute(config, seed, answered.request, answered.accepted, answered.outputs[arm])
            for answered, arm in given
        ],
        "judge answers",
    )
    check_requests(verdicts, "answers to be judged", all_needed=False)
    of_answer = {(one.task, one.item.id, arm): said for (one, arm), said in zip(given, verdicts, strict=True)}
    judgements = []
    for answered in answers:
        for arm in answered.arms:
            said = of_answer.get((answered.task, answered.item.id, arm))
            judgement = {"mode": "absolute", "task": answered.task, "id": answered.item.id, "arm": arm}
            judgements.append(judgement | (_marked(said) if said else _unmarked()))
    return judgements


def _marked(said: Verdict) -> Judgement:
    return {"score": said.value, "reason": said.reason, "decided_by": JUDGED, "error": said.error}


def _unmarked() -> Judgement:
    return {"score": LOWEST, "reason": "no answer; the judge was not asked", "decided_by": NO_ANSWER, "error": None}


def _pairs(config: JudgeConfig, asked: Judge, answers: Sequence[_Answered], focus: str, seed: int) -> list[Judgement]:
    """The focus against each other arm, in both orders."""
    judgements: list[Judgement] = []
    open_pairs: list[tuple[Judgement, tuple[Question, Question]]] = []
    for answered in answers:
        for rival in (arm for arm in answered.arms if arm != focus and focus in answered.arms):
            judgement = {"mode": "pairwise", "task": answered.task, "id": answered.item.id, "a": focus, "b": rival}
            judgements.append(judgement)
            known = _unasked(answered, focus, rival)
            if known is not None:
                judgement.update(known)
                continue
            of_focus, of_rival = answered.outputs[focus], answered.outputs[rival]
            orders = questions.both_orders(config, seed, answered.request, answered.accepted, of_focus, of_rival)
            open_pairs.append((judgement, orders))
    verdicts = asked.ask([question for _, orders in open_pairs for question in orders], "judge pairs")
    check_requests(verdicts, "pairs to be judged", all_needed=False)
    for (judgement, _), a_first, b_first in zip(open_pairs, verdicts[::2], verdicts[1::2], strict=True):
        judgement.update(_judged(judgement["a"], judgement["b"], a_first, b_first))
    return judgements


def _unasked(answered: _Answered, a: str, b: str) -> Judgement | None:
    """What needs no judge: an arm without an answer loses, and equal answers are a tie."""
    there = a in answered.outputs, b in answered.outputs
    decided: Judgement = {"orders": [], "error": None}
    if not all(there):
        winner = "a" if there[0] else "b" if there[1] else "tie"
        return {**decided, "winner": winner, "decided_by": NO_ANSWER}
    if answered.outputs[a].strip() == answered.outputs[b].strip():
        return {**decided, "winner": "tie", "decided_by": EQUAL}
    return None


def _judged(a: str, b: str, a_first: Verdict, b_first: Verdict) -> Judgement:
    orders = questions.winners(a_first.value, b_first.value)
    return {
        "orders": [
            {"first": first, "winner": winner, "reason": verdict.reason}
            for first, winner, verdict in zip((a, b), orders, (a_first, b_first), strict=True)
        ],
        "winner": settle(*orders),
        "decided_by": JUDGED,
        "error": a_first.error or b_first.error,
    }


def _biases(config: JudgeConfig, judgements: Sequence[Judgement], answers: Sequence[_Answered]) -> dict[str, Any]:
    """Flip rate and length bias, of what the judge decided; length within arms and tasks, since some are better."""
    outputs = {(answered.task, answered.item.id): answered.outputs for answered in answers}
    decided = [one for one in judgements if one["decided_by"] == JUDGED]
    pairs = [one for one in decided if one["mode"] == "pairwise"]

    def length(one: Judgement, side: str) -> int:
        return len(outputs[one["task"], one["id"]][one[side]])

    length_bias: dict[str, Any] = {}
    if "pairwise" in config.modes:
        of_pair: defaultdict[tuple[str, ...], list[tuple[Any, int, int]]] = defaultdict(list)
        for one in pairs:
            of_pair[one["task"], one["a"], one["b"]].append((one["winner"], length(one, "a"), length(one, "b")))
        length_bias["longer_wins"] = longer_wins(of_pair.values())
    if "absolute" in config.modes:
        of_arm: defaultdict[tuple[str, ...], tuple[list[Any], list[int]]] = defaultdict(lambda: ([], []))
        for one in (one for one in decided if one["mode"] == "absolute"):
            marks, lengths = of_arm[one["task"], one["arm"]]
            marks.append(one["score"])
            lengths.append(length(one, "arm"))
        length_bias["mark_correlation"] = length_correlation(of_arm.values())
    flips = flip_rate((one["orders"][0]["winner"], one["orders"][1]["winner"]) for one in pairs)
    return {"flip_rate": flips if "pairwise" in config.modes else None, "length_bias": length_bias}


def _cost(endpoint: EndpointConfig, verdicts: Iterable[Verdict]) -> dict[str, Any]:
    """Tokens of the calibration and of all judgements, and what they cost; None for what is not known."""
    spent = list(verdicts)
    tokens_in, tokens_out = total(one.tokens_in for one in spent), total(one.tokens_out for one in spent)
    cheap, dear = endpoint.usd_per_million_input, endpoint.usd_per_million_output
    usd = None
    if tokens_in is not None and tokens_out is not None and cheap is not None and dear is not None:
        usd = (tokens_in * cheap + tokens_out * dear) / 1e6
    return {"tokens_in": tokens_in, "tokens_out": tokens_out, "usd": usd}


def _is_missing(judgement: Judgement) -> bool:
    return judgement["score" if judgement["mode"] == "absolute" else "winner"] is None


def _warn(judgements: Sequence[Judgement]) -> None:
    missing = [one for one in judgements if _is_missing(one)]
    if missing:
        console.warn(
            f"the judge gave no verdict on {len(missing)} of {len(judgements)}; they are left out, not lost; "
            f"the first: {missing[0]['error']}"
        )
    failed = sum(one["decided_by"] == NO_ANSWER for one in judgements)
    if failed:
        console.warn(f"{failed} judgements were decided without the judge, since an arm had given no answer")
