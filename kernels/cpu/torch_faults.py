"""Calls that torch's own CPU operators get wrong, and the ways around them.

The faults were found by running torch 2.13 on memory filled with NaN between pages that nobody may touch;
tests/kernels/cpu/test_torch_faults.py holds them. Where a later torch is right, the ways around give the same answer.

Convolution: oneDNN assumes that a row is at least as long as the horizontal stride and holds more than one window. On
shorter rows its bfloat16 weight gradient reads memory that nobody wrote, and its bfloat16 forward pass gives wrong sums
in channels_last with one window a row: float32 is right there. With a dilated filter and padding the forward pass of
every dtype leaves its buffers, which now and then ends the process: rows that are padded beforehand are right.

Max pooling: a dilated, padded window may see no pixel. torch gives it an index beyond the plane, and the backward pass
writes there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.common.arguments import is_int
from kernels.cpu.pool_plan import ONES
from kernels.pool2d.geometry import check_input
from kernels.pool2d.geometry import window as geometry_of


def _last(value: Any) -> Any:
    """The horizontal part of a size argument; None for what is torch's to judge."""
    if isinstance(value, (tuple, list)) and 1 <= len(value) <= 2:
        value = value[-1]
    return value if is_int(value) else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, (tuple, list)) else 0 if value == "valid" else value


def short_rows(width: int, taps: int, stride: int, padding: int, dilation: int) -> bool:
    """Whether a convolution's rows are shorter than its stride or hold one window only; all sizes horizontal."""
    return stride > 1 and (width < stride or width + 2 * padding - dilation * (taps - 1) - 1 < stride)


def _is_bfloat16(x: Tensor) -> bool:
    if x.dtype is torch.bfloat16:
        return True
    cast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") is torch.bfloat16
    return cast and x.dtype in (torch.float32, torch.float16)


def right_for_any_filter(x: Tensor, stride: Any, dilation: Any) -> bool:
    """Whether torch's convolution of x is right whatever the filter's size, found without looking at it."""
    return stride in ONES or (dilation in ONES and not _is_bfloat16(x))


def _in_float32(function: Callable[..., Tensor], x: Tensor, w: Tensor, b: Tensor | None, *numbers: Any) -> Tensor:
    """A convolution of bfloat16 values in float32, rounded once at the end; gradients likewise."""
    tensors = [x, w, b]
    if torch.is_autocast_enabled("cpu"):
        tensors = [t if t is None or t.dtype is torch.float64 else t.to(torch.bfloat16) for t in tensors]
    if any(t is not None and t.dtype is not torch.bfloat16 for t in tensors):  # torch's to refuse
        return function(x, w, b, *numbers)
    with torch.autocast("cpu", enabled=False):
        return function(*(None if t is None else t.float() for t in tensors), *numbers).to(torch.bfloat16)


def _convolve(
    function: Callable[..., Tensor], x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any,
    groups: Any,
) -> Tensor:  # fmt: skip
    """torch's convolution of one or two dimensions, right on short rows too."""
    steps, pads, gaps = _last(stride), 0 if padding == "valid" else _last(padding), _last(dilation)
    if None in (steps, pads, gaps) or not isinstance(w, Tensor) or min(x.dim(), w.dim()) < 2 or min(steps, gaps) < 1:
        return function(x, w, b, stride, padding, dilation, groups)
    if not short_rows(x.shape[-1], w.shape[-1], steps, pads, gaps):
        return function(x, w, b, stride, padding, dilation, groups)
    if gaps > 1 and pads > 0:
        x = F.pad(x, (pads, pads))
        padding = (_first(padding), 0) if w.dim() == 4 else 0
    if _is_bfloat16(x):
        return _in_float32(function, x, w, b, stride, padding, dilation, groups)
    return function(x, w, b, stride, padding, dilation, groups)


def conv2d(x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: Any) -> Tensor:
    """torch's convolution, right on short rows too."""
    run = F.conv2d if stride in ONES else partial(_convolve, F.conv2d)
    return run(x, w, b, stride, padding, dilation, groups)


def conv1d(x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: Any) -> Tensor:
    """The same in one dimension."""
    return _convolve(F.conv1d, x, w, b, stride, padding, dilation, groups)


def conv_transpose2d(
    x: Tensor, w: Tensor, b: Tensor | None, stride: Any, padding: Any, output_padding: Any, groups: Any, dilation: Any
) -> Tensor:
    """torch's transposed convolution; its gradients are convolutions of its result, whose rows may be short."""
    steps, pads, more, gaps = (_last(value) for value in (stride, padding, output_padding, dilation))
    rest = (stride, padding, output_padding, groups, dilation)
    if None in (steps, pads, more, gaps) or not isinstance(w, Tensor) or min(x.dim(), w.dim()) < 2:
        return F.conv_transpose2d(x, w, b, *rest)
    width, taps = x.shape[-1], w.shape[-1]
    whole = (width - 1) * steps + gaps * (taps - 1) + more + 1
    if min(steps, gaps, whole - 2 * pads) < 1 or not short_rows(whole - 2 * pads, taps, steps, pads, gaps):
        return F.conv_transpose2d(x, w, b, *rest)
    cut = pads if gaps > 1 else 0
    if cut:
        rest = (stride, (_first(padding), 0), output_padding, groups, dilation)
    y = (partial(_in_float32, F.conv_transpose2d) if _is_bfloat16(x) else F.conv_transpose2d)(x, w, b, *rest)
    return F.pad(y, (-cut, -cut)) if cut else y


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
