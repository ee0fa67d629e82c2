"""The integers of a kernel's offsets and the floating-point type of its sums."""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor

from kernels.common.layout import LIMIT, span


def accumulator(t: Tensor) -> Any:
    """The dtype of sums: float64 for float64, float32 otherwise."""
    return tl.float64 if t.dtype == torch.float64 else tl.float32


def index(*tensors: Tensor, numel: int = 0) -> Any:
    """int32 for offsets, or int64 where a tensor or a count of elements does not fit in 31 bits."""
    largest = max([numel, *(max(span(t), t.numel()) for t in tensors)])
    return tl.int64 if largest > LIMIT else tl.int32
