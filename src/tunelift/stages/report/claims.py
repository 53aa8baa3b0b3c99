"""What is claimed of the focus arm on each target task, and the sentences that answer the question asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tunelift.stages.report.evidence import Asked, Evidence, Json
from tunelift.stages.report.pairing import Pairing
from tunelift.stages.report.wording import amount, change, label, listed, probability, rounded, score, span, unit
from tunelift.tasks.statistics import MIN_CLUSTERS

NO_CLAIM = "no claim"
"""The verdict where answers or prompts are missing in a way that leaves numbers without a meaning."""
TOLD = (
    *("difference", "low", "high", "p", "p_adjusted", "verdict", "mde", "needed_n", "clusters", "method"),
    *("decoding_differs", "reservations"),
)
"""What a claim repeats of its pair."""
MOST_NAMED = 3
"""Target tasks that the top of a page tells in full, unless more than that regressed."""


def claims_of(pairing: Pairing, evidence: Evidence, tasks: Json) -> list[Json]:
    """On each target task the focus arm against the best of those it must beat, by the primary metric."""
    targets = [task for task in evidence.tasks if task.role != "guard"]
    found = [(task, pairing.best_untuned(task, task.primary)) for task in targets]
    return [_claim(pairing, task, rival, tasks[task.name][task.primary]) for task, rival in found if rival]


def _claim(pairing: Pairing, task: Asked, rival: str, shown: Json) -> Json:
    pair = pair_with(shown, rival)
    claim = {
        "task": task.name,
        "metric": task.primary,
        "arm": pairing.focus,
        "value": shown["arms"][pairing.focus]["mean"],
        "best_untuned": rival,
        "best_of": pairing.best_of(task),
        "lower_is_better": shown["lower_is_better"],
        "bounded": shown["bounded"],
        "strict": task.metrics[task.primary].strict,
        **{key: pair[key] for key in TOLD},
    }
    return claim | {"sentence": _sentence(claim, task.effect)}


def pair_with(shown: Json, rival: str) -> Json:
    """A metric's pair with that rival."""
    return next(pair for pair in shown["pairs"] if pair["b"] == rival)


def proof_of(claim: Json) -> str:
    """The interval and p of a claim or pair as words; p is the adjusted one, and says so where that differs."""
    of = " of the difference" if claim["difference"] < 0 else ""
    p, adjusted = claim["p"], claim.get("p_adjusted")
    shown = probability(p if adjusted is None else adjusted)
    by = "Holm-adjusted " if adjusted is not None and shown != probability(p) else ""
    return f"95% interval{of} {span(claim['low'], claim['high'], claim['bounded'])}, {by}{shown}"


def difference_of(claim: Json) -> str:
    """`58.7 points more than`, `0.120 bits per byte less than`, `no more and no less than`."""
    size = change(abs(claim["difference"]), claim["bounded"]).removeprefix("+")
    if not float(size.replace(",", "")):
        return "no more and no less than"
    counted = f"{size} {unit(claim['metric'], claim['bounded'])}".rstrip()
    return f"{counted} {'more' if claim['difference'] > 0 else 'less'} than"


def _sentence(claim: Json, effect: float) -> str:
    if claim["verdict"] == NO_CLAIM:
        no = f"No claim is made of {claim['arm']} against {claim['best_untuned']} on {claim['task']}."
        return " ".join((no, *claim["reservations"]))
    value = score(claim["value"], claim["bounded"])
    if claim["metric"] == "exact_match":
        # Without `strict`, case, white space and closing marks do not count.
        does = f"{claim['arm']} answers {value} of {claim['task']} {'exactly' if claim['strict'] else 'correctly'}"
    else:
        lower = ", where lower is better" if claim["lower_is_better"] else ""
        does = f"{claim['arm']} reaches {value} on {claim['task']} ({label(claim['metric'])}{lower})"
    than = difference_of(claim)
    doubt = ""
    if claim["verdict"] in {"not shown", "underpowered"} and not than.startswith("no "):
        doubt = ", a difference that is not shown to be real"
    if claim["verdict"] == "underpowered":
        doubt += f"; {_lack(claim, effect)}"
    says = f"{does}, {than} {claim['best_untuned']}, {claim['best_of']}{doubt} ({proof_of(claim)})."
    return " ".join((says, *claim["reservations"]))


def _lack(claim: Json, effect: float) -> str:
    """What the items could have shown, and how many it takes for what is worth finding."""
    if claim["clusters"] is not None and claim["clusters"] < MIN_CLUSTERS:
        return f"{claim['clusters']} clusters of items are too few to tell"
    metric, bounded = claim["metric"], claim["bounded"]
    if claim["mde"] is None and claim["clusters"] is not None:
        return f"{claim['clusters']} clusters of such unequal sizes are too few to tell"
    could = "nothing" if claim["mde"] is None else f"only {amount(claim['mde'], metric, bounded)} or more"
    return (
        f"these items could show {could}, "
        f"{amount(effect, metric, bounded)} would take about {rounded(claim['needed_n'])} items"
    )


def regressed_first(claims: Sequence[Json]) -> list[Json]:
    """In the config's order; of more than can be named at the top, those that regressed come first."""
    return sorted(claims, key=lambda claim: len(claims) > MOST_NAMED and claim["verdict"] != "regressed")


def opening(claims: Sequence[Json]) -> tuple[list[Json], list[Json]]:
    """Which claims the top of a page tells in full, and which it only counts: all that regressed are told."""
    ordered = regressed_first(claims)
    named = max(MOST_NAMED, sum(claim["verdict"] == "regressed" for claim in claims))
    return ordered[:named], ordered[named:]


def counted(claims: Sequence[Json]) -> str:
    """`2 more target tasks: 1 improved, 1 not shown.`; empty for none."""
    if not claims:
        return ""
    verdicts = Counter(str(claim["verdict"] or "nothing claimed") for claim in claims)
    what = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.items())
    return f"{len(claims)} more target task{'s' if len(claims) > 1 else ''}: {what}."


def verdict_of(pairing: Pairing, evidence: Evidence, claims: Sequence[Json], on_guards: str) -> str:
    """Is it better than the base, better than good prompting, and no worse elsewhere?"""
    measured = ", ".join(arm for arm in evidence.arms if arm != pairing.noise_arm)
    nothing = f"No claim is made: it takes an arm and an untuned one to compare it with, this run measured {measured}."
    return " ".join(filter(None, [*(claim["sentence"] for claim in regressed_first(claims)), on_guards])) or nothing


def verdict_on_guards(pairing: Pairing, claims: Sequence[Json], guards: Sequence[Json]) -> str:
    """The verdict's sentences on the guards; empty without any."""
    gained = any(claim["verdict"] == "improved" for claim in claims)
    said = _on_guards("It" if claims else pairing.focus, guards, gained)
    return " ".join([*said, *dict.fromkeys(sentence for guard in guards for sentence in guard["reservations"])])


def _on_guards(subject: str, guards: Sequence[Json], gained: bool) -> list[str]:
    """One sentence for each outcome; after good news, bad news begins with "But"."""
    by_outcome: dict[tuple[str, str], list[Json]] = {}
    for guard in guards:
        by_outcome.setdefault((guard["verdict"], guard["against"]), []).append(guard)
    sentences: list[str] = []
    for outcome in ("non-inferior", "inconclusive", "inferior"):
        for (found, against), group in by_outcome.items():
            if found == outcome:
                sentences.append(
                    _guard_sentence(subject, outcome, against, group, "But " if sentences or gained else "")
                )
    return sentences


def _guard_sentence(subject: str, outcome: str, against: str, group: Sequence[Json], but: str) -> str:
    names = listed([guard["task"] for guard in group])
    first = group[0]
    margin = f"the margin of {amount(first['margin'], first['metric'], first['bounded'])}"
    within = margin if len(group) == 1 else "each task's margin"
    subject = subject.lower() if but and subject == "It" else subject
    if outcome == "non-inferior":
        return f"{subject} is shown to be no worse than {against} on {names}, within {within}."
    if outcome == "inferior":
        return f"{but}{subject} got worse than {against} on {names}, by more than {within}."
    # Proven harm within the margin and plain ignorance are both inconclusive.
    return f"{but}{subject} is not shown to be no worse than {against} on {names}, within {within}."
