"""What a limit on length costs: the rows longer than it, and how much of what could be learnt goes with them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from tunelift.errors import UserError

SHOWN_ROWS = 10


@dataclass(frozen=True)
class LongRow:
    """A row that is longer than the limit."""

    id: str
    """The data set's, or what the row stands under in its source."""
    source: str
    """`file:line`."""
    tokens: int
    supervised_tokens: int


@dataclass(frozen=True)
class Lost:
    """Rows longer than `max_length`, which are dropped whole, beside what is left.

    A row is never cut: the end of its last turn would be lost, or another token would be taught as the end.
    """

    max_length: int
    rows: tuple[LongRow, ...]
    left: int
    """Supervised tokens of the rows that are no longer than the limit."""

    @property
    def supervised_tokens(self) -> int:
        """Supervised tokens of the rows that are too long."""
        return sum(row.supervised_tokens for row in self.rows)

    @property
    def ratio(self) -> float:
        """Supervised tokens of the rows that are too long, over those of these rows and the rows left together."""
        return self.ratio_at(self.max_length)

    def ratio_at(self, max_length: int) -> float:
        """What `ratio` would be under a higher limit."""
        lost = sum(row.supervised_tokens for row in self.rows if row.tokens > max_length)
        return lost / (self.left + self.supervised_tokens) if lost else 0.0

    @property
    def longest(self) -> int:
        """Tokens of the longest row that is lost; the limit if none is."""
        return max((row.tokens for row in self.rows), default=self.max_length)

    def under_limits(self) -> dict[int, float]:
        """`ratio` by limit: the one that is set, its doublings, and the lowest under which nothing is lost."""
        limits = [self.max_length]
        while limits[-1] * 2 < self.longest:
            limits.append(limits[-1] * 2)
        return {limit: self.ratio_at(limit) for limit in (*limits, self.longest)}

    def as_json(self) -> dict[str, Any]:
        """For stats.json and preflight.json."""
        return {
            "max_length": self.max_length,
            "rows": len(self.rows),
            "supervised_tokens": self.supervised_tokens,
            "ratio": round(self.ratio, 6),
            "ratio_by_max_length": {str(limit): round(ratio, 6) for limit, ratio in self.under_limits().items()},
            "longest_row": self.longest if self.rows else None,
        }

    def refuse_above(self, allowed: float, ledger: str = "") -> None:
        """Fail when more is lost than `train.max_truncated_ratio` allows.

        Args:
            allowed: The greatest share of the supervised tokens that may be lost.
            ledger: Where all of the rows are listed, if anywhere.

        Raises:
            UserError: with the rows, the longest first, and what is lost under which limit.
        """
        if self.ratio <= allowed:
            return
        raise UserError(
            f"{len(self.rows):,} rows are longer than train.max_length={self.max_length}. They hold "
            f"{self.supervised_tokens:,} supervised tokens, {percent(self.ratio)} of all, "
            f"and train.max_truncated_ratio={allowed:g} allows {percent(allowed)} to be lost.\n"
            f"{self.account()}",
            remedy=f"Set train.max_length to {self.longest}, which keeps all of them; or drop them by setting "
            f"train.max_truncated_ratio to {_rounded_up(self.ratio):g}."
            + (f" All of them are in {ledger}." if ledger else ""),
        )

    def account(self) -> str:
        """The rows, the longest first, one a line; then what is lost under which limit."""
        ranked = sorted(self.rows, key=lambda row: -row.tokens)
        lines = [
            f"  {row.id} {row.source}".rstrip()
            + f": {row.tokens:,} tokens, {row.supervised_tokens:,} of them supervised"
            for row in ranked[:SHOWN_ROWS]
        ]
        if len(ranked) > SHOWN_ROWS:
            lines.append(f"  and {len(ranked) - SHOWN_ROWS:,} more")
        limits = ", ".join(f"{limit}: {percent(ratio)}" for limit, ratio in self.under_limits().items())
        return "\n".join([*lines, f"  supervised tokens lost by train.max_length: {limits}"])


def percent(share: float) -> str:
    """Three significant digits: a small loss is never shown as none."""
    return f"{100 * share:.3g}%"


def _rounded_up(ratio: float) -> float:
    """The least number with two significant digits that is not below `ratio`, which is above 0."""
    exact = Decimal(str(ratio))
    return float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=ROUND_CEILING))
