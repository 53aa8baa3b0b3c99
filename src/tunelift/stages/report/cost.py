"""What an answer costs with each arm, and from how many requests on training has paid for itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import fmean

from tunelift.config.evaluation import EndpointConfig, ReportConfig
from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.wording import rounded

HOUR = 3600.0


def cost_of(config: ReportConfig, arm: str, evidence: Evidence, prices: Mapping[str, EndpointConfig]) -> Json:
    """Means per answered request over the target tasks that generate, and throughput under the evaluation's own load.

    None where there is no such task, or the endpoint does not tell. An item that is measured by log-likelihood is no
    request of the kind that a user makes: it takes one for each choice, and only what is scored counts as its tokens.
    An arm of ours costs machine time, an endpoint tokens: `prices` holds the arms that endpoints answered.
    """
    tasks = [task for task in evidence.tasks if is_priced(task) and arm in task.samples]
    samples = [sample for task in tasks for sample in task.samples[arm].values() if not sample.get("error")]
    asked = [evidence.summaries[arm]["tasks"][task.name].get("asking") or {} for task in tasks]
    requests, seconds = (sum(float(one.get(key) or 0) for one in asked) for key in ("requests", "seconds"))

    def known(key: str) -> list[float]:
        return sorted(float(sample[key]) for sample in samples if sample.get(key) is not None)

    cost: Json = {
        f"{key}_mean": fmean(values) if (values := known(key)) else None
        for key in ("tokens_in", "tokens_out", "seconds")
    }
    cost |= {f"seconds_p{share}": _quantile(known("seconds"), share / 100) for share in (50, 95)}
    measured = bool(requests and seconds)
    cost["requests_per_hour"] = HOUR * requests / seconds if measured else None
    machine = 1000 * seconds / requests if measured and arm not in prices else None
    cost["machine_seconds_per_1000"] = machine
    if arm in prices:
        cost["usd_per_1000"] = _token_price(cost, prices[arm])
    elif machine is None or config.usd_per_hour is None:
        cost["usd_per_1000"] = None
    else:
        cost["usd_per_1000"] = machine * config.usd_per_hour / HOUR
    return cost


def is_priced(task: Asked) -> bool:
    """Whether its requests are like those that the tuned model is made for."""
    return task.role != "guard" and task.kind == "generate"


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least `share` of the sorted values do not exceed."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else None


def _token_price(cost: Json, endpoint: EndpointConfig) -> float | None:
    """USD per 1,000 requests; none unless both prices and both counts are known."""
    dear, cheap = endpoint.usd_per_million_output, endpoint.usd_per_million_input
    if None in (dear, cheap, cost["tokens_in_mean"], cost["tokens_out_mean"]):
        return None
    return float(cost["tokens_in_mean"] * cheap + cost["tokens_out_mean"] * dear) / 1000


def break_even(
    config: ReportConfig, costs: Mapping[str, Json], claims: Sequence[Json], training_seconds: float | None
) -> Json | None:
    """From how many requests on the saving per request has paid for training; none if that cannot be told.

    The rival is the arm that one would use instead: the one to beat, the cheapest if tasks disagree which it is.
    """
    if training_seconds is None or not claims:
        return None
    focus = claims[0]["arm"]
    for unit in ("USD", "machine hours"):
        rivals = {claim["best_untuned"]: _per_1000(costs[claim["best_untuned"]], unit) for claim in claims}
        known = {arm: cost for arm, cost in rivals.items() if cost is not None}
        own = _per_1000(costs[focus], unit)
        each = config.usd_per_hour if unit == "USD" else 1.0
        if known and own is not None and each is not None:
            against = min(known, key=lambda arm: known[arm])
            training, saving = each * training_seconds / HOUR, known[against] - own
            found: Json = {"against": against, "unit": unit, "training_cost": training, "saving_per_1000": saving}
            found["requests"] = math.ceil(1000 * training / saving) if saving > 0 else None
            return found | {"sentence": _sentence(focus, found, own, known[against], claims)}
    return None


def _per_1000(cost: Json, unit: str) -> float | None:
    if unit == "USD":
        usd: float | None = cost["usd_per_1000"]
        return usd
    seconds = cost["machine_seconds_per_1000"]
    return None if seconds is None else seconds / HOUR


def _sentence(focus: str, found: Json, own: float, other: float, claims: Sequence[Json]) -> str:
    unit, against, requests = found["unit"], found["against"], found["requests"]
    each = f"1,000 requests take {rounded(own)} {unit} with {focus} and {rounded(other)} with {against}"
    if requests is None:
        says = f"Training never pays for itself in {unit}: {each}."
    else:
        paid = f"it has paid for itself after about {_up(requests)} requests"
        says = f"Training cost {rounded(found['training_cost'])} {unit}; {each}: {paid}."
    shown = all(claim["verdict"] == "improved" for claim in claims)
    return says + ("" if shown else " This counts cost alone: better answers are not shown on every target task.")


def _up(requests: int) -> str:
    """Rounded up to two digits: no promise is made earlier than the numbers keep it."""
    step = 10 ** max(0, len(str(requests)) - 2)
    return f"{-(-requests // step) * step:,}"
