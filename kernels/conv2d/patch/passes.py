"""Launching convolutions whose window fits in registers."""

from __future__ import annotations

import math

from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.launch import launch
from kernels.conv2d.common.arguments import Epilogue, strides, undilated_window
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.patch.fprop import patch_fprop_kernel
from kernels.conv2d.plans.few import PATCH_BLOCK


def fprop(x: Tensor, w: Tensor, y: Tensor, g: Conv2dGeometry, end: Epilogue) -> None:
    """y [n, k, p, q], or pooled [n, k, p // 2, q // 2], dense in either layout."""
    p, q = y.shape[2:]
    of_w = strides("w", w, "kcrs")
    tall, wide = PATCH_BLOCK["fprop_pool" if end.pool else "fprop"]
    lanes = g.n * q * (p if wide == 2 else math.ceil(p / tall))
    size = 256 if x.element_size() < 8 else 128
    launch(
        patch_fprop_kernel,
        math.ceil(lanes / size),
        x_ptr=x,
        w_ptr=w,
        **end.pointers(y),
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
        **end.flags,
        INDEX=index(x, w, y),
        ACC=accumulator(x),
        TALL=tall,
        WIDE=wide,
        BLOCK=size,
    )
