"""What was found, section by section of report.html, in the shape in which its template reads it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import groupby

from tunelift.config.evaluation import NOISE_ARM
from tunelift.stages.report import figures
from tunelift.stages.report.browser import LONGEST_TAG
from tunelift.stages.report.claims import counted, opening
from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.forest import Measure, Row, drawing, forests
from tunelift.stages.report.wording import amount, label, listed, rounded
from tunelift.tasks.statistics import ALPHA


def headline(comparison: Json) -> Json:
    """The verdict as a sentence, its numbers apart, the sentences of the other target tasks, and those on guards.

    Of more than three target tasks, those that regressed are told first and the last ones are counted by verdict.
    """
    named, left = opening(comparison["verdicts"])
    sentences = [claim["sentence"] for claim in named] or [comparison["verdict"]]
    parted = [re.fullmatch(r"(.*?) \((95%[^()]*)\)\.?(.*)", sentence, re.DOTALL) for sentence in sentences]
    told = [
        {"says": match[1] + ".", "proof": match[2][:1].upper() + match[2][1:] + "." + match[3]}
        if match
        else {"says": sentence, "proof": ""}
        for sentence, match in zip(sentences, parted, strict=True)
    ]
    # Without claims the verdict says nothing else.
    on_guards = comparison["verdict_on_guards"] if comparison["verdicts"] else ""
    return told[0] | {"more": told[1:], "left": counted(left), "on_guards": on_guards}


def board(comparison: Json) -> list[Json]:
    """One row for each claim and each guard: the answer in one drawing."""
    rows = [_claim_row(claim, comparison) for claim in comparison["verdicts"]]
    return forests(rows + [guard_row(guard, comparison) for guard in comparison.get("guards") or ()])


def _claim_row(claim: Json, comparison: Json) -> Row:
    task, metric = claim["task"], claim["metric"]
    measure = measure_of(comparison, task, metric)
    rival = comparison["tasks"][task][metric]["arms"][claim["best_untuned"]]["mean"]
    detail = (
        f"{label(metric)}: {claim['arm']} {measure.mean(claim['value'])}, {claim['best_untuned']} {measure.mean(rival)}"
    )
    return Row(task, detail, metric, claim, measure, strong=True)


def guard_row(guard: Json, comparison: Json) -> Row:
    """A guard: the arms' means in words, the margin in the drawing."""
    measure = measure_of(comparison, guard["task"], guard["metric"])
    means = ", ".join(
        f"{arm} {measure.mean(guard['means'][arm])}"
        for arm in (guard["arm"], guard["against"])
        if arm in guard["means"]
    )
    return Row(
        guard["task"], f"{label(guard['metric'])}: {means}", guard["metric"], guard, measure, margin=guard["margin"]
    )


def measure_of(comparison: Json, task: str, metric: str) -> Measure:
    """How the numbers of a metric read."""
    shown = comparison["tasks"].get(task, {}).get(metric, {})
    return Measure(shown.get("bounded", True), shown.get("lower_is_better", False))


def task_section(task: Asked, evidence: Evidence, comparison: Json, looks: int | None) -> Json:
    """What one task showed: the arms' levels, and the focus arm's differences from the others."""
    about = {arm: summary["tasks"][task.name] for arm, summary in evidence.summaries.items() if arm in task.samples}
    first, metrics = next(iter(about.values())), comparison["tasks"][task.name]
    primary = metrics[task.primary]
    measure = measure_of(comparison, task.name, task.primary)
    arms = {arm: value for arm, value in primary["arms"].items() if arm != NOISE_ARM}
    most = 1.0 if measure.bounded else max((value["high"] for value in arms.values()), default=1.0)
    return {
        "name": task.name,
        "version": task.version,
        "role": task.role,
        "description": first.get("description", ""),
        "n": len(task.ids),
        "looks": looks,
        "primary": task.primary,
        # A sentence that the top of the page only counts.
        "untold": next(
            (claim["sentence"] for claim in opening(comparison["verdicts"])[1] if claim["task"] == task.name), ""
        ),
        "power": _power(comparison, task, measure),
        "arms": list(arms),
        "levels": [_level(arm, value, measure, most) for arm, value in arms.items()],
        "metrics": {
            metric: [_level(arm, shown["arms"][arm], measure_of(comparison, task.name, metric)) for arm in arms]
            for metric, shown in metrics.items()
        },
        "lower": [metric for metric, shown in metrics.items() if shown.get("lower_is_better")],
        "primary_forest": _differences(comparison, task, [task.primary]),
        "other_forests": _differences(comparison, task, [metric for metric in metrics if metric != task.primary]),
        "clusters": task.clusters,
        "methods": sorted(
            {pair["method"] for shown in metrics.values() for pair in shown["pairs"] if "method" in pair}
        ),
        "cut_off": {arm: cut for arm, one in about.items() if (cut := one.get("cut_off"))},
        "failed": {arm: failed for arm in task.samples if (failed := task.failed(arm))},
    }


def _level(arm: str, value: Json, measure: Measure, most: float | None = None) -> Json:
    mean, interval = measure.mean(value["mean"]), measure.interval(value["low"], value["high"])
    shown: Json = {"arm": arm, "mean": mean, "interval": interval}
    if most is not None:
        label_ = f"{arm}: {mean}, 95% interval {interval}"
        shown["meter"] = figures.meter(value["mean"], value["low"], value["high"], most or 1.0, label_)
    return shown


def _differences(comparison: Json, task: Asked, metrics: Sequence[str]) -> list[Json]:
    return forests(
        [
            Row(
                label(metric) if metric != task.primary else f"against {pair['b']}",
                f"against {pair['b']}" if metric != task.primary else "",
                metric,
                pair,
                measure_of(comparison, task.name, metric),
                strong=metric == task.primary,
            )
            for metric in metrics
            for pair in comparison["tasks"][task.name][metric]["pairs"]
        ]
    )


def _power(comparison: Json, task: Asked, measure: Measure) -> str:
    """What the test could and could not have shown; empty if that was not reckoned."""
    claim: Json = next((claim for claim in comparison["verdicts"] if claim["task"] == task.name), {})
    if claim.get("mde") is None:
        return ""
    size = amount(claim["mde"], task.primary, measure.bounded)
    text = f"With these {len(task.ids)} items a true difference of {size} would be found four times in five"
    if (claims := num_claims(comparison)) > 1:
        text += f", with p corrected for {claims} claims"
    if claim.get("needed_n") and claim["needed_n"] > len(task.ids):
        effect = amount(task.effect, task.primary, measure.bounded)
        text += f"; {effect} would take about {rounded(claim['needed_n'])} items"
    return text + "."


def num_claims(comparison: Json) -> int:
    """How many comparisons were named beforehand, which p is corrected for."""
    pairs = (pair for metrics in comparison["tasks"].values() for shown in metrics.values() for pair in shown["pairs"])
    return sum(pair.get("p_adjusted") is not None for pair in pairs)


def guard_sentences(evidence: Evidence, comparison: Json) -> list[Json]:
    """What is known of each guard task; of one that the focus arm or every rival was not asked, that nothing is."""
    compared = {guard["task"]: guard for guard in comparison.get("guards") or ()}
    return [
        compared.get(task.name) or {"verdict": None, "sentence": _unclaimed(task, comparison["focus"])}
        for task in evidence.tasks
        if task.role == "guard"
    ]


def _unclaimed(task: Asked, focus: str) -> str:
    asked = listed([arm for arm in task.samples if arm != NOISE_ARM])
    return f"{task.name} was measured for {asked} only; nothing is claimed of {focus}."


def slice_tables(comparison: Json) -> list[Json]:
    """By task, its slices with one difference each on a common scale."""
    slices = sorted(comparison.get("slices") or (), key=lambda one: list(comparison["tasks"]).index(one["task"]))
    tables = []
    for task, group in groupby(slices, key=lambda one: one["task"]):
        rows = list(group)
        measure = measure_of(comparison, task, rows[0]["metric"])
        ends = [measure.factor * one[key] for one in rows for key in ("low", "high")]
        scale = figures.axis(ends, reverse=measure.lower_is_better)
        tables.append(
            {
                "task": task,
                "metric": rows[0]["metric"],
                "arms": list(dict.fromkeys(arm for one in rows for arm in one["arms"] if arm != NOISE_ARM)),
                "rows": [_slice(one, measure, scale) for one in rows],
                "found": sum(map(is_shown, rows)),
            }
        )
    return tables


def is_shown(one: Json) -> bool:
    """As for a verdict: q and the interval must both say so."""
    return one.get("q") is not None and one["q"] <= ALPHA and (one["low"] > 0 or one["high"] < 0)


def _slice(one: Json, measure: Measure, scale: figures.Axis) -> Json:
    difference, interval = measure.difference(one["difference"]), measure.interval(one["low"], one["high"])
    shown = f"{difference} against {one['against']}, 95% interval {interval}"
    return {
        "slice": one["slice"][:LONGEST_TAG],
        "n": one["n"],
        "against": one["against"],
        "means": {arm: measure.mean(mean) for arm, mean in one["arms"].items()},
        "difference": difference,
        "interval": interval,
        "q": one.get("q"),
        "sure": is_shown(one),
        "drawing": drawing(one, measure, scale, shown),
    }


def noise_rows(comparison: Json) -> list[Json]:
    """What two askings of the base differ by."""
    rows = []
    for one in comparison.get("noise_floor") or ():
        measure = measure_of(comparison, one["task"], one["metric"])
        shown = {"difference": measure.difference(one["difference"])}
        shown["interval"] = measure.interval(one["low"], one["high"])
        rows.append(one | shown)
    return rows


def judge_section(judge: Json | None) -> Json | None:
    """What the judge said, and how far it can be trusted."""
    if not judge:
        return None
    measure = Measure()
    pairs = [
        {
            **pair,
            "shown": f"{measure.difference(pair['difference'])} ({measure.interval(pair['low'], pair['high'])})",
        }
        for pair in judge.get("pairs") or ()
    ]
    calibration = {
        mode: [
            {"name": key, **found[key]}
            for key in ("sensitivity", "specificity", "agreement")
            if isinstance(found.get(key), Mapping)
        ]
        for mode, found in (judge.get("calibration") or {}).items()
        if found
    }
    return judge | {
        "pairs": pairs,
        "calibrated": calibration,
        "by_arm": _by_arm(judge.get("calibration") or {}),
        "limits": _limits_of_judge(pairs, bool(judge.get("absolute"))),
        "length": _figures(judge.get("length_bias") or {}),
    }


def _limits_of_judge(pairs: Sequence[Json], has_marks: bool) -> str:
    """What of the judge's numbers is corrected, and what is not."""
    said = []
    if pairs:
        of = f"its {len(pairs)} comparisons" if len(pairs) > 1 else "its one comparison"
        said.append(f"The judge's p are corrected (Holm) for {of}, and not together with the claims.")
    if has_marks:
        said.append("The judge's mean marks have intervals and are compared with no test.")
    said.append("Its flip rate, length bias and rates of calibration are not corrected for their number.")
    return " ".join(said)


def _figures(found: Json) -> Json:
    """Figures with their interval, by what they are of; one that stands alone has no name."""
    return {"": found} if "value" in found else {key: one for key, one in found.items() if isinstance(one, Mapping)}


def _by_arm(calibration: Json) -> list[tuple[str, str, Json]]:
    """(mode, arm, rates that are known) of a judge that was examined on each arm's answers."""
    return [
        (
            mode,
            arm,
            {key: one for key, one in rates.items() if isinstance(one, Mapping) and "value" in one}
            | {"n": rates.get("n")},
        )
        for mode, found in calibration.items()
        for arm, rates in ((found or {}).get("by_arm") or {}).items()
        if isinstance(rates, Mapping)
    ]
