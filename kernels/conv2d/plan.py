"""How a convolution runs: algorithm and tile, chosen on the host from the geometry alone.

The heuristic knows no device, so that one machine's choice can be tested on any other; a card's measured table
(kernels/tuned) goes before it. Every tile that can come out is in `tiles(...)`, and the tests run each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

from kernels.conv2d.geometry import Conv2dGeometry

PASSES = ("fprop", "fprop_pool", "dgrad", "wgrad")
PROGRAMS = 264
"""Programs that fill a large card twice (2 x 132 multiprocessors): the aim when work is cut finer."""
DIRECT_CHANNELS = 16
"""Below this width of a group a matrix product would be mostly padding: tl.dot needs 16 columns."""
FLAT_CHANNELS = 32
"""Below this many input channels K is walked in flat (r, s, c) order, since a block of channels would be padded."""


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
    """algorithm "gemm" or "direct" (tile None); flat: order of K in fprop; splits: parts of wgrad's sum."""

    algorithm: str
    tile: Tile | None
    flat: bool = False
    splits: int = 1


def _tile(block_m: int, block_n: int, block_k: int) -> Tile:
    return Tile(block_m, block_n, block_k, 8 if block_m * block_n >= 128 * 128 else 4, 3)


def tiles(which: str, itemsize: int) -> list[Tile]:
    """Every tile the heuristic can give for a pass and an element size in bytes (2, 4 or 8)."""
    block_k = {2: 64, 4: 32, 8: 16}[itemsize]
    wide = (16, 32, 64) if which == "fprop_pool" or itemsize == 8 else (16, 32, 64, 128)
    tall = (16, 32, 64, 128) if which == "wgrad" else (32, 64, 128)
    tall = tuple(m for m in tall if m <= max(wide))
    return [_tile(m, n, k) for m, n, k in product(tall, wide, sorted({min(32, block_k), block_k}))]


def _fit(size: int, choices: Iterator[int] | list[int]) -> int:
    """The smallest choice that holds `size`, or the largest there is."""
    ordered = sorted(set(choices))
    return next((c for c in ordered if c >= size), ordered[-1])


def _choose_tile(which: str, m: int, n: int, k: int, groups: int, itemsize: int) -> Tile:
    allowed = tiles(which, itemsize)
    block_n = _fit(n, [t.block_n for t in allowed])
    block_k = _fit(k, [t.block_k for t in allowed])
    heights = sorted({t.block_m for t in allowed}, reverse=True)
    block_m = _fit(m, heights)
    if which != "wgrad":  # a small problem is cut finer until it fills the card; wgrad is cut by its splits
        while block_m > heights[-1] and groups * -(-m // block_m) * -(-n // block_n) < PROGRAMS:
            block_m = heights[heights.index(block_m) + 1]
    return _tile(block_m, block_n, block_k)


_forced: dict[str, Tile] = {}


@contextmanager
def force_tile(which: str, tile: Tile) -> Iterator[None]:
    """Run every gemm of pass `which` with `tile` inside the block, whatever the heuristic says (tests, tuning)."""
    before = _forced.get(which)
    _forced[which] = tile
    try:
        yield
    finally:
        _forced.pop(which)
        if before is not None:
            _forced[which] = before


def plan(which: str, g: Conv2dGeometry, itemsize: int) -> Plan:
    """The plan of one pass of one problem; `itemsize` is the element size in bytes."""
    taps = g.r * g.s
    pixels = g.n * g.p * g.q
    if g.groups > 1 and _is_thin(which, g):
        return Plan("direct", None, splits=_splits(g.k * g.c_group * taps // 32 + 1, pixels, 512))
    if which == "fprop" or which == "fprop_pool":
        flat = g.c_group < FLAT_CHANNELS
        rows = g.n * (g.p // 2) * (g.q // 2) if which == "fprop_pool" else pixels
        depth = 32 if flat else g.c_group
        tile = _forced.get(which) or _choose_tile(which, rows, g.k_group, depth, g.groups, itemsize)
        return Plan("gemm", tile, flat=flat)
    if which == "dgrad":
        rows = g.n * -(-g.h // g.stride[0]) * -(-g.w // g.stride[1])
        phases = g.stride[0] * g.stride[1]
        tile = _forced.get(which) or _choose_tile(which, rows, g.c_group, g.k_group, g.groups * phases, itemsize)
        return Plan("gemm", tile)
    width = g.c_group * taps
    tile = _forced.get(which) or _choose_tile(which, g.k_group, width, pixels, g.groups, itemsize)
    programs = g.groups * -(-g.k_group // tile.block_m) * -(-width // tile.block_n)
    return Plan("gemm", tile, splits=_splits(programs, pixels, 4 * tile.block_k))


def _is_thin(which: str, g: Conv2dGeometry) -> bool:
    """Whether the GEMM of a grouped convolution would have too few columns."""
    columns = {"dgrad": g.c_group, "wgrad": min(g.k_group, g.c_group * g.r * g.s)}.get(which, g.k_group)
    return columns < DIRECT_CHANNELS


def _splits(programs: int, pixels: int, least: int) -> int:
    """Into how many parts a sum over `pixels` is cut: enough to fill a card, each at least `least` long."""
    return max(1, min(-(-PROGRAMS // programs), pixels // least))
