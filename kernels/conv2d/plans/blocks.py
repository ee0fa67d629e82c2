"""Blocks of output pixels that few channels are multiplied in, and their tiles."""

from __future__ import annotations

import math
from functools import lru_cache

from kernels.common.device import Card
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.few import is_far, suits_rows
from kernels.conv2d.plans.tiles import Tile, sized, with_warps

SIDE = 64
"""Rows and columns of a tile are multiples of so many, and the numbers of both a block brings are padded to them."""
TALL, WIDE = (1, 2, 4), (1, 2, 4, 8)
LEAST = 4
"""Bytes that an asynchronous copy moves at least."""
MOST = 256
"""Results of a block at most."""
FETCH = 80
"""Fetching a row of an operand costs as much as multiplying it with this many columns (cost.py)."""
SIZES = ((64, 64), (128, 64), (64, 128), (128, 128))


def suits_blocks(which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> bool:
    """Whether blocks of pixels may serve a pass."""
    if which != "wgrad" or itemsize == 8 or card.fma or card.tf32x3:
        return False
    return suits_rows(which, g) and not is_far(which, g, itemsize)


@lru_cache(maxsize=4096)
def block_of(g: Conv2dGeometry, itemsize: int) -> tuple[int, int]:
    """Rows and columns of a block, divisors of the map's: those that take least for a pixel."""

    def cost(tall: int, wide: int) -> float:
        m, n = (-(-size // SIDE) * SIDE for size in sides(g, tall, wide, itemsize))
        return (m * n + FETCH * (m + n)) / (tall * wide)

    choices = [
        (t, u) for t in TALL for u in WIDE if g.p % t == 0 and g.q % u == 0 and (t * u * g.k <= MOST or t * u == 1)
    ]
    return min(choices, key=lambda choice: cost(*choice))


def sides(g: Conv2dGeometry, tall: int, wide: int, itemsize: int) -> tuple[int, int]:
    """Results of a block, and elements that their windows reach, if channels lie last: each row begins and ends at a
    multiple of what is copied at once, where rows do."""
    unit = math.gcd(g.w * g.c, wide * g.stride[1] * g.c, max(1, LEAST // itemsize))
    run = -g.padding[2] * g.c % unit + ((wide - 1) * g.stride[1] + g.s) * g.c
    return tall * wide * g.k, ((tall - 1) * g.stride[0] + g.r) * (-(-run // unit) * unit)


def blocks_tiles(which: str, itemsize: int, card: Card) -> list[Tile]:
    """Every tile of the blocks for a pass, an element size and a card."""
    return [with_warps(tile, which, itemsize, 32) for tile in sized(SIZES, (), which, itemsize, card)]
