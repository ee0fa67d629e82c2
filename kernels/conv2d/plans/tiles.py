"""Every tile of the gather and of the padded rows that ships: few, so that each can be compiled for every card.

The lists are the shortest whose estimate (cost.py) stays within 3 % of that of all powers of two, on the layers of
bench/cases with 1 to 512 images. `python -m bench inspect --plans` compiles them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernels.common.device import H100, Card

STEP = {2: 64, 4: 32, 8: 16}
"""Products of a step by element size: 128 bytes of a row."""
FMA_STEP = 16
"""And of float32 by multiply-adds, whose operands of a whole step lie in registers, where sums take many of them or
every element of the weight gradient has an address."""
HALF_STEP = 32
"""And of half precision where channels end in half a step, or are read one by one."""
Sizes = tuple[tuple[int, int], ...]
_MOST: Sizes = ((128, 128), (128, 64), (64, 128), (64, 64), (128, 32), (64, 32), (32, 32))
_POOL: Sizes = ((64, 64), (64, 32), (32, 64), (32, 32), (32, 16))
_WGRAD: Sizes = ((128, 128), (128, 64), (64, 128), (64, 64), (64, 32), (32, 64), (32, 32))
WIDE: dict[str, Sizes] = {"fprop": _MOST, "dgrad": _MOST, "wgrad": _WGRAD, "fprop_pool": _POOL}
"""Rows x columns of results where operands are read 16 bytes at a time."""
_TALL: Sizes = ((128, 128), (128, 64), (128, 32))
SHORT: dict[str, Sizes] = {"fprop": _TALL, "dgrad": _TALL, "wgrad": ((32, 32),), "fprop_pool": _POOL}
"""Those of half precision that come with half a step too."""
NARROW: dict[str, Sizes] = {
    "fprop": ((64, 64), (64, 32), (32, 64), (32, 32)),
    "dgrad": ((32, 64), (32, 32)),
    "wgrad": ((64, 64), (64, 32), (64, 16), (32, 64), (32, 32)),
    "fprop_pool": ((64, 32), (32, 32), (32, 16)),
}
"""Where elements are read one by one, which takes a pointer each."""
ROWS: dict[str, Sizes] = {
    "fprop": ((128, 64), (128, 32), (128, 16), (64, 64), (64, 32), (64, 16)),
    "wgrad": ((64, 128), (64, 64), (32, 64), (16, 128), (16, 64)),
    "fprop_pool": ((64, 64), (64, 32), (64, 16), (32, 32)),
}
SHORT_ROWS: dict[str, Sizes] = {"fprop": ROWS["fprop"][:2], "wgrad": (), "fprop_pool": ROWS["fprop_pool"][:3]}
"""The same of padded rows; the input gradient's are the forward pass's."""


@dataclass(frozen=True)
class Tile:
    """The block of one program: M x N results, K products a step; warps and pipeline stages."""

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int


def stage_bytes(which: str, block_m: int, block_n: int, block_k: int, itemsize: int) -> int:
    """Shared memory of one pipeline stage: the tiles of one step."""
    rows = 4 * block_m if which == "fprop_pool" else block_m
    return (rows + block_n) * block_k * itemsize


def tiles(which: str, itemsize: int, card: Card = H100, wide: bool = True, far: bool = False) -> list[Tile]:
    """Every tile of the gather for a pass, an element size in bytes (2, 4 or 8) and a card.

    wide: operands are read 16 bytes at a time (`is_wide`). far: offsets have 64 bits (`is_far`) and take the registers
    of eight warps; such grids fill every card, so that the largest tiles will do, or the smallest of single elements.
    """
    if card.tf32x3:
        return _tf32x3_tiles(which, card, far)
    sizes = (WIDE if wide else NARROW)[which]
    if card.fma and not far:  # a column that is not needed takes as long as one that is
        sizes = tuple(dict.fromkeys((*sizes, (32, 16), *(((16, 32),) if which == "wgrad" else ()))))
    found = sized(sizes, SHORT[which] if wide else (), which, itemsize, card, wide)
    # The accumulators of a thread. Where float32 is rounded to TF32 in registers there are fewer left.
    most = 0 if far else 16 if not wide else 32 if itemsize == 4 and not card.tma else 64
    if which == "fprop_pool" and wide and itemsize == 2 and not far:
        most = 128  # eight warps of 64 x 64 keep 8 bytes on the stack on sm_80
    if which == "fprop_pool" and card.fma and card.tcgen05 and not far:
        most = max(most, 32)  # 18 % fewer instructions a product than eight warps of 32 x 32, and no stack
    if far:
        found = found[_is_too_large(found[0], which, itemsize, card) : 2] if wide else found[-1:]
        found = [replace(tile, block_k=FMA_STEP) for tile in found] if card.fma else found
    return [with_warps(tile, which, itemsize, most) for tile in found]


def _is_too_large(tile: Tile, which: str, itemsize: int, card: Card) -> bool:
    """Whether a thread has too few registers for the largest tile and offsets of 64 bits."""
    rounded = itemsize == 4 and which == "dgrad" and card.tma and not card.tcgen05
    pooled = itemsize == 2 and which == "fprop_pool" and not card.tma and tile.block_n == 64
    return card.fma or rounded or pooled


def rows_tiles(which: str, itemsize: int, card: Card = H100, far: bool = False) -> list[Tile]:
    """Every tile of the padded rows for a pass, an element size and a card."""
    which = "fprop" if which == "dgrad" else which
    if card.tf32x3:
        found = [t for t in _tf32x3_tiles(which, card, False) if (t.block_m, t.block_n) in ROWS[which]]
        return [replace(t, num_warps=8) for t in (found[-1:] if far else found)]
    found = sized(ROWS[which], SHORT_ROWS[which], which, itemsize, card)
    if far:  # four sums of float64 leave no registers for the larger one
        found = found[-1:] if itemsize == 8 else found[:1]
    found = [with_warps(tile, which, itemsize, 0 if far else 16) for tile in found]
    if which == "fprop_pool" and itemsize == 2 and not card.tma:  # a third stage is one of 64 products too many
        found = [replace(tile, num_stages=2) if tile.block_n * tile.block_k == 64 * 64 else tile for tile in found]
    return found


def sized(sizes: Sizes, short: Sizes, which: str, itemsize: int, card: Card, wide: bool = True) -> list[Tile]:
    """Tiles of four warps with as many stages (2 or 3) as shared memory holds; two of multiply-adds, whose steps are so
    long that the next one's tiles are there: 2 to 5 % fewer instructions, and registers for more programs."""
    if itemsize == 8:
        sizes = ((32, 32), (32, 16)) if which == "fprop_pool" else ((32, 32),)
    elif itemsize == 4 and not card.tma:  # rounds to TF32 in registers
        sizes = tuple((m, n) for m, n in sizes if n <= (32 if which == "fprop_pool" else 64) and (wide or m <= 32))
    step = STEP[itemsize] if wide else min(HALF_STEP, STEP[itemsize])
    sums = 4 if which == "fprop_pool" else 1
    least = 0 if which == "wgrad" and not wide else 32 * 32
    found = [(m, n, FMA_STEP if card.fma and sums * m * n > least else step) for m, n in sizes]
    found += [(m, n, HALF_STEP) for m, n in short] if itemsize == 2 else []
    # The fused pool's largest tile spills where two of its stages fit and three do not (sm_86, sm_89).
    stages_least = 3 if which == "fprop_pool" and itemsize == 2 else 2
    made = []
    for size in found:
        stages = min(2 if card.fma else 3, card.shared // stage_bytes(which, *size, itemsize))
        if stages >= stages_least:
            made.append(Tile(*size, 4, stages))
    return made


def with_warps(tile: Tile, which: str, itemsize: int, most: int) -> Tile:
    """With four warps, or eight where each thread of four would have more than `most` registers of accumulators."""
    registers = tile.block_m * tile.block_n * (4 if which == "fprop_pool" else 1) * (2 if itemsize == 8 else 1)
    return tile if registers <= most * 4 * 32 else replace(tile, num_warps=8)


def _tf32x3_tiles(which: str, card: Card, far: bool) -> list[Tile]:
    """Those whose halves of numbers ptxas keeps in registers (m, n, warps)."""
    wgmma = card.tma and not card.tcgen05
    if which == "fprop_pool":
        sizes = [(64, 16, 8 if card.tcgen05 else 4), (64, 32, 8), *([(64, 64, 8)] if wgmma else [])]
    else:
        sizes = [(64, 64, 4 if wgmma else 8), (128, 32, 8), (128, 64, 8), *([(64, 128, 8)] if wgmma else [])]
        sizes += [(128, 128, 8)] if which == "wgrad" and card.tma else []
    return [Tile(m, n, 32, 8 if far else warps, 3) for m, n, warps in (sizes[-1:] if far else sizes)]
