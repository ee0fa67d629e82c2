"""chain(x, f, g, ...) = ...g(f(x)), in which a convolution and the ReLU and pool after it run as one kernel.

`convert` writes f(x), g(...) as a chain only where the code itself shows that nothing but g sees f's result. What the
steps are is looked up at each call: a layer that has been exchanged, has got a hook or is parametrized does what it
would do outside a chain. The convolution stays a convolution, so that calling or hooking it alone gives its own output.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kernels import modules
from kernels.conv2d.op import conv2d_relu, conv2d_relu_pool2d
from kernels.convert.layers import bare_type, untouched
from kernels.convert.stretch import end_of, is_wide, may_turn

Step = Any
"""What a step may be: a callable of one tensor; the name of a Tensor method; (callable, further args, kwargs)."""

Pool = dict[str, Any]


def chain(x: Any, *steps: Step) -> Any:
    """`x` through the steps, in order; where several convolutions follow each other, in channels_last between them."""
    flat = flatten(steps)
    i = end = 0
    while i < len(flat):
        if i >= end and is_wide(flat[i]) and may_turn(x):
            end = end_of(flat, i, _keeps_format)
            x = x.contiguous(memory_format=torch.channels_last) if end > i else x
        i, x = _next(x, flat, i)
        if i == end:
            x = x.contiguous()
    return x


def _next(x: Any, flat: Sequence[Step], i: int) -> tuple[int, Any]:
    """Past step i and what runs with it, and their result."""
    step = flat[i]
    if not (is_conv(step) and untouched(step)):
        return i + 1, _apply(step, x)
    taken, relu, pool = followers(flat, i + 1)
    return i + 1 + (taken if relu else 0), _fused(step, x, pool) if relu else step(x)


def _keeps_format(step: Step) -> bool:
    """Whether a step that is no convolution does the same to a map in any memory format."""
    return type(step) is nn.Identity or is_relu(step) or as_pool(step) is not None


def flatten(steps: Sequence[Step]) -> list[Step]:
    """The steps, nn.Sequentials opened where no hook would notice."""
    flat: list[Step] = []
    for step in steps:
        if is_sequential(step) and untouched(step):
            flat.extend(flatten(list(step)))
        else:
            flat.append(step)
    return flat


def followers(steps: Sequence[Step], start: int) -> tuple[int, bool, Pool | None]:
    """What a convolution can take along from steps[start]: how many steps, whether a ReLU, and which pool.

    ReLU then pool, or max pool then ReLU, whose results and gradients are the same to the last bit.
    """
    relu, pool, taken = False, None, 0
    for count, step in enumerate(steps[start:], 1):
        if isinstance(step, nn.Module) and not untouched(step):
            break
        if type(step) is nn.Identity:
            continue
        found = as_pool(step)
        if is_relu(step) and not relu:
            relu, taken = True, count
        elif found is not None and pool is None and (relu or found["pool"] == "max"):
            pool, taken = found, count
        else:
            break
    return taken, relu, pool


def is_sequential(step: Step) -> bool:
    """A container that does what nn.Sequential does: one layer after the other."""
    if not isinstance(step, nn.Sequential):
        return False
    return type(step).forward is nn.Sequential.forward or getattr(type(step), "_runs_in_order", False)


def is_conv(step: Step) -> bool:
    """This package's Conv2d, parametrized or not; no subclass that a user wrote."""
    return type(step) is modules.Conv2d or (isinstance(step, modules.Conv2d) and bare_type(step) is modules.Conv2d)


def is_relu(step: Step) -> bool:
    """nn.ReLU, or a function or method of torch's that is ReLU; in place or not."""
    if isinstance(step, tuple):
        function, args, kwargs = step
        return function is F.relu and len(args) + len(kwargs) == 1 and set(kwargs) <= {"inplace"}
    if isinstance(step, str):
        return step in ("relu", "relu_")
    if isinstance(step, nn.Module):
        return type(step) is nn.ReLU
    return any(step is function for function in (F.relu, torch.relu, torch.relu_, F.relu_))


def _max_arguments(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Pool | None:
    if dilation not in (1, (1,), (1, 1), [1], [1, 1]) or return_indices:
        return None
    return _pool("max", kernel_size, stride, padding, ceil_mode)


def _avg_arguments(
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Pool | None:
    if not count_include_pad or divisor_override is not None:
        return None
    return _pool("avg", kernel_size, stride, padding, ceil_mode)


def _pool(name: str, kernel_size: Any, stride: Any, padding: Any, ceil_mode: Any) -> Pool:
    return {
        "pool": name,
        "pool_kernel_size": kernel_size,
        "pool_stride": stride or None,
        "pool_padding": padding,
        "ceil_mode": ceil_mode,
    }


def as_pool(step: Step) -> Pool | None:
    """The pool arguments of conv2d_relu_pool2d that do what this step does, or None where there are none."""
    if isinstance(step, tuple):
        function, args, kwargs = step
        try:
            if function is F.max_pool2d:
                return _max_arguments(*args, **kwargs)
            return _avg_arguments(*args, **kwargs) if function is F.avg_pool2d else None
        except TypeError:
            return None  # the call itself will complain
    if type(step) in (modules.MaxPool2d, nn.MaxPool2d):
        return _max_arguments(
            step.kernel_size, step.stride, step.padding, step.dilation, step.ceil_mode, step.return_indices
        )
    if type(step) in (modules.AvgPool2d, nn.AvgPool2d):
        return _avg_arguments(
            step.kernel_size, step.stride, step.padding, step.ceil_mode, step.count_include_pad, step.divisor_override
        )
    return None


def _apply(step: Step, x: Any) -> Any:
    if isinstance(step, str):
        return getattr(x, step)()
    if isinstance(step, tuple):
        function, args, kwargs = step
        return function(x, *args, **kwargs)
    return step(x)


def _fused(conv: modules.Conv2d, x: Tensor, pool: Pool | None) -> Tensor:
    """pool(relu(conv(x))), pool None for none."""
    x, padding = conv._padded(x)
    arguments = (x, conv.weight, conv.bias, conv.stride, padding, conv.dilation, conv.groups)
    return conv2d_relu(*arguments) if pool is None else conv2d_relu_pool2d(*arguments, **pool)
