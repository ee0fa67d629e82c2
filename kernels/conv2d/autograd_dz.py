"""The operators that lead from the gradient of a finished map back to the convolution's output and bias.

Each is linear in the gradient it takes; its own derivative is written with torch's operators.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels.common.layout import empty, is_channels_last
from kernels.common.registration import OpSpec, register
from kernels.common.vmap import front, into_channels


@cache
def _dz_bias() -> Any:
    """The launcher; Triton is imported by the first call that needs it."""
    from kernels.conv2d.common.dz import dz_bias

    return dz_bias


# --- ReLU -------------------------------------------------------------------------------------------------------------


def _relu_dz_run(dy: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = _dz_bias()("relu", dy, y, tuple(y.shape), is_channels_last(y))
    return result


def _relu_dz_fake(dy: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return empty(dy, y.shape, is_channels_last(y)), dy.new_empty(dy.shape[1])


def _relu_dz_save(ctx: Any, args: Any, output: Any) -> None:
    ctx.save_for_backward(args[1])


def _relu_dz_backward(ctx: Any, v: Tensor, u: Tensor) -> tuple[Tensor | None, ...]:
    (y,) = ctx.saved_tensors
    return torch.ops.aten.threshold_backward(v + u[:, None, None], y, 0), None


def _relu_dz_jvp(ctx: Any, t_dy: Any, *_: Any) -> tuple[Tensor, Tensor]:
    result: tuple[Tensor, Tensor] = relu_dz(t_dy, ctx.jvp_args[1])
    return result


def _bias_run(dy: Tensor) -> Tensor:
    db: Tensor = _dz_bias()("bias", dy, None, tuple(dy.shape), is_channels_last(dy))[1]
    return db


def _bias_fake(dy: Tensor) -> Tensor:
    return dy.new_empty(dy.shape[1])


def _bias_save(ctx: Any, args: Any, output: Tensor) -> None:
    ctx.shape = args[0].shape


def _bias_backward(ctx: Any, u: Tensor) -> Tensor:
    return u[:, None, None].expand(ctx.shape)


def _bias_jvp(ctx: Any, t_dy: Tensor) -> Any:
    return bias_grad(t_dy)


def _relu_dz_vmap(info: Any, dims: Any, dy: Tensor, y: Tensor) -> Any:
    size = info.batch_size
    dy, y = front(dy, dims[0], size), front(y, dims[1], size)
    dz, db = relu_dz(into_channels(dy), into_channels(y))
    return (dz.reshape(dz.shape[0], size, -1, *dz.shape[2:]), db.reshape(size, -1)), (1, 0)


def _bias_vmap(info: Any, dims: Any, dy: Tensor) -> Any:
    return bias_grad(into_channels(dy.movedim(dims[0], 0))).reshape(info.batch_size, -1), 0


# --- 2x2 pool after ReLU ----------------------------------------------------------------------------------------------


def _pool_dz_run(dy: Tensor, code: Tensor, p: int, q: int, average: bool, channels_last: bool) -> tuple[Tensor, Tensor]:
    size = (*dy.shape[:2], p, q)
    result: tuple[Tensor, Tensor] = _dz_bias()("average" if average else "max", dy, code, size, channels_last)
    return result


def _pool_dz_fake(
    dy: Tensor, code: Tensor, p: int, q: int, average: bool, channels_last: bool
) -> tuple[Tensor, Tensor]:
    return empty(dy, (*dy.shape[:2], p, q), channels_last), dy.new_empty(dy.shape[1])


def _pool_dz_save(ctx: Any, args: Any, output: Any) -> None:
    ctx.save_for_backward(args[1])
    ctx.average = args[4]


def pick(v: Tensor, code: Tensor, average: bool) -> Tensor:
    """The transpose of pool_dz: what each 2x2 window's code selects of v [n, k, p, q], as [n, k, p / 2, q / 2]."""
    rows, cols = code.shape[2:]
    position = v[:, :, : 2 * rows, : 2 * cols].unflatten(3, (cols, 2)).unflatten(2, (rows, 2))
    total = None
    for j in range(4):
        value = position[:, :, :, j // 2, :, j % 2]
        chosen = (code >> j) & 1 == 1 if average else code == j
        part = torch.where(chosen, value * 0.25 if average else value, torch.zeros_like(value))
        total = part if total is None else total + part
    assert total is not None
    return total


def _pool_dz_backward(ctx: Any, v: Tensor, u: Tensor) -> tuple[Tensor | None, ...]:
    (code,) = ctx.saved_tensors
    return pick(v + u[:, None, None], code, ctx.average), None, None, None, None, None


def _pool_dz_jvp(ctx: Any, t_dy: Tensor, *_: Any) -> Any:
    return pool_dz(t_dy, *ctx.jvp_args[1:])


def _pool_dz_vmap(info: Any, dims: Any, dy: Tensor, code: Tensor, *rest: Any) -> Any:
    size = info.batch_size
    dy, code = front(dy, dims[0], size), front(code, dims[1], size)
    dz, db = pool_dz(into_channels(dy), into_channels(code), *rest)
    return (dz.reshape(dz.shape[0], size, -1, *dz.shape[2:]), db.reshape(size, -1)), (1, 0)


relu_dz = register(
    OpSpec(
        "conv2d_relu_dz",
        "(Tensor dy, Tensor y) -> (Tensor, Tensor)",
        _relu_dz_run,
        _relu_dz_fake,
        _relu_dz_save,
        _relu_dz_backward,
        _relu_dz_jvp,
        _relu_dz_vmap,
    )
)
bias_grad = register(
    OpSpec(
        "conv2d_bias_grad",
        "(Tensor dy) -> Tensor",
        _bias_run,
        _bias_fake,
        _bias_save,
        _bias_backward,
        _bias_jvp,
        _bias_vmap,
    )
)
pool_dz = register(
    OpSpec(
        "conv2d_relu_pool2d_dz",
        "(Tensor dy, Tensor code, SymInt p, SymInt q, bool average, bool channels_last) -> (Tensor, Tensor)",
        _pool_dz_run,
        _pool_dz_fake,
        _pool_dz_save,
        _pool_dz_backward,
        _pool_dz_jvp,
        _pool_dz_vmap,
    )
)
