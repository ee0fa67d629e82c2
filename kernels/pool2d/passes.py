"""Pooling passes on real tensors: allocate and launch."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from kernels.common.launch import launch
from kernels.common.layout import empty, is_channels_last, span
from kernels.pool2d.avg_pool import avg_pool_backward_kernel, avg_pool_kernel
from kernels.pool2d.geometry import Pool2dGeometry
from kernels.pool2d.max_pool import max_pool_backward_kernel, max_pool_kernel
from kernels.pool2d.max_pool_2x2 import max_pool_2x2_backward_kernel, max_pool_2x2_kernel

THREADS = 128
UNROLLED_TAPS = 49
"""Larger windows run as loops: unrolled they would take minutes to compile."""


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
    if not want_indices and _is_vectorised(g, x):
        block = _vector_block(x)
        launch(
            max_pool_2x2_kernel,
            math.ceil(y.numel() / block),
            x_ptr=x,
            y_ptr=y,
            code_ptr=code,
            numel=y.numel(),
            W=x.shape[3],
            WANT_CODE=want_code,
            INDEX=_index(x),
            BLOCK=block,
        )
        return y, code, indices
    launch(
        max_pool_kernel,
        math.ceil(y.numel() / _block(channels_last, y)),
        x_ptr=x,
        y_ptr=y,
        code_ptr=code,
        indices_ptr=indices,
        **_sizes(y, x),
        **_strides("x", x, "nchw"),
        **_window(g),
        DIL_H=g.dilation[0],
        DIL_W=g.dilation[1],
        WANT_CODE=want_code,
        WANT_INDICES=want_indices,
        UNROLL=g.kernel[0] * g.kernel[1] <= UNROLLED_TAPS,
        **_numerics(channels_last, x, y),
    )
    return y, code, indices


def max_pool_backward(dy: Tensor, code: Tensor, h: int, w: int, g: Pool2dGeometry, channels_last: bool) -> Tensor:
    """dx [n, c, h, w] from dy and the code, both [n, c, p, q]."""
    dx = empty(dy, (*dy.shape[:2], h, w), channels_last)
    if not channels_last and dy.is_contiguous() and code.is_contiguous() and _is_vectorised(g, dx):
        block = _vector_block(dx)
        launch(
            max_pool_2x2_backward_kernel,
            math.ceil(dy.numel() / block),
            dy_ptr=dy,
            code_ptr=code,
            dx_ptr=dx,
            numel=dy.numel(),
            W=w,
            INDEX=_index(dx),
            BLOCK=block,
        )
        return dx
    launch(
        max_pool_backward_kernel,
        math.ceil(dx.numel() / _block(channels_last, dx)),
        dy_ptr=dy,
        code_ptr=code,
        dx_ptr=dx,
        **_sizes(dx, dx, dy),
        **_strides("dy", dy, "ncpq"),
        **_strides("code", code, "ncpq"),
        **_window(g),
        DIL_H=g.dilation[0],
        DIL_W=g.dilation[1],
        STEP_H=g.stride[0] // math.gcd(g.stride[0], g.dilation[0]),
        STEP_W=g.stride[1] // math.gcd(g.stride[1], g.dilation[1]),
        **_numerics(channels_last, dy, dx),
    )
    return dx


def avg_pool(x: Tensor, g: Pool2dGeometry, count_include_pad: bool, divisor: int) -> Tensor:
    """y [n, c, p, q]; divisor 0 means torch's window rule."""
    channels_last = is_channels_last(x)
    y = empty(x, (*x.shape[:2], *g.output(*x.shape[2:])), channels_last)
    launch(
        avg_pool_kernel,
        math.ceil(y.numel() / _block(channels_last, y)),
        x_ptr=x,
        y_ptr=y,
        **_sizes(y, x),
        divisor=divisor,
        **_strides("x", x, "nchw"),
        **_window(g),
        COUNT_PAD=count_include_pad,
        **_numerics(channels_last, x, y),
    )
    return y


def avg_pool_backward(
    dy: Tensor, h: int, w: int, g: Pool2dGeometry, count_include_pad: bool, divisor: int, channels_last: bool
) -> Tensor:
    """dx [n, c, h, w] from dy [n, c, p, q]."""
    dx = empty(dy, (*dy.shape[:2], h, w), channels_last)
    launch(
        avg_pool_backward_kernel,
        math.ceil(dx.numel() / _block(channels_last, dx)),
        dy_ptr=dy,
        dx_ptr=dx,
        **_sizes(dx, dx, dy),
        divisor=divisor,
        **_strides("dy", dy, "ncpq"),
        **_window(g),
        COUNT_PAD=count_include_pad,
        **_numerics(channels_last, dy, dx),
    )
    return dx


def _is_vectorised(g: Pool2dGeometry, plane: Tensor) -> bool:
    """Whether the 2x2 kernels fit: windows that tile dense NCHW planes of even size exactly."""
    tiles = g.kernel == (2, 2) and g.stride == (2, 2) and g.padding == (0, 0) and g.dilation == (1, 1)
    return tiles and plane.is_contiguous() and plane.shape[2] % 2 == 0 and plane.shape[3] % 2 == 0


def _vector_block(t: Tensor) -> int:
    """Outputs of one program of the 2x2 kernels: 32 bytes of input a row and thread."""
    return THREADS * 16 // t.element_size()


def _index(*tensors: Tensor) -> Any:
    """int32 for offsets, or int64 where a tensor does not fit in 31 bits."""
    return tl.int64 if max(max(span(t), t.numel()) for t in tensors) > 2**31 - 2**20 else tl.int32


def _block(channels_last: bool, out: Tensor) -> int:
    """Elements of one program: in channels_last 16 bytes a thread, so that neighbours are one load; else two."""
    return THREADS * (max(16 // out.element_size(), 2) if channels_last else 2)


def _sizes(out: Tensor, plane: Tensor, pooled: Tensor | None = None) -> dict[str, int]:
    """numel of what is written; h, w of the plane; p, q of the pooled plane (which is `out` when not given)."""
    pooled = out if pooled is None else pooled
    sizes = dict(zip("hwpq", (*plane.shape[2:], *pooled.shape[2:]), strict=True))
    return {"numel": out.numel(), "c": out.shape[1], **sizes}


def _strides(name: str, t: Tensor, axes: str) -> dict[str, int]:
    return {f"stride_{name}_{axis}": stride for axis, stride in zip(axes, t.stride(), strict=True)}


def _window(g: Pool2dGeometry) -> dict[str, int]:
    pairs = {"K": g.kernel, "STRIDE_": g.stride, "PAD_": g.padding}
    return {f"{name}{axis}": value for name, values in pairs.items() for axis, value in zip("HW", values, strict=True)}


def _numerics(channels_last: bool, *tensors: Tensor) -> dict[str, Any]:
    block = _block(channels_last, tensors[0])
    acc = tl.float64 if tensors[0].dtype == torch.float64 else tl.float32
    return {"CHANNELS_LAST": channels_last, "INDEX": _index(*tensors), "ACC": acc, "BLOCK": block}
