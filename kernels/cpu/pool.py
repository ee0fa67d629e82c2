"""Pooling on CPU tensors: the compiled kernels, else strided maxima, else torch's operators, by measured rule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels import aten
from kernels.common.arguments import IntOrPair
from kernels.common.signature import is_eager
from kernels.cpu import front, native, torch_faults
from kernels.cpu.guard import TYPES, plain, plain_gradient
from kernels.cpu.pool_plan import (
    PAIR,
    SLICE_ELEMENTS,
    Plan,
    UnusualError,
    Window,
    avg_plan,
    layout,
    max_plan,
    sizes,
    small,
    strides_of,
)


def dense(x: Tensor, stride: tuple[int, ...]) -> Tensor:
    """The same values at these strides."""
    return torch.empty_strided(x.shape, stride, dtype=x.dtype).copy_(x)


def run_forward(kernels: native.Kernels, plan: Plan, x: Tensor, coded: bool) -> tuple[Tensor, Tensor | None]:
    """The pooled map and, when asked, its codes."""
    y = torch.empty_strided(plan.shape, plan.stride, dtype=x.dtype)
    code = torch.empty_strided(plan.shape, plan.stride, dtype=torch.uint8) if coded else None
    native.check(
        kernels.pool_forward(plan.address, x.data_ptr(), y.data_ptr(), None if code is None else code.data_ptr())
    )
    return y, code


def run_backward(
    kernels: native.Kernels, plan: Plan, dy: Tensor, code: Tensor | None, shape: tuple[int, ...]
) -> Tensor:
    """The gradient of the pool's input, which has this shape, in the plan's memory format."""
    if dy.stride() != plan.stride:
        dy = dense(dy, plan.stride)
    dx = torch.empty_strided(shape, strides_of(shape, plan.channels_last), dtype=dy.dtype)
    native.check(
        kernels.pool_backward(plan.address, dy.data_ptr(), None if code is None else code.data_ptr(), dx.data_ptr())
    )
    return dx


def aten_backward(g: Tensor, x: Tensor, window: Window) -> Tensor:
    """The same gradient by torch's differentiable operators."""
    w = window
    ops = torch.ops.aten
    if w.average:
        return ops.avg_pool2d_backward(  # type: ignore[no-any-return]
            g, x, w.kernel, w.stride, w.padding, w.ceil_mode, w.include_pad, w.divisor
        )
    with torch.no_grad():
        _, indices = ops.max_pool2d_with_indices(x, w.kernel, w.stride, w.padding, (1, 1), w.ceil_mode)
    return ops.max_pool2d_with_indices_backward(  # type: ignore[no-any-return]
        g, x, w.kernel, w.stride, w.padding, (1, 1), w.ceil_mode, indices
    )


class Pool(torch.autograd.Function):
    """A pool whose backward reads one byte per output element."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, plan: Plan, kernels: native.Kernels) -> Tensor:
        """The pooled map; saves the input, which is alive anyway, for derivatives of the backward."""
        y, code = run_forward(kernels, plan, x, coded=not plan.window.average)
        ctx.plan, ctx.kernels = plan, kernels
        ctx.save_for_backward(x, code)
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor, None, None]:
        """By the codes; by torch's operators where the gradient is itself differentiated or transformed."""
        x, code = ctx.saved_tensors
        if torch.is_grad_enabled() or not plain_gradient(g):
            return aten_backward(g, x, ctx.plan.window), None, None
        return run_backward(ctx.kernels, ctx.plan, g, code, x.shape), None, None


def may_slice(x: Tensor) -> bool:
    """Whether x may be pooled on strided slices, by its size alone: the first question of a package without a build."""
    return native.KERNELS is None and not torch.compiler.is_compiling() and x.numel() >= SLICE_ELEMENTS


def sliceable(name: str, a: dict[str, Any]) -> bool:
    """Whether a call, given by its arguments' names, is a 2x2 pool with stride 2 that runs on strided slices."""
    x: Tensor = a["input"]
    if a["kernel_size"] not in PAIR or a["stride"] not in (None, *PAIR) or a["padding"] not in (0, (0, 0)):
        return False
    if a.get("return_indices") or a.get("dilation", 1) not in (1, (1, 1)) or a.get("divisor_override") is not None:
        return False
    if x.dim() != 4 or x.shape[2] % 2 or x.shape[3] % 2 or x.numel() < SLICE_ELEMENTS:
        return False
    average, last = name == "avg_pool2d", layout(x.shape, x.stride())
    if last is None or (x.requires_grad and torch.is_grad_enabled()):
        return False
    if average:
        return not last and x.dtype is torch.float32
    return not last or x.shape[1] < 64


def slices(x: Tensor, average: bool) -> Tensor:
    """A 2x2 pool with stride 2 by elementwise operators on strided slices.

    Never under autograd: the derivative of torch.maximum splits ties in halves.
    """
    if average:
        rows = x[:, :, ::2] + x[:, :, 1::2]
        return (rows[..., ::2] + rows[..., 1::2]).mul_(0.25)
    rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
    return torch.maximum(rows[..., ::2], rows[..., 1::2])


def training(x: Tensor) -> bool:
    """Whether autograd is to record a pool of x."""
    return x.requires_grad and torch.is_grad_enabled()


def find_max_plan(
    x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, return_indices: bool
) -> Plan | None:
    """The plan of a max_pool2d call, None where torch's operator is to run."""
    if native.KERNELS is None or return_indices or small(x, False) or dilation not in (1, (1, 1)):
        return None
    if not (is_eager() and plain(x)):
        return None
    try:
        return max_plan(
            x.shape, x.stride(), x.dtype is torch.bfloat16, torch.get_num_threads(), training(x),
            sizes(kernel), sizes(stride), sizes(padding), ceil_mode,
        )  # fmt: skip
    except UnusualError:
        return None


def find_avg_plan(
    x: Tensor, kernel: Any, stride: Any, padding: Any, ceil_mode: bool, include_pad: bool, divisor: int | None
) -> Plan | None:
    """The plan of an avg_pool2d call, None where torch's operator is to run."""
    if native.KERNELS is None or small(x, True) or not (is_eager() and plain(x)):
        return None
    try:
        return avg_plan(
            x.shape, x.stride(), x.dtype is torch.bfloat16, torch.get_num_threads(), training(x),
            sizes(kernel), sizes(stride), sizes(padding), ceil_mode, include_pad, divisor,
        )  # fmt: skip
    except UnusualError:
        return None


def execute(plan: Plan, x: Tensor) -> Tensor:
    """The planned pool, recorded by autograd where it is to be."""
    assert native.KERNELS is not None
    if training(x):
        return Pool.apply(x, plan, native.KERNELS)  # type: ignore[no-any-return, no-untyped-call]
    return run_forward(native.KERNELS, plan, x, coded=False)[0]


def action_of(plan: Plan, x: Tensor) -> front.Action | front.Kernel:
    """How the front repeats `execute`."""
    if training(x):
        return front.Action(Pool.apply, (plan, native.KERNELS))
    return front.Kernel("pool_forward", "pool", plan, plan.shape, plan.stride)


_MAX_POOLS: tuple[Any, Any] = (torch.max_pool2d, torch._C._nn.max_pool2d_with_indices)


def _strided(name: str, **arguments: Any) -> Tensor | None:
    """The pool on strided slices where there are no compiled kernels and it applies."""
    x = arguments["input"]
    if type(x) not in TYPES or not (is_eager() and plain(x)):
        return None
    return slices(x, name == "avg_pool2d") if sliceable(name, arguments) else None


def max_pool2d(
    input: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """torch.nn.functional.max_pool2d on a CPU tensor."""
    numbers = (kernel_size, stride, padding, dilation, ceil_mode, return_indices)
    plan = find_max_plan(input, *numbers)
    if plan is not None:
        y = execute(plan, input)
        front.max_pool2d.remember((input,), numbers, action_of(plan, input))
        return y
    pooled = _strided(
        "max_pool2d", input=input, kernel_size=kernel_size, stride=stride, padding=padding, dilation=dilation,
        return_indices=return_indices,
    ) if may_slice(input) else None  # fmt: skip
    if pooled is not None:
        return pooled
    if dilation not in (1, (1, 1)) and padding not in (0, (0, 0)) and input.is_floating_point():
        right = torch_faults.max_pool2d(input, *numbers)
        if right is not None:
            return right
    result = aten.max_pool2d(input, *numbers)
    if not torch.compiler.is_compiling() and front.max_pool2d.front is not None:
        step = () if stride is None else stride
        how = front.Action(
            _MAX_POOLS[bool(return_indices)], (kernel_size, step, padding, dilation, ceil_mode), safe=True
        )
        front.max_pool2d.remember((input,), numbers, how)
    return result


def avg_pool2d(
    input: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """torch.nn.functional.avg_pool2d on a CPU tensor."""
    numbers = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
    plan = find_avg_plan(input, *numbers)
    if plan is not None:
        y = execute(plan, input)
        front.avg_pool2d.remember((input,), numbers, action_of(plan, input))
        return y
    pooled = _strided(
        "avg_pool2d", input=input, kernel_size=kernel_size, stride=stride, padding=padding,
        divisor_override=divisor_override,
    ) if may_slice(input) else None  # fmt: skip
    if pooled is not None:
        return pooled
    torchs: Any = aten.avg_pool2d
    result: Tensor = torchs(input, *numbers)
    if not torch.compiler.is_compiling() and front.avg_pool2d.front is not None:
        front.avg_pool2d.remember((input,), numbers, front.Action(torchs, numbers, safe=True))
    return result
