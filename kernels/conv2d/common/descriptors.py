"""TMA descriptors: tensors as the accelerator sees them, which copies boxes of them into shared memory.

It asks for 16-byte aligned addresses and strides; a tensor that has others is copied.
"""

from __future__ import annotations

from typing import Any

import torch
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from kernels.common.device import INTERPRET
from kernels.common.precision import input_precision, tf32_allowed
from kernels.conv2d.common.pack import channels_innermost, dense_channels_innermost

DTYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
_CAN_ROUND = "round_f32_to_tf32" in TensorDescriptor.__dataclass_fields__


def images(t: Tensor, count: int, channels: int, rows: int = 1, columns: int = 1, result: bool = False) -> Any:
    """`t` [n, c, h, w] as [h, w, n, c], in boxes of rows x columns pixels of `count` images. result: it is written."""
    t, steps = _regular(t, (2, 3, 0))
    n, c, h, w = t.shape
    return boxes(t, [h, w, n, c], [*steps, 1], [rows, columns, count, channels], result)


def strips(t: Tensor, columns: int, channels: int, count: int = 1, result: bool = False) -> Any:
    """`t` [n, c, h, w] as [n, h, w, c], in boxes of so many adjacent pixels of a row of `count` images. result: it is
    written."""
    t, steps = _regular(t, (0, 2, 3))
    n, c, h, w = t.shape
    return boxes(t, [n, h, w, c], [*steps, 1], [count, 1, columns, channels], result)


def pixels(t: Tensor, rows: int, channels: int) -> Any:
    """`t` [n, c, h, w] as the matrix [n * h * w, c]."""
    t = _aligned(dense_channels_innermost(t))
    n, c, h, w = t.shape
    return boxes(t, [n * h * w, c], [c, 1], [rows, channels], False)


def filters(t: Tensor, rows: int, columns: int) -> Any:
    """Weights [a, b, r, s] as the matrix [a, r * s * b]."""
    t = _aligned(dense_channels_innermost(t))
    width = t.numel() // t.shape[0]
    return boxes(t, [t.shape[0], width], [width, 1], [rows, columns], False)


def filters_for_dgrad(t: Tensor, columns: int, depth: int) -> tuple[Any, bool]:
    """Weights [k, c, r, s] as [k, r * s * c], or turned to [c, r * s * k] in float32: TF32 tensor cores read no other
    order than the summed axis innermost. And whether they are turned."""
    if t.dtype == torch.float32:
        return filters(t.transpose(0, 1), columns, depth), True
    return filters(t, depth, columns), False


def _regular(t: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, list[int]]:
    """`t` or a copy with its channels adjacent, and the steps along the other axes."""
    t = channels_innermost(t)
    size = t.element_size()
    steps = [t.stride(axis) if t.shape[axis] > 1 else t.shape[1] for axis in axes]
    if t.data_ptr() % 16 or any(step * size % 16 for step in steps):
        t = dense_channels_innermost(t, copy=True)
        steps = [t.stride(axis) for axis in axes]
    return t, steps


def _aligned(t: Tensor) -> Tensor:
    return dense_channels_innermost(t, copy=True) if t.data_ptr() % 16 else t


def precision(dtype: torch.dtype, tf32x3: bool) -> str:
    """PRECISION of the kernels that read descriptors: TMA itself rounds to TF32 where this Triton can ask it to."""
    found = "tf32x3" if tf32x3 else input_precision(dtype)
    return "tf32 rounded" if found == "tf32" and _CAN_ROUND else found


def boxes(t: Tensor, shape: list[int], steps: list[int], box: list[int], result: bool) -> Any:
    """Boxes `box` of the memory of `t` seen with these sizes and strides. Operands are rounded to TF32 where products
    are, a result is not."""
    if not result and _CAN_ROUND and not INTERPRET and t.dtype == torch.float32 and tf32_allowed():
        return TensorDescriptor(t, shape, steps, box, round_f32_to_tf32=True)
    return TensorDescriptor(t, shape, steps, box)
