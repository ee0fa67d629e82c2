"""conv_transpose2d: the input gradient of a convolution, run forward."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.backend import CPU, TRITON, decline, may_route, path, unsupported
from kernels.common.arguments import IntOrPair, Pair, pair
from kernels.common.autocast import is_autocast
from kernels.common.layout import is_channels_last
from kernels.conv2d import autograd
from kernels.conv2d.geometry import check_dtypes, check_numbers, output_size
from kernels.cpu import torch_faults

OP = "conv_transpose2d"


def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Tensor:
    """torch.nn.functional.conv_transpose2d on this package's kernels.

    input [n, c, h, w] or [c, h, w]; weight [c, k / groups, r, s]; bias [k]; result [n, k, p, q] or [k, p, q] with
    p = (h - 1) * stride - 2 * padding + dilation * (r - 1) + output_padding + 1, in channels_last if input or weight
    is. float16, bfloat16, float32, float64. Raises what torch raises for arguments that do not fit, and
    NotImplementedError under backend("triton") for what has no Triton kernel.
    """
    if path(input) == TRITON and isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor)):
        numbers = _numbers(stride, padding, output_padding, groups, dilation)
        _check(input, weight, bias, groups)
        reason = unsupported(OP, input)
        if reason is None:
            return _triton(input, weight, bias, groups, *numbers)
        decline(reason)
    run = torch_faults.conv_transpose2d if path(input) == CPU else F.conv_transpose2d
    return run(input, weight, bias, stride, padding, output_padding, groups, dilation)


def _numbers(stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any) -> tuple[Pair, ...]:
    """(stride, padding, output padding, dilation) as pairs, with the limits that torch sets."""
    stride, dilation = check_numbers(stride, dilation, groups, OP)
    padding, extra = pair(padding, OP, "padding"), pair(output_padding, OP, "output_padding")
    for name, values in (("padding", padding), ("output_padding", extra)):
        if min(values) < 0:
            raise RuntimeError(f"{OP}: {name} must not be negative, got {values}")
    for i in (0, 1):
        if extra[i] >= max(stride[i], dilation[i]):
            raise RuntimeError(
                f"{OP}: output_padding must be smaller than stride or dilation, but {extra} is not for stride {stride} "
                f"and dilation {dilation}"
            )
    return stride, padding, extra, dilation


def _check(x: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    """RuntimeError unless ranks, channels, bias and devices fit together, as in torch."""
    if x.dim() not in (3, 4):
        raise RuntimeError(f"{OP}: expected 3D (unbatched) or 4D (batched) input, got input of size {list(x.shape)}")
    if weight.dim() != 4 or 0 in weight.shape[1:]:
        raise RuntimeError(f"{OP}: expected a 4D weight that is not empty, got weight of size {list(weight.shape)}")
    c, k = weight.shape[0], weight.shape[1] * groups
    if c % groups or c < groups:
        raise RuntimeError(f"{OP}: {c} input channels of weight {tuple(weight.shape)} do not split in {groups} groups")
    if x.shape[-3] != c:
        raise RuntimeError(f"{OP}: input has {x.shape[-3]} channels, but weight {tuple(weight.shape)} expects {c}")
    if 0 in x.shape[-2:]:
        raise RuntimeError(f"{OP}: expected an input whose rows and columns are not empty, got {list(x.shape)}")
    if bias is not None and (bias.dim() != 1 or bias.shape[0] != k):
        raise RuntimeError(
            f"{OP}: weight of size {list(weight.shape)} with groups={groups} expects bias of size [{k}], "
            f"got {list(bias.shape)}"
        )
    for name, other in (("weight", weight), ("bias", bias)):
        if other is not None and other.device != x.device:
            raise RuntimeError(f"{OP}: input is on {x.device}, but {name} on {other.device}; move one of them")


def _triton(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    groups: int,
    stride: Pair,
    padding: Pair,
    extra: Pair,
    dilation: Pair,
) -> Tensor:
    dy, weight, bias = _autocast(input if input.dim() == 4 else input.unsqueeze(0), weight, bias)
    check_dtypes(OP, dy, weight, bias)
    size, missing = [], []
    for i in (0, 1):
        taps, small = weight.shape[2 + i], dy.shape[2 + i]
        big = (small - 1) * stride[i] - 2 * padding[i] + dilation[i] * (taps - 1) + extra[i] + 1
        if big < 1:
            raise RuntimeError(
                f"{OP}: input {tuple(input.shape)} is too small: the result would have {big} rows or columns"
            )
        size.append(big)
        missing.append(output_size(big, 2 * padding[i], dilation[i], taps, stride[i]) - small)
    if any(missing):
        # An output_padding that is not below the stride adds whole rows to what the convolution would have given.
        dy = F.pad(dy, (0, missing[1], 0, missing[0]))
    layout = is_channels_last(dy) or is_channels_last(weight)
    pads = (padding[0], padding[0], padding[1], padding[1])
    shape = [dy.shape[0], weight.shape[1] * groups, *size]
    y: Tensor = autograd.dgrad(dy, weight, shape, stride, pads, dilation, groups, may_route(), layout)
    if bias is not None:
        y = y + bias.reshape(1, -1, 1, 1)
    return y if input.dim() == 4 else y.squeeze(0)


def _autocast(*tensors: Tensor | None) -> Any:
    """torch's lower-precision rule: floating tensors go to the context's dtype, float64 stays."""
    assert tensors[0] is not None
    if not is_autocast(tensors[0]):
        return tensors
    dtype = torch.get_autocast_dtype(tensors[0].device.type)
    return [t if t is None or not t.is_floating_point() or t.dtype == torch.float64 else t.to(dtype) for t in tensors]
