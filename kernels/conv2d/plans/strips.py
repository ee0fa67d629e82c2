"""Strips: some rows of a run of adjacent pixels, whose tiles the rows of a 3-row window share (strips/)."""

from __future__ import annotations

from kernels.common.device import Card
from kernels.conv2d.geometry import Conv2dGeometry

TAPS = 3
"""Rows of the window, each with a sum of its own in registers."""
ROWS = 4
"""Rows of a strip, at most."""

CHANNELS = 64
"""From this many channels on a tile is full."""
STRIPS_TILE = (64, 64, 32, 4, 2)
"""Four warps with three sums of 64 x 64 leave room for three programs a multiprocessor."""


def rows_of(g: Conv2dGeometry) -> int:
    """Rows of output in a strip: so many that a map has whole strips, since a row beyond it would meet a pixel that may
    be infinite."""
    return next(rows for rows in (ROWS, 2, 1) if g.p % rows == 0)


def suits_strips(which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> bool:
    """Whether a window of three rows steps over a dense map of wide channels, on a card with TMA and wgmma."""
    window = g.r == TAPS and g.stride == (1, 1) and g.dilation[0] == 1 and g.groups == 1
    wide = min(g.c, g.k) >= CHANNELS and g.c * itemsize % 16 == 0 and g.k * itemsize % 16 == 0
    fits = card.tma and not card.tcgen05 and not card.tf32x3 and itemsize <= 4
    return which == "wgrad" and window and wide and fits
