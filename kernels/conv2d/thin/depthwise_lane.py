"""What a lane of the depthwise kernels holds: rows and columns that meet the same inputs, and elements of each.

Rows of a block are neighbours or, with a dilation, lie so far apart: those are a convolution without one.
"""

from __future__ import annotations

import math

from torch import Tensor

LOADS = 64
"""Reads of a lane in NCHW; of more, element by element, ptxas keeps some on the stack."""


def blocks(rows: int, size: int, dilation: int) -> int:
    """How many blocks cover so many rows."""
    return dilation * -(-rows // (size * dilation))


def fitted(size: int, rows: int, dilation: int) -> int:
    """`size`, or fewer where the rows that lie a dilation apart are fewer."""
    return size if dilation == 1 else min(size, -(-rows // dilation))


def width(t: Tensor, values: int, limit: int) -> int:
    """How many elements of up to 16 bytes a lane takes where each has so many values in `limit` bytes of registers."""
    wide = 16 // t.element_size()
    while wide > 1 and wide * values * value_bytes(t) > limit:
        wide //= 2
    return wide


def narrowed(wide: int, unit: int, taps: int, stride: int, dilation: int, rows: int) -> int:
    """As many of `wide` outputs as read at most LOADS times, or one unit."""

    def reads(wide: int) -> int:
        span = (wide - 1) * stride + 1
        together = math.ceil(((taps - 1) * dilation + span) / unit)
        apart = taps * (math.ceil((span - 1) / unit) + 1)
        return rows * (together if dilation == 1 else min(together, apart))

    while wide > unit and reads(wide) > LOADS:
        wide //= 2
    return wide


def value_bytes(t: Tensor) -> int:
    """Bytes of a value of `t` in the accumulator's dtype."""
    return 8 if t.element_size() == 8 else 4


def unit_of(t: Tensor, most: int, inner: int) -> int:
    """How many neighbours along axis `inner` of `t` [n, c, h, w] always lie together, at a multiple of their number: a
    power of two up to `most`."""
    steps = [step if size > 1 else 0 for size, step in zip(t.shape, t.stride(), strict=True)]
    step = steps.pop(inner)
    if t.shape[inner] > 1 and step != 1:
        return 1
    return math.gcd(most, t.shape[inner], *steps)
