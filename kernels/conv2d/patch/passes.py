"""Launching convolutions whose window fits in registers."""

from __future__ import annotations

import math

from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.launch import launch
from kernels.conv2d.common.arguments import strides, undilated_window
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.patch.fprop import patch_fprop_kernel
from kernels.conv2d.plans.few import PATCH_BLOCK


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, y: Tensor, g: Conv2dGeometry, relu: bool) -> None:
    """y [n, k, p, q], dense in either layout."""
    _launch(x, w, bias, y, y, g, PATCH_BLOCK["fprop"], relu=relu, average=False, want_code=False)


def fprop_pool(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    y: Tensor,
    code: Tensor,
    g: Conv2dGeometry,
    average: bool,
    want_code: bool,
) -> None:
    """y and its code [n, k, p // 2, q // 2], of one layout."""
    code = code if want_code else y
    _launch(x, w, bias, y, code, g, PATCH_BLOCK["fprop_pool"], relu=True, average=average, want_code=want_code)


def _launch(
    x: Tensor,
    w: Tensor,
    bias: Tensor | None,
    y: Tensor,
    code: Tensor,
    g: Conv2dGeometry,
    block: tuple[int, int],
    *,
    relu: bool,
    average: bool,
    want_code: bool,
) -> None:
    p, q = y.shape[2:]
    of_w = strides("w", w, "kcrs")
    tall, wide = block
    lanes = g.n * q * (p if wide == 2 else math.ceil(p / tall))
    size = 256 if x.element_size() < 8 else 128
    launch(
        patch_fprop_kernel,
        math.ceil(lanes / size),
        x_ptr=x,
        w_ptr=w,
        bias_ptr=x if bias is None else bias,
        y_ptr=y,
        code_ptr=code,
        n=g.n,
        h=g.h,
        w=g.w,
        k=g.k,
        p=p,
        q=q,
        **strides("x", x, "nchw"),
        stride_w_k=of_w["stride_w_k"],
        **strides("y", y, "nkpq"),
        STRIDE_W_C=of_w["stride_w_c"],
        STRIDE_W_R=of_w["stride_w_r"],
        STRIDE_W_S=of_w["stride_w_s"],
        C=g.c,
        **undilated_window(g),
        HAS_BIAS=bias is not None,
        RELU=relu,
        AVERAGE=average,
        HAS_CODE=want_code,
        INDEX=index(x, w, y),
        ACC=accumulator(x),
        TALL=tall,
        WIDE=wide,
        BLOCK=size,
    )
