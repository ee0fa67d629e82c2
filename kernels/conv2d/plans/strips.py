"""Strips: some rows of a run of adjacent pixels, whose tiles the rows of a 3-row window share (strips/)."""

from __future__ import annotations

from kernels.common.device import Card
from kernels.conv2d.geometry import Conv2dGeometry

TAPS = 3
"""Rows of the window."""
ROWS = 4
"""Rows of a strip; of the weight gradient's at most."""
CHANNELS = 64
"""From this many channels on a tile is full."""
NARROW = 4
"""Adjacent pixels of an image that a tile has at least."""


def strips_tile(which: str, itemsize: int) -> tuple[int, int, int, int, int]:
    """Block sizes, warps and stages: four warps whose sums leave room for two programs a multiprocessor, or three."""
    return (64, 64, 64 // itemsize, 4, 3) if which == "wgrad" else (64, 64, 128 // itemsize, 4, 2)


def rows_of(g: Conv2dGeometry) -> int:
    """Rows of a strip of the weight gradient: so many that a map has whole strips, since a row beyond it would meet a
    pixel that may be infinite."""
    return next(rows for rows in (ROWS, 2, 1) if g.p % rows == 0)


def columns_of(n: int, q: int, size: int) -> int:
    """Adjacent pixels of each image in a tile of `size` pixels: the longest runs of those that waste least."""
    sides = [side for side in (1 << i for i in range(size.bit_length())) if NARROW <= side <= size]
    return min(sides, key=lambda side: (-(-q // side) * -(-n // (size // side)), -side))


def strips_count(n: int, p: int, q: int, size: int, rows: int = ROWS) -> int:
    """Strips of so many rows of `size` pixels that cover n maps of p x q."""
    columns = columns_of(n, q, size)
    return -(-p // rows) * -(-q // columns) * -(-n // (size // columns))


def suits_strips(which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> bool:
    """Whether a window of three rows steps over a dense map of wide channels, on a card with TMA and wgmma."""
    window = g.r == TAPS and g.stride == (1, 1) and g.dilation[0] == 1 and g.groups == 1
    wide = min(g.c, g.k) >= CHANNELS and g.c * itemsize % 16 == 0 and g.k * itemsize % 16 == 0
    fits = card.tma and not card.tcgen05 and not card.tf32x3 and itemsize <= 4
    summed = g.k if which == "dgrad" else g.c
    return window and wide and fits and (which == "wgrad" or summed % strips_tile(which, itemsize)[2] == 0)
