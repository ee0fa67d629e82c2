"""The rule by which a convolution runs: algorithm and tile, chosen on the host from the geometry alone.

It knows no device, so that one machine's choice can be tested on any other; a card's measured table goes before it
(choose.py). Every tile that can come out is in tiles.py or here, and the tests run each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from kernels.common.device import H100, PROGRAMS, Card
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.blocks import blocks_tiles, suits_blocks
from kernels.conv2d.plans.box import suits_boxes
from kernels.conv2d.plans.cost import Work, groups_work, work_of
from kernels.conv2d.plans.few import (
    PACKED_CHANNELS,
    group_block,
    group_pack,
    is_direct,
    is_far,
    is_packed,
    is_wide,
    suits_groups,
    suits_patch,
    suits_rows,
)
from kernels.conv2d.plans.strips import strips_tile, suits_strips
from kernels.conv2d.plans.tiles import Tile, rows_tiles, tiles

PASSES = ("fprop", "fprop_pool", "dgrad", "wgrad")
GROUP_ROWS = 128
"""Rows of a tile in the weight gradient of packed groups: input channels for as many taps as make so many."""
BATCH_CHANNELS, BATCH_IMAGES = 128, 64
"""From this many channels on the batch kernels' TMA rows are long enough (64 for the fused pool, which reuses more),
from this many images on a tile needs one pixel only. With fewer of either the estimate decides."""


@dataclass(frozen=True)
class Plan:
    """algorithm: "gemm", "batch", "strips" (rows of a run of pixels), "matmul", "rows" or "blocks" of pixels (few
    channels), "groups" (thin ones, packed), "patch" (a window in registers) or "direct" (other thin groups), the last
    two without a tile. splits: parts that the sum is cut in. packed: operands and result have adjacent channels, and
    the gemm walks K in blocks of them. tf32x3: float32 products are three of TF32."""

    algorithm: str
    tile: Tile | None
    packed: bool = False
    splits: int = 1
    tf32x3: bool = False

    @property
    def block(self) -> Tile:
        """The tile of a plan that has one."""
        assert self.tile is not None
        return self.tile


def _cheapest(packed: bool, work: Callable[[str, Tile], Work], candidates: dict[str, list[Tile]]) -> Plan:
    """The plan with the lowest estimate; the first of equals, with fewer parts."""
    found = []
    for algorithm, allowed in candidates.items():
        for tile in allowed:
            product, size = work(algorithm, tile), (tile.block_m, tile.block_n, tile.block_k)
            found += [(product.cycles(*size, parts), algorithm, tile, parts) for parts in product.parts(*size)]
    _, algorithm, tile, parts = min(found, key=lambda each: each[0])
    return Plan(algorithm, tile, packed, parts)


@lru_cache(maxsize=4096)
def rule(which: str, g: Conv2dGeometry, itemsize: int, card: Card, forced: Tile | None = None) -> Plan:
    """The plan that geometry and estimate give; every gemm with the tile `forced`, if there is one."""
    if suits_groups(which, g, itemsize):
        choices = groups_tiles(which, g, itemsize)
        product = groups_work(which, g, itemsize, card, choices[0].block_m, choices[0].block_n)
        return _cheapest(True, lambda *_: product, {"groups": choices})
    if is_direct(which, g):
        return Plan("direct", None, splits=max(1, min(-(-PROGRAMS // -(-g.k // 64)), g.n * g.p * g.q // 512)))
    if suits_patch(which, g) and forced is None:
        return Plan("patch", None)
    packed = is_packed(which, g)
    if forced is not None:
        candidates = {"gemm": [forced]}
    else:
        candidates = _candidates(which, g, itemsize, card)
        if "batch" in candidates and _is_batch_alone(which, g):
            candidates.pop("gemm")

    def work(algorithm: str, tile: Tile) -> Work:
        return work_of(algorithm, which, g, itemsize, card, packed, tile.block_m)

    return replace(_cheapest(packed, work, candidates), tf32x3=card.tf32x3)


def _candidates(which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> dict[str, list[Tile]]:
    """Algorithms that multiply tiles, each with its tiles."""
    far = is_far(which, g, itemsize)
    if suits_rows(which, g):
        blocks = {"blocks": blocks_tiles(which, itemsize, card)} if suits_blocks(which, g, itemsize, card) else {}
        return {"rows": rows_tiles(which, itemsize, card, far), **blocks}
    if card.tma and is_matmul(which, g, itemsize):
        return {"matmul": matmul_tiles(itemsize)}
    batch = {"batch": batch_tiles(which, itemsize, card)} if card.tma and is_batch(which, g, itemsize, card) else {}
    strips = {"strips": [Tile(*strips_tile(which, itemsize))]} if suits_strips(which, g, itemsize, card) else {}
    return {**batch, "gemm": tiles(which, itemsize, card, is_wide(which, g, itemsize), far), **strips}


def _is_batch_alone(which: str, g: Conv2dGeometry) -> bool:
    """Whether only a measurement may choose anything but the batch kernels, where these can run."""
    return which == "fprop_pool" or (g.n >= BATCH_IMAGES and min(g.c, g.k) >= BATCH_CHANNELS)


def wgrad_tiles(g: Conv2dGeometry, tile: Tile, packed: bool) -> int:
    """How many tiles cover the weight gradient of one group: those of a packed one stay within a tap."""
    taps = g.r * g.s
    columns = taps * -(-g.c_group // tile.block_n) if packed else -(-g.c_group * taps // tile.block_n)
    return -(-g.k_group // tile.block_m) * columns


def shipped(which: str, g: Conv2dGeometry, itemsize: int, card: Card) -> list[Plan]:
    """Every plan that may run this problem, in one part: those of the rule, and those that a table may name."""
    if suits_groups(which, g, itemsize):
        return [Plan("groups", tile, True) for tile in groups_tiles(which, g, itemsize)]
    if is_direct(which, g):
        return [Plan("direct", None)]
    packed = is_packed(which, g)
    found = [
        Plan(algorithm, tile, packed, tf32x3=card.tf32x3)
        for algorithm, some in _candidates(which, g, itemsize, card).items()
        for tile in some
    ]
    return [*found, *([Plan("patch", None)] if suits_patch(which, g) else [])]


def batch_tiles(which: str, itemsize: int, card: Card = H100) -> list[Tile]:
    """Every tile of the batch kernels for a pass and an element size; float64 has none."""
    block_k = {2: 64, 4: 32}.get(itemsize)
    if block_k is None:
        return []
    if which == "fprop_pool":
        if card.tf32x3:
            return [] if card.tcgen05 else [Tile(64, 64, block_k, 8, 3)]
        return [Tile(64, 128, block_k, 8, 3), Tile(64, 64, block_k, 4, 3)]
    if which == "wgrad":
        widths = (128, 256) if itemsize == 2 else (128,)
        return [Tile(128, n, block_k, 8, 4) for n in widths]
    tall = [Tile(128, n, block_k, 8, 4) for n in ((128, 256) if itemsize == 2 else (128,))]
    return [*tall, Tile(64, 128, block_k, 4, 4), Tile(128, 64, block_k, 4, 4)]


def is_batch(which: str, g: Conv2dGeometry, itemsize: int, card: Card = H100) -> bool:
    """Whether TMA with the batch, or boxes of pixels, as the tall side suits this pass."""
    choices = batch_tiles(which, itemsize, card)
    if g.groups != 1 or not choices:
        return False
    boxes = suits_boxes(which, g, itemsize)
    if g.n < BATCH_IMAGES and not boxes:
        return False
    least = 64 if which == "fprop_pool" or boxes else BATCH_CHANNELS
    whole = which == "wgrad" or (g.k if which == "dgrad" else g.c) % choices[0].block_k == 0
    return min(g.c, g.k) >= least and whole and _aligned(g, itemsize)


def matmul_tiles(itemsize: int) -> list[Tile]:
    """Every tile of the plain matrix product for an element size; float64 has none."""
    block_k = {2: 64, 4: 32}.get(itemsize)
    if block_k is None:
        return []
    wide = [Tile(128, 256, block_k, 8, 4)] if itemsize == 2 else []
    high = [Tile(128, n, block_k, 8 if n == 128 else 4, 4) for n in (128, 64, 32)]
    return [*wide, *high, *(Tile(64, n, block_k, 4, 4) for n in (128, 64, 32))]


def is_matmul(which: str, g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether this pass is a matrix product of two matrices as they lie in memory, which TMA reads."""
    plain = g.r == g.s == 1 and g.stride == (1, 1) and g.padding == (0, 0, 0, 0) and g.groups == 1
    wide = min(g.c, g.k) >= PACKED_CHANNELS and _aligned(g, itemsize)
    return plain and wide and which != "fprop_pool" and bool(matmul_tiles(itemsize))


def _aligned(g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether TMA can read rows of either map's channels."""
    return (g.c * itemsize) % 16 == 0 and (g.k * itemsize) % 16 == 0


def groups_tiles(which: str, g: Conv2dGeometry, itemsize: int) -> list[Tile]:
    """Every tile of packed groups."""
    pack = group_pack(which, g, itemsize)
    c, k = group_block(pack * g.c_group), group_block(pack * g.k_group)
    if which == "wgrad":
        # Elements that are read one by one need a register for each address: fewer of them in a program.
        rows = GROUP_ROWS if math.gcd(g.c, pack * g.c_group) * itemsize % 16 == 0 else GROUP_ROWS // itemsize
        taps = min(max(1, rows // c), 1 << (g.r * g.s - 1).bit_length())
        return [Tile(taps * c, k, 128 // itemsize, 8 if taps * c * k > 32 * 32 else 4, 3)]
    summed, columns = (k, c) if which == "dgrad" else (c, k)
    tall = [Tile(128, columns, summed, 8, 3)] if itemsize == 2 else []
    return tall if tall and is_far(which, g, itemsize) else [Tile(64, columns, summed, 4, 3), *tall]
