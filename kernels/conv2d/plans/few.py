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

from kernels.common.layout import LIMIT
from kernels.conv2d.geometry import Conv2dGeometry

DIRECT_CHANNELS = 16
"""Below this width of a group a matrix product would be mostly padding: tl.dot needs 16 columns."""
STREAM_TAPS, STREAM_STRIDE = 49, 4
"""Depthwise windows up to 7x7 and strides up to 4 are unrolled in registers."""
GROUP_TAPS = 9
"""Of fewer taps and one input channel a lane for each output is as good as a product."""
PACKED_CHANNELS = 32
"""From this width on operands have adjacent channels and K is walked in blocks of them; below, a block would be mostly
padding, and fprop walks K in flat (r, s, c) order."""
ROWS_CHANNELS = 16
"""Up to this many channels an ungrouped convolution of more than one tap copies its input into padded rows."""
LEAST_COPY, MOST_COPY = 4, 16
"""Bytes that an asynchronous copy moves."""
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


def streams(g: Conv2dGeometry) -> bool:
    """Whether a convolution is depthwise, and its window small enough to be unrolled; stride or dilation of an axis is
    1, so that pixels which lie a dilation apart are a convolution without one."""
    depthwise = g.c_group == 1 and g.k_group == 1 and all(1 in pair for pair in zip(g.stride, g.dilation, strict=True))
    return depthwise and g.r * g.s <= STREAM_TAPS and max(g.stride) <= STREAM_STRIDE


def suits_rows(which: str, g: Conv2dGeometry) -> bool:
    """Whether few channels are worth padded rows: a copy of the input, and then loads of 4 to 16 bytes. The input
    gradient reads that of the output, and is a convolution only without a stride."""
    if which == "dgrad" and g.stride != (1, 1):
        return False
    return _plain(g) and (g.k if which == "dgrad" else g.c) <= ROWS_CHANNELS and g.r * g.s > 1


def _plain(g: Conv2dGeometry) -> bool:
    return g.groups == 1 and g.dilation == (1, 1) and max(g.h, g.w, g.p, g.q) < SIZE


def padded_rows(g: Conv2dGeometry, itemsize: int) -> tuple[int, int, int]:
    """Rows, columns and channels of an image copied into padded rows.

    Channels are a power of two, of at least what the narrowest copy moves; a row has whole groups of
    16 elements, which is what the compiler must see to read 16 bytes at a time.
    """
    channels = max(LEAST_COPY // itemsize, 1, 1 << (g.c - 1).bit_length())
    unit = max(1, 16 // channels)
    columns = (g.q - 1) * g.stride[1] + g.s
    return (g.p - 1) * g.stride[0] + g.r, -(-columns // unit) * unit, channels


def is_far(which: str, g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether a tensor that the products of a pass touch has more elements than offsets of 32 bits reach."""
    p, q = (g.p // 2, g.q // 2) if which == "fprop_pool" else (g.p, g.q)
    sizes = [g.n * g.c * g.h * g.w, g.n * g.k * p * q, g.k * g.c_group * g.r * g.s]
    if suits_rows(which, g):
        rows, columns, channels = padded_rows(g.turned if which == "dgrad" else g, itemsize)
        sizes.append(g.n * rows * columns * channels)
    return max(sizes) > LIMIT


GROUP_THIN, GROUP_WIDE = 16, 64
"""Groups are packed where one of their widths is at most the first of these, and neither is more than the second."""
GROUP_SUM, GROUP_BYTES = 32, 128
"""Channels summed over that packed groups have together; in so many bytes, where the result has no more of them."""


def suits_groups(which: str, g: Conv2dGeometry, itemsize: int) -> bool:
    """Whether groups make a product of several together. Of one input channel each they do so in half precision only,
    where TF32 takes nothing away, and where no depthwise kernel streams them."""
    if g.groups == 1 or itemsize == 8 or which == "fprop_pool" or max(g.h, g.w, g.p, g.q) >= SIZE:
        return False
    if g.c_group == 1 and (itemsize == 4 or g.r * g.s < GROUP_TAPS or streams(g)):
        return False
    return min(g.c_group, g.k_group) <= GROUP_THIN and max(g.c_group, g.k_group) <= GROUP_WIDE


def group_pack(which: str, g: Conv2dGeometry, itemsize: int) -> int:
    """Groups of a product: a power of two, so that they begin at a multiple of 16 bytes if any number of them does."""
    summed, columns = (g.k_group, g.c_group) if which == "dgrad" else (g.c_group, g.k_group)
    pack = 1
    while pack < g.groups and 2 * pack * columns <= GROUP_WIDE:
        narrow = 2 * pack * columns <= GROUP_SUM and 2 * pack * summed * itemsize <= GROUP_BYTES
        if 2 * pack * summed > GROUP_SUM and not narrow:
            break
        pack *= 2
    return pack


def group_block(channels: int) -> int:
    """The side of a tile for so many channels."""
    return max(16, 1 << (channels - 1).bit_length())


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
    """Whether the GEMM of a grouped convolution would have too few columns: half a tile's are enough where a sum over
    many channels fills the rest. Asks nothing about batch or image sizes, which may be symbols of a compiler here."""
    if g.groups == 1:
        return False
    columns = {"dgrad": g.c_group, "wgrad": min(g.k_group, g.c_group * g.r * g.s)}.get(which, g.k_group)
    deep = max(g.c_group, g.k_group) > GROUP_WIDE
    return columns < (DIRECT_CHANNELS // 2 if deep else DIRECT_CHANNELS)
