"""Which convolutions over few channels have a form of their own, and why: counts of instructions for an H100.

Warp instructions that a card issues per output, read from the machine code of sm_90 (the copy into rows aside):

| first layer                  | gather gemm | padded rows | register patch |
|---|---|---|---|
| 7x7 / 2, 3 -> 64, float16    | 4.6  | 0.6 | -   |
| 3x3, 3 -> 64, float16        | 1.3  | 0.5 | -   |
| 3x3, 1 -> 32, float32        | 1.3  | 1.5 | 0.7 |
| 5x5, 1 -> 6, pooled, float32 | 24   | 14  | 6.5 |
"""

from __future__ import annotations

from kernels.conv2d.geometry import Conv2dGeometry

DIRECT_CHANNELS = 16
"""Below this width of a group a matrix product would be mostly padding: tl.dot needs 16 columns."""
PACKED_CHANNELS = 32
"""From this width on operands have adjacent channels and K is walked in blocks of them; below, a block would be mostly
padding, and fprop walks K in flat (r, s, c) order."""
ROWS_CHANNELS = 16
"""Up to this many channels an ungrouped convolution of more than one tap copies its input into padded rows."""
SIZE = 2**20
"""Larger maps are not for `near`, which divides in float32."""
PATCH_BLOCK = {"fprop": (4, 1), "fprop_pool": (2, 2)}
"""Rows and columns of output that a lane of the register patch computes."""
PATCH_VALUES, PATCH_FILTERS, PATCH_TAPS = 64, 16, 16
"""The register patch has at most so many values, and not both more filters and more taps than these: then tensor cores
on padded rows take fewer instructions an output."""


def suits_patch(which: str, g: Conv2dGeometry) -> bool:
    """Whether a lane's block of outputs reads so little that it stays in registers."""
    if which not in PATCH_BLOCK or not _plain(g):
        return False
    tall, wide = PATCH_BLOCK[which]
    values = g.c * ((tall - 1) * g.stride[0] + g.r) * ((wide - 1) * g.stride[1] + g.s)
    return values <= PATCH_VALUES and (g.k <= PATCH_FILTERS or g.c * g.r * g.s <= PATCH_TAPS)


def suits_rows(which: str, g: Conv2dGeometry) -> bool:
    """Whether few channels are worth padded rows: a copy of the input, and then loads of 4 to 16 bytes. The input
    gradient reads that of the output, and is a convolution only without a stride."""
    if which == "dgrad" and g.stride != (1, 1):
        return False
    return _plain(g) and (g.k if which == "dgrad" else g.c) <= ROWS_CHANNELS and g.r * g.s > 1


def _plain(g: Conv2dGeometry) -> bool:
    return g.groups == 1 and g.dilation == (1, 1) and max(g.h, g.w, g.p, g.q) < SIZE


GROUP_WIDTH = 32
"""Input channels that thin groups of a product have together: 64 bytes of a row in half precision."""


def suits_groups(which: str, g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether several thin groups together make a product: their widths divide its tile's, and the gather sees whole
    chunks of 8 bytes. The input gradient is a convolution only without a stride."""
    widths = (g.c_group, g.k_group)
    if g.groups == 1 or itemsize == 8 or max(g.h, g.w, g.p, g.q) >= SIZE:
        return False
    if which == "fprop_pool" or (which == "dgrad" and g.stride != (1, 1)):
        return False
    return min(widths) in (4, 8, 16) and max(widths) in (4, 8, 16) and max(widths) <= 2 * min(widths)


def is_packed(which: str, g: Conv2dGeometry) -> bool:
    """Whether a pass wants its operands with adjacent channels, and is worth a copy where they are not."""
    if which == "fprop" or which == "fprop_pool":
        return g.c_group >= PACKED_CHANNELS
    return min(g.c_group, g.k_group) >= PACKED_CHANNELS


def is_wide(which: str, g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether the operands of a pass are read 16 bytes at a time: adjacent channels in whole chunks of so many."""
    widths = (g.c_group,) if which in ("fprop", "fprop_pool") else (g.c_group, g.k_group)
    return is_packed(which, g) and all(width * itemsize % 16 == 0 for width in widths)


def is_direct(which: str, g: Conv2dGeometry) -> bool:
    """Whether the GEMM of a grouped convolution would have too few columns. Asks nothing about batch or image sizes,
    which may be symbols of a compiler here."""
    if g.groups == 1:
        return False
    columns = {"dgrad": g.c_group, "wgrad": min(g.k_group, g.c_group * g.r * g.s)}.get(which, g.k_group)
    return columns < DIRECT_CHANNELS
