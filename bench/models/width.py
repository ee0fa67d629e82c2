"""Channel counts of a network made narrower."""

from __future__ import annotations


def channels(count: int, width: float) -> int:
    """A channel count times the width, at least 4 and even."""
    return max(4, 2 * round(count * width / 2))
