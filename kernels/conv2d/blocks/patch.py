"""The input that a block of pixels reaches, as runs of adjacent elements."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.few import LEAST_COPY, MOST_COPY


@dataclass(frozen=True)
class Patch:
    """The input that a block's windows reach, as runs of `run` elements read `unit` at a time: `rows` of them, in NCHW
    of each of `planes` channels. inner: adjacent elements of a column, the channels or 1. start: units from a block's
    first run to the first column; lead: elements of the run before the first window."""

    inner: int
    unit: int
    planes: int
    rows: int
    run: int
    start: int
    lead: int

    @property
    def columns(self) -> int:
        """Elements of all runs."""
        return self.planes * self.rows * self.run

    @classmethod
    def of(cls, x: Tensor, g: Conv2dGeometry, tall: int, wide: int, side: int) -> Patch:
        """The patch of the widest unit that needs no more tiles of `side` elements than narrower ones do; of 4 bytes
        at least, which is the least that is copied asynchronously, where the strides allow it."""
        inner, planes = (g.c, 1) if is_last(x) else (1, g.c)
        whole = [wide_of(x), g.w * inner, wide * g.stride[1] * inner]
        rows, pad = (tall - 1) * g.stride[0] + g.r, g.padding[2] * inner
        reach = ((wide - 1) * g.stride[1] + g.s) * inner
        found = []
        unit = 1
        while unit * x.element_size() <= MOST_COPY and all(size % unit == 0 for size in whole):
            start = -(-pad // unit)
            lead = start * unit - pad
            run = -(-(lead + reach) // unit) * unit
            found.append(cls(inner, unit, planes, rows, run, start, lead))
            unit *= 2
        wide_ones = [patch for patch in found if patch.unit * x.element_size() >= LEAST_COPY]
        return min(reversed(wide_ones or found), key=lambda patch: -(-patch.columns // side))


def adjacent(t: Tensor) -> Tensor:
    """`t` if its rows, of columns or of columns and channels, are runs of adjacent elements; else a copy that has
    them."""
    plain = t.stride(3) == 1 or t.shape[3] == 1
    return t if plain or is_last(t) else t.contiguous()


def is_last(t: Tensor) -> bool:
    """Whether channels, and then columns, are adjacent."""
    c = t.shape[1]
    return c > 1 and t.stride(1) == 1 and (t.stride(3) == c or t.shape[3] == 1)


def wide_of(t: Tensor) -> int:
    """What divides the distances between images, between rows and, in NCHW, between channels."""
    axes = (0, 2) if is_last(t) else (0, 1, 2)
    return math.gcd(*(t.stride(axis) for axis in axes if t.shape[axis] > 1))


def units(name: str, t: Tensor, axes: str, unit: int) -> dict[str, int]:
    """The distances along the first axes of a tensor, in units; 0 along one of a single element."""
    steps = zip(axes, t.shape, t.stride(), strict=False)
    return {f"stride_{name}_{axis}": stride // unit if size > 1 else 0 for axis, size, stride in steps}
