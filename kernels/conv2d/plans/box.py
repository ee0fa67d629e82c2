"""The pixels and images of a tile of the batch kernels: a box that TMA fetches at once.

With enough images a tile is one pixel of them all: its row and column are scalars, and taps outside the image are left
out. Fewer images share a tile with neighbouring pixels, whose taps are left out only where all of them are outside.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from kernels.conv2d.geometry import Conv2dGeometry

MOST = 256
"""The longest side of a box that TMA takes."""
SEVERAL = 1.1
"""A step of several pixels against one of a single one: Hopper's tensor cores take it from registers, into which every
step copies it first (4 of 156 instructions, which nothing of the same warps overlaps)."""
LEAST, WASTE = 64, 1.2
"""Boxes of the smallest tile may make so many times the steps that are needed."""
SHORT, RUN = 1.05, 256
"""A step whose runs of adjacent bytes are shorter than this, against others."""


@dataclass(frozen=True)
class Box:
    """Rows and columns of output pixels, and images; all powers of two. steps: taps times boxes that cover a map."""

    rows: int
    columns: int
    images: int
    steps: int

    def count(self, height: int, width: int, n: int) -> int:
        """Boxes that cover n maps."""
        return -(-height // self.rows) * -(-width // self.columns) * -(-n // self.images)

    def slow(self, pixel: int) -> float:
        """Cycles of a step against those of a single pixel with long rows; `pixel` has so many bytes."""
        single = self.rows == self.columns == 1
        return (1 if single else SEVERAL) * (SHORT if self.columns * pixel < RUN else 1)


@lru_cache(maxsize=4096)
def box_of(which: str, g: Conv2dGeometry, size: int, itemsize: int) -> Box:
    """The box of `size` pixels and images that needs the fewest steps for the result of `which`.

    Only "fprop" and "dgrad" with stride 1 take several pixels: TMA reads no other than adjacent ones.
    """
    if which == "dgrad" and g.stride == (1, 1):
        g = g.turned
    if which not in ("fprop", "dgrad") or g.stride != (1, 1):
        return Box(1, 1, size, 0)
    return min(_boxes(g, size), key=lambda box: (box.steps * box.slow(g.c * itemsize), -box.images))


def suits_boxes(which: str, g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether boxes cover the result with little waste, so that few images fill a tile too."""
    if which not in ("fprop", "dgrad") or g.stride != (1, 1):
        return False
    made = g.turned if which == "dgrad" else g
    steps = made.n * made.p * made.q * made.r * made.s / LEAST
    return box_of(which, g, LEAST, itemsize).steps <= WASTE * steps


def _boxes(g: Conv2dGeometry, size: int) -> Iterator[Box]:
    sides = [1 << i for i in range(size.bit_length()) if 1 << i <= MOST]
    rows = {side: _taps(g.p, g.h, g.r, g.padding[0], g.dilation[0], side) for side in sides}
    columns = {side: _taps(g.q, g.w, g.s, g.padding[2], g.dilation[1], side) for side in sides}
    for i in sides:
        for j in sides:
            if i * j <= size and size // (i * j) <= MOST:
                images = size // (i * j)
                yield Box(i, j, images, rows[i] * columns[j] * -(-g.n // images))


def _taps(outputs: int, inputs: int, taps: int, padding: int, dilation: int, side: int) -> int:
    """Taps that meet the image, summed over the blocks of `side` outputs of one axis."""
    starts = [t * dilation - padding for t in range(taps)]
    return sum(-side < o + start < inputs for o in range(0, outputs, side) for start in starts)
