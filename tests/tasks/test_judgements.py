"""What verdicts add up to, on simulated judges whose accuracy, taste for a position and taste for length are known."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.inter_rater import cohens_kappa

from tunelift.tasks.judgements import (
    Winner,
    agreement,
    count_wins,
    flip_rate,
    length_correlation,
    longer_wins,
    mean_mark,
    settle,
)
from tunelift.tasks.statistics import PairedDifference, wilson

WINNERS: tuple[Winner, ...] = ("a", "b", "tie")
verdicts = st.sampled_from((*WINNERS, None))

Orders = tuple[Winner | None, Winner | None]
Look = Callable[[Winner, Winner, random.Random], Winner]
"""(which is really better, which stands first, chance) -> verdict."""


def accurate(q: float) -> Look:
    """Right with probability q, and wrong otherwise; a real tie is called either way."""

    def look(better: Winner, first: Winner, chance: random.Random) -> Winner:
        if better == "tie":
            return chance.choice(("a", "b"))
        right = chance.random() < q
        return better if right else ("b" if better == "a" else "a")

    return look


def likes_the_first(better: Winner, first: Winner, chance: random.Random) -> Winner:
    return first


def judged(look: Look, truth: list[Winner], chance: random.Random) -> list[Orders]:
    return [(look(better, "a", chance), look(better, "b", chance)) for better in truth]


def truths(n: int, a: float, b: float, chance: random.Random) -> list[Winner]:
    return chance.choices(WINNERS, weights=(a, b, 1 - a - b), k=n)


def settled(orders: list[Orders]) -> list[Winner | None]:
    return [settle(*one) for one in orders]


def test_disagreement_between_the_orders_is_a_tie_and_a_missing_verdict_none() -> None:
    assert settle("a", "a") == "a"
    assert settle("a", "b") == settle("a", "tie") == settle("tie", "tie") == "tie"
    assert settle("a", None) is settle(None, "tie") is None


@given(verdicts, verdicts)
def test_the_order_of_the_orders_does_not_matter(one: Winner | None, other: Winner | None) -> None:
    assert settle(one, other) == settle(other, one)


def test_a_judge_that_only_likes_the_first_place_decides_nothing() -> None:
    orders = judged(likes_the_first, truths(200, 0.6, 0.2, random.Random(1)), random.Random(2))
    assert flip_rate(orders) == {"value": 1.0, "low": pytest.approx(wilson(200, 200)[0]), "high": 1.0, "n": 200}
    counted = count_wins(settled(orders))
    assert (counted.wins, counted.ties, counted.losses, counted.missing) == (0, 200, 0, 0)
    assert (counted.pair.difference, counted.pair.p) == (0.0, 1.0)
    assert counted.pair.low < 0 < counted.pair.high


@pytest.mark.parametrize(("a", "b"), [(0.5, 0.3), (0.2, 0.2), (0.1, 0.6)])
@pytest.mark.parametrize("q", [0.6, 0.8, 1.0])
def test_an_inaccurate_judge_shrinks_the_difference_and_does_not_turn_it(a: float, b: float, q: float) -> None:
    chance = random.Random(3)
    found = [
        count_wins(settled(judged(accurate(q), truths(200, a, b, chance), chance))).pair.difference for _ in range(200)
    ]
    # Both orders right: q squared; both wrong: (1 - q) squared; the rest are ties.
    expected = (2 * q - 1) * (a - b)
    assert sum(found) / len(found) == pytest.approx(expected, abs=0.016)


def test_flips_tell_of_an_unsure_judge() -> None:
    chance = random.Random(4)
    orders = judged(accurate(0.7), truths(4000, 0.5, 0.5, chance), chance)
    figure = flip_rate([*orders, ("a", None)])
    assert figure["n"] == 4000
    assert figure["low"] < 2 * 0.7 * 0.3 < figure["high"]


def binomial(k: int, n: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)


@cache
def of_table(wins: int, losses: int, n: int) -> PairedDifference:
    return count_wins(["a"] * wins + ["b"] * losses + ["tie"] * (n - wins - losses)).pair


@pytest.mark.parametrize("n", [30, 80])
@pytest.mark.parametrize(("a", "b"), [(0.2, 0.2), (0.05, 0.05), (0.4, 0.4), (0.5, 0.3), (0.15, 0.02), (0.65, 0.3)])
def test_intervals_cover_and_the_null_is_kept(n: int, a: float, b: float) -> None:
    covered = rejected = 0.0
    for wins in range(n + 1):  # Exactly, over every outcome.
        for losses in range(n - wins + 1):
            pair = of_table(wins, losses, n)
            chance = binomial(wins, n, a) * binomial(losses, n - wins, b / (1 - a))
            covered += chance * (pair.low <= a - b <= pair.high)
            rejected += chance * (pair.p < 0.05)
    assert covered >= 0.93
    if a == b:
        assert rejected <= 0.06


def test_missing_verdicts_are_nobodys_loss() -> None:
    counted = count_wins(["a", "b", None, "tie", None, "a"])
    assert (counted.wins, counted.ties, counted.losses, counted.missing) == (2, 1, 1, 2)
    assert (counted.pair.n, counted.pair.difference) == (4, 0.25)
    assert counted.pair == count_wins(["a", "b", "tie", "a"]).pair


def test_p_is_the_sign_test_with_mid_p_on_the_decided() -> None:
    wins, losses = 14, 5
    pair = count_wins(["a"] * wins + ["b"] * losses + ["tie"] * 30).pair
    exact = stats.binomtest(wins, wins + losses).pvalue
    assert pair.p == pytest.approx(exact - stats.binom.pmf(wins, wins + losses, 0.5))


def test_items_that_share_a_cluster_count_for_less() -> None:
    winners: list[Winner | None] = ["a", "b", "a", None, "tie", "a", "a", "b", "a", "a"] * 4
    alone = count_wins(winners)
    repeated = count_wins([one for one in winners for _ in range(5)], clusters=[f"c{n // 5}" for n in range(200)])
    assert repeated.pair.difference == alone.pair.difference
    assert repeated.pair.high - repeated.pair.low > 0.9 * (alone.pair.high - alone.pair.low)


def test_no_verdict_at_all_shows_nothing() -> None:
    pair = count_wins([None, None]).pair
    assert (pair.difference, pair.low, pair.high, pair.p, pair.n) == (0.0, -1.0, 1.0, 1.0, 0)


def test_a_taste_for_length_is_found_and_its_absence_too() -> None:
    chance = random.Random(5)
    lengths = [(chance.randint(1, 900), chance.randint(1, 900)) for _ in range(300)]
    smitten = longer_wins([[("a" if a > b else "b", a, b) for a, b in lengths if a != b]])
    assert smitten["value"] == 1.0 and smitten["n"] >= 295 and smitten["low"] > 0.98
    indifferent = longer_wins([[(chance.choice(("a", "b")), a, b) for a, b in lengths]])
    assert indifferent["low"] < 0.5 < indifferent["high"]


@pytest.mark.parametrize("better", [0.5, 0.8, 0.95, 1.0])
def test_a_better_arm_with_longer_answers_is_no_taste_for_length(better: float) -> None:
    """Whoever wrote it, an arm's answer wins with the same probability where it is longer and where it is shorter."""
    chance, held = random.Random(7), 0
    for _ in range(200):
        groups = [
            [
                ("a" if chance.random() < wins else "b", chance.randint(300, 900), chance.randint(1, 700))
                for _ in range(60)
            ]
            for wins in (better, 1 - better / 2)
        ]
        found = longer_wins(groups)
        held += found["low"] <= 0.5 <= found["high"]
    assert held / 200 >= 0.9
    pooled = [pair for pair in groups[0] if pair[1] != pair[2]]
    if better > 0.9:
        assert sum((winner == "a") == (a > b) for winner, a, b in pooled) / len(pooled) > 0.75, "as it would look"


def test_ties_missing_verdicts_equal_lengths_and_an_arm_that_is_always_longer_say_nothing_of_length() -> None:
    nothing = {"value": None, "low": 0.0, "high": 1.0, "n": 0}
    assert longer_wins([[("tie", 1, 2), (None, 1, 2), ("a", 3, 3)], []]) == nothing
    assert longer_wins([[("a", 3, 1), ("b", 3, 1), ("a", 9, 2)]]) == nothing
    assert longer_wins([[("a", 3, 1), ("a", 1, 3)]])["value"] == 0.5


def test_mark_and_length_correlate_as_scipy_says_within_their_interval() -> None:
    chance = random.Random(6)
    lengths = [chance.randint(1, 1000) for _ in range(80)]
    marks = [1 + min(4, (length + chance.randint(0, 600)) // 320) for length in lengths]
    figure = length_correlation([([*marks, None], [*lengths, 5])])
    assert figure["value"] == pytest.approx(stats.spearmanr(marks, lengths).statistic)
    assert figure["low"] < figure["value"] < figure["high"]
    assert figure["n"] == 80
    # The interval holds about 95% when there is nothing to find, in one group and in several.
    held = 0
    for trial in range(400):
        chance.shuffle(marks)
        parts = (80,) if trial % 2 else (12, 28, 40)
        groups, start = [], 0
        for part in parts:
            groups.append((marks[start : start + part], lengths[start : start + part]))
            start += part
        found = length_correlation(groups)
        held += found["low"] <= 0 <= found["high"]
    assert held / 400 >= 0.92


def test_an_arm_with_better_and_longer_answers_does_not_correlate_mark_and_length() -> None:
    chance = random.Random(8)
    arms = {
        "base": ([chance.randint(1, 2) for _ in range(100)], [chance.randint(20, 60) for _ in range(100)]),
        "tuned": ([chance.randint(4, 5) for _ in range(100)], [chance.randint(200, 400) for _ in range(100)]),
    }
    pooled = stats.spearmanr(*([*arms["base"][column], *arms["tuned"][column]] for column in (0, 1))).statistic
    found = length_correlation(arms.values())
    assert pooled > 0.7 and found["low"] < 0 < found["high"] and abs(found["value"]) < 0.2
    assert found["n"] == 200
    tasteful = [([1 + length // 100 for length in lengths], lengths) for _, lengths in arms.values()]
    assert length_correlation(tasteful[1:])["value"] > 0.8


def test_a_small_group_in_perfect_order_does_not_outweigh_a_large_one() -> None:
    chance = random.Random(9)
    large = [chance.randint(1, 5) for _ in range(400)], [chance.randint(1, 500) for _ in range(400)]
    found = length_correlation([large, (list(range(1, 11)), list(range(10, 110, 10)))])
    assert abs(found["value"]) < 0.15


@pytest.mark.parametrize(
    ("marks", "lengths"), [([3] * 20, list(range(20))), ([1, 2] * 10, [7] * 20), ([1, 2, 3], [1, 2, 3]), ([], [])]
)
def test_a_correlation_that_nothing_tells_has_no_value(marks: list[int], lengths: list[int]) -> None:
    for groups in ([], [(marks, lengths)], [(marks, lengths)] * 3):
        assert length_correlation(groups) == {"value": None, "low": -1.0, "high": 1.0, "n": 0}


def test_marks_have_a_mean_on_their_own_scale() -> None:
    figure = mean_mark([5, 4, None, 4, 3, 5, 1], 5)
    assert figure["mean"] == pytest.approx(22 / 6)
    assert (figure["n"], figure["missing"]) == (6, 1)
    assert 1 <= figure["low"] < 22 / 6 < figure["high"] <= 5
    nothing = mean_mark([None], 5)
    assert (nothing["mean"], nothing["low"], nothing["high"], nothing["n"]) == (None, 1.0, 5.0, 0)


@given(st.lists(st.tuples(st.sampled_from("abt"), st.sampled_from("abt")), min_size=2, max_size=60))
def test_kappa_is_that_of_statsmodels(pairs: list[tuple[str, str]]) -> None:
    labels, said = [label for label, _ in pairs], [verdict for _, verdict in pairs]
    agreed, kappa = agreement(labels, said)
    assert agreed["value"] == sum(x == y for x, y in pairs) / len(pairs)
    table = [[sum(pair == (x, y) for pair in pairs) for y in "abt"] for x in "abt"]
    if kappa["value"] is None:
        assert len(set(labels)) == len(set(said)) == 1
    else:
        assert kappa["value"] == pytest.approx(cohens_kappa(table, return_results=False), abs=1e-9)
        assert -1 <= kappa["low"] <= kappa["value"] <= kappa["high"] <= 1


def test_a_missing_verdict_agrees_with_no_label() -> None:
    agreed, kappa = agreement(["a", "b"] * 10, [None, "b"] * 10)
    assert agreed["value"] == 0.5
    assert kappa["value"] == pytest.approx((0.5 - 0.25) / 0.75)


def test_kappas_interval_covers() -> None:
    chance = random.Random(7)
    accuracy = 0.85
    covered = 0
    for _ in range(1000):
        labels = chance.choices(("good", "bad"), k=40)
        said = [label if chance.random() < accuracy else ("bad" if label == "good" else "good") for label in labels]
        _, kappa = agreement(labels, said)
        covered += kappa["low"] <= 2 * accuracy - 1 <= kappa["high"]
    assert covered / 1000 >= 0.93
