"""Which tile, in how many parts of the sum, a card should finish first: an estimate in clock cycles, never a time.

A program multiplies one tile while it fetches the next, and programs run in waves: a grid of 1.1 waves takes as long as
one of 2. The constants are an H100's, taken from what published matrix products reach there (128 x 256 tiles 72 % of
the tensor cores' rate, 128 x 128 tiles 62 %), and shared with what predicts times. A measured table goes before the
estimate.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from kernels.common.device import Card
from kernels.common.roofline import ANSWER, FETCH, FILL, STEP
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans import blocks, strips
from kernels.conv2d.plans.box import SEVERAL, box_of
from kernels.conv2d.plans.few import group_block, group_pack, padded_rows

WAVE = 132
"""Multiprocessors."""
RATE = 45.0
"""Multiply-adds a cycle for each of the 64 half-precision numbers in 128 bytes of a row."""
LATENCY = ANSWER / 3
"""Cycles a step takes at least: three stages do not cover what memory takes to answer."""
SECOND_PASS = 4400.0
"""Cycles of a second pass besides its bytes."""
FMA = 11
"""A float32 multiply-add on the ordinary units (128 a cycle) against one on tensor cores."""
COPY = 3500.0
"""Cycles of a pass that copies besides its bytes."""
BYTES = 1700.0
"""Bytes a cycle between the chip and its memory."""
LEAST_STEPS = 4
"""Steps that a part of a sum has at least."""
LONG_SUM = 512
"""From this many products on a sum by TF32 in three parts is nearer to the exact one than a float32 sum one by one
(kernels/conv2d/README.md, "Precision")."""


@dataclass(frozen=True)
class Work:
    """`copies` equal products of m x n results (groups, phases, taps), each summing `taps` times over `depth` elements.

    A step fetches `rows` tiles of M (4 in the fused pool) and `columns` of N, which make `joint` products, or `rows` if
    it is 0. fill: how often the programs of a cut sum fill the card. itemsize: bytes of an operand's element. wgmma:
    tiles of fewer than 64 rows miss the fast instruction. split: "no"; "may" (a second pass if there are parts);
    "always" (a second pass whatever the parts). slow: a step's cycles against the usual ones.
    products: that a multiply-add takes. least_steps: that a part has. before: cycles of a pass that copies operands.
    """

    m: int
    n: int
    depth: int
    taps: float
    copies: int
    itemsize: int
    rows: int = 1
    wgmma: bool = False
    split: str = "may"
    slow: float = 1.0
    products: int = 1
    least_steps: int = LEAST_STEPS
    columns: int = 1
    joint: int = 0
    fill: tuple[int, ...] = (1, 2)
    before: float = 0.0

    def programs(self, block_m: int, block_n: int) -> int:
        """Tiles of one part of the sum."""
        return self.copies * -(-self.m // block_m) * -(-self.n // block_n)

    def steps(self, block_k: int) -> float:
        """Steps of a whole sum, on average over the copies."""
        return self.taps * -(-self.depth // block_k)

    def parts(self, block_m: int, block_n: int, block_k: int) -> list[int]:
        """Numbers of parts worth a look: one, and those that fill the card once or twice."""
        most = 1 if self.split == "no" else max(1, int(self.steps(block_k)) // self.least_steps)
        programs = self.programs(block_m, block_n)
        return sorted({1, *(min(most, max(1, waves * WAVE // programs)) for waves in self.fill)})

    def cycles(self, block_m: int, block_n: int, block_k: int, parts: int) -> float:
        """The estimate for one tile."""
        joint = self.joint or self.rows
        products = joint * block_m * block_n * (2 if self.wgmma and block_m < 64 else 1)
        fetched = self.rows * block_m + self.columns * block_n
        busy = (self.products * products + FETCH * fetched) / RATE * (block_k * self.itemsize / 128)
        step = STEP + max(LATENCY, busy) * self.slow
        waves = -(-self.programs(block_m, block_n) * parts // WAVE)
        total = self.before + waves * (FILL + step * self.steps(block_k) / parts)
        if parts > 1 or self.split == "always":
            unit = 8 if self.itemsize == 8 else 4
            results = self.copies * self.m * self.n * joint // self.columns
            total += SECOND_PASS + 2 * parts * results * unit / BYTES
        return total


def work_of(
    algorithm: str, which: str, g: Conv2dGeometry, itemsize: int, card: Card, packed: bool, block_m: int
) -> Work:
    """The product that pass `which` is by "gemm", "batch", "strips" or "matmul" with tiles of `block_m` rows."""
    if card.tf32x3:
        plain = work_of(algorithm, which, g, itemsize, replace(card, tf32x3=False), packed, block_m)
        return replace(plain, products=3, least_steps=LONG_SUM // 32)
    if card.fma:
        plain = work_of(algorithm, which, g, itemsize, replace(card, fma=False), packed, block_m)
        return replace(plain, products=FMA)
    if algorithm == "blocks":
        return _blocks(which, g, itemsize, card.tma)
    if algorithm == "rows":
        return _rows(which, g, itemsize, card, packed)
    if algorithm == "batch":
        return _batch(which, g, itemsize, block_m, card)
    if algorithm == "strips":
        return _strips(which, g.turned if which == "dgrad" else g, itemsize, block_m)
    wgmma = card.tma
    if which == "wgrad":
        return _wgrad(g, itemsize, wgmma, packed)
    taps = g.r * g.s
    if which == "dgrad":
        copies = g.groups * g.phases
        return Work(g.phase_pixels, g.c_group, g.k_group, taps / g.phases, copies, itemsize, wgmma=wgmma)
    # Few channels (not packed) join the taps in one sum.
    times, depth = (taps, g.c_group) if packed else (1, g.c_group * taps)
    if which == "fprop_pool":
        return Work(g.n * (g.p // 2) * (g.q // 2), g.k_group, depth, times, g.groups, itemsize, 4, wgmma, "no")
    return Work(g.n * g.p * g.q, g.k_group, depth, times, g.groups, itemsize, 1, wgmma, "may" if packed else "no")


def groups_work(which: str, g: Conv2dGeometry, itemsize: int, card: Card, block_m: int, block_n: int) -> Work:
    """The products of packed groups, with a tile for each pack of them; in wgrad its rows are of several taps."""
    pack = group_pack(which, g, itemsize)
    taps, blocks = g.r * g.s, -(-g.groups // pack)
    if which == "wgrad":
        copies = -(-taps // (block_m // group_block(pack * g.c_group))) * blocks
        pixels = g.n * g.p * g.q
        return Work(block_m, block_n, pixels, 1, copies, itemsize, wgmma=card.tma, split="always")
    phases, pixels = 1, g.n * g.p * g.q
    if which == "dgrad":
        phases, pixels = g.phases, g.phase_pixels
    depth = pack * (g.k_group if which == "dgrad" else g.c_group)
    return Work(pixels, block_n, depth, taps / phases, phases * blocks, itemsize, wgmma=card.tma, split="no")


def _wgrad(g: Conv2dGeometry, itemsize: int, wgmma: bool, packed: bool) -> Work:
    """Few channels (not packed) join the taps in one width."""
    taps = g.r * g.s
    copies, width = (taps, g.c_group) if packed else (1, g.c_group * taps)
    return Work(g.k_group, width, g.n * g.p * g.q, 1, g.groups * copies, itemsize, wgmma=wgmma, split="always")


def _rows(which: str, g: Conv2dGeometry, itemsize: int, card: Card, packed: bool) -> Work:
    """The product on a copy of the input, its padding included; in wgrad a step is of one row of pixels."""
    if which == "dgrad":
        which, g = "fprop", g.turned
    rows, columns, channels = padded_rows(g, itemsize)
    moved = g.n * (g.c * g.h * g.w + rows * columns * channels) * itemsize
    product = work_of("gemm", which, g, itemsize, card, packed, 0)
    product = replace(product, before=COPY + moved / BYTES)
    window = g.r * g.s * channels
    if which != "wgrad":
        return replace(product, depth=window)
    step = 128 // itemsize
    return replace(product, n=window, depth=g.n * g.p * -(-g.q // step) * step)


def _blocks(which: str, g: Conv2dGeometry, itemsize: int, wgmma: bool) -> Work:
    """In wgrad a block of pixels is one element of the sum, and its results are a side; else it is a row of results,
    and a pass writes the filters as a matrix first."""
    if which == "dgrad":
        which, g = "fprop", g.turned
    tall, wide = blocks.block_of(which, g, itemsize)
    m, n = blocks.sides(which, g, tall, wide, itemsize)
    if which == "wgrad":
        return Work(m, n, g.n * g.p * g.q // (tall * wide), 1, 1, itemsize, wgmma=wgmma, split="always")
    each = 2 if which == "fprop_pool" else 1
    count = g.n * (g.p // each) * (g.q // each) // (tall * wide)
    return Work(count, m, n, 1, 1, itemsize, wgmma=wgmma, split="no", before=COPY)


def _strips(which: str, g: Conv2dGeometry, itemsize: int, block_m: int) -> Work:
    """Every strip is a program's, and a step one column of taps. In wgrad the column is, which sums each of its rows;
    three programs share a multiprocessor."""
    if which != "wgrad":
        tall, joint = strips.ROWS + strips.TAPS - 1, strips.ROWS * strips.TAPS
        count = strips.strips_count(g.n, g.p, g.q, block_m)
        work = Work(block_m, g.k, g.c, g.s, count, itemsize, tall, True, "no", SEVERAL)
        return replace(work, columns=strips.TAPS, joint=joint)
    rows = strips.rows_of(g)
    tall, joint, fill = rows + strips.TAPS - 1, rows * strips.TAPS, (3,)
    size = strips.strips_tile(which, itemsize)[2]
    work = Work(
        g.c, g.k, size, strips.strips_count(g.n, g.p, g.q, size, rows), g.s, itemsize, tall, True, "always", SEVERAL
    )
    return replace(work, columns=rows, joint=joint, fill=fill)


def _batch(which: str, g: Conv2dGeometry, itemsize: int, block_m: int, card: Card) -> Work:
    """Every pixel or box of pixels, in wgrad every tap, is a product of its own."""
    box = box_of(which, g, block_m, itemsize)
    if box.steps:
        made = g.turned if which == "dgrad" else g
        count = box.count(made.p, made.q, g.n)
        slow = 1.0 if card.tcgen05 else box.slow(made.c * itemsize)
        return Work(block_m, made.k, made.c, box.steps / count, count, itemsize, wgmma=True, slow=slow)
    taps = g.r * g.s
    if which == "wgrad":
        return Work(g.k, g.c, g.n, g.p * g.q, taps, itemsize, wgmma=True, split="always")
    if which == "dgrad":
        return Work(g.n, g.c, g.k, taps / g.phases, g.h * g.w, itemsize, wgmma=True)
    if which == "fprop_pool":
        return Work(g.n, g.k, g.c, taps, (g.p // 2) * (g.q // 2), itemsize, 4, True, "no")
    return Work(g.n, g.k, g.c, taps, g.p * g.q, itemsize, wgmma=True)
