"""How LeNet-5 runs: images a program takes at a time, tiles, programs and splits, from the batch and the card's size.

The aim is fixed by two numbers: a program for every place on the card while the batch lasts, and then as many images
a program as its linear layers have rows to fill a tile with.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.common.signature import apart
from kernels.lenet.geometry import LeNetGeometry

if TYPE_CHECKING:  # it imports Triton, which a machine without a card may lack
    from kernels.lenet.style import Style

RESIDENT = 2
"""Programs that a multiprocessor holds at once, from the machine code; of LATENCY's, twice as wide, it holds one."""


@dataclass(frozen=True)
class Forward:
    """images: at a time in a program; block_1, block_2: pooled pixels a tile of conv1 and conv2.

    block_c, block_k: inputs a step of conv2 and of a linear layer. conv_stages: 1 loads the convolutions' operands
    through the L1 cache, where a pixel is found again by the other windows over it and the window matrix by the next
    tile; more copy ahead past it, for programs that are alone. prepared: whether the window matrices are laid out by a
    launch of their own, and images first copied with zeros around them; backward needs both.
    """

    images: int
    block_1: int
    block_2: int
    block_c: int
    block_k: int
    num_warps: int
    num_stages: int
    conv_stages: int
    prepared: bool


@dataclass(frozen=True)
class Backward:
    """images: at a time in a program; block_m: 2x2 windows of y1 a tile; block_n: features a tile.

    block_c, block_k: inputs a step of conv2 transposed and of a linear layer. conv_stages: as of Forward.
    """

    images: int
    block_m: int
    block_c: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    conv_stages: int


@dataclass(frozen=True)
class Wgrad:
    """block_m pooled pixels and block_rows images a step; parts of the batch for conv1, conv2 and the linear layers."""

    block_m: int
    block_rows: int
    splits: tuple[int, int, int]
    num_warps: int
    num_stages: int


LATENCY, MIDDLE, THROUGHPUT = 1, 4, 16


def forward_plans(style: Style, keep: bool) -> dict[int, Forward]:
    """Every forward plan, by images at a time.

    keep: with the pool's codes for backward, which take registers from the tiles; so does an exact float32 tanh. The
    tiles are the largest that need no stack on any card from sm_80 on.
    """
    itemsize, narrow = style.compute.itemsize, keep or (style.exact and style.tanh)
    block_c, block_k, block_1 = 64 // itemsize, 64 // itemsize, 128 if style.exact and not narrow else 64
    return {
        LATENCY: Forward(1, 64, 32, block_c, 32 * itemsize, 8, 3, 3, keep),
        MIDDLE: Forward(4, 64, 64, block_c, block_k, 4, 2, 1, True),
        THROUGHPUT: Forward(16, block_1, 64, block_c if narrow else 32, block_k, 4, 2, 1, True),
    }


def backward_plans(style: Style) -> dict[int, Backward]:
    """Every backward plan, by images at a time."""
    itemsize = style.compute.itemsize
    block_c, block_k = 128 // itemsize, 64 // itemsize
    return {
        LATENCY: Backward(1, 64, block_c, 64, block_k, 4, 2, 2),
        MIDDLE: Backward(4, 64, block_c, 64, block_k, 4, 2, 1),
        THROUGHPUT: Backward(16, 64, block_c, 64, block_k, 4, 2, 1),
    }


_forced: int | None = None


@contextmanager
def force_images(images: int) -> Iterator[None]:
    """Take `images` (LATENCY, MIDDLE or THROUGHPUT) at a time inside the block, whatever the batch (tests, tuning)."""
    global _forced
    before, _forced = _forced, images
    try:
        with apart(images):
            yield
    finally:
        _forced = before


def images_at_a_time(n: int, multiprocessors: int) -> int:
    """The fewest images that give every place on the card one round of work, or the most there are."""
    if _forced is not None:
        return _forced
    places = RESIDENT * multiprocessors
    return next((i for i in (LATENCY, MIDDLE) if n <= i * places), THROUGHPUT)


def programs(n: int, images: int, multiprocessors: int) -> int:
    """How many programs share the batch."""
    return min(-(-n // images), RESIDENT * multiprocessors)


def wgrad_plan(g: LeNetGeometry, style: Style, multiprocessors: int) -> Wgrad:
    """Splits in proportion to the work of each layer, fewer where a part would be shorter than a few steps."""
    places = RESIDENT * multiprocessors
    block_m, block_rows = 16 if style.exact and style.tanh else 32, 64 // style.compute.itemsize
    longest = (g.n * g.pixels1 // (2 * block_m), g.n * g.pixels2 // (2 * block_m), g.n // (4 * block_rows))
    wanted = (places * 2 // 5, places // 10, max(1, places // 132))
    splits = tuple(max(1, min(w, most)) for w, most in zip(wanted, longest, strict=True))
    return Wgrad(block_m, block_rows, (splits[0], splits[1], splits[2]), 4, 2)
