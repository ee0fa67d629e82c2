"""max_pool1d and avg_pool1d: two-dimensional pools over images of one row."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kernels.backend import CPU, TRITON, decline, path, unsupported
from kernels.common.arguments import IntOrSingle, Pair, single
from kernels.pool2d.op import avg_pool2d, max_pool2d


def max_pool1d(
    input: Tensor,
    kernel_size: IntOrSingle,
    stride: IntOrSingle | None = None,
    padding: IntOrSingle = 0,
    dilation: IntOrSingle = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """torch.nn.functional.max_pool1d on this package's kernel.

    input [n, c, l] or [c, l], float16, bfloat16, float32 or float64; result [n, c, m] or [c, m], with int64 indices
    into the l elements if return_indices. Raises what torch raises for arguments that do not fit, and
    NotImplementedError under backend("triton") for what has no Triton kernel.
    """
    if _runs("max_pool1d", input) or _may_see_nothing(input, padding, dilation):
        window = _window("max_pool1d", kernel_size, stride, padding)
        rows = (1, single(dilation, "max_pool1d", "dilation"))
        result = max_pool2d(input.unsqueeze(-2), *window, rows, ceil_mode, return_indices)
        return tuple(t.squeeze(-2) for t in result) if return_indices else result.squeeze(-2)
    torchs: Any = F.max_pool1d
    return torchs(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def avg_pool1d(
    input: Tensor,
    kernel_size: IntOrSingle,
    stride: IntOrSingle | None = None,
    padding: IntOrSingle = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """torch.nn.functional.avg_pool1d on this package's kernel.

    input [n, c, l] or [c, l], float16, bfloat16, float32 or float64; result [n, c, m] or [c, m]. Raises what torch
    raises for arguments that do not fit, and NotImplementedError under backend("triton") for what has no Triton kernel.
    """
    if _runs("avg_pool1d", input):
        window = _window("avg_pool1d", kernel_size, stride, padding)
        return avg_pool2d(input.unsqueeze(-2), *window, ceil_mode, count_include_pad).squeeze(-2)
    torchs: Any = F.avg_pool1d
    y: Tensor = torchs(input, kernel_size, () if stride is None else stride, padding, ceil_mode, count_include_pad)
    return y


def _runs(op: str, input: Tensor) -> bool:
    """Whether Triton runs the call, its rank checked; torch's operator does otherwise."""
    if path(input) != TRITON:
        return False
    if input.dim() not in (2, 3):
        raise RuntimeError(f"{op}: expected a 2D or 3D input, got {list(input.shape)}")
    reason = unsupported(op, input)
    if reason is not None:
        decline(reason)
    return reason is None


def _may_see_nothing(input: Any, padding: Any, dilation: Any) -> bool:
    """Whether torch's CPU operator could meet a window without an element, for which it writes beyond the row."""
    wide = dilation not in (1, (1,)) and padding not in (0, (0,))
    return wide and path(input) == CPU and input.dim() in (2, 3) and input.is_floating_point()


def _window(op: str, kernel_size: Any, stride: Any, padding: Any) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding of the two-dimensional pool."""
    kernel = single(kernel_size, op, "kernel_size")
    empty = stride is None or (isinstance(stride, (tuple, list)) and not stride)
    return (1, kernel), (1, kernel if empty else single(stride, op, "stride")), (0, single(padding, op, "padding"))
