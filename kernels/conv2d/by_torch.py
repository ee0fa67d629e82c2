"""The passes by torch's operators, in the form in which the Triton kernels give them: where the router sends them."""

from __future__ import annotations

import torch
from torch import Tensor

from kernels.common.layout import empty, is_channels_last, memory_format
from kernels.conv2d.geometry import Conv2dGeometry


def _numbers(g: Conv2dGeometry) -> tuple[object, ...]:
    """torch's arguments from the stride on; the padding is the same on opposite sides."""
    return (g.stride, (g.padding[0], g.padding[2]), g.dilation, False, (0, 0), g.groups)


def fprop(x: Tensor, w: Tensor, bias: Tensor | None, g: Conv2dGeometry, relu: bool) -> Tensor:
    """y [n, k, p, q] = conv(x, w) + bias, then ReLU if asked."""
    y: Tensor = torch.ops.aten.convolution(x, w, bias, *_numbers(g))
    y = y.contiguous(memory_format=memory_format(is_channels_last(x) or is_channels_last(w)))
    return y.relu_() if relu else y


def dgrad(dy: Tensor, w: Tensor, g: Conv2dGeometry, channels_last: bool) -> Tensor:
    """dx [n, c, h, w] from dy [n, k, p, q] and w. Of x torch asks the shape and the layout alone."""
    x = empty(dy, (g.n, g.c, g.h, g.w), channels_last)
    dx: Tensor = torch.ops.aten.convolution_backward(dy, x, w, None, *_numbers(g), [True, False, False])[0]
    return dx.contiguous(memory_format=memory_format(channels_last))


def wgrad(dy: Tensor, x: Tensor, g: Conv2dGeometry, channels_last: bool) -> Tensor:
    """dw [k, c / groups, r, s] from dy and x. Of w torch asks the shape and the layout alone."""
    w = empty(dy, (g.k, g.c_group, g.r, g.s), channels_last)
    dw: Tensor = torch.ops.aten.convolution_backward(dy, x, w, None, *_numbers(g), [False, True, False])[1]
    return dw.contiguous(memory_format=memory_format(channels_last))
