"""The pooling operators and their derivatives. All take 4-D tensors and the window as pairs."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels.common.layout import empty, is_channels_last
from kernels.common.registration import OpSpec, register
from kernels.common.vmap import front, into_batch
from kernels.pool2d.geometry import Pool2dGeometry

_MAX_WINDOW = "SymInt[2] kernel, SymInt[2] stride, SymInt[2] padding, SymInt[2] dilation, bool ceil_mode"
_AVG_WINDOW = (
    "SymInt[2] kernel, SymInt[2] stride, SymInt[2] padding, bool ceil_mode, bool count_include_pad, int divisor"
)


@cache
def _passes() -> Any:
    """The launchers; Triton is imported by the first call that needs it."""
    from kernels.pool2d import passes

    return passes


def _geometry(kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool) -> Pool2dGeometry:
    return Pool2dGeometry(tuple(kernel), tuple(stride), tuple(padding), tuple(dilation), ceil_mode)


def _batched(info: Any, *tensors: Tensor) -> Any:
    """Results whose batch holds the mapped dimension first -> that dimension apart."""
    return tuple(t.unflatten(0, (info.batch_size, t.shape[0] // info.batch_size)) for t in tensors)


# --- max --------------------------------------------------------------------------------------------------------------


def _max_run(x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    *window, want_code, want_indices = args
    result: tuple[Tensor, Tensor, Tensor] = _passes().max_pool(x, _geometry(*window), want_code, want_indices)
    return result


def _max_fake(x: Tensor, *args: Any) -> tuple[Tensor, Tensor, Tensor]:
    *window, want_code, want_indices = args
    g = _geometry(*window)
    shape = (*x.shape[:2], *g.output(x.shape[2], x.shape[3]))
    nothing = (0, *shape[1:])
    channels_last = is_channels_last(x)
    small = torch.uint8 if g.kernel[0] * g.kernel[1] <= 255 else torch.int32
    return (
        empty(x, shape, channels_last),
        empty(x, shape if want_code else nothing, channels_last, small),
        empty(x, shape if want_indices else nothing, channels_last, torch.int64),
    )


def _max_save(ctx: Any, args: Any, output: Any) -> None:
    x, *window, want_code, _ = args
    if not want_code and ctx.needs_input_grad[0]:
        raise RuntimeError("max_pool2d: want_code must be True when a gradient is needed")
    ctx.mark_non_differentiable(output[1], output[2])
    ctx.save_for_backward(output[1])
    ctx.size, ctx.window, ctx.channels_last = x.shape[2:], window, is_channels_last(x)


def _max_backward(ctx: Any, dy: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    (code,) = ctx.saved_tensors
    return (max_dx(dy, code, *ctx.size, ctx.channels_last, *ctx.window), *(None,) * 7)


def _pick(v: Tensor, code: Tensor, window: Any) -> Tensor:
    """The transpose of max_dx: for every window the element of v [n, c, h, w] that its code names, 0 for none."""
    kernel, stride, padding, dilation, _ = window
    code = code.long()
    rows = torch.arange(code.shape[2], device=v.device)[:, None] * stride[0] - padding[0]
    cols = torch.arange(code.shape[3], device=v.device) * stride[1] - padding[1]
    i, j = code // kernel[1], code % kernel[1]
    index = (rows + i * dilation[0]) * v.shape[3] + cols + j * dilation[1]
    some = code < kernel[0] * kernel[1]
    index = torch.where(some, index, torch.zeros_like(index))
    picked = v.flatten(2).gather(2, index.flatten(2)).reshape(code.shape)
    return torch.where(some, picked, torch.zeros_like(picked))


def _max_jvp(ctx: Any, tx: Tensor, *_: Any) -> tuple[Tensor, None, None]:
    return _pick(tx, ctx.jvp_output[1], ctx.jvp_args[1:6]), None, None


def _max_vmap(info: Any, dims: Any, x: Tensor, *rest: Any) -> Any:
    return _batched(info, *max_pool(into_batch(x, dims[0]), *rest)), (0, 0, 0)


def _max_dx_run(dy: Tensor, code: Tensor, h: int, w: int, channels_last: bool, *window: Any) -> Tensor:
    dx: Tensor = _passes().max_pool_backward(dy, code, h, w, _geometry(*window), channels_last)
    return dx


def _max_dx_fake(dy: Tensor, code: Tensor, h: int, w: int, channels_last: bool, *window: Any) -> Tensor:
    return empty(dy, (*dy.shape[:2], h, w), channels_last)


def _max_dx_save(ctx: Any, args: Any, output: Any) -> None:
    ctx.save_for_backward(args[1])
    ctx.window = args[5:]


def _max_dx_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    return (_pick(v, ctx.saved_tensors[0], ctx.window), *(None,) * 9)


def _max_dx_jvp(ctx: Any, t_dy: Tensor, *_: Any) -> Any:
    return max_dx(t_dy, *ctx.jvp_args[1:])


def _max_dx_vmap(info: Any, dims: Any, dy: Tensor, code: Tensor, *rest: Any) -> Any:
    dy, code = front(dy, dims[0], info.batch_size), front(code, dims[1], info.batch_size)
    dx = max_dx(dy.flatten(0, 1), code.flatten(0, 1), *rest)
    return _batched(info, dx)[0], 0


# --- average ----------------------------------------------------------------------------------------------------------


def _avg_run(x: Tensor, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count: bool, divisor: int) -> Tensor:
    y: Tensor = _passes().avg_pool(x, _geometry(kernel, stride, padding, (1, 1), ceil_mode), count, divisor)
    return y


def _avg_fake(x: Tensor, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, count: bool, divisor: int) -> Tensor:
    g = _geometry(kernel, stride, padding, (1, 1), ceil_mode)
    return empty(x, (*x.shape[:2], *g.output(x.shape[2], x.shape[3])), is_channels_last(x))


def _avg_save(ctx: Any, args: Any, output: Any) -> None:
    ctx.size, ctx.window, ctx.channels_last = args[0].shape[2:], args[1:], is_channels_last(args[0])


def _avg_backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
    return (avg_dx(dy, *ctx.size, ctx.channels_last, *ctx.window), *(None,) * 6)


def _avg_jvp(ctx: Any, tx: Tensor, *_: Any) -> Any:
    return avg_pool(tx, *ctx.jvp_args[1:])


def _avg_vmap(info: Any, dims: Any, x: Tensor, *rest: Any) -> Any:
    return _batched(info, avg_pool(into_batch(x, dims[0]), *rest))[0], 0


def _avg_dx_run(dy: Tensor, h: int, w: int, channels_last: bool, *window: Any) -> Tensor:
    kernel, stride, padding, ceil_mode, count, divisor = window
    g = _geometry(kernel, stride, padding, (1, 1), ceil_mode)
    dx: Tensor = _passes().avg_pool_backward(dy, h, w, g, count, divisor, channels_last)
    return dx


def _avg_dx_fake(dy: Tensor, h: int, w: int, channels_last: bool, *window: Any) -> Tensor:
    return empty(dy, (*dy.shape[:2], h, w), channels_last)


def _avg_dx_save(ctx: Any, args: Any, output: Any) -> None:
    ctx.window = args[4:]


def _avg_dx_backward(ctx: Any, v: Tensor) -> tuple[Tensor | None, ...]:
    return (avg_pool(v, *ctx.window), *(None,) * 9)


def _avg_dx_jvp(ctx: Any, t_dy: Tensor, *_: Any) -> Any:
    return avg_dx(t_dy, *ctx.jvp_args[1:])


def _avg_dx_vmap(info: Any, dims: Any, dy: Tensor, *rest: Any) -> Any:
    return _batched(info, avg_dx(into_batch(dy, dims[0]), *rest))[0], 0


max_pool = register(
    OpSpec(
        "max_pool2d",
        f"(Tensor x, {_MAX_WINDOW}, bool want_code, bool want_indices) -> (Tensor, Tensor, Tensor)",
        _max_run,
        _max_fake,
        _max_save,
        _max_backward,
        _max_jvp,
        _max_vmap,
    )
)
max_dx = register(
    OpSpec(
        "max_pool2d_dx",
        f"(Tensor dy, Tensor code, SymInt h, SymInt w, bool channels_last, {_MAX_WINDOW}) -> Tensor",
        _max_dx_run,
        _max_dx_fake,
        _max_dx_save,
        _max_dx_backward,
        _max_dx_jvp,
        _max_dx_vmap,
    )
)
avg_pool = register(
    OpSpec(
        "avg_pool2d",
        f"(Tensor x, {_AVG_WINDOW}) -> Tensor",
        _avg_run,
        _avg_fake,
        _avg_save,
        _avg_backward,
        _avg_jvp,
        _avg_vmap,
    )
)
avg_dx = register(
    OpSpec(
        "avg_pool2d_dx",
        f"(Tensor dy, SymInt h, SymInt w, bool channels_last, {_AVG_WINDOW}) -> Tensor",
        _avg_dx_run,
        _avg_dx_fake,
        _avg_dx_save,
        _avg_dx_backward,
        _avg_dx_jvp,
        _avg_dx_vmap,
    )
)
