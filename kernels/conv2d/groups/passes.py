"""Launching convolutions in thin groups, several groups in one product."""

from __future__ import annotations

import math

from torch import Tensor

from kernels.conv2d.common.arguments import launch_gemm, numerics, strides, window
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.groups.fprop import groups_fprop_kernel
from kernels.conv2d.groups.wgrad import groups_wgrad_kernel
from kernels.conv2d.plans.plan import Plan, Tile


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool, tile: Tile) -> None:
    """y [n, k, p, q]; x and y have adjacent channels, w is dense with them."""
    sizes = {"IN": g.c_group, "OUT": g.k_group, **window(g), "TRANSPOSED": False}
    _launch(x, w, bias, y, sizes, relu, tile)


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, tile: Tile) -> None:
    """dx [n, c, h, w] of a convolution with stride 1; dy and dx have adjacent channels, w is dense with them."""
    sizes = {"IN": g.k_group, "OUT": g.c_group, **window(g.turned), "TRANSPOSED": True}
    _launch(dy, w, None, dx, sizes, False, tile)


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw over `plan.splits` parts of the pixels; dy and x have adjacent channels."""
    tile = plan.block
    pixels = g.n * g.p * g.q
    launch_gemm(
        groups_wgrad_kernel,
        plan.splits * g.r * g.s * math.ceil(g.k / tile.block_m),
        tile,
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=partial,
        pixels=pixels,
        pixels_per_split=math.ceil(pixels / plan.splits / tile.block_k) * tile.block_k,
        h=g.h,
        w=g.w,
        c=g.c,
        k=g.k,
        p=g.p,
        q=g.q,
        **_map_strides("dy", dy, "npq"),
        **_map_strides("x", x, "nhw"),
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        IN=g.c_group,
        OUT=g.k_group,
        **window(g),
        **numerics(False, dy, x, dw),
    )


def _launch(
    x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, sizes: dict[str, int], relu: bool, tile: Tile
) -> None:
    n, k, p, q = y.shape
    launch_gemm(
        groups_fprop_kernel,
        math.ceil(n * p * q / tile.block_m) * math.ceil(k / tile.block_n),
        tile,
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        pixels=n * p * q,
        h=x.shape[2],
        w=x.shape[3],
        c=x.shape[1],
        k=k,
        p=p,
        q=q,
        **_map_strides("x", x, "nhw"),
        **_map_strides("y", y, "npq"),
        **sizes,
        HAS_BIAS=bias is not None,
        RELU=relu,
        **numerics(False, x, w, y),
    )


def _map_strides(name: str, t: Tensor, axes: str) -> dict[str, int]:
    """The strides of a map whose channels are adjacent, without that of the channels."""
    return strides(name, t[:, 0], axes)
