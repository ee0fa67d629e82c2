"""Drop-in layers: torch's own classes, whose forward calls this package's functions."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from kernels.adaptive_pool2d.op import adaptive_avg_pool2d, adaptive_max_pool2d
from kernels.common.arguments import IntOrPair, check_pool_name
from kernels.conv1d.op import conv1d
from kernels.conv2d.op import conv2d, conv2d_relu, conv2d_relu_pool2d
from kernels.conv_transpose2d.op import conv_transpose2d
from kernels.pool1d.op import avg_pool1d, max_pool1d
from kernels.pool2d.op import avg_pool2d, max_pool2d


class Conv2d(nn.Conv2d):
    """torch.nn.Conv2d on this package's convolution: same constructor, parameters, state_dict and repr."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return self._convolve(*self._padded(input), weight, bias)

    def _padded(self, input: Tensor) -> tuple[Tensor, Any]:
        """The input and the padding left for the convolution; reflect, replicate and circular are torch's own."""
        if self.padding_mode == "zeros":
            return input, self.padding
        return F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode), 0

    def _convolve(self, input: Tensor, padding: Any, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv2d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class ConvReLU2d(Conv2d):
    """Conv2d and ReLU in one kernel: the constructor, parameters and state_dict of torch.nn.Conv2d."""

    def _convolve(self, input: Tensor, padding: Any, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv2d_relu(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class ConvReLUPool2d(Conv2d):
    """Conv2d, ReLU and pooling in one kernel: torch.nn.Conv2d's constructor and state_dict, and the pool by keyword.

    pool: "max" or "avg" (ValueError otherwise); pool_kernel_size, pool_stride, pool_padding, ceil_mode as in
    torch.nn.MaxPool2d and torch.nn.AvgPool2d.
    """

    def __init__(
        self,
        *args: Any,
        pool: str = "max",
        pool_kernel_size: IntOrPair = 2,
        pool_stride: IntOrPair | None = None,
        pool_padding: IntOrPair = 0,
        ceil_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        check_pool_name(pool)
        super().__init__(*args, **kwargs)
        self.pool = pool
        self.pool_kernel_size = pool_kernel_size
        self.pool_stride = pool_stride
        self.pool_padding = pool_padding
        self.ceil_mode = ceil_mode

    def _convolve(self, input: Tensor, padding: Any, weight: Tensor, bias: Tensor | None) -> Tensor:
        return conv2d_relu_pool2d(
            input,
            weight,
            bias,
            self.stride,
            padding,
            self.dilation,
            self.groups,
            pool=self.pool,
            pool_kernel_size=self.pool_kernel_size,
            pool_stride=self.pool_stride,
            pool_padding=self.pool_padding,
            ceil_mode=self.ceil_mode,
        )

    def extra_repr(self) -> str:
        """torch's description of the convolution, then the pool."""
        pool = f"pool={self.pool}, pool_kernel_size={self.pool_kernel_size}"
        if self.pool_stride is not None:
            pool += f", pool_stride={self.pool_stride}"
        if self.pool_padding:
            pool += f", pool_padding={self.pool_padding}"
        if self.ceil_mode:
            pool += ", ceil_mode=True"
        return f"{super().extra_repr()}, {pool}"  # type: ignore[no-untyped-call]


class MaxPool2d(nn.MaxPool2d):
    """torch.nn.MaxPool2d on this package's kernel: same constructor and repr."""

    def forward(self, input: Tensor) -> Any:
        """The pooled map, and the indices when the layer returns them."""
        return max_pool2d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class AvgPool2d(nn.AvgPool2d):
    """torch.nn.AvgPool2d on this package's kernel: same constructor and repr."""

    def forward(self, input: Tensor) -> Tensor:
        """The averaged map."""
        return avg_pool2d(
            input,
            self.kernel_size,
            self.stride,
            self.padding,
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )


class AdaptiveAvgPool2d(nn.AdaptiveAvgPool2d):
    """torch.nn.AdaptiveAvgPool2d on this package's kernel: same constructor and repr."""

    def forward(self, input: Tensor) -> Tensor:
        """The averaged map."""
        return adaptive_avg_pool2d(input, self.output_size)


class AdaptiveMaxPool2d(nn.AdaptiveMaxPool2d):
    """torch.nn.AdaptiveMaxPool2d on this package's kernel: same constructor and repr."""

    def forward(self, input: Tensor) -> Any:
        """The pooled map, and the indices when the layer returns them."""
        return adaptive_max_pool2d(input, self.output_size, self.return_indices)


class ConvTranspose2d(nn.ConvTranspose2d):
    """torch.nn.ConvTranspose2d on this package's convolution: same constructor, parameters, state_dict and repr."""

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """The enlarged map, of `output_size` if that is given and possible."""
        extra = self._output_padding(
            input,
            output_size,
            self.stride,  # type: ignore[arg-type]
            self.padding,  # type: ignore[arg-type]
            self.kernel_size,  # type: ignore[arg-type]
            2,
            self.dilation,  # type: ignore[arg-type]
        )
        numbers: Any = (self.stride, self.padding, extra, self.groups, self.dilation)
        return conv_transpose2d(input, self.weight, self.bias, *numbers)


class Conv1d(nn.Conv1d):
    """torch.nn.Conv1d on this package's convolution: same constructor, parameters, state_dict and repr."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
            padding = 0
        return conv1d(input, weight, bias, self.stride, padding, self.dilation, self.groups)


class MaxPool1d(nn.MaxPool1d):
    """torch.nn.MaxPool1d on this package's kernel: same constructor and repr."""

    def forward(self, input: Tensor) -> Any:
        """The pooled rows, and the indices when the layer returns them."""
        return max_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode, self.return_indices
        )


class AvgPool1d(nn.AvgPool1d):
    """torch.nn.AvgPool1d on this package's kernel: same constructor and repr."""

    def forward(self, input: Tensor) -> Tensor:
        """The averaged rows."""
        return avg_pool1d(input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad)
