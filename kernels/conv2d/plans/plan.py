"""The rule by which a convolution runs: algorithm and tile, chosen on the host from the geometry alone.

It knows no device, so that one machine's choice can be tested on any other; a card's measured table goes before it
(choose.py). Every tile that can come out is in `tiles(...)`, and the tests run each of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product

from kernels.common.device import H100, Card
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.box import suits_boxes
from kernels.conv2d.plans.cost import Work, groups_work, work_of
from kernels.conv2d.plans.few import (
    PACKED_CHANNELS,
    ROWS_CHANNELS,
    group_block,
    group_pack,
    is_direct,
    is_packed,
    is_wide,
    suits_groups,
    suits_patch,
    suits_rows,
)
from kernels.conv2d.plans.strips import strips_tile, suits_strips

PASSES = ("fprop", "fprop_pool", "dgrad", "wgrad")
PROGRAMS = 264
"""Programs that fill a large card twice (2 x 132 multiprocessors): the aim when work is cut finer."""
GROUP_ROWS = 128
"""Rows of a tile in the weight gradient of packed groups: input channels for as many taps as make so many."""
BATCH_CHANNELS, BATCH_IMAGES = 128, 64
"""From this many channels on the batch kernels' TMA rows are long enough (64 for the fused pool, which reuses more),
from this many images on a tile needs one pixel only. With fewer of either the estimate decides."""


@dataclass(frozen=True)
class Tile:
    """The block of one program: M x N results, K products a step; warps and pipeline stages."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Plan:
    """algorithm: "gemm", "batch", "strips" (rows of a run of pixels), "matmul", "rows" (few channels), "groups" (thin
    ones, packed), "patch" (a window in registers) or "direct" (other thin groups), the last two without a tile. splits:
    parts that the sum is cut in. packed: operands have adjacent channels, and the gemm walks K in blocks of them.
    tf32x3: float32 products are three of TF32."""

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


def stage_bytes(which: str, block_m: int, block_n: int, block_k: int, itemsize: int) -> int:
    """Shared memory of one pipeline stage: the tiles of one step."""
    rows = 4 * block_m if which == "fprop_pool" else block_m
    return (rows + block_n) * block_k * itemsize


def _tile(which: str, block_m: int, block_n: int, block_k: int, itemsize: int, card: Card) -> Tile:
    """The tile with as many stages (2 or 3) as shared memory holds. Without wgmma float32 operands are rounded to TF32
    in registers, which eight warps have enough of."""
    if itemsize == 4 and not card.tma:
        warps = 8 if block_m * block_n >= (64 * 32 if which == "fprop_pool" else 128 * 64) else 4
    else:
        warps = 8 if block_m * block_n >= 128 * 128 else 4
    stages = 3 if 3 * stage_bytes(which, block_m, block_n, block_k, itemsize) <= card.shared else 2
    if itemsize == 2 and which == "dgrad" and card.tcgen05 and (block_m, block_n) == (128, 64):
        warps = 8  # ptxas keeps 8 bytes of four warps on the stack
    if itemsize == 2 and which == "wgrad" and not card.tma and block_m * block_n == 128 * 128 and block_k == 32:
        stages = 2  # and 16 bytes of three stages
    return Tile(block_m, block_n, block_k, warps, stages)


def tiles(which: str, itemsize: int, card: Card = H100, wide: bool = True) -> list[Tile]:
    """Every tile the heuristic can give for a pass, an element size in bytes (2, 4 or 8) and a card.

    `wide`: tiles are read 16 bytes at a time (`is_wide`). Elements read one by one need a pointer each, and large tiles
    would spill; so would float32 tiles of 128 x 128 on cards without wgmma.
    """
    if card.tf32x3:
        return _tf32x3_tiles(which, card)
    block_k = {2: 64, 4: 32, 8: 16}[itemsize]
    tall: tuple[int, ...]
    broad: tuple[int, ...]
    if itemsize == 8:
        tall, broad = (16, 32), (16, 32)
    elif not wide:
        small = which == "dgrad" or (itemsize == 4 and not card.tma)
        tall, broad, block_k = (16, 32) if small else (16, 32, 64), (16, 32, 64), 32
    else:
        tall, broad = (16, 32, 64, 128), (16, 32, 64, 128)
        if itemsize == 4 and not card.tma:
            broad = (16, 32, 64)
    if which == "dgrad" and not wide and itemsize != 4 and not card.tma:
        broad = broad[1:]  # ptxas gives the tile of 16 columns few registers, and keeps 8 bytes or 16 on the stack
    if which == "fprop_pool":
        tall, broad = tall[:3], broad[:3] if wide and (itemsize == 2 or card.tma) else broad[:2]
    if which != "wgrad":
        tall = tall[1:]
    sizes = product(tall, broad, sorted({min(32, block_k), block_k}))
    # The fused pool's largest tile spills where two of its stages fit and three do not (sm_86, sm_89).
    least = 3 if which == "fprop_pool" and itemsize == 2 else 2
    found = [
        _tile(which, m, n, k, itemsize, card)
        for m, n, k in sizes
        if least * stage_bytes(which, m, n, k, itemsize) <= card.shared
    ]
    # Of float64 ptxas keeps 8 bytes of four warps on the stack on sm_90, and of two on sm_100.
    most = 64 * 32 if itemsize != 8 else 0 if which == "dgrad" and card.tma else 32 * 32
    if which == "fprop_pool" and itemsize != 8:
        most = 32 * 32 if itemsize == 2 else 32 * 16
    more = [not wide and t.block_m * t.block_n > most for t in found]
    return [replace(t, num_warps=8) if is_more else t for t, is_more in zip(found, more, strict=True)]


def _tf32x3_tiles(which: str, card: Card) -> list[Tile]:
    """Those whose halves of numbers ptxas keeps in registers (m, n, warps)."""
    wgmma = card.tma and not card.tcgen05
    if which == "fprop_pool":
        sizes = [(64, 16, 8 if card.tcgen05 else 4), (64, 32, 8), *([(64, 64, 8)] if wgmma else [])]
    else:
        sizes = [(64, 64, 4 if wgmma else 8), (128, 32, 8), (128, 64, 8), *([(64, 128, 8)] if wgmma else [])]
        sizes += [(128, 128, 8)] if which == "wgrad" and card.tma else []
    return [Tile(m, n, 32, warps, 3) for m, n, warps in sizes]


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
    candidates = {"gemm": tiles(which, itemsize, card, is_wide(which, g, itemsize)) if forced is None else [forced]}
    if forced is None:
        if suits_rows(which, g):
            candidates = {"rows": rows_tiles(which, itemsize, card, g.c)}
        elif card.tma and is_matmul(which, g, itemsize):
            candidates = {"matmul": matmul_tiles(itemsize)}
        elif card.tma and is_batch(which, g, itemsize, card):
            alone = which == "fprop_pool" or (g.n >= BATCH_IMAGES and min(g.c, g.k) >= BATCH_CHANNELS)
            candidates = {"batch": batch_tiles(which, itemsize, card), **({} if alone else candidates)}
        if suits_strips(which, g, itemsize, card):
            candidates["strips"] = [Tile(*strips_tile(which, itemsize))]

    def work(algorithm: str, tile: Tile) -> Work:
        return work_of(algorithm, which, g, itemsize, card, packed, tile.block_m)

    return replace(_cheapest(packed, work, candidates), tf32x3=card.tf32x3)


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
    matmul = matmul_tiles(itemsize) if card.tma and is_matmul(which, g, itemsize) else []
    batch = batch_tiles(which, itemsize, card) if card.tma and is_batch(which, g, itemsize, card) else []
    packed = is_packed(which, g)
    gather = [] if card.tf32x3 and not packed else tiles(which, itemsize, card, is_wide(which, g, itemsize))
    gemm = [Plan("gemm", tile, packed) for tile in gather]
    rows = rows_tiles(which, itemsize, card, g.c) if suits_rows(which, g) else []
    strips = [Tile(*strips_tile(which, itemsize))] if suits_strips(which, g, itemsize, card) else []
    special = [("matmul", matmul, True), ("batch", batch, True), ("strips", strips, True), ("rows", rows, False)]
    found = [Plan(name, tile, wide) for name, some, wide in special for tile in some] + gemm
    found = [replace(each, tf32x3=card.tf32x3) for each in found]
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


def rows_tiles(which: str, itemsize: int, card: Card = H100, c: int = ROWS_CHANNELS) -> list[Tile]:
    """Every tile of the padded rows for a pass, an element size, a card and c channels, which may ask for more warps: a
    few of those for packed channels."""
    found = tiles("fprop" if which == "dgrad" else which, itemsize, card)
    if which == "wgrad":
        found = [t for t in found if t.block_k == found[-1].block_k]
        tall = 32 if itemsize == 4 and not card.tma and card.shared < 2**17 else 64  # sm_120 spills 8 bytes of 64 x 64
        found = [t for t in found if t.block_m <= tall and t.block_n >= min(64, found[-1].block_n)]
        # Four warps spill where they copy 64 x 128 elements of single channels, on sm_100 64 x 64 of several, and on
        # sm_120 32 x 64 in float32.
        most = 16 * 64 if tall == 32 else 64 * 64 if c * itemsize <= 4 else 64 * 32 if card.tcgen05 else 64 * 128
        many = card.tf32x3
        return [replace(t, num_warps=8) if many or t.block_m * t.block_n > most else t for t in found]
    found = [t for t in found if t.block_n <= 64 and t.block_m >= min(64, found[-1].block_m)]
    # Four warps would need a register for each of 64 scattered addresses where rows of the map have an odd length. Of
    # 64 x 16 windows ptxas spills 8 bytes without wgmma.
    narrow = 16 if which == "fprop_pool" and not card.tma and not card.tf32x3 else 0
    return [replace(t, num_warps=8) if t.block_m * t.block_n > 64 * 64 or t.block_n == narrow else t for t in found]


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
    return [Tile(64, columns, summed, 4, 3), *([Tile(128, columns, summed, 8, 3)] if itemsize == 2 else [])]
