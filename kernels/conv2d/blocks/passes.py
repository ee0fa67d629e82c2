"""Launching convolutions over few channels on blocks of pixels."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kernels.common.arithmetic import accumulator
from kernels.common.device import MAXNREG
from kernels.common.launch import launch
from kernels.common.precision import input_precision
from kernels.conv2d.blocks.fprop import blocks_band_kernel, blocks_fprop_kernel
from kernels.conv2d.blocks.patch import Patch, adjacent, is_last, units, wide_of
from kernels.conv2d.blocks.sums import add_up
from kernels.conv2d.blocks.wgrad import blocks_wgrad_kernel
from kernels.conv2d.common.arguments import Epilogue, launch_gemm, strides
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.blocks import block_of
from kernels.conv2d.plans.few import MOST_COPY
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.tiles import Tile

BLOCK = 256
"""Elements of a program that writes the filters as a matrix."""


def fprop(x: Tensor, w: Tensor, y: Tensor, g: Conv2dGeometry, plan: Plan, end: Epilogue, turned: bool = False) -> None:
    """y [n, k, p, q], or pooled [n, k, p // 2, q // 2], dense in either layout; turned: by filters turned by 180
    degrees."""
    tile, (tall, wide) = plan.block, block_of("fprop_pool" if end.pool else "fprop", g, x.element_size())
    each = 2 if end.pool else 1
    x = adjacent(x)
    patch = Patch.of(x, g, tall * each, wide * each, tile.block_k)
    window = {
        "LEAD": patch.lead,
        "INNER": patch.inner,
        "STRIDE_H": g.stride[0],
        "STRIDE_W": g.stride[1],
        "R": g.r,
        "S": g.s,
        "POOL": end.pool,
    }
    shared = _sizes(g, patch, tall, wide, y) | window
    tiles_n = math.ceil(tall * wide * g.k * each**2 / tile.block_n)
    band = _band(w, tiles_n, tile, shared, turned)
    blocks = y.numel() // (g.k * tall * wide)
    launch_gemm(
        blocks_fprop_kernel,
        tiles_n * math.ceil(blocks / tile.block_m),
        tile,
        maxnreg=MAXNREG,
        x_ptr=x,
        band_ptr=band,
        **end.pointers(y),
        blocks=blocks,
        depth=band.shape[1],
        **_maps(g, patch, tall, wide, x=x, y=y),
        **shared,
        STEP_H=tall * each * g.stride[0],
        STEP_W=wide * each * g.stride[1] * patch.inner // patch.unit,
        **end.flags,
    )


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dx [n, c, h, w] of a convolution with stride 1, dense in either layout."""
    fprop(dy, w.transpose(0, 1), dx, g.turned, plan, Epilogue(), turned=True)


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dw [k, c, r, s], dense in either layout, its sums cut in `plan.splits` parts."""
    tile, (tall, wide) = plan.block, block_of("wgrad", g, x.element_size())
    dy, x = adjacent(dy), adjacent(x)
    patch = Patch.of(x, g, tall, wide, tile.block_n)
    m, blocks = tall * wide * g.k, g.n * g.p * g.q // (tall * wide)
    steps = math.ceil(blocks / tile.block_k)
    band = torch.empty((plan.splits, m, patch.columns), dtype=torch.float32, device=dy.device)
    launch_gemm(
        blocks_wgrad_kernel,
        plan.splits * math.ceil(m / tile.block_m) * math.ceil(patch.columns / tile.block_n),
        tile,
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=band,
        blocks=blocks,
        steps_per_split=math.ceil(steps / plan.splits),
        **_maps(g, patch, tall, wide, x=x, dy=dy),
        **_sizes(g, patch, tall, wide, dy),
        STEP_H=g.stride[0],
        STEP_W=wide * g.stride[1] * patch.inner // patch.unit,
    )
    _add_up(band, dw, g, patch, (tall, wide), is_last(dy))


def _sizes(g: Conv2dGeometry, patch: Patch, tall: int, wide: int, y: Tensor) -> dict[str, int]:
    """The constexprs that say what a block of y and its patch are."""
    runs = {"ROWS": patch.rows, "RUN": patch.run, "WIDTH": patch.columns}
    return {"K": g.k, "TALL": tall, "WIDE": wide, **runs, "LAST_Y": is_last(y)}


def _maps(g: Conv2dGeometry, patch: Patch, tall: int, wide: int, x: Tensor, **result: Tensor) -> dict[str, Any]:
    """The arguments that say where blocks of the result and their patches of x lie, and how they are multiplied."""
    ((name, y),) = result.items()
    unit_y = math.gcd(wide_of(y), wide * (g.k if is_last(y) else 1), MOST_COPY // y.element_size())
    return {
        "h": g.h,
        "row_units": g.w * patch.inner // patch.unit,
        **units("x", x, "nch", patch.unit),
        **units(name, y, "nkp", unit_y),
        "BLOCKS_P": y.shape[2] // tall,
        "BLOCKS_Q": y.shape[3] // wide,
        "START": patch.start,
        "PAD_H": g.padding[0],
        "UNIT_Y": unit_y,
        "UNIT": patch.unit,
        "PRECISION": input_precision(x.dtype),
        "ACC": accumulator(x),
    }


def _band(w: Tensor, tiles_n: int, tile: Tile, shared: dict[str, int], turned: bool) -> Tensor:
    """The filters as a matrix of whole tiles [results, depth]."""
    depth = math.ceil(shared["WIDTH"] / tile.block_k) * tile.block_k
    band = torch.empty((tiles_n * tile.block_n, depth), dtype=w.dtype, device=w.device)
    launch(
        blocks_band_kernel,
        math.ceil(band.numel() / BLOCK),
        w_ptr=w,
        band_ptr=band,
        numel=band.numel(),
        **strides("w", w, "kcrs"),
        **shared,
        DEPTH=depth,
        TURNED=turned,
        SIDE=tile.block_n,
        BLOCK=BLOCK,
    )
    return band


def _add_up(band: Tensor, dw: Tensor, g: Conv2dGeometry, patch: Patch, block: tuple[int, int], last_y: bool) -> None:
    """dw from the parts of the band."""
    tall, wide = block
    line = patch.columns
    of_t, of_u, of_k = (wide * g.k, g.k, 1) if last_y else (wide, 1, tall * wide)
    of_c, of_j = (1, g.c) if patch.inner > 1 else (patch.rows * patch.run, 1)
    pixel = (of_t * line + g.stride[0] * patch.run, of_u * line + g.stride[1] * of_j)
    add_up(band, dw, tall, wide, (*pixel, of_k * line, of_c, patch.run, of_j), patch.lead)
