"""Pools that can ship, on planes that change their programs: what `bench inspect --plans` compiles of them."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor

from kernels.common.launch import Launch, record
from kernels.pool2d import passes
from kernels.pool2d.geometry import Pool2dGeometry, window

WINDOWS = {
    "2x2/2": (2, 2, 0, 1),
    "3x3/2": (3, 2, 0, 1),
    "3x3/2 padded": (3, 2, 1, 1),
    "3x3": (3, 1, 1, 1),
    "5x5": (5, 1, 2, 1),
    "7x7": (7, 1, 3, 1),
    "9x9": (9, 1, 4, 1),
    "13x13": (13, 1, 6, 1),
    "2x2/1": (2, 1, 0, 1),
    "3x3/3": (3, 3, 0, 1),
    "5x5/3": (5, 3, 0, 1),
    "3x2/1x2 dilated": ((3, 2), (1, 2), 1, 2),
    "3x3/2 dilated by 4": (3, 2, 1, 4),
    "16x17": ((16, 17), 1, 8, 1),
}
"""Side, stride, padding and dilation."""
PLANES = {
    "64 of 48x48": (8, 64, 48, 48),
    "36 of 13x12": (8, 36, 13, 12),
    "3 of 15x15": (8, 3, 15, 15),
    "3 of 14x14": (8, 3, 14, 14),
}
"""Channels and rows of whole 16-byte chunks or not, sides even and odd."""
WHOLE = ((32, 512, 7, 7), (32, 512, 8, 8), (1, 32, 112, 112), (1, 33, 15, 13), (600, 40, 3, 2), (2, 2048, 32, 32))
"""Maps of planes that are the window."""
FAR = 2**31


def launches(precision: str, dtype: torch.dtype, last: bool) -> Iterator[tuple[str, Launch]]:
    """What pools launch, with the name of the problem; those of averages and maxima with and without code."""
    if precision in ("ieee", "tf32x3"):
        return
    for (name, numbers), (planes, size) in product(WINDOWS.items(), PLANES.items()):
        g = window("max_pool2d", *numbers, False)
        if min(g.output(*size[2:])) < 1:
            continue
        for shape in (size, _far(size)) if planes == "64 of 48x48" else (size,):
            yield from ((f"{name} {planes}", each) for each in _launched(g, shape, dtype, last))
    for size in WHOLE:
        for shape in (size, _far(size)):
            g = window("max_pool2d", size[2:], 1, 0, 1, False)
            yield from ((f"whole {size[1]} of {size[2]}x{size[3]}", each) for each in _launched(g, shape, dtype, last))


def _far(size: tuple[int, ...]) -> tuple[int, ...]:
    """The same with so many images that offsets have 64 bits."""
    return (FAR // (size[1] * size[2] * size[3]) + 1, *size[1:])


def _launched(g: Pool2dGeometry, size: tuple[int, ...], dtype: torch.dtype, last: bool) -> list[Launch]:
    form = torch.channels_last if last else torch.contiguous_format

    def empty(shape: tuple[int, ...], of: torch.dtype) -> Tensor:
        return torch.empty(shape, dtype=of, device="meta", memory_format=form)

    h, w = size[2:]
    pooled = (*size[:2], *g.output(h, w))
    x, dy, code = empty(size, dtype), empty(pooled, dtype), empty(pooled, passes.code_dtype(g))
    with record() as found:
        for codes, indices in ((False, False), (True, False), (True, True)):
            passes.max_pool(x, g, codes, indices)
        passes.max_pool_backward(dy, code, h, w, g, last)
        if g.dilation == (1, 1):
            for count_include_pad in (True, False):
                passes.avg_pool(x, g, count_include_pad, 0)
                passes.avg_pool_backward(dy, h, w, g, count_include_pad, 0, last)
    return found
