"""How products are formed and summed, per dtype."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

PRECISIONS = ("half", "tf32", "float32", "float64")
"""float16 and bfloat16 are one: a card moves and multiplies both at the same rate."""


def _flag(op: str, older: str) -> Callable[[], Any]:
    """The cheapest reader of torch's TF32 flag for `op`: "tf32" or True where it is allowed."""
    getter = getattr(torch._C, "_get_fp32_precision_getter", None)
    reader: Callable[[], Any] = getattr(torch._C, older) if getter is None else partial(getter, "cuda", op)
    return reader


_of_convolution = _flag("conv", "_get_cudnn_allow_tf32")
_of_product = _flag("matmul", "_get_cublas_allow_tf32")


def tf32_allowed() -> bool:
    """Whether torch's flags let a float32 convolution run in TF32 (old allow_tf32 and new fp32_precision alike)."""
    return _of_convolution() in ("tf32", True)


def product_tf32_allowed() -> bool:
    """Whether torch's flags let a float32 matrix product run in TF32."""
    return _of_product() in ("tf32", True)


def flags() -> tuple[Any, Any]:
    """All that torch's flags say of float32, as a value to compare."""
    return _of_convolution(), _of_product()


def input_precision(dtype: torch.dtype) -> str:
    """PRECISION of common/jit.dot: "tf32" for float32 where torch allows it ("tf32 portable" on AMD), else "ieee"."""
    if dtype != torch.float32 or not tf32_allowed():
        return "ieee"
    return "tf32" if torch.version.hip is None else "tf32 portable"


def precision_of(itemsize: int) -> str:
    """The name in PRECISIONS of arithmetic on elements of 2, 4 or 8 bytes, by torch's flags for float32."""
    if itemsize == 4:
        return "tf32" if tf32_allowed() else "float32"
    return "half" if itemsize == 2 else "float64"
