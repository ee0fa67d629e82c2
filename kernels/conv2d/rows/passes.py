"""Launching convolutions over few channels on padded rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kernels.common.arithmetic import index
from kernels.common.launch import launch
from kernels.common.layout import is_channels_last
from kernels.conv2d.common.arguments import Epilogue, launch_gemm, numerics, strides, tiles
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.few import padded_rows
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.rows.fprop import rows_fprop_kernel
from kernels.conv2d.rows.pack import rows_pack_kernel
from kernels.conv2d.rows.wgrad import rows_wgrad_kernel

BLOCK_P, BLOCK_W = 256, 256  # a matrix of whole tiles, which are 16 x 16 at least, has a multiple of 256 elements


@dataclass(frozen=True)
class Rows:
    """The images [n, rows, columns, cpad] and the filters [k', total] as the GEMM reads them."""

    images: Tensor
    matrix: Tensor

    @property
    def arguments(self) -> dict[str, int]:
        """Elements from image to image and from row to row, as kernel arguments."""
        return {"stride_x_n": self.images.stride(0), "stride_x_h": self.images.stride(1)}


def fprop(x: Tensor, w: Tensor, y: Tensor, g: Conv2dGeometry, plan: Plan, end: Epilogue, turned: bool = False) -> None:
    """y [n, k, p, q], or pooled [n, k, p // 2, q // 2], dense in either layout; turned: by filters turned by 180
    degrees."""
    tile = plan.block
    rows = _pack(x, w, g, tile.block_k, tile.block_n, turned)
    cpad = rows.images.shape[3]
    pixels = y.numel() // g.k
    launch_gemm(
        rows_fprop_kernel,
        tiles(pixels, g.k, tile),
        tile,
        rows_ptr=rows.images,
        matrix_ptr=rows.matrix,
        **end.pointers(y),
        pixels=pixels,
        k=g.k,
        p=y.shape[2],
        q=y.shape[3],
        **rows.arguments,
        **strides("y", y, "nkpq"),
        R=g.r,
        RUN=g.s * cpad,
        TOTAL=rows.matrix.shape[1],
        STRIDE_H=g.stride[0],
        STEP=g.stride[1] * cpad,
        POOL=end.pool,
        **end.flags,
        ALONG=1 if is_channels_last(y) else math.gcd(y.shape[3], 16),
        **numerics(plan.tf32x3, x, rows.images, y),
    )


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """dx [n, c, h, w] of a convolution with stride 1, dense in either layout."""
    fprop(dy, w.transpose(0, 1), dx, g.turned, plan, Epilogue(), turned=True)


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw over `plan.splits` parts of the pixels."""
    tile = plan.block
    rows = _pack(x, dw, g, 0, 1)
    run = g.s * rows.images.shape[3]
    steps = g.n * g.p * math.ceil(g.q / tile.block_k)
    launch_gemm(
        rows_wgrad_kernel,
        plan.splits * tiles(g.k, g.r * run, tile),
        tile,
        dy_ptr=dy,
        rows_ptr=rows.images,
        dw_ptr=partial,
        steps=steps,
        steps_per_split=math.ceil(steps / plan.splits),
        k=g.k,
        p=g.p,
        q=g.q,
        **strides("dy", dy, "nkpq"),
        **rows.arguments,
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        C=g.c,
        CPAD=rows.images.shape[3],
        R=g.r,
        RUN=run,
        STRIDE_H=g.stride[0],
        STEP=g.stride[1] * rows.images.shape[3],
        **numerics(plan.tf32x3, dy, rows.images, dw),
    )


def _pack(x: Tensor, w: Tensor, g: Conv2dGeometry, block_k: int, block_n: int, turned: bool = False) -> Rows:
    """The padded images and, if `block_k` is given, the filters as a matrix of whole tiles, turned if asked."""
    rows, columns, cpad = padded_rows(g, x.element_size())
    images = torch.empty((g.n, rows, columns, cpad), dtype=x.dtype, device=x.device)
    total = math.ceil(g.r * g.s * cpad / block_k) * block_k if block_k else 1
    filters = math.ceil(g.k / block_n) * block_n if block_k else 0
    matrix = torch.empty((filters, total), dtype=x.dtype, device=x.device)
    arguments: dict[str, Any] = {**strides("x", x, "nchw"), **strides("w", w, "kcrs")}
    launch(
        rows_pack_kernel,
        math.ceil(images.numel() / cpad / BLOCK_P) + math.ceil(matrix.numel() / BLOCK_W),
        x_ptr=x,
        w_ptr=w,
        rows_ptr=images,
        matrix_ptr=matrix if block_k else images,
        n=g.n,
        h=g.h,
        w=g.w,
        k=g.k,
        rows=rows,
        columns=columns,
        **arguments,
        C=g.c,
        R=g.r,
        S=g.s,
        PAD_H=g.padding[0],
        PAD_W=g.padding[2],
        CPAD=cpad,
        TOTAL=total,
        TURNED=turned,
        INDEX=index(x, images),
        BLOCK_P=BLOCK_P,
        BLOCK_W=BLOCK_W,
    )
    return Rows(images, matrix)
