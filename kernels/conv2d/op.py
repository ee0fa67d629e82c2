"""conv2d, conv2d_relu, conv2d_relu_pool2d: arguments checked, path chosen, result returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from kernels import aten, calls, cpu
from kernels.backend import CPU, TRITON, decline, may_route, path, unsupported
from kernels.calls import Prepared
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
from kernels.conv2d.plans.few import is_direct
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
    if way == TRITON:
        y: Tensor = calls.run(_conv2d, (input, weight, bias), (stride, padding, dilation, groups))
        return y
    where: Any = cpu if way == CPU else aten
    return where.conv2d(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]


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
    if way == TRITON:
        y: Tensor = calls.run(_conv2d_relu, (input, weight, bias), (stride, padding, dilation, groups))
        return y
    where: Any = cpu if way == CPU else aten
    return where.conv2d_relu(input, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]


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
    numbers = (stride, padding, dilation, groups, pool, pool_kernel_size, pool_stride, pool_padding, ceil_mode)
    known = None if is_compiling() else _known_conv2d_relu_pool2d(input, weight, bias, *numbers)
    if known is not None:
        return known  # type: ignore[no-any-return]
    way = path(input)
    if way == TRITON:
        y: Tensor = calls.run(_conv2d_relu_pool2d, (input, weight, bias), numbers)
        return y
    check_pool_name(pool)
    where: Any = cpu if way == CPU else aten
    return where.conv2d_relu_pool2d(input, weight, bias, *numbers)  # type: ignore[no-any-return]


def _check(op: str, input: Tensor, weight: Any, bias: Any, numbers: Any) -> tuple[Any, ...] | None:
    """(stride, 4 paddings, dilation, groups, routed), all checked; None where torch must run the call."""
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
    return stride, padding, dilation, groups, may_route()


def _conv2d(*call: Any) -> Callable[..., Tensor]:
    return _alone("conv2d", False, aten.conv2d, *call)


def _conv2d_relu(*call: Any) -> Callable[..., Tensor]:
    return _alone("conv2d_relu", True, aten.conv2d_relu, *call)


def _alone(
    op: str, relu: bool, torch_op: Callable[..., Tensor], input: Tensor, weight: Any, bias: Any, *numbers: Any
) -> Callable[..., Tensor]:
    checked = _check(op, input, weight, bias, numbers)
    if checked is None:
        return lambda *tensors: torch_op(*tensors, *numbers)
    conv = Prepared(autograd.conv, (*checked, relu))
    return conv if input.dim() == 4 else lambda x, w, b: conv(x.unsqueeze(0), w, b).squeeze(0)


def _conv2d_relu_pool2d(input: Tensor, weight: Any, bias: Any, *arguments: Any) -> Callable[..., Tensor]:
    op = "conv2d_relu_pool2d"
    name, kernel_size, stride, padding, ceil_mode = arguments[4:]
    check_pool_name(name)
    checked = _check(op, input, weight, bias, arguments[:4])
    if checked is None:
        return _by_torch(*arguments)
    w = window(op, kernel_size, stride, padding, 1, ceil_mode)
    x = input if input.dim() == 4 else input.unsqueeze(0)
    g = Conv2dGeometry.of(x.shape, weight.shape, *checked[:4])
    if _is_fused(g, w):
        want_code = may_need_gradient(input, weight, bias)
        if name == "max" and _goes_to_torch(g, x, weight, want_code):
            return _by_torch(*arguments)
        block: Callable[..., Tensor] = Prepared(autograd_pool.conv_relu_pool, (*checked, name == "avg", want_code), 0)
    else:
        block = _composed(Prepared(autograd.conv, (*checked, True)), name, w)
    return block if input.dim() == 4 else lambda x, w, b: block(x.unsqueeze(0), w, b).squeeze(0).contiguous()


def _by_torch(*arguments: Any) -> Callable[..., Tensor]:
    return lambda *tensors: aten.conv2d_relu_pool2d(*tensors, *arguments)


def _composed(conv: Prepared, name: str, w: Pool2dGeometry) -> Callable[..., Tensor]:
    return lambda *tensors: _pool(conv(*tensors), name, w)


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
    result: Tensor = (pool.prepare_max(y, w, False) if name == "max" else pool.prepare_avg(w, True, 0))(y)
    return result
