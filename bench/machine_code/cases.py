"""Calls that between them launch every kernel with the plans it ships, recorded and not run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import kernels
from kernels.common.device import Card, assume_card
from kernels.common.launch import Launch, record


@dataclass(frozen=True)
class Case:
    """A call, in one dtype and layout; `run` takes them and returns the tensor to differentiate."""

    name: str
    run: Callable[[torch.dtype, bool], Tensor]


def _map(dtype: torch.dtype, channels_last: bool, *shape: int) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=dtype, memory_format=form).requires_grad_()


def _conv(function: Any, x: tuple[int, ...], w: tuple[int, ...], **options: Any) -> Callable[..., Tensor]:
    def run(dtype: torch.dtype, channels_last: bool) -> Tensor:
        bias = torch.empty(w[0], dtype=dtype, requires_grad=True)
        result: Tensor = function(_map(dtype, channels_last, *x), _map(dtype, channels_last, *w), bias, **options)
        return result

    return run


def _pool(function: Any, x: tuple[int, ...], **options: Any) -> Callable[..., Tensor]:
    def run(dtype: torch.dtype, channels_last: bool) -> Tensor:
        result: Tensor = function(_map(dtype, channels_last, *x), **options)
        return result

    return run


CASES = (
    Case("conv3x3 64", _conv(kernels.conv2d_relu, (32, 64, 56, 56), (64, 64, 3, 3), padding=1)),
    Case("conv3x3 256", _conv(kernels.conv2d, (64, 256, 14, 14), (256, 256, 3, 3), padding=1)),
    Case("conv3x3/2 128", _conv(kernels.conv2d, (64, 128, 28, 28), (128, 128, 3, 3), padding=1, stride=2)),
    Case("conv3x3/2 256", _conv(kernels.conv2d, (128, 256, 28, 28), (256, 256, 3, 3), padding=1, stride=2)),
    Case("conv3x3 256 n256", _conv(kernels.conv2d_relu, (256, 256, 14, 14), (256, 256, 3, 3), padding=1)),
    Case("conv3x3 512 n8", _conv(kernels.conv2d_relu, (8, 512, 7, 7), (512, 512, 3, 3), padding=1)),
    Case("conv3x3+pool 64 n64", _conv(kernels.conv2d_relu_pool2d, (64, 64, 56, 56), (128, 64, 3, 3), padding=1)),
    Case("conv1x1 256-64", _conv(kernels.conv2d_relu, (32, 256, 56, 56), (64, 256, 1, 1))),
    Case("conv7x7/2 rgb", _conv(kernels.conv2d_relu, (32, 3, 224, 224), (64, 3, 7, 7), padding=3, stride=2)),
    Case("conv11x11/4 rgb", _conv(kernels.conv2d_relu, (32, 3, 224, 224), (64, 3, 11, 11), padding=2, stride=4)),
    Case("conv3x3 rgb", _conv(kernels.conv2d_relu, (32, 3, 224, 224), (64, 3, 3, 3), padding=1)),
    Case("conv3x3+pool rgb", _conv(kernels.conv2d_relu_pool2d, (32, 3, 224, 224), (64, 3, 3, 3), padding=1)),
    Case("conv3x3 1-32", _conv(kernels.conv2d_relu, (64, 1, 28, 28), (32, 1, 3, 3))),
    Case("conv5x5+pool 1-6", _conv(kernels.conv2d_relu_pool2d, (256, 1, 28, 28), (6, 1, 5, 5), padding=2)),
    Case("conv5x5+pool 6-16", _conv(kernels.conv2d_relu_pool2d, (256, 6, 14, 14), (16, 6, 5, 5))),
    Case("conv3x3+pool 64", _conv(kernels.conv2d_relu_pool2d, (16, 64, 224, 224), (64, 64, 3, 3), padding=1)),
    Case("conv3x3+avgpool 64", _conv(kernels.conv2d_relu_pool2d, (16, 64, 56, 56), (128, 64, 3, 3), pool="avg")),
    Case("conv3x3+pool 48", _conv(kernels.conv2d_relu_pool2d, (16, 48, 28, 28), (64, 48, 3, 3), padding=1)),
    Case("depthwise3x3 96", _conv(kernels.conv2d_relu, (32, 96, 56, 56), (96, 1, 3, 3), padding=1, groups=96)),
    Case("depthwise3x3/2 96", _conv(kernels.conv2d, (32, 96, 112, 112), (96, 1, 3, 3), stride=2, groups=96)),
    Case("depthwise7x7 96", _conv(kernels.conv2d, (32, 96, 56, 56), (96, 1, 7, 7), padding=3, groups=96)),
    Case("depthwise5x5/2 96", _conv(kernels.conv2d, (32, 96, 56, 56), (96, 1, 5, 5), padding=2, stride=2, groups=96)),
    Case(
        "depthwise3x3 96 dilated",
        _conv(kernels.conv2d, (32, 96, 56, 56), (96, 1, 3, 3), padding=2, dilation=2, groups=96),
    ),
    Case("depthwise9x9 96", _conv(kernels.conv2d, (32, 96, 28, 28), (96, 1, 9, 9), padding=4, groups=96)),
    Case("grouped3x3 128/32", _conv(kernels.conv2d, (32, 128, 28, 28), (128, 4, 3, 3), padding=1, groups=32)),
    Case(
        "grouped3x3/2 512/32", _conv(kernels.conv2d, (32, 512, 28, 28), (512, 16, 3, 3), padding=1, groups=32, stride=2)
    ),
    Case(
        "grouped3x3/2 256/32", _conv(kernels.conv2d, (32, 256, 56, 56), (256, 8, 3, 3), padding=1, groups=32, stride=2)
    ),
    Case("grouped3x3 48/16", _conv(kernels.conv2d, (32, 48, 28, 28), (48, 3, 3, 3), padding=1, groups=16)),
    Case("grouped3x3 128/2", _conv(kernels.conv2d, (32, 128, 28, 28), (128, 64, 3, 3), padding=1, groups=2)),
    Case("maxpool2x2", _pool(kernels.max_pool2d, (32, 64, 56, 56), kernel_size=2)),
    Case("maxpool3x3/2", _pool(kernels.max_pool2d, (32, 64, 112, 112), kernel_size=3, stride=2, padding=1)),
    Case("avgpool2x2", _pool(kernels.avg_pool2d, (32, 64, 56, 56), kernel_size=2)),
    Case("avgpool3x3/2", _pool(kernels.avg_pool2d, (32, 64, 112, 112), kernel_size=3, stride=2, padding=1)),
    Case("maxpool3x3/2 ceil", _pool(kernels.max_pool2d, (32, 64, 56, 56), kernel_size=3, stride=2, ceil_mode=True)),
    Case("maxpool3x3/2 odd", _pool(kernels.max_pool2d, (32, 64, 55, 55), kernel_size=3, stride=2)),
    Case("avgpool3x3/2 odd", _pool(kernels.avg_pool2d, (32, 64, 55, 55), kernel_size=3, stride=2)),
    Case("maxpool3x3", _pool(kernels.max_pool2d, (32, 64, 56, 56), kernel_size=3, stride=1, padding=1)),
    Case("avgpool3x3", _pool(kernels.avg_pool2d, (32, 64, 56, 56), kernel_size=3, stride=1, padding=1)),
    Case("maxpool5x5", _pool(kernels.max_pool2d, (16, 256, 40, 40), kernel_size=5, stride=1, padding=2)),
    Case("avgpool5x5", _pool(kernels.avg_pool2d, (16, 256, 40, 40), kernel_size=5, stride=1, padding=2)),
    Case("maxpool7x7", _pool(kernels.max_pool2d, (32, 64, 56, 56), kernel_size=7, stride=1, padding=3)),
    Case("maxpool13x13", _pool(kernels.max_pool2d, (16, 512, 20, 20), kernel_size=13, stride=1, padding=6)),
    Case("maxpool5x5/3", _pool(kernels.max_pool2d, (32, 64, 28, 28), kernel_size=5, stride=3)),
    Case("avgpool5x5/3", _pool(kernels.avg_pool2d, (32, 64, 28, 28), kernel_size=5, stride=3)),
    Case("globalpool 8x8", _pool(kernels.avg_pool2d, (32, 512, 8, 8), kernel_size=8)),
    Case("globalpool 112x112", _pool(kernels.avg_pool2d, (8, 32, 112, 112), kernel_size=112)),
    Case("globalmaxpool 14x14", _pool(kernels.max_pool2d, (32, 512, 14, 14), kernel_size=14)),
    Case("globalpool 7x7", _pool(kernels.avg_pool2d, (32, 512, 7, 7), kernel_size=7)),
)


@cache
def flops(case: Case) -> float:
    """Of the forward pass; each pass of a convolution has as many."""
    with kernels.backend("triton"), record(), FlopCounterMode(display=False) as counter:
        case.run(torch.float16, True)
    return float(counter.get_total_flops())


def launches(case: Case, dtype: torch.dtype, channels_last: bool, card: Card) -> Iterator[Launch]:
    """The launches of the case forward and backward, planned for `card`."""
    with kernels.backend("triton"), assume_card(card), record() as recorded:
        y = case.run(dtype, channels_last)
        y.backward(torch.empty_like(y))
    seen = set()
    for launch in recorded:
        key = (launch.kernel.__name__, tuple((k, v) for k, v in launch.arguments.items() if isinstance(v, (int, str))))
        if key not in seen:
            seen.add(key)
            yield launch
