"""Launching convolutions in thin groups, several groups in one product."""

from __future__ import annotations

import math

from torch import Tensor

from kernels.conv2d.common.arguments import chunk, launch_gemm, numerics, per_split, phase_steps, strides, window
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.groups.fprop import groups_fprop_kernel
from kernels.conv2d.groups.wgrad import groups_wgrad_kernel
from kernels.conv2d.plans.few import group_block, group_pack
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.tiles import Tile


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool, tile: Tile) -> None:
    """y [n, k, p, q]; x and y have adjacent channels, w is dense with them."""
    sizes = {"IN": g.c_group, "OUT": g.k_group, "PACK": group_pack("fprop", g, x.element_size()), **window(g)}
    sizes |= {"STEP_H": 1, "STEP_W": 1, "TRANSPOSED": False}
    _launch(x, w, bias, y, sizes, 1, g.n * g.p * g.q, relu, tile)


def dgrad(dy: Tensor, w: Tensor, dx: Tensor, g: Conv2dGeometry, tile: Tile) -> None:
    """dx [n, c, h, w]; dy and dx have adjacent channels, w is dense with them."""
    sizes = {"IN": g.k_group, "OUT": g.c_group, "PACK": group_pack("dgrad", g, dy.element_size()), **window(g)}
    sizes |= {**phase_steps(g), "TRANSPOSED": True}
    _launch(dy, w, None, dx, sizes, g.phases, g.phase_pixels, False, tile)


def wgrad(dy: Tensor, x: Tensor, dw: Tensor, partial: Tensor, g: Conv2dGeometry, plan: Plan) -> None:
    """The partial sums of dw over `plan.splits` parts of the pixels; dy and x have adjacent channels, dy dense."""
    tile = plan.block
    pixels = g.n * g.p * g.q
    pack = group_pack("wgrad", g, x.element_size())
    taps = tile.block_m // group_block(pack * g.c_group)
    launch_gemm(
        groups_wgrad_kernel,
        plan.splits * math.ceil(g.r * g.s / taps) * math.ceil(g.groups / pack),
        tile,
        dy_ptr=dy,
        x_ptr=x,
        dw_ptr=partial,
        pixels=pixels,
        pixels_per_split=per_split(pixels, plan.splits, tile.block_k),
        h=g.h,
        w=g.w,
        c=g.c,
        k=g.k,
        p=g.p,
        q=g.q,
        **_map_strides("x", x, "nhw"),
        stride_dw_split=dw.numel(),
        **strides("dw", dw, "kcrs"),
        IN=g.c_group,
        OUT=g.k_group,
        PACK=pack,
        TAPS=taps,
        **window(g),
        **_chunks(x, dy, pack * g.c_group, pack * g.k_group),
        **numerics(False, dy, x, dw),
    )


def _launch(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    y: Tensor,
    sizes: dict[str, int],
    phases: int,
    pixels: int,
    relu: bool,
    tile: Tile,
) -> None:
    _, k, p, q = y.shape
    columns = sizes["PACK"] * sizes["OUT"]
    launch_gemm(
        groups_fprop_kernel,
        math.ceil(pixels / tile.block_m) * phases * math.ceil(k / columns),
        tile,
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        pixels=pixels,
        h=x.shape[2],
        w=x.shape[3],
        c=x.shape[1],
        k=k,
        p=p,
        q=q,
        **_map_strides("x", x, "nhw"),
        **_map_strides("y", y, "npq"),
        **sizes,
        **_chunks(x, y, sizes["PACK"] * sizes["IN"], columns),
        HAS_BIAS=bias is not None,
        RELU=relu,
        **numerics(False, x, w, y),
    )


def _chunks(x: Tensor, y: Tensor, summed: int, columns: int) -> dict[str, int]:
    """CHUNK and CHUNK_Y of maps of which a program sees so many channels."""
    return {"CHUNK": math.gcd(chunk(x), summed), "CHUNK_Y": math.gcd(chunk(y), columns)}


def _map_strides(name: str, t: Tensor, axes: str) -> dict[str, int]:
    """The strides of a map whose channels are adjacent, without that of the channels."""
    return strides(name, t[:, 0], axes)
