"""Layers for the Hugging Face Hub: only `forward` is taken from them, onto torch layers that exist already."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from .conv2d.op import conv2d
from .pool2d.op import avg_pool2d, max_pool2d


class Conv2d(nn.Module):
    """torch.nn.Conv2d's forward."""

    weight: Tensor
    bias: Tensor | None
    stride: Any
    padding: Any
    dilation: Any
    groups: int
    padding_mode: str
    _reversed_padding_repeated_twice: list[int]
    has_backward: bool = True
    can_torch_compile: bool = True

    def forward(self, input: Tensor) -> Tensor:
        """The convolution; reflect, replicate and circular padding are torch's own."""
        padding = self.padding
        if self.padding_mode != "zeros":
            input, padding = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0
        return conv2d(input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)


class MaxPool2d(nn.Module):
    """torch.nn.MaxPool2d's forward."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    ceil_mode: bool
    return_indices: bool
    has_backward: bool = True
    can_torch_compile: bool = True

    def forward(self, input: Tensor) -> Any:
        """The pooled map, and the indices when the layer returns them."""
        window = (self.kernel_size, self.stride, self.padding, self.dilation)
        return max_pool2d(input, *window, self.ceil_mode, self.return_indices)


class AvgPool2d(nn.Module):
    """torch.nn.AvgPool2d's forward."""

    kernel_size: Any
    stride: Any
    padding: Any
    ceil_mode: bool
    count_include_pad: bool
    divisor_override: int | None
    has_backward: bool = True
    can_torch_compile: bool = True

    def forward(self, input: Tensor) -> Tensor:
        """The averaged map."""
        window = (self.kernel_size, self.stride, self.padding, self.ceil_mode)
        return avg_pool2d(input, *window, self.count_include_pad, self.divisor_override)
