"""Large max pools with stride 1 as one along the rows and one along the columns: K + K taps in place of K * K."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.launch import launch
from kernels.common.layout import empty
from kernels.pool2d.arguments import NEAR, THREADS, block, comparable
from kernels.pool2d.geometry import Pool2dGeometry
from kernels.pool2d.lines import line_max_pool_backward_kernel, line_max_pool_kernel

TAPS = 25
"""Windows of more taps take both axes apart."""
SIDE = 32
"""The longest run that a lane has results of: it takes time to compile, and registers."""
REGISTERS = 112
"""For the ends of a lane's runs."""
RUN = 4
"""Elements of a lane backward, which share most of the windows that they ask."""


def is_separable(g: Pool2dGeometry) -> bool:
    """Whether a window of stride 1 has so many taps that a map between is cheaper than to meet each of them."""
    kh, kw = g.kernel
    plain = g.stride == (1, 1) and g.dilation == (1, 1)
    return plain and min(kh, kw) > 1 and kh * kw > TAPS and max(kh, kw) <= SIDE


def separable_max(x: Tensor, y: Tensor, code: Tensor, g: Pool2dGeometry, want_code: bool, channels_last: bool) -> None:
    """y and its code, through the maxima along the rows and their taps. All are dense in one layout."""
    n, c, h, _ = x.shape
    shape = (n, c, h, y.shape[3])
    rows = empty(x, shape, channels_last)
    taps = empty(x, shape if want_code else (0, c, h, 1), channels_last, torch.uint8)
    along_rows: dict[str, Any] = {"x_ptr": x, "taps_ptr": taps, "y_ptr": rows, "code_ptr": taps}
    along_columns: dict[str, Any] = {"x_ptr": rows, "taps_ptr": taps, "y_ptr": y, "code_ptr": code}
    for axis, tensors, span in ((1, along_rows, 1), (0, along_columns, g.kernel[1])):
        each = (2 if want_code else 1) * (2 if x.dtype == torch.float64 else 1)
        most = 2 ** int(math.log2(max(1, REGISTERS // (each * g.kernel[axis]))))
        sizes = _sizes(tensors["x_ptr"], tensors["y_ptr"], axis, channels_last, g.kernel[axis], most)
        options = {"SPAN": span, "WANT_CODE": want_code}
        launch(line_max_pool_kernel, **tensors, **sizes, **_axis(g, axis), **options, TYPE=comparable(x))


def separable_max_backward(dy: Tensor, code: Tensor, dx: Tensor, g: Pool2dGeometry, channels_last: bool) -> None:
    """dx from dy and the code, through the gradient of the maxima along the rows. All are dense in one layout."""
    n, c, h, _ = dx.shape
    shape = (n, c, h, dy.shape[3])
    between = empty(dx, shape, channels_last, torch.float64 if dx.dtype == torch.float64 else torch.float32)
    taps = empty(dx, shape, channels_last, torch.uint8)
    along_columns: dict[str, Any] = {"dy_ptr": dy, "code_ptr": code, "dx_ptr": between, "taps_ptr": taps}
    along_rows: dict[str, Any] = {"dy_ptr": between, "code_ptr": taps, "dx_ptr": dx, "taps_ptr": taps}
    for axis, tensors, span in ((0, along_columns, g.kernel[1]), (1, along_rows, 1)):
        sizes = _sizes(tensors["dx_ptr"], tensors["dy_ptr"], axis, channels_last)
        options = {"SPAN": span, "RUN": RUN}
        launch(line_max_pool_backward_kernel, **tensors, **sizes, **_axis(g, axis), **options, TYPE=accumulator(dx))


def _axis(g: Pool2dGeometry, axis: int) -> dict[str, Any]:
    return {"K": g.kernel[axis], "PAD": g.padding[axis]}


def _sizes(
    plane: Tensor, pooled: Tensor, axis: int, channels_last: bool, run: int = 0, most: int = 16
) -> dict[str, Any]:
    """How a map lies around the axis, and the grid: over runs of so many results, or over the plane's of RUN elements.

    most: elements of a thread.
    """
    inner = (plane.shape[1] if channels_last else 1) * (plane.shape[3] if axis == 0 else 1)
    v = math.gcd(inner, 16 // plane.element_size(), most)
    length, results = plane.shape[2 + axis], pooled.shape[2 + axis]
    blocks = math.ceil(results / run) if run else math.ceil(length / RUN)
    chunks = plane.numel() // length * blocks // v
    size = min(block(v), THREADS * most // v)
    return {
        "grid": math.ceil(chunks / size),
        "chunks": chunks,
        "length": length,
        "results": results,
        "blocks": blocks,
        "inner": inner // v,
        "NEAR": max(blocks, inner // v) < NEAR,
        "INDEX": index(plane, pooled),
        "BLOCK": size,
        "V": v,
    }
