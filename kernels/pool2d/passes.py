"""Pooling passes on real tensors: allocate and launch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.common.launch import launch
from kernels.common.layout import empty, is_channels_last, memory_format, span
from kernels.pool2d.avg_pool import avg_pool_backward_kernel, avg_pool_kernel
from kernels.pool2d.geometry import Pool2dGeometry
from kernels.pool2d.global_pool import global_avg_pool_backward_kernel, global_avg_pool_kernel
from kernels.pool2d.max_pool import max_pool_backward_kernel, max_pool_kernel
from kernels.pool2d.stride2 import stride2_pool_backward_kernel, stride2_pool_kernel

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
    if not want_indices and x.is_contiguous() and _is_stride2(g, x):
        _stride2(x, y, code, g, False, want_code, True, 0)
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
    if _is_stride2(g, dx):
        _stride2_backward(dy, code, dx, g, False, True, 0)
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
    if _is_global(g, x.shape[2:]):
        _global(x, y, divisor)
        return y
    if x.is_contiguous() and _is_stride2(g, x):
        _stride2(x, y, x, g, True, False, count_include_pad, divisor)
        return y
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
    if _is_global(g, (h, w)):
        _global_backward(dy, dx, divisor)
        return dx
    if _is_stride2(g, dx):
        _stride2_backward(dy, dy, dx, g, True, count_include_pad, divisor)
        return dx
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


def _is_stride2(g: Pool2dGeometry, plane: Tensor) -> bool:
    """Whether the kernels of stride2.py fit: a window for every square of 2x2 pixels."""
    h, w = plane.shape[2:]
    if h % 2 or w % 2 or g.stride != (2, 2) or g.dilation != (1, 1):
        return False
    fits = (g.kernel, g.padding) in (((2, 2), (0, 0)), ((3, 3), (0, 0)), ((3, 3), (1, 1)))
    return fits and g.output(h, w) == (h // 2, w // 2)


def _stride2(
    x: Tensor, y: Tensor, code: Tensor, g: Pool2dGeometry, average: bool, want_code: bool, count_pad: bool, divisor: int
) -> None:
    exact = {torch.float16: tl.float16, torch.float32: tl.float32, torch.float64: tl.float64}
    launch(
        stride2_pool_kernel,
        math.ceil(y.numel() / _vector_block(x)),
        x_ptr=x,
        y_ptr=y,
        code_ptr=code,
        **_stride2_numbers(y, x, g, average, count_pad, divisor),
        WANT_CODE=want_code,
        # The interpreter compares the bit patterns of bfloat16.
        TYPE=_acc(x) if average else exact.get(x.dtype, tl.float32),
    )


def _stride2_backward(
    dy: Tensor, code: Tensor, dx: Tensor, g: Pool2dGeometry, average: bool, count_pad: bool, divisor: int
) -> None:
    form = memory_format(not dx.is_contiguous())
    dy, code = dy.contiguous(memory_format=form), code.contiguous(memory_format=form)
    launch(
        stride2_pool_backward_kernel,
        math.ceil(dy.numel() / _vector_block(dx)),
        dy_ptr=dy,
        code_ptr=code,
        dx_ptr=dx,
        **_stride2_numbers(dy, dx, g, average, count_pad, divisor),
        C=1 if dx.is_contiguous() else dx.shape[1],
        TYPE=_acc(dx),
    )


def _stride2_numbers(
    pooled: Tensor, plane: Tensor, g: Pool2dGeometry, average: bool, count_pad: bool, divisor: int
) -> dict[str, Any]:
    """The arguments that both passes of stride2.py share."""
    return {
        "numel": pooled.numel(),
        "h": plane.shape[2],
        "divisor": divisor,
        "W": plane.shape[3],
        "TAPS": g.kernel[0],
        "PAD": g.padding[0],
        "AVERAGE": average,
        "COUNT_PAD": count_pad,
        "INDEX": _index(plane),
        "BLOCK": _vector_block(plane),
    }


def _is_global(g: Pool2dGeometry, plane: Sequence[int]) -> bool:
    """Whether the window is the plane."""
    return g.kernel == tuple(plane) and g.padding == (0, 0) and g.kernel != (1, 1)


def _global(x: Tensor, y: Tensor, divisor: int) -> None:
    """y [n, c, 1, 1] = the mean of every plane of x, in one pass over 16 bytes a thread where they are aligned."""
    channels_last = is_channels_last(x)
    x = x.contiguous(memory_format=memory_format(channels_last))
    c, hw = x.shape[1], x.shape[2] * x.shape[3]
    wide = 16 // x.element_size()
    block_p = 8 * wide if channels_last else 16
    block_e = 16 if channels_last else min(32 * wide, max(32, triton.next_power_of_2(hw)))
    programs = x.shape[0] * math.ceil(c / block_p) if channels_last else math.ceil(x.shape[0] * c / block_p)
    launch(
        global_avg_pool_kernel,
        programs,
        x_ptr=x,
        y_ptr=y,
        planes=x.shape[0] * c,
        c=c,
        divisor=divisor or hw,
        HW=hw,
        CHANNELS_LAST=channels_last,
        INDEX=_index(x),
        ACC=_acc(x),
        BLOCK_P=block_p,
        BLOCK_E=block_e,
    )


def _global_backward(dy: Tensor, dx: Tensor, divisor: int) -> None:
    hw, block = dx.shape[2] * dx.shape[3], _vector_block(dx)
    launch(
        global_avg_pool_backward_kernel,
        math.ceil(dx.numel() / block),
        dy_ptr=dy,
        dx_ptr=dx,
        numel=dx.numel(),
        c=dx.shape[1],
        divisor=divisor or hw,
        **dict(zip(("stride_dy_n", "stride_dy_c"), dy.stride()[:2], strict=True)),
        HW=hw,
        CHANNELS_LAST=is_channels_last(dx),
        INDEX=_index(dx, dy),
        ACC=_acc(dx),
        BLOCK=block,
    )


def _vector_block(t: Tensor) -> int:
    """Elements of one program of 16 bytes a thread."""
    return THREADS * 16 // t.element_size()


def _acc(t: Tensor) -> Any:
    return tl.float64 if t.dtype == torch.float64 else tl.float32


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
    return {"CHANNELS_LAST": channels_last, "INDEX": _index(*tensors), "ACC": _acc(tensors[0]), "BLOCK": block}
