"""Blocks of output pixels that few channels are multiplied in, and their tiles."""

from __future__ import annotations

import math
from functools import lru_cache

from kernels.common.device import Card
from kernels.common.roofline import FETCH
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.few import LEAST_COPY, is_far, suits_patch, suits_rows
from kernels.conv2d.plans.tiles import HALF_STEP, Sizes, Tile, sized, stage_bytes, with_warps

SIDE = 64
"""Rows and columns of a weight gradient's tile are multiples of so many, and the numbers of both that a block brings
are padded to them."""
TALL, WIDE = (1, 2, 4), (1, 2, 4, 8)
FILTERS = 16
"""With more of them padded rows fill their tiles and hold more programs at once (no sums are made again there)."""
MOST = 256
"""Results of a block at most."""
SIZES: Sizes = ((64, 64), (128, 64), (64, 128), (128, 128))
FORWARD: Sizes = ((128, 64), (128, 32))
"""Of the forward passes and the input gradient, with half a step."""


def suits_blocks(which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> bool:
    """Whether blocks of pixels may serve a pass: all but the weight gradient for few filters, which fill no tile
    otherwise, and in half precision, since rounding to TF32 in registers would take more of them than there are."""
    if itemsize == 8 or card.fma or card.tf32x3:
        return False
    if which != "wgrad" and (itemsize == 4 or suits_patch(which, g) or not _suits_forward(which, g)):
        return False
    return suits_rows(which, g) and not is_far(which, g, itemsize)


def _suits_forward(which: str, g: Conv2dGeometry) -> bool:
    """Few filters, and blocks whose runs are read two elements at a time at least, in either layout."""
    if which == "dgrad":
        which, g = "fprop", g.turned
    if g.k > FILTERS or g.w % 2 or not (g.p and g.q) or (which == "fprop_pool" and min(g.p, g.q) < 2):
        return False
    return which == "fprop_pool" or block_of(which, g, 2)[1] * g.stride[1] % 2 == 0


@lru_cache(maxsize=4096)
def block_of(which: str, g: Conv2dGeometry, itemsize: int) -> tuple[int, int]:
    """Rows and columns of results (pooled ones in the fused pool) of a block, divisors of the map's: those that take
    least for a pixel. The input gradient is the forward pass of g.turned."""
    each = 2 if which == "fprop_pool" else 1

    def cost(tall: int, wide: int) -> float:
        results, reached = sides(which, g, tall, wide, itemsize)
        n = -(-reached // SIDE) * SIDE
        if which == "wgrad":
            m = -(-results // SIDE) * SIDE
            return (m * n + FETCH * (m + n)) / (tall * wide)
        m = -(-results // 32) * 32
        return (m * n + FETCH * n * -(-m // 128)) / (tall * wide)

    p, q = g.p // each, g.q // each
    whole = [(t, u) for t in TALL for u in WIDE if p % t == 0 and q % u == 0]
    choices = [(t, u) for t, u in whole if t * u == 1 or t * u * g.k * each**2 <= MOST]
    return min(choices, key=lambda choice: cost(*choice))


def sides(which: str, g: Conv2dGeometry, tall: int, wide: int, itemsize: int) -> tuple[int, int]:
    """Sums of a block, and elements that their windows reach, if channels lie last: each row begins and ends at a
    multiple of what is copied at once, where rows do."""
    if which == "fprop_pool":
        tall, wide = 2 * tall, 2 * wide
    unit = math.gcd(g.w * g.c, wide * g.stride[1] * g.c, max(1, LEAST_COPY // itemsize))
    run = -g.padding[2] * g.c % unit + ((wide - 1) * g.stride[1] + g.s) * g.c
    return tall * wide * g.k, ((tall - 1) * g.stride[0] + g.r) * (-(-run // unit) * unit)


def blocks_tiles(which: str, itemsize: int, card: Card) -> list[Tile]:
    """Every tile of the blocks for a pass, an element size and a card."""
    if which == "wgrad":
        return [with_warps(tile, which, itemsize, 32) for tile in sized(SIZES, (), which, itemsize, card)]
    # Pooled in bfloat16 the narrow tile keeps 100 to 200 bytes on the stack of gfx942, the card with 64 KB.
    sizes = FORWARD[:1] if which == "fprop_pool" and card.shared <= 65_536 else FORWARD
    found = (Tile(m, n, HALF_STEP, 8, 3) for m, n in sizes)
    return [t for t in found if 3 * stage_bytes("fprop", t.block_m, t.block_n, HALF_STEP, itemsize) <= card.shared]
