"""Convolution written for the eye, in float64: what the kernels are judged against. Gradients are autograd's."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from kernels.pool2d import reference as pool


def conv2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """y[n, k, p, q] = b[k] + sum over c, r, s of x[n, c, p * stride + r * dilation, q * stride + s * dilation] * w.

    x [n, c, h, w] or [c, h, w] of any float dtype, padded with zeros; w [k, c / groups, r, s]; result float64.
    """
    x, w = x.double(), w.double()
    if x.dim() == 3:
        return conv2d(x[None], w, b, stride, padding, dilation, groups)[0]
    (stride_h, stride_w), (dil_h, dil_w) = _pair(stride), _pair(dilation)
    k, c_group, rows, cols = w.shape
    top, bottom, left, right = _sides(padding, dil_h * (rows - 1), dil_w * (cols - 1))
    x = pad(x, (left, right, top, bottom))
    n, _, h, width = x.shape
    p = (h - dil_h * (rows - 1) - 1) // stride_h + 1
    q = (width - dil_w * (cols - 1) - 1) // stride_w + 1
    x = x.reshape(n, groups, c_group, h, width)
    w = w.reshape(groups, k // groups, c_group, rows, cols)
    y = x.new_zeros(n, groups, k // groups, p, q)
    for r in range(rows):
        for s in range(cols):
            last_h, last_w = r * dil_h + stride_h * (p - 1), s * dil_w + stride_w * (q - 1)
            seen = x[..., r * dil_h : last_h + 1 : stride_h, s * dil_w : last_w + 1 : stride_w]
            y = y + torch.einsum("ngcpq,gkc->ngkpq", seen, w[..., r, s])
    y = y.reshape(n, k, p, q)
    return y if b is None else y + b.double()[:, None, None]


def conv2d_relu(x: Tensor, w: Tensor, b: Tensor | None = None, *numbers: Any, **options: Any) -> Tensor:
    """max(conv2d(...), 0) that keeps NaN; its gradient is 0 at 0."""
    return conv2d(x, w, b, *numbers, **options).relu()


def conv2d_relu_pool2d(
    x: Tensor,
    w: Tensor,
    b: Tensor | None = None,
    *numbers: Any,
    pool: str = "max",
    pool_kernel_size: Any = 2,
    pool_stride: Any = None,
    pool_padding: Any = 0,
    ceil_mode: bool = False,
    **options: Any,
) -> Tensor:
    """The pool of conv2d_relu(...)."""
    z = conv2d_relu(x, w, b, *numbers, **options)
    y: Tensor = _POOLS[pool](z, pool_kernel_size, pool_stride, pool_padding, ceil_mode=ceil_mode)
    return y


_POOLS: Any = {"max": pool.max_pool2d, "avg": pool.avg_pool2d}


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[-1])


def _sides(padding: Any, reach_h: int, reach_w: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right. 'same' pads what the kernel reaches beyond a pixel, the odd one at the end."""
    if padding == "valid":
        return (0, 0, 0, 0)
    if padding == "same":
        return (reach_h // 2, (reach_h + 1) // 2, reach_w // 2, (reach_w + 1) // 2)
    vertical, horizontal = _pair(padding)
    return (vertical, vertical, horizontal, horizontal)
