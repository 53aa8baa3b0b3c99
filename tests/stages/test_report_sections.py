"""What the page says of numbers, where a wrong word would be a wrong claim."""

from __future__ import annotations

import pytest

from tunelift.stages.report.sections import is_shown


@pytest.mark.parametrize(
    ("q", "low", "high", "shown"),
    [
        (0.01, 0.1, 0.4, True),
        (0.01, -0.4, -0.1, True),
        (0.047, -0.111, 0.916, False),  # Few clusters: the test rejects, the interval does not.
        (0.2, 0.1, 0.4, False),
        (None, 0.1, 0.4, False),
    ],
)
def test_a_slice_is_ticked_only_where_q_and_interval_agree(q, low: float, high: float, shown: bool) -> None:
    assert is_shown({"q": q, "low": low, "high": high}) is shown
