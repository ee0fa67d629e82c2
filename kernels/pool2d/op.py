"""max_pool2d and avg_pool2d: arguments checked, path chosen, result returned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.compiler import is_compiling

from kernels import aten, calls, cpu
from kernels.backend import ATEN, TRITON, decline, may_route, path, unsupported
from kernels.calls import Prepared
from kernels.common.arguments import IntOrPair, is_int
from kernels.common.layout import is_channels_last
from kernels.common.registration import may_need_gradient
from kernels.cpu import front
from kernels.pool2d import autograd
from kernels.pool2d.geometry import Pool2dGeometry, check_input, window
from kernels.tuned.router import pool_goes_to_torch

_known_max_pool2d = front.max_pool2d.ask
_known_avg_pool2d = front.avg_pool2d.ask


def max_pool2d(
    input: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """torch.nn.functional.max_pool2d on this package's kernel.

    input [n, c, h, w] or [c, h, w], float16, bfloat16, float32 or float64; result [n, c, p, q] in the input's memory
    format, with int64 indices into the h * w plane if return_indices. The first of equal maxima wins, NaN wins over
    all. A window without a tap inside the image gives -inf, index -1 and no gradient. Raises what torch raises for
    arguments that do not fit, and NotImplementedError under backend("triton") for what has no Triton kernel.
    """
    numbers = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    known = None if is_compiling() else _known_max_pool2d(input, *numbers)
    if known is not None:
        return known
    way = path(input)
    if way == TRITON:
        return calls.run(_max_pool2d, (input,), numbers)
    where = aten if way == ATEN else cpu
    return where.max_pool2d(input, *numbers)


def avg_pool2d(
    input: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """torch.nn.functional.avg_pool2d on this package's kernel.

    input [n, c, h, w] or [c, h, w], float16, bfloat16, float32 or float64; result [n, c, p, q] in the input's memory
    format. Raises what torch raises for arguments that do not fit, and NotImplementedError under backend("triton") for
    what has no Triton kernel.
    """
    numbers = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    known = None if is_compiling() else _known_avg_pool2d(input, *numbers)
    if known is not None:
        return known  # type: ignore[no-any-return]
    way = path(input)
    if way == TRITON:
        y: Tensor = calls.run(_avg_pool2d, (input,), numbers)
        return y
    where: Any = aten if way == ATEN else cpu
    return where.avg_pool2d(input, *numbers)  # type: ignore[no-any-return]


def _max_pool2d(input: Tensor, *numbers: Any) -> Callable[..., Any]:
    *arguments, return_indices = numbers
    geometry = window("max_pool2d", *arguments)
    if not _runs("max_pool2d", input, geometry, routed=not return_indices):
        return lambda x: aten.max_pool2d(x, *numbers)
    pool = prepare_max(input, geometry, bool(return_indices))
    if input.dim() == 4:
        return pool
    if return_indices:
        return lambda x: tuple([t.squeeze(0) for t in pool(x.unsqueeze(0))])
    return lambda x: pool(x.unsqueeze(0)).squeeze(0)


def _avg_pool2d(input: Tensor, *numbers: Any) -> Callable[..., Tensor]:
    kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override = numbers
    geometry = window("avg_pool2d", kernel_size, stride, padding, 1, ceil_mode)
    divisor = _divisor(divisor_override)
    if not _runs("avg_pool2d", input, geometry):
        return lambda x: aten.avg_pool2d(x, *numbers)
    pool = prepare_avg(geometry, bool(count_include_pad), divisor)
    return pool if input.dim() == 4 else lambda x: pool(x.unsqueeze(0)).squeeze(0)


def prepare_max(x: Tensor, g: Pool2dGeometry, return_indices: bool) -> Prepared:
    """Max pooling of 4-D tensors like `x`: the map, or (map, indices)."""
    numbers = (g.kernel, g.stride, g.padding, g.dilation, g.ceil_mode, may_need_gradient(x), return_indices)
    return Prepared(autograd.max_pool, numbers, (0, 2) if return_indices else 0)


def prepare_avg(g: Pool2dGeometry, count_include_pad: bool, divisor: int) -> Prepared:
    """Average pooling of 4-D tensors; divisor 0 means torch's window rule."""
    return Prepared(autograd.avg_pool, (g.kernel, g.stride, g.padding, g.ceil_mode, count_include_pad, divisor))


def _runs(op: str, input: Tensor, geometry: Pool2dGeometry, routed: bool = True) -> bool:
    """Whether Triton runs the call, its input checked; torch's operator does otherwise.

    routed: whether the card's table is asked. Inside a graph it is not, since sizes may be symbols there.
    """
    check_input(op, input, geometry)
    reason = unsupported(op, input)
    if reason is None:
        if not (routed and may_route()) or torch.compiler.is_compiling():
            return True
        x = input if input.dim() == 4 else input.unsqueeze(0)
        operation = f"{op} training" if may_need_gradient(input) else op
        return not pool_goes_to_torch(operation, geometry, x, is_channels_last(input))
    decline(reason)
    return False


def _divisor(value: Any) -> int:
    if value is None:
        return 0
    if not is_int(value):
        raise TypeError(f"avg_pool2d: divisor_override must be an int or None, not {value!r}")
    if value == 0:
        raise RuntimeError("avg_pool2d: divisor_override must not be 0; None divides by the size of the window")
    return int(value)
