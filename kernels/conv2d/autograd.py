"""The convolution operators and their derivatives.

conv2d, conv2d_dgrad and conv2d_wgrad are linear in each of two tensors, and the derivative of any of them is the other
two: that gives every order of derivative and forward mode. The activation and the bias add linear operators of their
own (autograd_dz.py).

All take normalised arguments: 4-D tensors, stride and dilation as pairs, padding as (top, bottom, left, right); and
`routed`, whether a pass may go to torch's operator where the card's table measured that one faster. It is an argument
so that a graph keeps the permission of its making, and a backward pass that of its forward.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels.common.layout import compact, empty, is_channels_last
from kernels.common.registration import OpSpec, register
from kernels.common.vmap import front, into_channels
from kernels.conv2d import by_torch
from kernels.conv2d.autograd_dz import bias_grad, relu_dz
from kernels.conv2d.geometry import Conv2dGeometry, check_dtypes, output_size
from kernels.tuned.router import conv_goes_to_torch

NUMBERS = "SymInt[2] stride, SymInt[4] padding, SymInt[2] dilation, SymInt groups, bool routed"


@cache
def _launchers() -> Any:
    """The passes; Triton is imported by the first call that needs it."""
    from kernels.conv2d import forward, gradients

    return forward, gradients


def _either_channels_last(a: Tensor, b: Tensor) -> bool:
    return is_channels_last(a) or is_channels_last(b)


def output_shape(x: Tensor, w: Tensor, stride: Any, padding: Any, dilation: Any) -> tuple[Any, ...]:
    p = output_size(x.shape[2], padding[0] + padding[1], dilation[0], w.shape[2], stride[0])
    q = output_size(x.shape[3], padding[2] + padding[3], dilation[1], w.shape[3], stride[1])
    return (x.shape[0], w.shape[0], p, q)


# --- conv2d -----------------------------------------------------------------------------------------------------------


def _conv_run(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> Tensor:
    *numbers, routed, relu = rest
    check_dtypes("conv2d", x, w, b)
    g = Conv2dGeometry.of(x.shape, w.shape, *numbers)
    if routed and conv_goes_to_torch("conv2d_relu" if relu else "conv2d", g, x, _either_channels_last(x, w)):
        return by_torch.fprop(x, w, b, g, relu)
    result: Tensor = _launchers()[0].fprop(compact(x), compact(w), None if b is None else b.contiguous(), g, relu)
    return result


def _conv_fake(x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, *_: Any) -> Tensor:
    return empty(x, output_shape(x, w, stride, padding, dilation), _either_channels_last(x, w))


def _conv_save(ctx: Any, args: Any, output: Tensor) -> None:
    x, w, _, *numbers, relu = args
    ctx.save_for_backward(x, w, output if relu else None)
    ctx.numbers = numbers
    ctx.channels_last = _either_channels_last(x, w)


def _conv_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    x, w, y = ctx.saved_tensors
    want_x, want_w, want_b = ctx.needs_input_grad[:3]
    db = None
    if y is not None:
        dy, db = relu_dz(dy, y)
    elif want_b:
        db = bias_grad(dy)
    dx = dgrad(dy, w, x.shape, *ctx.numbers, ctx.channels_last) if want_x else None
    dw = wgrad(dy, x, w.shape, *ctx.numbers, ctx.channels_last) if want_w else None
    return (dx, dw, db if want_b else None) + (None,) * 6


def _sum(*terms: Tensor | None) -> Tensor | None:
    present = [t for t in terms if t is not None]
    return sum(present[1:], present[0]) if present else None


def conv_tangent(x: Tensor, w: Tensor, numbers: Any, tx: Any, tw: Any, tb: Any) -> Tensor:
    """d(conv(x, w) + b) along the tangents that are there."""
    result = _sum(
        None if tx is None else conv(tx, w, None, *numbers, False),
        None if tw is None else conv(x, tw, None, *numbers, False),
    )
    if tb is not None:
        bias = tb.reshape(1, -1, 1, 1)
        if result is None:
            result = bias.expand(output_shape(x, w, *numbers[:3])).contiguous()
        else:
            result = result + bias
    assert result is not None
    return result


def _conv_jvp(ctx: Any, tx: Any, tw: Any, tb: Any, *_: Any) -> Tensor:
    x, w, _, *numbers, relu = ctx.jvp_args
    tangent = conv_tangent(x, w, numbers, tx, tw, tb)
    return torch.ops.aten.threshold_backward(tangent, ctx.jvp_output, 0) if relu else tangent


# --- its two gradients ------------------------------------------------------------------------------------------------


def _dgrad_run(dy: Tensor, w: Tensor, size: Any, *rest: Any) -> Tensor:
    *numbers, routed, channels_last = rest
    g = Conv2dGeometry.of(size, w.shape, *numbers)
    if routed and conv_goes_to_torch("conv2d_dgrad", g, dy, channels_last):
        return by_torch.dgrad(dy, w, g, channels_last)
    result: Tensor = _launchers()[1].dgrad(compact(dy), compact(w), g, channels_last)
    return result


def _wgrad_run(dy: Tensor, x: Tensor, size: Any, *rest: Any) -> Tensor:
    *numbers, routed, channels_last = rest
    g = Conv2dGeometry.of(x.shape, size, *numbers)
    if routed and conv_goes_to_torch("conv2d_wgrad", g, dy, channels_last):
        return by_torch.wgrad(dy, x, g, channels_last)
    result: Tensor = _launchers()[1].wgrad(compact(dy), compact(x), g, channels_last)
    return result


def _gradient_fake(dy: Tensor, other: Tensor, size: Any, *rest: Any) -> Tensor:
    return empty(dy, size, rest[-1])


def _gradient_save(ctx: Any, args: Any, output: Tensor) -> None:
    dy, other, size, *numbers, channels_last = args
    ctx.save_for_backward(dy, other)
    ctx.size, ctx.numbers, ctx.channels_last = size, numbers, channels_last


def _dgrad_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    dy, w = ctx.saved_tensors
    ddy = conv(v, w, None, *ctx.numbers, False) if ctx.needs_input_grad[0] else None
    dw = wgrad(dy, v, w.shape, *ctx.numbers, ctx.channels_last) if ctx.needs_input_grad[1] else None
    return (ddy, dw) + (None,) * 7


def _wgrad_backward(ctx: Any, u: Tensor) -> tuple[Tensor | None, ...]:
    dy, x = ctx.saved_tensors
    ddy = conv(x, u, None, *ctx.numbers, False) if ctx.needs_input_grad[0] else None
    dx = dgrad(dy, u, x.shape, *ctx.numbers, ctx.channels_last) if ctx.needs_input_grad[1] else None
    return (ddy, dx) + (None,) * 7


def _dgrad_jvp(ctx: Any, t_dy: Any, t_w: Any, *_: Any) -> Tensor | None:
    dy, w, *rest = ctx.jvp_args
    return _sum(None if t_dy is None else dgrad(t_dy, w, *rest), None if t_w is None else dgrad(dy, t_w, *rest))


def _wgrad_jvp(ctx: Any, t_dy: Any, t_x: Any, *_: Any) -> Tensor | None:
    dy, x, *rest = ctx.jvp_args
    return _sum(None if t_dy is None else wgrad(t_dy, x, *rest), None if t_x is None else wgrad(dy, t_x, *rest))


# --- vmap: a batch of inputs joins the batch, a batch of weights becomes groups ---------------------------------------


def _conv_vmap(
    info: Any,
    dims: Any,
    x: Tensor,
    w: Tensor,
    b: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
    routed: bool,
    relu: bool,
) -> Any:
    size = info.batch_size
    if dims[1] is None and dims[2] is None:
        x = x.movedim(dims[0], 0)
        y = conv(x.reshape(-1, *x.shape[2:]), w, b, stride, padding, dilation, groups, routed, relu)
        return y.reshape(size, -1, *y.shape[1:]), 0
    x, w = front(x, dims[0], size), front(w, dims[1], size)
    b = None if b is None else front(b, dims[2], size).reshape(-1)
    w = w.reshape(-1, *w.shape[2:])
    y = conv(into_channels(x), w, b, stride, padding, dilation, groups * size, routed, relu)
    return y.reshape(y.shape[0], size, -1, *y.shape[2:]), 1


def _dgrad_vmap(info: Any, dims: Any, dy: Tensor, w: Tensor, size: Any, *rest: Any) -> Any:
    batch, (*numbers, groups, routed, channels_last) = info.batch_size, rest
    if dims[1] is None:
        dy = dy.movedim(dims[0], 0)
        dx = dgrad(dy.reshape(-1, *dy.shape[2:]), w, [batch * size[0], *size[1:]], *rest)
        return dx.reshape(batch, *size), 0
    dy, w = front(dy, dims[0], batch), front(w, dims[1], batch)
    wide = [size[0], batch * size[1], *size[2:]]
    w = w.reshape(-1, *w.shape[2:])
    dx = dgrad(into_channels(dy), w, wide, *numbers, groups * batch, routed, channels_last)
    return dx.reshape(size[0], batch, *size[1:]), 1


def _wgrad_vmap(info: Any, dims: Any, dy: Tensor, x: Tensor, size: Any, *rest: Any) -> Any:
    batch, (*numbers, groups, routed, channels_last) = info.batch_size, rest
    dy, x = front(dy, dims[0], batch), front(x, dims[1], batch)
    many = [batch * size[0], *size[1:]]
    dw = wgrad(into_channels(dy), into_channels(x), many, *numbers, groups * batch, routed, channels_last)
    return dw.reshape(batch, *size), 0


_TO_TENSOR = f"{NUMBERS}, bool channels_last) -> Tensor"
conv = register(
    OpSpec(
        "conv2d",
        f"(Tensor x, Tensor w, Tensor? b, {NUMBERS}, bool relu) -> Tensor",
        _conv_run,
        _conv_fake,
        _conv_save,
        _conv_backward,
        _conv_jvp,
        _conv_vmap,
        autocast=True,
        flops=lambda x, w, b, *rest, out_shape: Conv2dGeometry.of(x, w, *rest[:4]).flops,
    )
)
dgrad = register(
    OpSpec(
        "conv2d_dgrad",
        f"(Tensor dy, Tensor w, SymInt[] size, {_TO_TENSOR}",
        _dgrad_run,
        _gradient_fake,
        _gradient_save,
        _dgrad_backward,
        _dgrad_jvp,
        _dgrad_vmap,
        flops=lambda dy, w, size, *rest, out_shape: Conv2dGeometry.of(size, w, *rest[:4]).flops,
    )
)
wgrad = register(
    OpSpec(
        "conv2d_wgrad",
        f"(Tensor dy, Tensor x, SymInt[] size, {_TO_TENSOR}",
        _wgrad_run,
        _gradient_fake,
        _gradient_save,
        _wgrad_backward,
        _wgrad_jvp,
        _wgrad_vmap,
        # torch counts the weight gradient of every group as that of a whole convolution.
        flops=lambda dy, x, size, *rest, out_shape: Conv2dGeometry.of(x, size, *rest[:4]).flops * rest[3],
    )
)
