"""Wall time of single layers: convolution, fused blocks, pools."""

from __future__ import annotations

from typing import Any


def test_layer(benchmark: Any, contender: Any) -> None:
    """One call of the case's pass."""
    benchmark(contender)
