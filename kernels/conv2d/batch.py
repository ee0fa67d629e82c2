"""Launching the batch kernels: channels_last memory as TMA descriptors [h, w, n, c]."""

from __future__ import annotations

import math
from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.common.device import INTERPRET
from kernels.common.layout import empty
from kernels.common.precision import input_precision
from kernels.conv2d.arguments import index, launch_gemm, strides, window
from kernels.conv2d.batch_dgrad import batch_dgrad_kernel
from kernels.conv2d.batch_fprop import batch_fprop_kernel
from kernels.conv2d.batch_fprop_pool import batch_fprop_pool_kernel
from kernels.conv2d.batch_wgrad import batch_wgrad_kernel
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.pack import channels_innermost, dense_channels_innermost
from kernels.conv2d.plan import Plan, Tile

_DTYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
_CAN_ROUND = "round_f32_to_tf32" in TensorDescriptor.__dataclass_fields__


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, g: Conv2dGeometry, relu: bool, tile: Tile) -> Tensor:
    """y [n, k, p, q] in channels_last."""
    y = empty(x, (g.n, g.k, g.p, g.q), True)
    _launch(
        batch_fprop_kernel,
        g.p * g.q * math.ceil(g.n / tile.block_m) * math.ceil(g.k / tile.block_n),
        tile,
        x,
        x_desc=_map(x, tile.block_m, tile.block_k),
        w_desc=_matrix(dense_channels_innermost(w), tile.block_n, tile.block_k),
        bias_ptr=y if bias is None else bias,
        y_desc=_map(y, tile.block_m, tile.block_n),
        h=g.h,
        w=g.w,
        k=g.k,
        p=g.p,
        q=g.q,
        C=g.c,
        **window(g),
        HAS_BIAS=bias is not None,
        RELU=relu,
        DTYPE=_DTYPES[x.dtype],
    )
    return y


def fprop_pool(
    x: Tensor, w: Tensor, bias: Tensor | None, g: Conv2dGeometry, average: bool, want_code: bool, tile: Tile
) -> tuple[Tensor, Tensor]:
    """y and its code [n, k, p // 2, q // 2] in channels_last (the code empty if not wanted)."""
    shape = (g.n, g.k, g.p // 2, g.q // 2)
    y = empty(x, shape, True)
    code = empty(x, shape if want_code else (0,) * 4, True, torch.uint8)
    _launch(
        batch_fprop_pool_kernel,
        shape[2] * shape[3] * math.ceil(g.n / tile.block_m) * math.ceil(g.k / tile.block_n),
        tile,
        x,
        x_desc=_map(x, tile.block_m, tile.block_k),
        w_desc=_matrix(dense_channels_innermost(w), tile.block_n, tile.block_k),
        bias_ptr=y if bias is None else bias,
        y_desc=_map(y, tile.block_m, tile.block_n),
        code_ptr=code,
        n=g.n,
        k=g.k,
        p=shape[2],
        q=shape[3],
        C=g.c,
        **window(g),
        HAS_BIAS=bias is not None,
        AVERAGE=average,
        HAS_CODE=want_code,
        DTYPE=_DTYPES[x.dtype],
        INDEX=index(y),
    )
    return y, code


def dgrad(dy: Tensor, w: Tensor, g: Conv2dGeometry, tile: Tile) -> Tensor:
    """dx [n, c, h, w] in channels_last."""
    dx = empty(dy, (g.n, g.c, g.h, g.w), True)
    _launch(
        batch_dgrad_kernel,
        g.h * g.w * math.ceil(g.n / tile.block_m) * math.ceil(g.c / tile.block_n),
        tile,
        dy,
        dy_desc=_map(dy, tile.block_m, tile.block_k),
        w_desc=_matrix(dense_channels_innermost(w.transpose(0, 1)), tile.block_n, tile.block_k),
        dx_desc=_map(dx, tile.block_m, tile.block_n),
        h=g.h,
        w=g.w,
        c=g.c,
        p=g.p,
        q=g.q,
        K=g.k,
        **window(g),
        STEP_H=g.stride[0] // math.gcd(g.stride[0], g.dilation[0]),
        STEP_W=g.stride[1] // math.gcd(g.stride[1], g.dilation[1]),
        DTYPE=_DTYPES[dy.dtype],
    )
    return dx


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw [k, c, r, s] over `plan.splits` parts of the output rows."""
    tile = plan.tile
    assert tile is not None
    taps = g.r * g.s
    _launch(
        batch_wgrad_kernel,
        plan.splits * taps * math.ceil(g.k / tile.block_m) * math.ceil(g.c / tile.block_n),
        tile,
        dy,
        dy_desc=_map(dy, tile.block_k, tile.block_m),
        x_desc=_map(x, tile.block_k, tile.block_n),
        dw_ptr=partial,
        n=g.n,
        h=g.h,
        w=g.w,
        k=g.k,
        p=g.p,
        q=g.q,
        rows_per_split=math.ceil(g.p / plan.splits),
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        C=g.c,
        **window(g),
    )


def _launch(kernel: Any, grid: int, tile: Tile, operand: Tensor, **arguments: Any) -> None:
    launch_gemm(kernel, grid, tile, **arguments, PRECISION=input_precision(operand.dtype))


def _map(t: Tensor, images: int, channels: int) -> Any:
    """`t` [n, c, h, w] as [h, w, n, c], in boxes of one pixel; copied where TMA cannot read it (16-byte strides)."""
    t = channels_innermost(t)
    size = t.element_size()
    steps = [t.stride(axis) if t.shape[axis] > 1 else t.shape[1] for axis in (2, 3, 0)]
    if t.data_ptr() % 16 or any(step * size % 16 for step in steps):
        t = dense_channels_innermost(t, copy=True)
        steps = [t.stride(axis) for axis in (2, 3, 0)]
    n, c, h, w = t.shape
    return _descriptor(t, [h, w, n, c], [*steps, 1], [1, 1, images, channels])


def _matrix(t: Tensor, rows: int, columns: int) -> Any:
    """Dense weights [a, b, r, s] with b innermost as the matrix [a, r * s * b]."""
    a = t.shape[0]
    width = t.numel() // a
    return _descriptor(t, [a, width], [width, 1], [rows, columns])


def _descriptor(t: Tensor, shape: list[int], steps: list[int], box: list[int]) -> Any:
    # Tensor cores truncate float32 to TF32, which biases sums of one sign; TMA can round on the way in.
    if _CAN_ROUND and not INTERPRET and t.dtype == torch.float32:
        return TensorDescriptor(t, shape, steps, box, round_f32_to_tf32=True)
    return TensorDescriptor(t, shape, steps, box)
