"""conv2d, conv2d_relu, conv2d_relu_pool2d: arguments checked, path chosen, result returned."""

from __future__ import annotations

from torch import Tensor

from kernels import aten
from kernels.common.arguments import IntOrPair, Padding, check_pool_name

conv2d = aten.conv2d
conv2d_relu = aten.conv2d_relu


def conv2d_relu_pool2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: Padding = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
    *,
    pool: str = "max",
    pool_kernel_size: IntOrPair = 2,
    pool_stride: IntOrPair | None = None,
    pool_padding: IntOrPair = 0,
    ceil_mode: bool = False,
) -> Tensor:
    check_pool_name(pool)
    return aten.conv2d_relu_pool2d(
        input, weight, bias, stride, padding, dilation, groups, pool=pool, pool_kernel_size=pool_kernel_size,
        pool_stride=pool_stride, pool_padding=pool_padding, ceil_mode=ceil_mode,
    )
