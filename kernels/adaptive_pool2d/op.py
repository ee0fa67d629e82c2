"""adaptive_avg_pool2d and adaptive_max_pool2d: pools whose window follows from the size of the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from kernels.backend import TRITON, current_backend, decline, path, unsupported
from kernels.common.arguments import Pair, is_int
from kernels.pool2d.op import avg_pool2d, max_pool2d

Size = int | None | Sequence[int | None]
MOST_TAPS = 49
"""Larger windows are torch's under "auto": here one lane sees a whole window, there a block of threads does."""


def adaptive_avg_pool2d(input: Tensor, output_size: Size) -> Tensor:
    """torch.nn.functional.adaptive_avg_pool2d on this package's kernel where every window has the same size.

    input [n, c, h, w] or [c, h, w], float16, bfloat16, float32 or float64; result [n, c, p, q] in the input's memory
    format, (p, q) = output_size, None meaning the input's size; (1, 1) is the global pool. The kernel runs where p
    divides h and q divides w. Raises what torch raises for arguments that do not fit, and NotImplementedError under
    backend("triton") for what has no Triton kernel.
    """
    window = _window("adaptive_avg_pool2d", input, output_size)
    if window is not None:
        return avg_pool2d(input, window)
    return F.adaptive_avg_pool2d(input, output_size)  # type: ignore[arg-type]


def adaptive_max_pool2d(input: Tensor, output_size: Size, return_indices: bool = False) -> Any:
    """torch.nn.functional.adaptive_max_pool2d on this package's kernel where every window has the same size.

    As `adaptive_avg_pool2d`, with int64 indices into the h * w plane if return_indices.
    """
    window = _window("adaptive_max_pool2d", input, output_size)
    if window is not None:
        return max_pool2d(input, window, return_indices=return_indices)
    return F.adaptive_max_pool2d(input, output_size, return_indices)  # type: ignore[call-overload]


def _window(op: str, input: Tensor, output_size: Any) -> Pair | None:
    """The window of a call that this package's kernel runs, None where torch must."""
    if path(input) != TRITON:
        return None
    reason = unsupported(op, input)
    window = _even_window(input, output_size) if reason is None else None
    if window is not None and (current_backend() == "triton" or _is_fast(input, window)):
        return window
    if window is None and _is_valid(input, output_size):
        decline(reason or f"{op}: {tuple(input.shape[-2:])} does not divide into {output_size} windows of one size")
    return None


def _is_fast(input: Tensor, window: Pair) -> bool:
    """Whether the window is small, or the whole plane, which has kernels of its own."""
    return window == tuple(input.shape[-2:]) or window[0] * window[1] <= MOST_TAPS


def _sides(output_size: Any) -> list[Any]:
    return list(output_size) if isinstance(output_size, (tuple, list)) else [output_size] * 2


def _is_valid(input: Tensor, output_size: Any) -> bool:
    """Whether torch would accept the call; where it would not, torch says why."""
    sides = _sides(output_size)
    plain = len(sides) == 2 and all(side is None or (is_int(side) and side > 0) for side in sides)
    return plain and input.dim() in (3, 4) and 0 not in input.shape[-3:]


def _even_window(input: Tensor, output_size: Any) -> Pair | None:
    if not _is_valid(input, output_size):
        return None
    sizes = input.shape[-2:]
    counts = [size if side is None else side for size, side in zip(sizes, _sides(output_size), strict=True)]
    if any(size % count for size, count in zip(sizes, counts, strict=True)):
        return None
    return sizes[0] // counts[0], sizes[1] // counts[1]
