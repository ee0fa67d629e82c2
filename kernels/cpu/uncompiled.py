"""What a package without a build asks first: calls that are certainly torch's, sent there in half a microsecond.

Each answers None for a call that needs a closer look, which then goes its usual way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kernels import backend
from kernels.common import signature
from kernels.cpu.guard import TYPES
from kernels.cpu.pool_plan import ONES, SLICE_ELEMENTS

_backend = backend._current.get
_max_pool2d: tuple[Any, Any] = (torch.max_pool2d, torch._C._nn.max_pool2d_with_indices)
_avg_pool2d: Any = torch._C._nn.avg_pool2d


def conv2d(input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: Any) -> Tensor | None:
    """With stride 1, where torch is right on rows of any length (torch_faults.py)."""
    if type(input) in TYPES and stride in ONES and input.is_cpu and _backend() == "auto" and not signature._choices:
        return torch.conv2d(input, weight, bias, stride, padding, dilation, groups)
    return None


def conv2d_relu(input: Any, *arguments: Any) -> Tensor | None:
    """The same, and ReLU in place on the fresh result."""
    y = conv2d(input, *arguments)
    return None if y is None else y.relu_()


def max_pool2d(
    input: Any, kernel_size: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: Any, return_indices: Any
) -> Any:
    """Of few elements, where slices do not pay, undilated: then every window sees the map."""
    if type(input) not in TYPES or dilation not in ONES or not input.is_cpu:
        return None
    if input.numel() >= SLICE_ELEMENTS or _backend() != "auto" or signature._choices:
        return None
    step = () if stride is None else stride
    return _max_pool2d[bool(return_indices)](input, kernel_size, step, padding, dilation, ceil_mode)


def avg_pool2d(input: Any, kernel_size: Any, stride: Any, *others: Any) -> Any:
    """Of few elements."""
    if type(input) not in TYPES or not input.is_cpu or signature._choices:
        return None
    if input.numel() < SLICE_ELEMENTS and _backend() == "auto":
        return _avg_pool2d(input, kernel_size, () if stride is None else stride, *others)
    return None
