"""The fused operator: 2x2 pool of relu(conv + bias), keeping one byte an output and not the map before the pool."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor

from kernels.common.layout import compact, empty, is_channels_last
from kernels.common.registration import OpSpec, register
from kernels.common.vmap import front, into_batch, into_channels
from kernels.conv2d.autograd import NUMBERS, conv, conv_tangent, dgrad, output_shape, wgrad
from kernels.conv2d.autograd_dz import pick, pool_dz
from kernels.conv2d.geometry import Conv2dGeometry, check_dtypes
from kernels.pool2d.autograd import avg_pool, max_pool


@cache
def _launcher() -> Any:
    """The pass; Triton is imported by the first call that needs it."""
    from kernels.conv2d.forward import fprop_pool

    return fprop_pool


def _run(x: Tensor, w: Tensor, b: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
    *numbers, _, average, want_code = rest
    check_dtypes("conv2d_relu_pool2d", x, w, b)
    g = Conv2dGeometry.of(x.shape, w.shape, *numbers)
    b = None if b is None else b.contiguous()
    result: tuple[Tensor, Tensor] = _launcher()(compact(x), compact(w), b, g, average, want_code)
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
    dx = dgrad(dz, w, x.shape, *ctx.numbers, ctx.channels_last) if want_x else None
    dw = wgrad(dz, x, w.shape, *ctx.numbers, ctx.channels_last) if want_w else None
    return (dx, dw, db if want_b else None) + (None,) * 7


def _jvp(ctx: Any, tx: Any, tw: Any, tb: Any, *_: Any) -> tuple[Tensor, None]:
    x, w, _b, *numbers, average, _want = ctx.jvp_args
    return pick(conv_tangent(x, w, numbers, tx, tw, tb), ctx.jvp_output[1], average), None


def _vmap(info: Any, dims: Any, x: Tensor, w: Tensor, b: Any, *rest: Any) -> Any:
    """Mapped inputs join the batch. Mapped weights become groups, which the fused kernel has none of: the convolution
    with its ReLU runs grouped and the pool after it, with the same values, codes and derivatives."""
    size = info.batch_size
    if dims[1] is None and dims[2] is None:
        dim = 0
        y, code = conv_relu_pool(into_batch(x, dims[0]), w, b, *rest)
    else:
        dim = 1
        *numbers, groups, routed, average, want_code = rest
        x, w = front(x, dims[0], size), front(w, dims[1], size)
        b = None if b is None else front(b, dims[2], size).reshape(-1)
        z = conv(into_channels(x), w.reshape(-1, *w.shape[2:]), b, *numbers, groups * size, routed, True)
        y, code = _pooled(z, average, want_code)
    y, code = (t.unflatten(dim, (size, t.shape[dim] // size)) for t in (y, code))
    return (y, code), (dim, dim)


def _pooled(z: Tensor, average: bool, want_code: bool) -> tuple[Tensor, Tensor]:
    """Pool and code of an activated map, without the fused kernel: vmap makes groups that are too thin for it."""
    window = ([2, 2], [2, 2], [0, 0])
    if average:
        rows, cols = z.shape[2] // 2, z.shape[3] // 2
        passed = [~(z[:, :, j // 2 : 2 * rows : 2, j % 2 : 2 * cols : 2] <= 0) for j in range(4)]
        code = torch.stack([m.to(torch.uint8) << j for j, m in enumerate(passed)]).sum(0, dtype=torch.uint8)
        y = avg_pool(z, *window, False, True, 0)
    else:
        y, code, _ = max_pool(z, *window, [1, 1], False, True, False)
        code = torch.where(y <= 0, 4, code)
    return y, code if want_code else code.new_empty((0,) * 4)


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
        flops=lambda x, w, b, *rest, out_shape: Conv2dGeometry.of(x, w, *rest[:4]).flops,
    )
)
