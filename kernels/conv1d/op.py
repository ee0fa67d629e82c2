"""conv1d: a two-dimensional convolution over images of one row."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kernels.backend import CPU, TRITON, decline, path, unsupported
from kernels.common.arguments import IntOrSingle, single
from kernels.common.autocast import is_autocast
from kernels.conv2d.geometry import check_dtypes
from kernels.conv2d.op import conv2d
from kernels.cpu import torch_faults

OP = "conv1d"


def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrSingle = 1,
    padding: Any = 0,
    dilation: IntOrSingle = 1,
    groups: int = 1,
) -> Tensor:
    """torch.nn.functional.conv1d on this package's kernels.

    input [n, c, l] or [c, l]; weight [k, c / groups, r]; bias [k]; result [n, k, m] or [k, m]. float16, bfloat16,
    float32, float64. padding: int, one int in a tuple, "same" or "valid". Raises what torch raises for arguments that
    do not fit, and NotImplementedError under backend("triton") for what has no Triton kernel.
    """
    if path(input) == TRITON and isinstance(weight, Tensor):
        if input.dim() not in (2, 3):
            raise RuntimeError(f"{OP}: expected 2D (unbatched) or 3D (batched) input, got size {list(input.shape)}")
        if weight.dim() != 3:
            raise RuntimeError(f"{OP}: expected a 3D weight, got weight of size {list(weight.shape)}")
        if not is_autocast(input):
            check_dtypes(OP, input, weight, bias)
        reason = unsupported(OP, input)
        if reason is None:
            sides = padding if isinstance(padding, str) else (0, single(padding, OP, "padding"))
            steps = ((1, single(stride, OP, "stride")), sides, (1, single(dilation, OP, "dilation")))
            return conv2d(input.unsqueeze(-2), weight.unsqueeze(-2), bias, *steps, groups).squeeze(-2)
        decline(reason)
    run = torch_faults.conv1d if path(input) == CPU else F.conv1d
    return run(input, weight, bias, stride, padding, dilation, groups)
