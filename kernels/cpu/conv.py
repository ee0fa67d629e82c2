"""Convolution, ReLU and pooling on CPU tensors.

The compiled direct kernels for few input channels and for depthwise filters; torch's convolution for the rest (from 32
channels on oneDNN is at the processor's peak), ReLU in place on its fresh output, ReLU and pool in one pass over it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels.common.arguments import IntOrPair, Padding
from kernels.common.signature import is_eager
from kernels.cpu import front, native, pool, torch_faults
from kernels.cpu.conv_autograd import Convolution, run
from kernels.cpu.conv_plan import SOME_CHANNELS, Plan, plan_of
from kernels.cpu.guard import TYPES, plain
from kernels.cpu.pool_plan import UnusualError, sizes

MUCH = 32768
"""Input elements from which 9 channels and more are no small problem (conv_plan.SMALL_WORK)."""


def find_plan(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: Any, relu: bool,
    window: tuple[Any, ...] = (None, None, None, 0, False),
) -> Plan | None:  # fmt: skip
    """The plan of a call on plain tensors, None where torch's operators are to run. `window`: name, size, stride,
    padding and ceil_mode of the pool."""
    if native.KERNELS is None or type(x) not in TYPES or is_torchs(x, groups, window[0]):
        return None
    if not (is_eager() and plain(x) and plain(w)):
        return None
    dtype = x.dtype
    if w.dtype is not dtype or type(groups) is not int:
        return None
    if b is not None and not (plain(b) and b.dtype is dtype and b.shape == w.shape[:1] and b.is_contiguous()):
        return None
    try:
        return plan_of(
            x.shape, x.stride(), w.shape, w.stride(), dtype is torch.bfloat16, torch.get_num_threads(),
            needs_gradient(x, w, b), sizes(stride), padding if type(padding) is str else sizes(padding),
            sizes(dilation), groups, relu, window[0], *map(sizes, window[1:4]), window[4],
        )  # fmt: skip
    except UnusualError:
        return None


def is_torchs(x: Tensor, groups: Any, pool: str | None) -> bool:
    """Whether torch's convolution certainly runs, found in 0.3 us: a batch of many channels with no pool behind it."""
    if torch.compiler.is_compiling():
        return True
    return groups == 1 and pool is None and x.dim() == 4 and x.shape[1] > SOME_CHANNELS and x.numel() > MUCH


def needs_gradient(x: Tensor, w: Tensor, b: Tensor | None) -> bool:
    """Whether autograd is to record the call."""
    return torch.is_grad_enabled() and (x.requires_grad or w.requires_grad or (b is not None and b.requires_grad))


def execute(plan: Plan, x: Tensor, w: Tensor, b: Tensor | None) -> Tensor:
    """The planned output, recorded by autograd where it is to be."""
    assert native.KERNELS is not None
    if needs_gradient(x, w, b):
        return Convolution.apply(x, w, b, plan, native.KERNELS)  # type: ignore[no-any-return, no-untyped-call]
    return without_gradient(x, w, b, plan, native.KERNELS)


def without_gradient(x: Tensor, w: Tensor, b: Tensor | None, plan: Plan, kernels: native.Kernels) -> Tensor:
    """The planned output, not recorded by autograd."""
    return run(kernels, plan, x, w, b, False)[0]


def action_of(plan: Plan, x: Tensor, w: Tensor, b: Tensor | None) -> front.Action | front.Kernel:
    """How the front repeats `execute`."""
    if needs_gradient(x, w, b):
        return front.Action(Convolution.apply, (plan, native.KERNELS))
    if plan.kind == "pool":
        return front.Action(without_gradient, (plan, native.KERNELS))
    kind = "conv" if plan.kind == "direct" else "depthwise"
    return front.Kernel(f"{kind}_forward", kind, plan, plan.shape, plan.stride)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """torch.nn.functional.conv2d on CPU tensors."""
    return _convolve(front.conv2d, (input, weight, bias), (stride, padding, dilation, groups), False)


def conv2d_relu(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """relu(conv2d(...)) on CPU tensors."""
    return _convolve(front.conv2d_relu, (input, weight, bias), (stride, padding, dilation, groups), True)


def _convolve(memory: front.Memory, tensors: Any, numbers: tuple[Any, ...], relu: bool) -> Tensor:
    plan = find_plan(*(*tensors, *numbers, relu))
    if plan is not None:
        y = execute(plan, *tensors)
        memory.remember(tensors, numbers, action_of(plan, *tensors))
        return y
    y = relu_after(*tensors, *numbers) if relu else torch_faults.conv2d(*tensors, *numbers)
    if not torch.compiler.is_compiling() and memory.front is not None:
        right = torch_faults.right_for_any_filter(tensors[0], numbers[0], numbers[2])
        function = torch.conv2d if right else torch_faults.conv2d
        memory.remember(tensors, numbers, front.Action(function, numbers, relu, safe=True))
    return y


def relu_after(input: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
    """torch's convolution, and ReLU in place on its fresh output; nothing that is no plain tensor is written to."""
    if type(input) in TYPES:
        return torch_faults.conv2d(input, weight, bias, *geometry).relu_()
    return torch.relu(torch_faults.conv2d(input, weight, bias, *geometry))


def conv2d_relu_pool2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    pool: str = "max",
    pool_kernel_size: IntOrPair = 2,
    pool_stride: IntOrPair | None = None,
    pool_padding: IntOrPair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """pool(relu(conv2d(...))) on CPU tensors."""
    tensors = (input, weight, bias)
    numbers: tuple[Any, ...] = (stride, padding, dilation, groups)
    window: tuple[Any, ...] = (pool, pool_kernel_size, pool_stride, pool_padding, ceil_mode)
    plan = find_plan(*tensors, stride, padding, dilation, groups, True, window)
    if plan is not None:
        y = execute(plan, *tensors)
        front.conv2d_relu_pool2d.remember(tensors, (*numbers, *window), action_of(plan, *tensors))
        return y
    y = composed(*tensors, *numbers, *window)
    if not torch.compiler.is_compiling() and front.conv2d_relu_pool2d.front is not None:
        front.conv2d_relu_pool2d.remember(
            tensors, (*numbers, *window), front.Action(composed, (*numbers, *window), safe=True)
        )
    return y


def composed(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int,
    name: str, kernel: IntOrPair, step: IntOrPair | None, pad: IntOrPair, ceil: bool,
) -> Tensor:  # fmt: skip
    """torch's convolution, ReLU and the pool of pool.py."""
    y = relu_after(input, weight, bias, stride, padding, dilation, groups)
    if name == "max":
        pooled = pool.max_pool2d(y, kernel, step, pad, 1, ceil)
        assert isinstance(pooled, Tensor)
        return pooled
    return pool.avg_pool2d(y, kernel, step, pad, ceil)
