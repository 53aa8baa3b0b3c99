"""The judge's own examination: it judges nothing before it has judged what people have labelled."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunelift.artifacts.store import write_durably
from tunelift.config.evaluation import JudgeConfig
from tunelift.errors import UserError
from tunelift.stages.judge import questions
from tunelift.stages.judge.asking import Judge, check_requests
from tunelift.stages.judge.labels import LabelledAnswer, LabelledPair, Labels
from tunelift.tasks.judgements import agreement, flip_rate, settle, share
from tunelift.tasks.thinking import part

LEAST_ITEMS = 10
"""Of either label, below which a share says too little to pass or to fail on."""

FILE = "calibration.jsonl"


@dataclass(frozen=True)
class Examined:
    """One labelled item and what the judge said of it."""

    label: str
    verdict: str | None
    """A label, or None where no verdict could be read, which is wrong whatever the label."""
    arm: str | None
    line: dict[str, Any]
    """For calibration.jsonl."""


@dataclass(frozen=True)
class Paper:
    """What one mode is examined in."""

    mode: str
    items: str
    """How its items are called."""
    positive: frozenset[str]
    """Labels that sensitivity is about; specificity is about the others."""
    sensitive: str
    specific: str


PAPERS = {
    "absolute": Paper("absolute", "answers", frozenset({"good"}), "good answers accepted", "bad answers rejected"),
    "pairwise": Paper(
        "pairwise", "pairs", frozenset({"a", "b"}), "better answers picked in both orders", "ties called a tie"
    ),
}


def check_labels(config: JudgeConfig, labels: Labels) -> None:
    """There are enough items of either label for each mode.

    Raises:
        UserError: there are not, with the numbers.
    """
    of_mode: dict[str, list[str]] = {
        "absolute": [answer.label for answer in labels.answers],
        "pairwise": [pair.better for pair in labels.pairs],
    }
    for mode in config.modes:
        found, (one, other) = of_mode[mode], ("good", "bad") if mode == "absolute" else ("a or b", "tie")
        positive = sum(label in PAPERS[mode].positive for label in found)
        negative = len(found) - positive
        if min(positive, negative) < LEAST_ITEMS:
            raise UserError(
                f"Calibration for {mode} judging has {positive} {PAPERS[mode].items} labelled {one} and "
                f"{negative} labelled {other}; it takes at least {LEAST_ITEMS} of either.",
                where=config.calibration.items,
                remedy="Label more of them by hand, best among the answers that are to be judged, or take the mode out "
                "of judge.modes.",
            )


def calibrate(config: JudgeConfig, judge: Judge, labels: Labels, seed: int, out: Path) -> dict[str, Any]:
    """Examine the judge, write calibration.jsonl, and return the figures by mode.

    Raises:
        UserError: the judge failed, with the figures; it is not to be asked anything else.
    """
    examined: dict[str, list[Examined]] = {}
    if "absolute" in config.modes:
        examined["absolute"] = _examine_marks(config, judge, labels.answers, seed)
    if "pairwise" in config.modes:
        examined["pairwise"] = _examine_pairs(config, judge, labels.pairs, seed)
    lines = [item.line for items in examined.values() for item in items]
    write_durably(out / FILE, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    figures = {mode: _with_arms(PAPERS[mode], items) for mode, items in examined.items()}
    if "pairwise" in examined:
        orders = [item.line["orders"] for item in examined["pairwise"]]
        figures["pairwise"]["flip_rate"] = flip_rate((one, other) for one, other in orders)
    problems = [problem for mode, found in figures.items() for problem in _problems(config, PAPERS[mode], found)]
    if problems:
        judge.forget()
        unread = next((str(line["error"]) for line in lines if line["error"]), None)
        raise _refusal(config, problems, unread, out / FILE)
    return figures


def _examine_marks(config: JudgeConfig, judge: Judge, answers: Sequence[LabelledAnswer], seed: int) -> list[Examined]:
    asked = [
        questions.absolute(config, seed, item.request, _texts(item.accepted), part(item.output).answer)
        for item in answers
    ]
    verdicts = judge.ask(asked, "calibrate marks")
    check_requests(verdicts, "calibration items", all_needed=True)
    examined = []
    for item, verdict in zip(answers, verdicts, strict=True):
        said = None if verdict.value is None else "good" if verdict.value >= config.accept_from else "bad"
        line = {
            "mode": "absolute",
            "id": item.id,
            "arm": item.arm,
            "label": item.label,
            "verdict": said,
            "score": verdict.value,
            "reason": verdict.reason,
            "error": verdict.error,
        }
        examined.append(Examined(item.label, said, item.arm, line))
    return examined


def _texts(accepted: Sequence[Any]) -> list[str]:
    return [questions.as_text(one) for one in accepted]


def _examine_pairs(config: JudgeConfig, judge: Judge, pairs: Sequence[LabelledPair], seed: int) -> list[Examined]:
    asked = [
        questions.both_orders(
            config, seed, item.request, _texts(item.accepted), part(item.a).answer, part(item.b).answer
        )
        for item in pairs
    ]
    verdicts = judge.ask([question for orders in asked for question in orders], "calibrate pairs")
    check_requests(verdicts, "calibration items", all_needed=True)
    examined = []
    for item, a_first, b_first in zip(pairs, verdicts[::2], verdicts[1::2], strict=True):
        orders = questions.winners(a_first.value, b_first.value)
        said = settle(*orders)
        line = {
            "mode": "pairwise",
            "id": item.id,
            "label": item.better,
            "verdict": said,
            "orders": list(orders),
            "reasons": [a_first.reason, b_first.reason],
            "error": a_first.error or b_first.error,
        }
        examined.append(Examined(item.better, said, None, line))
    return examined


def _with_arms(paper: Paper, items: Sequence[Examined]) -> dict[str, Any]:
    arms = sorted({item.arm for item in items if item.arm})
    return {
        **_figures(paper, items),
        "by_arm": {arm: _figures(paper, [item for item in items if item.arm == arm]) for arm in arms},
    }


def _figures(paper: Paper, items: Sequence[Examined]) -> dict[str, Any]:
    labels, verdicts = [item.label for item in items], [item.verdict for item in items]
    positive = [item for item in items if item.label in paper.positive]
    negative = [item for item in items if item.label not in paper.positive]
    agreed, kappa = agreement(labels, verdicts)
    return {
        "n": len(items),
        "missing": verdicts.count(None),
        "sensitivity": share(sum(item.verdict == item.label for item in positive), len(positive)),
        "specificity": share(sum(item.verdict == item.label for item in negative), len(negative)),
        "agreement": agreed,
        "kappa": kappa,
    }


def _problems(config: JudgeConfig, paper: Paper, figures: dict[str, Any]) -> list[str]:
    """What is below its threshold, of all items and of each arm that has enough of them."""
    least = {
        "sensitivity": (config.calibration.min_sensitivity, paper.sensitive),
        "specificity": (config.calibration.min_specificity, paper.specific),
    }
    problems = []
    for arm, found in [("", figures), *figures["by_arm"].items()]:
        for name, (needed, what) in least.items():
            figure = found[name]
            if figure["n"] >= LEAST_ITEMS and figure["value"] < needed:
                problems.append(
                    f"{paper.mode} {name}{f' on {arm}' if arm else ''} {figure['value']:.2f} "
                    f"({figure['low']:.2f} to {figure['high']:.2f}, {round(figure['value'] * figure['n'])} of "
                    f"{figure['n']} {what}) is below {needed:g}"
                )
    if problems and figures["missing"]:
        problems.append(
            f"{paper.mode}: no verdict could be read from the replies to {figures['missing']} of {figures['n']} items"
        )
    return problems


def _refusal(config: JudgeConfig, problems: Sequence[str], unread: str | None, path: Path) -> UserError:
    """Args: `unread`: what was wrong with the first reply from which no verdict could be read, with that reply."""
    form = "" if unread is None else "Where replies are not in the form asked for, take a judge that keeps to it. "
    return UserError(
        f"The judge {config.endpoint.model} did not pass its calibration, and nothing was judged: "
        f"{'; '.join(problems)}." + (f" The first reply without a verdict: {unread}" if unread else ""),
        where=config.calibration.items,
        remedy=f"Read its verdicts in {path}. {form}Where the labels are right, take a stronger judge (judge.endpoint) "
        "or say more in judge.rubric; where they are wrong, correct them.",
    )
