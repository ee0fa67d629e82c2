"""Calls that torch's own CPU operators get wrong, and the ways around them.

Both faults were found by running torch 2.13 on memory filled with NaN; tests/kernels/cpu/test_torch_faults.py holds
them. Where a later torch is right, the ways around give the same answer.

Convolution: oneDNN's bfloat16 kernels assume that a row is at least as long as the horizontal stride and holds more
than one window. On shorter rows the weight gradient reads memory that nobody wrote, and the forward pass gives wrong
sums in channels_last with one window a row, and ends the process on dilated filters. In float32 they are right.

Max pooling: a dilated, padded window may see no pixel. torch gives it an index beyond the plane, and the backward pass
writes there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.common.arguments import is_int
from kernels.pool2d.geometry import check_input
from kernels.pool2d.geometry import window as geometry_of

ONES = (1, (1, 1))


def _last(value: Any) -> Any:
    """The horizontal part of a size argument; None for what is torch's to judge."""
    if isinstance(value, (tuple, list)) and 1 <= len(value) <= 2:
        value = value[-1]
    return value if is_int(value) else None


def short_rows(width: int, taps: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether a convolution's rows are shorter than its stride or hold one window only; all sizes horizontal."""
    return stride > 1 and (width < stride or width + 2 * padding - dilation * (taps - 1) - 1 < stride)


def _runs_in_bfloat16(x: Tensor) -> bool:
    if x.dtype is torch.bfloat16:
        return True
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    return cast and x.dtype in (torch.float32, torch.float16)


def is_wrong(x: Tensor, w: Any, stride: Any, padding: Any, dilation: Any) -> bool:
    """Whether torch's convolution of x [..., width] with filters w [..., taps] is one of the wrong ones."""
    if stride in ONES or not _runs_in_bfloat16(x) or not isinstance(w, Tensor):
        return False
    steps, pads, gaps = _last(stride), 0 if padding == "valid" else _last(padding), _last(dilation)
    if None in (steps, pads, gaps) or min(x.dim(), w.dim()) < 2:
        return False
    return short_rows(x.shape[-1], w.shape[-1], steps, pads, gaps)


def is_transpose_wrong(x: Tensor, w: Any, stride: Any, padding: Any, output_padding: Any, dilation: Any) -> bool:
    """The same of a transposed convolution, whose result is what the convolution of its gradients reads."""
    if stride in ONES or not _runs_in_bfloat16(x) or not isinstance(w, Tensor):
        return False
    steps, pads, more, gaps = (_last(value) for value in (stride, padding, output_padding, dilation))
    if None in (steps, pads, more, gaps) or min(x.dim(), w.dim()) < 2:
        return False
    taps = w.shape[-1]
    return short_rows((x.shape[-1] - 1) * steps - 2 * pads + gaps * (taps - 1) + more + 1, taps, steps, pads, gaps)


def in_float32(function: Callable[..., Tensor], x: Tensor, w: Tensor, b: Tensor | None, *numbers: Any) -> Tensor:
    """A convolution of bfloat16 values in float32, rounded once at the end; gradients likewise."""
    tensors = [x, w, b]
    if torch.is_autocast_enabled("cpu"):
        tensors = [t if t is None or t.dtype is torch.float64 else t.to(torch.bfloat16) for t in tensors]
    if any(t is not None and t.dtype is not torch.bfloat16 for t in tensors):  # torch's to refuse
        return function(x, w, b, *numbers)
    with torch.autocast("cpu", enabled=False):
        return function(*(None if t is None else t.float() for t in tensors), *numbers).to(torch.bfloat16)


def conv2d(x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: Any) -> Tensor:
    """torch's convolution, right on short rows too."""
    if is_wrong(x, w, stride, padding, dilation):
        return in_float32(F.conv2d, x, w, b, stride, padding, dilation, groups)
    return F.conv2d(x, w, b, stride, padding, dilation, groups)


def conv1d(x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: Any) -> Tensor:
    """The same in one dimension."""
    if is_wrong(x, w, stride, padding, dilation):
        return in_float32(F.conv1d, x, w, b, stride, padding, dilation, groups)
    return F.conv1d(x, w, b, stride, padding, dilation, groups)


def conv_transpose2d(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any
) -> Tensor:
    """torch's transposed convolution, with right gradients of short rows too."""
    if is_transpose_wrong(x, w, stride, padding, output_padding, dilation):
        return in_float32(F.conv_transpose2d, x, w, b, stride, padding, output_padding, groups, dilation)
    return F.conv_transpose2d(x, w, b, stride, padding, output_padding, groups, dilation)


def _sees_nothing(size: int, taps: int, stride: int, padding: int, dilation: int, count: int) -> list[bool]:
    """For every window of one axis whether all its taps lie in the padding."""
    starts = (i * stride - padding for i in range(count))
    return [not any(0 <= start + tap * dilation < size for tap in range(taps)) for start in starts]


def max_pool2d(
    x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, ceil_mode: bool, return_indices: bool
) -> tuple[Tensor, Tensor] | Tensor | None:
    """torch's max pool of floating x with -inf, index -1 and no gradient for windows that see no pixel.

    None where every window sees one: torch's operator is right there. Raises as torch does.
    """
    window = geometry_of("max_pool2d", kernel, stride, padding, dilation, ceil_mode)
    check_input("max_pool2d", x, window)
    h, w = x.shape[-2:]
    p, q = window.output(h, w)
    numbers = zip((h, w), window.kernel, window.stride, window.padding, window.dilation, (p, q), strict=True)
    rows, cols = (_sees_nothing(*axis) for axis in numbers)
    if not (any(rows) or any(cols)):
        return None
    nothing = torch.tensor(rows)[:, None] | torch.tensor(cols)
    indices = F.max_pool2d(
        x.detach(), window.kernel, window.stride, window.padding, window.dilation, window.ceil_mode, True
    )[1]
    taken = x.flatten(-2).gather(-1, indices.masked_fill(nothing, 0).flatten(-2)).unflatten(-1, (p, q))
    y = taken.masked_fill(nothing, -torch.inf)
    return (y, indices.masked_fill(nothing, -1)) if return_indices else y
