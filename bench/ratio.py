"""The ratio of two times measured in turns, with the interval that it certainly lies in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

# A difference smaller than this is not called one, however sure: the place of memory alone makes as much.
LEAST = 0.03


@dataclass(frozen=True)
class Ratio:
    """Second time over first time: median, and the interval that holds the true median with at least 99 %."""

    ratio: float
    low: float
    high: float
    pairs: int

    @property
    def verdict(self) -> str:
        """ "larger" or "smaller" when the whole interval lies beyond LEAST, else "same"."""
        return verdict(self.low, self.high)


def verdict(low: float, high: float) -> str:
    """Whether an interval of ratios lies beyond 1 by LEAST: "larger", "smaller" or "same"."""
    if low > 1 + LEAST:
        return "larger"
    if high < 1 - LEAST:
        return "smaller"
    return "same"


def interval_rank(count: int, risk: float = 0.01) -> int:
    """The k for which the k-th smallest and the k-th largest of `count` values enclose the median but for `risk`.

    The sign test: values fall on either side of the median like coins, whatever their distribution. 1 when there are
    too few values for that risk; the interval is then as wide as the values.
    """
    weight, total, k = 1.0, 0.0, 0
    while k < count // 2:
        total += weight * 0.5**count
        if 2 * total > risk:
            break
        k += 1
        weight *= (count - k + 1) / k
    return max(1, k)


def ratio(pairs: Sequence[tuple[float, float]]) -> Ratio:
    """The ratio from (first, second) times measured right after one another."""
    ratios = sorted(second / first for first, second in pairs)
    k = interval_rank(len(ratios))
    return Ratio(median(ratios), ratios[k - 1], ratios[-k], len(ratios))
