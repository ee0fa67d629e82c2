"""Launches of the kernels for one kind of window: around every pixel, of stride 2, the whole plane. Maps are dense."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.device import MAXNREG, PROGRAMS
from kernels.common.launch import launch
from kernels.common.layout import is_channels_last
from kernels.common.splits import partial_sums, reduce
from kernels.pool2d.arguments import NEAR, THREADS, block, chunk, comparable
from kernels.pool2d.geometry import Pool2dGeometry
from kernels.pool2d.global_pool import global_avg_pool_kernel, global_max_pool_kernel, global_pool_backward_kernel
from kernels.pool2d.stride1 import stride1_avg_pool_kernel, stride1_max_pool_backward_kernel, stride1_max_pool_kernel
from kernels.pool2d.stride2 import stride2_pool_backward_kernel, stride2_pool_kernel, stride2_squares_backward_kernel

AROUND = (3, 5)
"""Sides of the windows of stride1.py."""
ROWS = 4
"""Rows that a lane of stride1.py goes down: of 3x3 windows six are read for four written."""
SQUARES = (((2, 2), (0, 0)), ((3, 3), (0, 0)), ((3, 3), (1, 1)))
"""Windows and paddings of stride2.py."""


def _is_near(plane: Tensor) -> bool:
    return plane.shape[2] < NEAR and plane.shape[1] * plane.shape[3] < NEAR


# --- around every pixel -----------------------------------------------------------------------------------------------


def is_stride1(g: Pool2dGeometry, plane: Tensor) -> bool:
    """Whether the kernels of stride1.py fit: 3x3 or 5x5 windows around every pixel."""
    k = g.kernel[0]
    around = (g.kernel, g.stride, g.padding, g.dilation) == ((k, k), (1, 1), (k // 2, k // 2), (1, 1))
    return around and k in AROUND and _is_near(plane)


def stride1_max(x: Tensor, y: Tensor, code: Tensor, k: int, want_code: bool) -> None:
    """y and its code."""
    tensors: dict[str, Any] = {"x_ptr": x, "y_ptr": y, "code_ptr": code}
    _stride1(stride1_max_pool_kernel, y, tensors, 1, K=k, WANT_CODE=want_code, TYPE=_compared(x, want_code), COLS=1)


def stride1_max_backward(dy: Tensor, code: Tensor, dx: Tensor, k: int) -> None:
    """dx from dy and the code."""
    tensors: dict[str, Any] = {"dy_ptr": dy, "code_ptr": code, "dx_ptr": dx}
    # Two pixels of a lane share of their windows the 4 in 6 columns that both lie in.
    cols = 2 if k > 3 and not dx.is_contiguous() else 1
    _stride1(stride1_max_pool_backward_kernel, dx, tensors, cols, K=k, TYPE=accumulator(dx), COLS=cols)


def stride1_avg(x: Tensor, y: Tensor, k: int, backward: bool, counted: dict[str, Any]) -> None:
    """y from x, or (`backward`) the gradient y of the input from the gradient x of the result."""
    tensors: dict[str, Any] = {"x_ptr": x, "y_ptr": y}
    weighted = backward and counted["COUNT"] != "divisor"
    divisor = {"divisor": counted["divisor"]}
    options = {"K": k, "COUNT": counted["COUNT"], "WEIGHTED": weighted, "TYPE": accumulator(x)}
    _stride1(stride1_avg_pool_kernel, y, tensors, 1, divisor, **options)


def _compared(x: Tensor, want_code: bool) -> Any:
    """Half-precision numbers are compared two at a time where nothing but the greater is asked."""
    return tl.float32 if want_code and x.dtype == torch.float16 else comparable(x)


def _stride1(
    kernel: Any, out: Tensor, tensors: dict[str, Any], cols: int, more: dict[str, int] | None = None, **options: Any
) -> None:
    """cols: of a lane in channels_last; in NCHW its chunk is."""
    last = not out.is_contiguous()
    h, w = out.shape[2:]
    planes, unit, cc = chunk(out, last, w)
    v = unit if last else min(16 // out.element_size(), triton.next_power_of_2(w))
    groups, strips = math.ceil(w / (cols if last else v)), math.ceil(h / ROWS)
    chunks = planes * strips * groups * cc
    unit = 1 if last else unit
    launch(
        kernel,
        math.ceil(chunks / THREADS),
        maxnreg=MAXNREG,
        **tensors,
        chunks=chunks,
        strips=strips,
        groups=groups,
        h=h,
        units=w // unit,
        cc=cc,
        **(more or {}),
        **options,
        LAST=last,
        INDEX=index(*tensors.values()),
        ROWS=ROWS,
        UNIT=unit,
        BLOCK=THREADS,
        V=v,
    )


# --- stride 2 ---------------------------------------------------------------------------------------------------------


def is_square(g: Pool2dGeometry, plane: Tensor) -> bool:
    """Whether going back by squares of 2x2 pixels fits: 2x2 windows, or 3x3, with stride 2."""
    strided = g.stride == (2, 2) and g.dilation == (1, 1) and (g.kernel, g.padding) in SQUARES
    return strided and _is_near(plane)


def is_stride2(g: Pool2dGeometry, plane: Tensor) -> bool:
    """Whether wide rows of squares fit: NCHW, even sides, and a window for every square."""
    h, w = plane.shape[2:]
    if not plane.is_contiguous() or h % 2 or w % 2 or g.stride != (2, 2) or g.dilation != (1, 1):
        return False
    return (g.kernel, g.padding) in SQUARES and g.output(h, w) == (h // 2, w // 2)


def stride2_max(x: Tensor, y: Tensor, code: Tensor, g: Pool2dGeometry, want_code: bool) -> None:
    """y and its code."""
    counted: dict[str, Any] = {"divisor": 0, "COUNT": "divisor"}
    _stride2(x, y, code, g, AVERAGE=False, WANT_CODE=want_code, TYPE=comparable(x), **counted)


def stride2_avg(x: Tensor, y: Tensor, g: Pool2dGeometry, counted: dict[str, Any]) -> None:
    """y of an average."""
    _stride2(x, y, x, g, AVERAGE=True, WANT_CODE=False, TYPE=accumulator(x), **counted)


def _stride2(x: Tensor, y: Tensor, code: Tensor, g: Pool2dGeometry, **options: Any) -> None:
    size = _wide_block(x)
    launch(
        stride2_pool_kernel,
        math.ceil(y.numel() / size),
        maxnreg=MAXNREG,
        x_ptr=x,
        y_ptr=y,
        code_ptr=code,
        numel=y.numel(),
        h=x.shape[2],
        W=x.shape[3],
        TAPS=g.kernel[0],
        PAD=g.padding[0],
        **options,
        INDEX=index(x),
        BLOCK=size,
    )


def square_backward(
    dy: Tensor, code: Tensor | None, dx: Tensor, g: Pool2dGeometry, counted: dict[str, Any] | None = None
) -> None:
    """dx from dy and, of maxima, the code; counted: of averages."""
    h, w = dx.shape[2:]
    options: dict[str, Any] = {
        "dy_ptr": dy,
        "code_ptr": dy if code is None else code,
        "dx_ptr": dx,
        "h": h,
        **(counted or {"divisor": 0, "COUNT": "divisor"}),
        "TAPS": g.kernel[0],
        "PAD": g.padding[0],
        "AVERAGE": code is None,
        "INDEX": index(dy, dx),
        "TYPE": accumulator(dx),
    }
    if is_stride2(g, dx):
        size = _wide_block(dx)
        launch(stride2_pool_backward_kernel, math.ceil(dy.numel() / size), **options, numel=dy.numel(), W=w, BLOCK=size)
        return
    planes, v, cc = chunk(dx, not dx.is_contiguous())
    squares = planes * math.ceil(h / 2) * math.ceil(w / 2) * cc
    p, q = dy.shape[2:]
    grid = math.ceil(squares / block(v))
    launch(stride2_squares_backward_kernel, grid, **options, squares=squares, w=w, p=p, q=q, cc=cc, BLOCK=block(v), V=v)


def _wide_block(t: Tensor) -> int:
    """Elements of one program of 16 bytes a thread."""
    return THREADS * 16 // t.element_size()


# --- the whole plane --------------------------------------------------------------------------------------------------


def is_global(g: Pool2dGeometry, plane: Sequence[int]) -> bool:
    """Whether the window is the plane."""
    return g.kernel == tuple(plane) and g.padding == (0, 0) and g.dilation == (1, 1) and g.kernel != (1, 1)


def _blocks(x: Tensor) -> dict[str, int]:
    """Planes and pixels of a program, 16 bytes a thread where they are aligned, of as few planes as fill the card; in
    channels_last 32 bytes side by side, which is what memory reads at once."""
    n, c = x.shape[:2]
    hw, wide = x.shape[2] * x.shape[3], 16 // x.element_size()
    if is_channels_last(x):
        block_p = min(8 * wide, max(2 * wide, triton.next_power_of_2(c)))
        while block_p > 2 * wide and n * math.ceil(c / block_p) < PROGRAMS:
            block_p //= 2
    else:
        block_p = max(1, min(16, triton.next_power_of_2(max(1, n * c // PROGRAMS))))
    block_e = max(1, min(THREADS * 8 * wide // block_p, triton.next_power_of_2(hw)))
    return {"BLOCK_P": block_p, "BLOCK_E": block_e}


def _global(x: Tensor, blocks: dict[str, int]) -> tuple[int, dict[str, int]]:
    """Programs over the planes of x, and the arguments that say what they are."""
    n, c = x.shape[:2]
    channels_last = is_channels_last(x)
    size = blocks["BLOCK_P"]
    grid = n * math.ceil(c / size) if channels_last else math.ceil(n * c / size)
    return grid, {"HW": x.shape[2] * x.shape[3], "CHANNELS_LAST": channels_last, **blocks}


def global_avg(x: Tensor, y: Tensor, divisor: int) -> None:
    """y [n, c, 1, 1] = the mean of every plane of x; few planes are summed in parts (common/splits.py)."""
    grid, form = _global(x, _blocks(x))
    pixels, step = form["HW"], form["BLOCK_E"]
    parts = min(math.ceil(PROGRAMS / max(1, grid)), math.ceil(pixels / step)) if 2 * grid < PROGRAMS else 1
    part = math.ceil(pixels / parts / step) * step
    parts = math.ceil(pixels / part)
    sums = y if parts == 1 else partial_sums(y, parts)
    launch(
        global_avg_pool_kernel,
        grid * parts,
        x_ptr=x,
        y_ptr=sums,
        planes=y.numel(),
        c=x.shape[1],
        parts=parts,
        part=part,
        divisor=divisor,
        INDEX=index(x),
        ACC=accumulator(x),
        **form,
    )
    if parts > 1:
        reduce(sums, y)


def global_max(x: Tensor, y: Tensor, code: Tensor, indices: Tensor, want_code: bool, want_indices: bool) -> None:
    """y [n, c, 1, 1], its code and indices."""
    grid, form = _global(x, _blocks(x))
    launch(
        global_max_pool_kernel,
        grid,
        maxnreg=MAXNREG,
        x_ptr=x,
        y_ptr=y,
        code_ptr=code,
        indices_ptr=indices,
        planes=y.numel(),
        c=x.shape[1],
        WANT_CODE=want_code,
        WANT_INDICES=want_indices,
        INDEX=index(x),
        TYPE=comparable(x),
        **form,
    )


def global_backward(dy: Tensor, code: Tensor | None, dx: Tensor, divisor: int) -> None:
    """dx [n, c, h, w] from dy [n, c, 1, 1], of any strides: over the divisor, or at the code where there is one."""
    size = _wide_block(dx)
    launch(
        global_pool_backward_kernel,
        math.ceil(dx.numel() / size),
        dy_ptr=dy,
        code_ptr=dy if code is None else code,
        dx_ptr=dx,
        numel=dx.numel(),
        c=dx.shape[1],
        divisor=divisor,
        **dict(zip(("stride_dy_n", "stride_dy_c"), dy.stride()[:2], strict=True)),
        AVERAGE=code is None,
        HW=dx.shape[2] * dx.shape[3],
        CHANNELS_LAST=is_channels_last(dx),
        INDEX=index(dx, dy),
        ACC=accumulator(dx),
        BLOCK=size,
    )
