"""The fused operator: 2x2 pool of relu(conv + bias), keeping one byte an output and not the map before the pool."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels.common.layout import empty, is_channels_last
from kernels.common.registration import OpSpec, register
from kernels.common.vmap import front, into_batch, into_channels
from kernels.conv2d.autograd import NUMBERS, conv_tangent, dgrad, output_shape, wgrad
from kernels.conv2d.autograd_dz import pick, pool_dz
from kernels.conv2d.geometry import Conv2dGeometry, check_dtypes


@cache
def _launcher() -> Any:
    """The pass; Triton is imported by the first call that needs it."""
    from kernels.conv2d.forward import fprop_pool

    return fprop_pool


def _run(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    *numbers, average, want_code = rest
    check_dtypes("conv2d_relu_pool2d", x, w, b)
    g = Conv2dGeometry.of(x.shape, w.shape, *numbers)
    result: tuple[Tensor, Tensor] = _launcher()(x, w, None if b is None else b.contiguous(), g, average, want_code)
    return result


def _fake(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    *numbers, _, want_code = rest
    n, k, p, q = output_shape(x, w, *numbers[:3])
    channels_last = is_channels_last(x) or is_channels_last(w)
    shape = (n, k, p // 2, q // 2)
    return empty(x, shape, channels_last), empty(x, shape if want_code else (0,) * 4, channels_last, torch.uint8)


def _save(ctx: Any, args: Any, output: Any) -> None:
    x, w, _, *numbers, average, want_code = args
    if not want_code and any(ctx.needs_input_grad[:3]):
        raise RuntimeError("conv2d_relu_pool2d: want_code must be True when a gradient is needed")
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, w, output[1])
    ctx.numbers, ctx.average = numbers, average
    ctx.channels_last = is_channels_last(x) or is_channels_last(w)


def _backward(ctx: Any, dy: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    x, w, code = ctx.saved_tensors
    want_x, want_w, want_b = ctx.needs_input_grad[:3]
    p, q = output_shape(x, w, *ctx.numbers[:3])[2:]
    dz, db = pool_dz(dy, code, p, q, ctx.average, ctx.channels_last)
    dx = dgrad(dz, w, list(x.shape), *ctx.numbers, ctx.channels_last) if want_x else None
    dw = wgrad(dz, x, list(w.shape), *ctx.numbers, ctx.channels_last) if want_w else None
    return (dx, dw, db if want_b else None) + (None,) * 6


def _jvp(ctx: Any, tx: Any, tw: Any, tb: Any, *_: Any) -> tuple[Tensor, None]:
    x, w, _b, *numbers, average, _want = ctx.jvp_args
    return pick(conv_tangent(x, w, numbers, tx, tw, tb), ctx.jvp_output[1], average), None


def _vmap(info: Any, dims: Any, x: Tensor, w: Tensor, b: Any, *rest: Any) -> Any:
    size = info.batch_size
    *numbers, groups, average, want_code = rest
    if dims[1] is None and dims[2] is None:
        dim = 0
        y, code = conv_relu_pool(into_batch(x, dims[0]), w, b, *rest)
    else:
        dim = 1
        x, w = front(x, dims[0], size), front(w, dims[1], size)
        b = None if b is None else front(b, dims[2], size).reshape(-1)
        y, code = conv_relu_pool(
            into_channels(x), w.reshape(-1, *w.shape[2:]), b, *numbers, groups * size, average, want_code
        )
    y, code = (t.unflatten(dim, (size, t.shape[dim] // size)) for t in (y, code))
    return (y, code), (dim, dim)


conv_relu_pool = register(
    OpSpec(
        "conv2d_relu_pool2d",
        f"(Tensor x, Tensor w, Tensor? b, {NUMBERS}, bool average, bool want_code) -> (Tensor, Tensor)",
        _run,
        _fake,
        _save,
        _backward,
        _jvp,
        _vmap,
        autocast=True,
    )
)
