"""Under backend("auto": which work goes to torch's operators, because the card's table measured them faster."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kernels.common.device import card_of
from kernels.common.precision import precision_of
from kernels.tuned.bucket import Bucket
from kernels.tuned.table import Table, table_of

MARGIN = 1.03
"""torch must have been faster by more than this factor: less is the noise of a measurement."""
PASSES = {
    "conv2d": "fprop",
    "conv2d_relu": "fprop",
    "conv2d_dgrad": "dgrad",
    "conv2d_wgrad": "wgrad",
    "conv2d_relu_pool2d": "fprop_pool",
    "conv2d_relu_pool2d training": "fprop_pool",
    "max_pool2d": "max_pool",
    "max_pool2d training": "max_pool",
    "avg_pool2d": "avg_pool",
    "avg_pool2d training": "avg_pool",
}
"""operation -> the pass whose bucket holds its times; "training" is forward and backward, the others one pass."""


@dataclass(frozen=True)
class Verdict:
    """What a table says of an operation: medians of both on `card`, in microseconds."""

    operation: str
    card: str
    ours: float
    torch: float

    @property
    def for_torch(self) -> bool:
        """Whether torch was faster by more than the margin."""
        return self.ours > MARGIN * self.torch

    def __str__(self) -> str:
        if self.ours > self.torch:
            return f"torch: measured {self.ours / self.torch:.2f}x faster on {self.card}"
        return f"triton: measured {self.torch / self.ours:.2f}x faster on {self.card}"


class _Listening(threading.local):
    heard: list[Verdict] | None = None


_listening = _Listening()


@contextmanager
def listen() -> Iterator[list[Verdict]]:
    """Collect this thread's verdicts inside the block, and let Triton go on whatever they are (explain)."""
    before, found = _listening.heard, []  # type: ignore[var-annotated]
    _listening.heard = found
    try:
        yield found
    finally:
        _listening.heard = before


def conv_goes_to_torch(operation: str, g: Any, t: Tensor, channels_last: bool) -> bool:
    """Whether torch runs `operation` of a Conv2dGeometry on maps like `t` in that layout."""
    table = _table(t)
    if table is None or g.padding[0] != g.padding[1] or g.padding[2] != g.padding[3]:
        return False
    return _say(_conv_verdict(table, operation, g, precision_of(t.element_size()), channels_last))


def pool_goes_to_torch(operation: str, g: Any, x: Tensor, channels_last: bool) -> bool:
    """Whether torch runs `operation` of a Pool2dGeometry on the 4-D input x."""
    table = _table(x)
    if table is None or x.numel() == 0:
        return False
    bucket = Bucket.of_pool(PASSES[operation], tuple(x.shape), g, precision_of(x.element_size()))
    return _say(_verdict(table, operation, bucket, channels_last))


def _table(t: Tensor) -> Table | None:
    """The table that may decide. With deterministic algorithms asked for, torch's are others than those measured."""
    name = card_of(t.device).name
    table = table_of(name) if name else None
    if table is None or torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic:
        return None
    return table


@lru_cache(maxsize=4096)
def _conv_verdict(table: Table, operation: str, g: Any, precision: str, channels_last: bool) -> Verdict | None:
    return _verdict(table, operation, Bucket.of(PASSES[operation], g, precision), channels_last)


def _verdict(table: Table, operation: str, bucket: Bucket, channels_last: bool) -> Verdict | None:
    """Only what was measured in this very bucket and layout sends work away."""
    entry = table.entries.get(bucket)
    times = entry and entry.times.get("nhwc" if channels_last else "nchw", {}).get(operation)
    return Verdict(operation, table.card, times.ours, times.torch) if times else None


def _say(verdict: Verdict | None) -> bool:
    if verdict is not None and _listening.heard is not None:
        _listening.heard.append(verdict)
        return False
    return verdict is not None and verdict.for_torch
