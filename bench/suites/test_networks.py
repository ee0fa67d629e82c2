"""Wall time of whole networks: inference and training steps."""

from __future__ import annotations

from typing import Any


def test_network(benchmark: Any, contender: Any) -> None:
    """One call of the case's pass."""
    benchmark(contender)
