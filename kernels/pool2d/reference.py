"""Pooling written for the eye, in float64: what the kernels are judged against. Gradients are autograd's."""

from __future__ import annotations

from itertools import count, takewhile
from typing import Any

import torch
from torch import Tensor


def max_pool2d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """y[n, c, p, q] = the largest x in the window; with return_indices also where it lies in its plane, h * W + w.

    x [n, c, h, w] or [c, h, w]. The first of equals wins, a later NaN wins over everything; a window that sees no pixel
    gives -inf and index -1.
    """
    (step_h, step_w), (pad_h, pad_w), (dil_h, dil_w) = _pair(stride or kernel_size), _pair(padding), _pair(dilation)
    kh, kw = _pair(kernel_size)
    x = x.double()
    height, width = x.shape[-2:]
    values, indices = [], []
    for top in _starts(height, dil_h * (kh - 1) + 1, step_h, pad_h, ceil_mode):
        for left in _starts(width, dil_w * (kw - 1) + 1, step_w, pad_w, ceil_mode):
            best, at = torch.full_like(x[..., 0, 0], -torch.inf), x.new_full(x.shape[:-2], -1, dtype=torch.int64)
            for row in _seen(top, kh, dil_h, height):
                for col in _seen(left, kw, dil_w, width):
                    pixel = x[..., row, col]
                    wins = (at < 0) | (pixel > best) | pixel.isnan()
                    best, at = torch.where(wins, pixel, best), at.masked_fill(wins, row * width + col)
            values.append(best)
            indices.append(at)
    rows = len(_starts(height, dil_h * (kh - 1) + 1, step_h, pad_h, ceil_mode))
    y, where = (torch.stack(t, -1).unflatten(-1, (rows, -1)) for t in (values, indices))
    return (y, where) if return_indices else y


def avg_pool2d(
    x: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """y[n, c, p, q] = the sum of the window's pixels / its size.

    The size counts the pixels and the padding in the window (count_include_pad), or its pixels only, or is
    divisor_override. What ceil_mode hangs over the padding never counts.
    """
    (step_h, step_w), (pad_h, pad_w) = _pair(stride or kernel_size), _pair(padding)
    kh, kw = _pair(kernel_size)
    x = x.double()
    height, width = x.shape[-2:]
    tops, lefts = _starts(height, kh, step_h, pad_h, ceil_mode), _starts(width, kw, step_w, pad_w, ceil_mode)
    values = []
    for top in tops:
        for left in lefts:
            rows, cols = _seen(top, kh, 1, height), _seen(left, kw, 1, width)
            if count_include_pad:
                size = (min(top + kh, height + pad_h) - top) * (min(left + kw, width + pad_w) - left)
            else:
                size = len(rows) * len(cols)
            values.append(x[..., rows, :][..., cols].sum((-2, -1)) / (divisor_override or size))
    planes: Tensor = torch.stack(values, -1).unflatten(-1, (len(tops), len(lefts)))
    return planes


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _starts(size: int, extent: int, step: int, padding: int, ceil_mode: bool) -> list[int]:
    """Where the windows begin. All fit in the padded image, but with ceil_mode one more covers what is left over,
    if it begins inside the image or the padding before it."""

    def exists(start: int) -> bool:
        if ceil_mode:
            return start - step + extent < size + padding and start < size
        return start + extent <= size + padding

    return list(takewhile(exists, count(-padding, step)))


def _seen(start: int, taps: int, dilation: int, size: int) -> list[int]:
    """The pixels of one axis that a window sees."""
    return [i for i in range(start, start + taps * dilation, dilation) if 0 <= i < size]
