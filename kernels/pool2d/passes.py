"""Pooling passes on real tensors: allocate, choose the kernel, launch."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.launch import launch
from kernels.common.layout import empty, is_channels_last
from kernels.pool2d import special
from kernels.pool2d.arguments import NEAR, THREADS, block, chunk, comparable, count, dense, is_clipped, window
from kernels.pool2d.avg_pool import avg_pool_backward_kernel, avg_pool_kernel
from kernels.pool2d.geometry import Pool2dGeometry
from kernels.pool2d.max_pool import max_pool_backward_kernel, max_pool_kernel
from kernels.pool2d.separable import is_separable, separable_max, separable_max_backward

UNROLLED_TAPS = 49
"""Larger windows run as loops: unrolled they would take minutes to compile."""
WIDE_TAPS = 25
"""Averages handed back from larger windows keep four places of a thread on the stack (sm_120), and two of float64; 8
bytes of sums they do not. They run as loops. Maxima of four float64 keep 384 bytes there
(Triton 3.6)."""


def code_dtype(geometry: Pool2dGeometry) -> torch.dtype:
    """The smallest dtype that tells every tap of the window, and "none", apart."""
    return torch.uint8 if geometry.kernel[0] * geometry.kernel[1] <= 255 else torch.int32


def max_pool(x: Tensor, g: Pool2dGeometry, want_code: bool, want_indices: bool) -> tuple[Tensor, Tensor, Tensor]:
    """y, its code and its int64 indices, each [n, c, p, q]; what is not wanted is empty."""
    channels_last = is_channels_last(x)
    shape = (*x.shape[:2], *g.output(*x.shape[2:]))
    nothing = (0, *shape[1:])
    y = empty(x, shape, channels_last)
    code = empty(x, shape if want_code else nothing, channels_last, code_dtype(g))
    indices = empty(x, shape if want_indices else nothing, channels_last, torch.int64)
    x = dense(x, channels_last)
    if special.is_global(g, x.shape[2:]) and x.numel():
        special.global_max(x, y, code, indices, want_code, want_indices)
    elif not want_indices and special.is_stride1(g, x):
        special.stride1_max(x, y, code, g.kernel[0], want_code)
    elif not want_indices and special.is_stride2(g, x):
        special.stride2_max(x, y, code, g, want_code)
    elif not want_indices and is_separable(g):
        separable_max(x, y, code, g, want_code, channels_last)
    else:
        launch(
            max_pool_kernel,
            **_grid(y, channels_last, 2 if g.kernel[0] * g.kernel[1] > WIDE_TAPS and x.element_size() == 8 else 4),
            **_tensors(x=x, y=y, code=code, indices=indices),
            **_sizes(y, x, y, channels_last),
            **window(g),
            **_dilation(g),
            WANT_CODE=want_code,
            WANT_INDICES=want_indices,
            CLIPPED=is_clipped(g, x.shape[2], x.shape[3]),
            UNROLL=_unroll(g),
            INDEX=index(x, y),
            TYPE=comparable(x),
        )
    return y, code, indices


def max_pool_backward(dy: Tensor, code: Tensor, h: int, w: int, g: Pool2dGeometry, channels_last: bool) -> Tensor:
    """dx [n, c, h, w] from dy and the code, both [n, c, p, q]."""
    dx = empty(dy, (*dy.shape[:2], h, w), channels_last)
    if special.is_global(g, (h, w)):
        special.global_backward(dy, dense(code, False), dx, 0)
        return dx
    dy, code = dense(dy, channels_last), dense(code, channels_last)
    if special.is_stride1(g, dx):
        special.stride1_max_backward(dy, code, dx, g.kernel[0])
    elif special.is_square(g, dx):
        special.square_backward(dy, code, dx, g)
    elif is_separable(g):
        separable_max_backward(dy, code, dx, g, channels_last)
    else:
        launch(
            max_pool_backward_kernel,
            **_grid(dx, channels_last),
            **_tensors(dy=dy, code=code, dx=dx),
            **_sizes(dx, dx, dy, channels_last),
            **window(g),
            **_dilation(g),
            STEP_H=g.stride[0] // math.gcd(g.stride[0], g.dilation[0]),
            STEP_W=g.stride[1] // math.gcd(g.stride[1], g.dilation[1]),
            UNROLL=_unroll(g),
            INDEX=index(dy, dx),
            TYPE=accumulator(dx),
        )
    return dx


def avg_pool(x: Tensor, g: Pool2dGeometry, count_include_pad: bool, divisor: int) -> Tensor:
    """y [n, c, p, q]; divisor 0 means torch's window rule."""
    channels_last = is_channels_last(x)
    y = empty(x, (*x.shape[:2], *g.output(*x.shape[2:])), channels_last)
    x = dense(x, channels_last)
    counted = count(g, x.shape[2], x.shape[3], count_include_pad, divisor)
    if special.is_global(g, x.shape[2:]):
        special.global_avg(x, y, counted["divisor"])
    elif special.is_stride1(g, x):
        special.stride1_avg(x, y, g.kernel[0], False, counted)
    elif special.is_stride2(g, x):
        special.stride2_avg(x, y, g, counted)
    else:
        launch(
            avg_pool_kernel,
            **_grid(y, channels_last),
            **_tensors(x=x, y=y),
            **_sizes(y, x, y, channels_last),
            **counted,
            **window(g),
            CLIPPED=is_clipped(g, x.shape[2], x.shape[3]),
            UNROLL=_unroll(g),
            INDEX=index(x, y),
            TYPE=accumulator(x),
        )
    return y


def avg_pool_backward(
    dy: Tensor, h: int, w: int, g: Pool2dGeometry, count_include_pad: bool, divisor: int, channels_last: bool
) -> Tensor:
    """dx [n, c, h, w] from dy [n, c, p, q]."""
    dx = empty(dy, (*dy.shape[:2], h, w), channels_last)
    counted = count(g, h, w, count_include_pad, divisor)
    if special.is_global(g, (h, w)):
        special.global_backward(dy, None, dx, counted["divisor"])
        return dx
    dy = dense(dy, channels_last)
    if special.is_stride1(g, dx):
        special.stride1_avg(dy, dx, g.kernel[0], True, counted)
    elif special.is_square(g, dx):
        special.square_backward(dy, None, dx, g, counted)
    else:
        wide = g.kernel[0] * g.kernel[1] > WIDE_TAPS
        most = 8 // max(4, dx.element_size()) if wide else 4
        launch(
            avg_pool_backward_kernel,
            **_grid(dx, channels_last, most),
            **_tensors(dy=dy, dx=dx),
            **_sizes(dx, dx, dy, channels_last),
            **counted,
            **window(g),
            UNROLL=_unroll(g) and not wide,
            INDEX=index(dy, dx),
            TYPE=accumulator(dx),
        )
    return dx


def _grid(out: Tensor, channels_last: bool, most: int = 4) -> dict[str, Any]:
    """Programs over what is written, how many chunks each takes (of a thread: `most` at most), and how their lanes find
    their place."""
    planes, v, cc = chunk(out, channels_last)
    rows, row = out.shape[2], out.shape[3] * cc
    size = min(block(v), most * THREADS)
    near = max(rows, row) < NEAR
    return {"grid": math.ceil(planes * rows * row / size), "NEAR": near, "BLOCK": size, "V": v}


def _sizes(out: Tensor, plane: Tensor, pooled: Tensor, channels_last: bool) -> dict[str, Any]:
    """Chunks of what is written and of a pixel; h, w of the plane; p, q of the pooled plane."""
    planes, _, cc = chunk(out, channels_last)
    sizes = dict(zip("hwpq", (*plane.shape[2:], *pooled.shape[2:]), strict=True))
    return {"chunks": planes * out.shape[2] * out.shape[3] * cc, **sizes, "cc": cc}


def _tensors(**tensors: Tensor) -> dict[str, Any]:
    return {f"{name}_ptr": t for name, t in tensors.items()}


def _dilation(g: Pool2dGeometry) -> dict[str, Any]:
    return {"DIL_H": g.dilation[0], "DIL_W": g.dilation[1]}


def _unroll(g: Pool2dGeometry) -> bool:
    return g.kernel[0] * g.kernel[1] <= UNROLLED_TAPS
