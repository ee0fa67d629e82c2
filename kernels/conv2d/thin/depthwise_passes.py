"""Launching depthwise convolutions: how many rows, columns and channels a lane holds, and how wide it can read."""

from __future__ import annotations

import math
from typing import Any

import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.device import MAXNREG, PROGRAMS
from kernels.common.launch import launch
from kernels.common.layout import is_channels_last
from kernels.common.splits import partial_sums, reduce
from kernels.conv2d.common.arguments import per_split, strides, window
from kernels.conv2d.common.pack import channels_innermost
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.few import streams
from kernels.conv2d.thin.depthwise import depthwise_kernel
from kernels.conv2d.thin.depthwise_lane import blocks, fitted, narrowed, unit_of, value_bytes, width
from kernels.conv2d.thin.depthwise_nchw import depthwise_nchw_kernel
from kernels.conv2d.thin.depthwise_wgrad import depthwise_nchw_wgrad_kernel, depthwise_wgrad_kernel

WINDOW_BYTES, BLOCK_BYTES, SUM_BYTES = 400, 256, 288
"""Registers of a lane, in bytes: for its weights and for its block of outputs; for its sums of the weight gradient."""
FEW_TAPS = 25
"""Weights of more taps, or with 64-bit offsets, are copied in the order of the taps first: lanes read neighbours, and
each weight when it is due, which takes fewer registers and a third of the time to compile."""
BLOCK = 128
ROWS = 4
"""Output rows of a lane in NCHW, and in the weight gradient without a stride, which needs more input for each."""


def streams_wgrad(dy: Tensor, g: Conv2dGeometry) -> bool:
    """Whether a weight gradient streams: in channels_last every tap has a sum (7x7 in float64: too many registers)."""
    return streams(g) and (not is_channels_last(dy) or g.r * g.s * value_bytes(dy) <= SUM_BYTES)


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool) -> None:
    """y, dense in either layout."""
    if is_channels_last(y):
        _stream(x, w, bias, y, g, False, relu)
    else:
        _stream_nchw(x, w, bias, y, g, False, relu)


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry) -> None:
    """dx, dense in either layout."""
    if is_channels_last(dx):
        _stream(dy, w, None, dx, g, True, False)
    else:
        _stream_nchw(dy, w, None, dx, g, True, False)


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, g: Conv2dGeometry) -> None:
    """dw, dense."""
    (_wgrad if is_channels_last(dy) else _wgrad_nchw)(dy, x, dw, g)


def _stream(
    x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, backward: bool, relu: bool
) -> None:
    """y from x in channels_last."""
    n, c, p, q = y.shape
    up = g.stride if backward else (1, 1)
    many, offsets = g.r * g.s > FEW_TAPS, index(x, w, y)
    rows, cols = _block(g.r * g.s, up, many * ((offsets is tl.int64) + (x.element_size() == 8)))
    rows, cols = fitted(rows, p, g.dilation[0]), fitted(cols, q, g.dilation[1])
    wide = width(y, rows * up[0] * cols * up[1], BLOCK_BYTES)
    wide = min(wide, width(y, g.r * g.s, 2 * WINDOW_BYTES if many else WINDOW_BYTES))
    wide = unit_of(x, wide, 1)
    blocks_p, blocks_q = blocks(p, rows * up[0], g.dilation[0]), blocks(q, cols * up[1], g.dilation[1])
    items = n * blocks_p * blocks_q * (c // wide)
    taps_first = many or offsets is tl.int64
    launch(
        depthwise_kernel,
        math.ceil(items / BLOCK),
        x_ptr=x,
        w_ptr=channels_innermost(w.reshape(1, c, g.r, g.s)) if taps_first else w.contiguous(),
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        items=items,
        h=x.shape[2],
        w=x.shape[3],
        p=p,
        q=q,
        blocks_p=blocks_p,
        blocks_q=blocks_q,
        blocks_c=c // wide,
        **_unit_strides("x", x, "nchw", wide, "c"),
        **_window(g, backward, rows, cols),
        TAPS_FIRST=taps_first,
        HAS_BIAS=bias is not None,
        RELU=relu,
        INDEX=offsets,
        ACC=accumulator(x),
        WIDE=wide,
        ROWS=rows,
        COLS=cols,
        BLOCK=BLOCK,
        maxnreg=_most_registers(x, wide),
    )


def _stream_nchw(
    x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, backward: bool, relu: bool
) -> None:
    """y from x in NCHW."""
    n, c, p, q = y.shape
    up = g.stride if backward else (1, 1)
    scarce = g.r * g.s > FEW_TAPS and x.element_size() == 8
    rows = fitted(max(1, (ROWS // 2 if scarce else ROWS) // up[0]), p, g.dilation[0])
    reached = _window(g, backward, rows, 1)
    wide = width(y, rows * up[0] * up[1], BLOCK_BYTES)
    unit = unit_of(x, wide, 3)
    wide = narrowed(wide, unit, reached["NUM_W"], reached["DOWN_W"], g.dilation[1], reached["NUM_H"])
    unit_y = math.gcd(q, wide * min(up[1], 2))
    blocks_p, blocks_q = blocks(p, rows * up[0], g.dilation[0]), math.ceil(q / (wide * up[1]))
    items = n * c * blocks_p * blocks_q
    launch(
        depthwise_nchw_kernel,
        math.ceil(items / BLOCK),
        x_ptr=x,
        w_ptr=w.contiguous(),
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        items=items,
        c=c,
        h=x.shape[2],
        w=x.shape[3],
        p=p,
        q_units=q // unit_y,
        blocks_p=blocks_p,
        blocks_q=blocks_q,
        **_unit_strides("x", x, "nchw", unit, "w"),
        **reached,
        HAS_BIAS=bias is not None,
        RELU=relu,
        INDEX=index(x, w, y),
        ACC=accumulator(x),
        UNIT=unit,
        UNIT_Y=unit_y,
        WIDE=wide,
        ROWS=rows,
        BLOCK=BLOCK,
        maxnreg=MAXNREG,
    )


def _wgrad(dy: Tensor, x: Tensor, dw: Tensor, g: Conv2dGeometry) -> None:
    """dw in channels_last."""
    unit = min(unit_of(t, width(dy, g.r * g.s, SUM_BYTES), 1) for t in (dy, x))
    block_c = 16 if g.c <= 16 else 32
    block_p = BLOCK * unit // block_c
    rows = _wgrad_rows(g)
    blocks_p = blocks(g.p, rows, g.dilation[0])
    items = g.n * blocks_p * g.q
    programs = math.ceil(g.c / block_c)
    splits = _parts(programs, items, block_p)
    partial = partial_sums(dw, splits)
    launch(
        depthwise_wgrad_kernel,
        splits * programs,
        maxnreg=_most_registers(x, unit),
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=partial,
        items=items,
        items_per_split=per_split(items, splits, block_p),
        c_units=g.c // unit,
        h=g.h,
        w=g.w,
        p=g.p,
        q=g.q,
        blocks_p=blocks_p,
        **_unit_strides("dy", dy, "ncpq", unit, "c"),
        **_unit_strides("x", x, "nchw", unit, "c"),
        **window(g),
        INDEX=index(dy, x),
        ACC=accumulator(dy),
        UNIT=unit,
        ROWS=rows,
        BLOCK_P=block_p,
        BLOCK_C=block_c,
    )
    reduce(partial, dw)


def _wgrad_nchw(dy: Tensor, x: Tensor, dw: Tensor, g: Conv2dGeometry) -> None:
    """dw in NCHW: small maps have fewer lanes a program."""
    # Of 8 columns that lie 4 apart ptxas keeps 16 bytes on the stack on sm_90, of 2 of 7x7 in float64 up to 208, and
    # of 2 rows of those 112 on sm_120.
    apart, many = g.stride[1] == 4, g.r * g.s > FEW_TAPS
    wide = {2: 4 if apart else 8, 4: 4, 8: 1 if many else 2}[dy.element_size()]
    rows = 1 if many and dy.element_size() == 8 else _wgrad_rows(g)
    unit = unit_of(x, wide, 3)
    wide = narrowed(wide, unit, g.s, g.stride[1], g.dilation[1], (rows - 1) * g.stride[0] + g.r)
    unit_y = unit_of(dy, wide, 3)
    blocks_p, blocks_q = blocks(g.p, rows, g.dilation[0]), math.ceil(g.q / wide)
    items = g.n * blocks_p * blocks_q
    warps = 4 if items > 64 else 2 if items > 32 else 1
    splits = _parts(g.c, items, 32 * warps)
    partial = partial_sums(dw, splits)
    launch(
        depthwise_nchw_wgrad_kernel,
        splits * g.c,
        num_warps=warps,
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=partial,
        items=items,
        items_per_split=per_split(items, splits, 32 * warps),
        c=g.c,
        h=g.h,
        w=g.w,
        p=g.p,
        q_units=g.q // unit_y,
        blocks_p=blocks_p,
        blocks_q=blocks_q,
        **_unit_strides("dy", dy, "ncpq", unit_y, "q"),
        **_unit_strides("x", x, "nchw", unit, "w"),
        **window(g),
        INDEX=index(dy, x),
        ACC=accumulator(dy),
        UNIT=unit,
        UNIT_Y=unit_y,
        WIDE=wide,
        ROWS=rows,
        BLOCK=32 * warps,
    )
    reduce(partial, dw)


def _most_registers(x: Tensor, wide: int) -> int | None:
    """In channels_last: few channels of a lane ptxas would fit in 72 or 80 registers and up to 152 bytes of stack;
    of more it takes 128 to 200 registers. Of float64 it would take 255, and up to 80 bytes, where 90 to 190 do."""
    return MAXNREG if wide < 4 and x.element_size() < 8 else None


def _block(taps: int, up: tuple[int, int], scarce: int) -> tuple[int, int]:
    """Rows and columns of a lane in channels_last before UP: more where more outputs share an input, fewer where one or
    two things make registers scarce: 64-bit addresses, and values of two registers each."""
    few = taps <= 9 and up == (1, 1)
    tall, broad = ((2, 2) if few else (4, 2), (2, 2), (2, 1))[scarce]
    return max(1, tall // up[0]), max(1, broad // up[1])


def _wgrad_rows(g: Conv2dGeometry) -> int:
    """Rows of a lane in the weight gradient: of four of 7x7 windows ptxas keeps 64 bytes on the stack on sm_120."""
    rows = max(1, (ROWS if g.r * g.s <= FEW_TAPS else ROWS // 2) // g.stride[0])
    return fitted(rows, g.p, g.dilation[0])


def _unit_strides(name: str, t: Tensor, axes: str, unit: int, inner: str) -> dict[str, int]:
    """Strides in units of so many elements along `inner`, whose own is in elements or, of adjacent units, 1."""
    steps = strides(name, t, axes)
    return {key: step if key.endswith(inner) else step // unit for key, step in steps.items()}


def _window(g: Conv2dGeometry, backward: bool, rows: int, cols: int) -> dict[str, Any]:
    """The constexprs that say which inputs a lane's block of outputs meets, by which taps."""
    found: dict[str, Any] = {"R": g.r, "S": g.s, "FLIP": backward}
    axes = (("H", g.r, rows, g.padding[0]), ("W", g.s, cols, g.padding[2]))
    for (axis, taps, size, padding), stride, dil in zip(axes, g.stride, g.dilation, strict=True):
        up, down = (stride, 1) if backward else (1, stride)
        pad = (taps - 1) * dil - padding if backward else padding
        first = -(pad // up)
        last = (down * (size * up - 1) + taps - 1 - pad) // up
        found |= {f"UP_{axis}": up, f"DOWN_{axis}": down, f"FIRST_{axis}": first}
        found |= {f"NUM_{axis}": max(0, last - first + 1), f"TAP_{axis}": up * first + pad, f"DIL_{axis}": dil}
    return found


def _parts(programs: int, items: int, block: int) -> int:
    """Into how many parts a sum is cut: enough to fill a card, two blocks of items each."""
    return max(1, min(-(-PROGRAMS // programs), items // (2 * block)))
