"""Launching convolutions over few channels on blocks of pixels."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kernels.common.arithmetic import accumulator
from kernels.common.device import MAXNREG
from kernels.common.launch import launch
from kernels.common.precision import input_precision
from kernels.conv2d.blocks.fprop import blocks_band_kernel, blocks_fprop_kernel
from kernels.conv2d.blocks.patch import BYTES, Patch, adjacent, is_last, units, wide_of
from kernels.conv2d.blocks.sums import add_up
from kernels.conv2d.blocks.wgrad import blocks_wgrad_kernel
from kernels.conv2d.common.arguments import launch_gemm, strides
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.blocks import block_of
from kernels.conv2d.plans.plan import Plan

BLOCK = 256


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool, plan: Plan) -> None:
    """y [n, k, p, q], dense in either layout."""
    _fprop("fprop", x, w, bias, y, y, g, plan, {"POOL": False, "RELU": relu, "AVERAGE": False, "HAS_CODE": False})


def fprop_pool(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    y: Tensor,
    code: Tensor,
    g: Conv2dGeometry,
    average: bool,
    want_code: bool,
    plan: Plan,
) -> None:
    """y and its code [n, k, p // 2, q // 2], of one layout."""
    flags = {"POOL": True, "RELU": True, "AVERAGE": average, "HAS_CODE": want_code}
    _fprop("fprop_pool", x, w, bias, y, code if want_code else y, g, plan, flags)


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dx [n, c, h, w] of a convolution with stride 1, dense in either layout."""
    flags = {"POOL": False, "RELU": False, "AVERAGE": False, "HAS_CODE": False}
    _fprop("dgrad", dy, w.transpose(0, 1), None, dx, dx, g.turned, plan, flags)


def _fprop(
    which: str,
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    y: Tensor,
    code: Tensor,
    g: Conv2dGeometry,
    plan: Plan,
    flags: dict[str, bool],
) -> None:
    tile, (tall, wide) = plan.block, block_of("fprop" if which == "dgrad" else which, g, x.element_size())
    each = 2 if flags["POOL"] else 1
    x = adjacent(x)
    patch = Patch.of(x, g, tall * each, wide * each, tile.block_k)
    inner = g.c if patch.last else 1
    last_y = is_last(y)
    depth = math.ceil(patch.columns / tile.block_k) * tile.block_k
    tiles_n = math.ceil(tall * wide * g.k * each**2 / tile.block_n)
    shared = {
        "K": g.k,
        "TALL": tall,
        "WIDE": wide,
        "ROWS": patch.rows,
        "RUN": patch.run,
        "WIDTH": patch.columns,
        "LEAD": patch.lead,
        "INNER": inner,
        "STRIDE_H": g.stride[0],
        "STRIDE_W": g.stride[1],
        "R": g.r,
        "S": g.s,
        "LAST_Y": last_y,
        "POOL": flags["POOL"],
    }
    band = torch.empty((tiles_n * tile.block_n, depth), dtype=x.dtype, device=x.device)
    launch(
        blocks_band_kernel,
        math.ceil(band.numel() / BLOCK),
        w_ptr=w,
        band_ptr=band,
        numel=band.numel(),
        **strides("w", w, "kcrs"),
        **shared,
        DEPTH=depth,
        TURNED=which == "dgrad",
        SIDE=tile.block_n,
        BLOCK=BLOCK,
    )
    unit_y = math.gcd(wide_of(y), wide * (g.k if last_y else 1), BYTES // y.element_size())
    blocks = y.numel() // (g.k * tall * wide)
    launch_gemm(
        blocks_fprop_kernel,
        tiles_n * math.ceil(blocks / tile.block_m),
        tile,
        maxnreg=MAXNREG,
        x_ptr=x,
        band_ptr=band,
        bias_ptr=band if bias is None else bias,
        y_ptr=y,
        code_ptr=code,
        blocks=blocks,
        h=g.h,
        row_units=g.w * inner // patch.unit,
        depth=depth,
        **units("x", x, "nch", patch.unit),
        **units("y", y, "nkp", unit_y),
        **shared,
        BLOCKS_P=y.shape[2] // tall,
        BLOCKS_Q=y.shape[3] // wide,
        START=patch.start,
        STEP_H=tall * each * g.stride[0],
        STEP_W=wide * each * g.stride[1] * inner // patch.unit,
        PAD_H=g.padding[0],
        UNIT_Y=unit_y,
        UNIT=patch.unit,
        HAS_BIAS=bias is not None,
        **{name: flags[name] for name in ("RELU", "AVERAGE", "HAS_CODE")},
        PRECISION=input_precision(x.dtype),
        ACC=accumulator(x),
    )


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dw [k, c, r, s], dense in either layout, its sums cut in `plan.splits` parts."""
    tile, (tall, wide) = plan.block, block_of("wgrad", g, x.element_size())
    dy, x = adjacent(dy), adjacent(x)
    patch = Patch.of(x, g, tall, wide, tile.block_n)
    last_y = is_last(dy)
    unit_y = math.gcd(wide_of(dy), wide * (g.k if last_y else 1), BYTES // dy.element_size())
    m, blocks = tall * wide * g.k, g.n * g.p * g.q // (tall * wide)
    steps = math.ceil(blocks / tile.block_k)
    band = torch.empty((plan.splits, m, patch.columns), dtype=torch.float32, device=dy.device)
    launch_gemm(
        blocks_wgrad_kernel,
        plan.splits * math.ceil(m / tile.block_m) * math.ceil(patch.columns / tile.block_n),
        tile,
        maxnreg=MAXNREG,
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=band,
        blocks=blocks,
        steps_per_split=math.ceil(steps / plan.splits),
        h=g.h,
        row_units=g.w * (g.c if patch.last else 1) // patch.unit,
        **units("dy", dy, "nkp", unit_y),
        **units("x", x, "nch", patch.unit),
        K=g.k,
        BLOCKS_P=g.p // tall,
        BLOCKS_Q=g.q // wide,
        TALL=tall,
        WIDE=wide,
        ROWS=patch.rows,
        RUN=patch.run,
        WIDTH=patch.columns,
        START=patch.start,
        STEP_H=g.stride[0],
        STEP_W=wide * g.stride[1] * (g.c if patch.last else 1) // patch.unit,
        PAD_H=g.padding[0],
        LAST_Y=last_y,
        UNIT_Y=unit_y,
        UNIT=patch.unit,
        PRECISION=input_precision(dy.dtype),
        ACC=accumulator(dy),
    )
    _add_up(band, dw, g, patch, (tall, wide), last_y)


def _add_up(band: Tensor, dw: Tensor, g: Conv2dGeometry, patch: Patch, block: tuple[int, int], last_y: bool) -> None:
    """dw from the parts of the band."""
    tall, wide = block
    line = patch.columns
    of_t, of_u, of_k = (wide * g.k, g.k, 1) if last_y else (wide, 1, tall * wide)
    of_c, of_j = (1, g.c) if patch.last else (patch.rows * patch.run, 1)
    pixel = (of_t * line + g.stride[0] * patch.run, of_u * line + g.stride[1] * of_j)
    add_up(band, dw, tall, wide, (*pixel, of_k * line, of_c, patch.run, of_j), patch.lead)
