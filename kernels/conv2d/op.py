"""conv2d, conv2d_relu, conv2d_relu_pool2d: arguments checked, path chosen, result returned."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from kernels import aten, cpu
from kernels.backend import ATEN, CPU, TRITON, decline, may_route, path, unsupported
from kernels.common.arguments import IntOrPair, Padding, check_pool_name
from kernels.common.autocast import is_autocast
from kernels.common.layout import is_channels_last
from kernels.common.registration import may_need_gradient
from kernels.conv2d import autograd, autograd_pool
from kernels.conv2d.geometry import (
    Conv2dGeometry,
    check_numbers,
    check_tensors,
    check_window,
    resolve_padding,
)
from kernels.conv2d.plan import is_direct
from kernels.cpu import front
from kernels.pool2d import op as pool
from kernels.pool2d.geometry import Pool2dGeometry, check_input, window
from kernels.tuned.router import conv_goes_to_torch

_known_conv2d = front.conv2d.ask
_known_conv2d_relu = front.conv2d_relu.ask
_known_conv2d_relu_pool2d = front.conv2d_relu_pool2d.ask


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """torch.nn.functional.conv2d on this package's kernels.

    input [n, c, h, w] or [c, h, w]; weight [k, c / groups, r, s]; bias [k]; result [n, k, p, q] or [k, p, q] in
    channels_last if input or weight is. float16, bfloat16, float32, float64. padding: int, two ints, "same" or "valid".
    Raises what torch raises for arguments that do not fit, and NotImplementedError under backend("triton") for what
    has no Triton kernel.
    """
    known = None if is_compiling() else _known_conv2d(input, weight, bias, stride, padding, dilation, groups)
    if known is not None:
        return known  # type: ignore[no-any-return]
    way = path(input)
    if way == CPU:
        y: Tensor = cpu.conv2d(input, weight, bias, stride, padding, dilation, groups)
        return y
    numbers: tuple[Any, ...] = (stride, padding, dilation, groups)
    result = _triton("conv2d", input, weight, bias, numbers, False) if way == TRITON else None
    return aten.conv2d(input, weight, bias, *numbers) if result is None else result


def conv2d_relu(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """relu(conv2d(...)) in one kernel; arguments, result and errors as in `conv2d`. Keeps NaN, as torch's ReLU."""
    known = None if is_compiling() else _known_conv2d_relu(input, weight, bias, stride, padding, dilation, groups)
    if known is not None:
        return known  # type: ignore[no-any-return]
    way = path(input)
    if way == CPU:
        y: Tensor = cpu.conv2d_relu(input, weight, bias, stride, padding, dilation, groups)
        return y
    numbers = (stride, padding, dilation, groups)
    result = _triton("conv2d_relu", input, weight, bias, numbers, True) if way == TRITON else None
    return aten.conv2d_relu(input, weight, bias, *numbers) if result is None else result


def conv2d_relu_pool2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    pool: str = "max",
    pool_kernel_size: IntOrPair = 2,
    pool_stride: IntOrPair | None = None,
    pool_padding: IntOrPair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """pool(relu(conv2d(...))): one kernel for a 2x2 window with stride 2, a composition of two for any other.

    pool: "max" or "avg" (ValueError otherwise); pool_kernel_size, pool_stride, pool_padding, ceil_mode as in torch's
    max_pool2d and avg_pool2d; the rest, the layouts, dtypes and errors as in `conv2d`.
    """
    numbers = (stride, padding, dilation, groups)
    if not is_compiling():
        window = (pool, pool_kernel_size, pool_stride, pool_padding, ceil_mode)
        known = _known_conv2d_relu_pool2d(input, weight, bias, *numbers, *window)
        if known is not None:
            return known  # type: ignore[no-any-return]
    check_pool_name(pool)
    way = path(input)
    options: dict[str, Any] = {
        "pool": pool,
        "pool_kernel_size": pool_kernel_size,
        "pool_stride": pool_stride,
        "pool_padding": pool_padding,
        "ceil_mode": ceil_mode,
    }
    if way == TRITON:
        result = _triton_pool(input, weight, bias, numbers, **options)
        if result is not None:
            return result
    run = aten.conv2d_relu_pool2d if way in (ATEN, TRITON) else cpu.conv2d_relu_pool2d
    return run(input, weight, bias, *numbers, **options)


def _prepare(op: str, input: Tensor, weight: Any, bias: Any, numbers: Any) -> tuple[Tensor, tuple[Any, ...]] | None:
    """The input as 4-D and (stride, 4 paddings, dilation, groups, routed), all checked; None where torch must run."""
    if not isinstance(weight, Tensor) or not (bias is None or isinstance(bias, Tensor)):
        return None
    stride, padding, dilation, groups = numbers
    stride, dilation = check_numbers(stride, dilation, groups, op)
    check_tensors(input, weight, bias, groups, op)
    padding = resolve_padding(padding, weight.shape, stride, dilation, op)
    check_window(input, weight, padding, dilation, op)
    if input.shape[-3] == 0:  # torch gives no output channels then: nothing to compute
        return None
    reason = unsupported(op, input)
    if reason is not None:
        if all(t is None or t.dtype == input.dtype for t in (weight, bias)):  # torch itself refuses mixed dtypes
            decline(reason)
        return None
    return input if input.dim() == 4 else input.unsqueeze(0), (stride, padding, dilation, groups, may_route())


def _triton(op: str, input: Tensor, weight: Tensor, bias: Tensor | None, numbers: Any, relu: bool) -> Tensor | None:
    """The call on Triton, or None where torch must run it."""
    prepared = _prepare(op, input, weight, bias, numbers)
    if prepared is None:
        return None
    x, numbers = prepared
    y: Tensor = autograd.conv(x, weight, bias, *numbers, relu)
    return y if input.dim() == 4 else y.squeeze(0)


def _triton_pool(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    numbers: Any,
    *,
    pool: str,
    pool_kernel_size: Any,
    pool_stride: Any,
    pool_padding: Any,
    ceil_mode: bool,
) -> Tensor | None:
    op = "conv2d_relu_pool2d"
    prepared = _prepare(op, input, weight, bias, numbers)
    if prepared is None:
        return None
    x, numbers = prepared
    w = window(op, pool_kernel_size, pool_stride, pool_padding, 1, ceil_mode)
    g = Conv2dGeometry.of(x.shape, weight.shape, *numbers[:4])
    if _is_fused(g, w):
        want_code = may_need_gradient(x, weight, bias)
        if pool == "max" and _goes_to_torch(g, x, weight, want_code):
            return None
        y: Tensor = autograd_pool.conv_relu_pool(x, weight, bias, *numbers, pool == "avg", want_code)[0]
    else:
        y = _pool(autograd.conv(x, weight, bias, *numbers, True), pool, w)
    return y if input.dim() == 4 else y.squeeze(0).contiguous()


def _is_fused(g: Conv2dGeometry, w: Pool2dGeometry) -> bool:
    """Whether the one-kernel form computes this: 2x2 windows that tile the map (a last odd row or column drops out)."""
    tiles = w.kernel == (2, 2) and w.stride == (2, 2) and w.padding == (0, 0) and g.c > 0 and g.p > 1 and g.q > 1
    whole = not w.ceil_mode or (g.p % 2 == 0 and g.q % 2 == 0)
    return tiles and whole and not is_direct("fprop_pool", g)


def _goes_to_torch(g: Conv2dGeometry, x: Tensor, weight: Tensor, training: bool) -> bool:
    """Whether torch's three operators were measured faster than the fused kernels; never asked inside a graph, whose
    sizes may be symbols, nor under autocast, which has not cast yet."""
    if not may_route() or torch.compiler.is_compiling() or is_autocast(x):
        return False
    operation = "conv2d_relu_pool2d training" if training else "conv2d_relu_pool2d"
    return conv_goes_to_torch(operation, g, x, is_channels_last(x) or is_channels_last(weight))


def _pool(y: Tensor, name: str, w: Pool2dGeometry) -> Tensor:
    check_input("conv2d_relu_pool2d", y, w)
    if name == "max":
        return pool.triton_max(y, w, False)[0]
    return pool.triton_avg(y, w, True, 0)
