"""The package's functions by torch's own operators: what backend("torch") runs, and where nothing faster exists."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.common.arguments import IntOrPair, Padding

conv2d = F.conv2d
avg_pool2d = F.avg_pool2d


def conv2d_relu(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """relu(conv2d(...)) by two torch operators."""
    return torch.relu(F.conv2d(input, weight, bias, stride, padding, dilation, groups))


def max_pool2d(
    input: Tensor,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """torch's max_pool2d."""
    function: Any = F.max_pool2d  # its stub has an overload per combination of unions
    result: Tensor | tuple[Tensor, Tensor] = function(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode, return_indices=return_indices
    )
    return result


def pool2d(
    input: Tensor,
    pool: str,
    kernel_size: IntOrPair,
    stride: IntOrPair | None = None,
    padding: IntOrPair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    """Max or average pooling, chosen by name."""
    if pool == "max":
        return F.max_pool2d(input, kernel_size, stride, padding, 1, ceil_mode)
    return F.avg_pool2d(input, kernel_size, stride, padding, ceil_mode)


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
    """pool(relu(conv2d(...))) by three torch operators."""
    y = conv2d_relu(input, weight, bias, stride, padding, dilation, groups)
    return pool2d(y, pool, pool_kernel_size, pool_stride, pool_padding, ceil_mode)
