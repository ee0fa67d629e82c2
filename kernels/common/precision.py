"""How products are formed and summed, per dtype."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch

PRECISIONS = ("half", "tf32", "float32", "float64")
"""float16 and bfloat16 are one: a card moves and multiplies both at the same rate."""
FLOAT32_PRODUCTS = ("fma", "tf32x3")
_products = "fma"


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


class _Restored:
    """What `with set_float32_products(...)` does when its block ends."""

    def __init__(self, before: str) -> None:
        self._before = before

    def __enter__(self) -> None:
        """The choice is made already."""

    def __exit__(self, *_: object) -> None:
        global _products
        _products = self._before


def set_float32_products(how: str) -> AbstractContextManager[None]:
    """How convolutions multiply float32 numbers on CUDA where torch's flags forbid TF32, from here on, in all threads.

    "fma" (at first): by multiply-adds, as cuDNN does. "tf32x3": on tensor cores, each product as three TF32 products of
    the numbers' halves, in convolutions that sum at least 512 products (kernels/conv2d/plans/tf32x3.py) on cards whose
    tensor cores make that faster (A100, H100, H200, B200); other work is as with "fma".

        set_float32_products("tf32x3")
        with set_float32_products("tf32x3"):  # until the block ends; backward obeys what holds when it runs
            ...

    A product may be off by 2^-21 of its size ("fma": 2^-24). A sum of 512 or more is nearer to the exact one than a
    float32 sum one by one (kernels/conv2d/README.md, "Precision"), unless few of its products are not zero.
    Raises ValueError for any other name.
    """
    global _products
    if how not in FLOAT32_PRODUCTS:
        raise ValueError(f"set_float32_products: must be one of {FLOAT32_PRODUCTS}, not {how!r}")
    before, _products = _products, how
    return _Restored(before)


def tf32x3_wanted() -> bool:
    """Whether float32 products that may not be TF32 may be three TF32 products."""
    return _products == "tf32x3" and torch.version.hip is None and not tf32_allowed()


def flags() -> tuple[Any, Any, str]:
    """All that torch's flags and `set_float32_products` say of float32, as a value to compare."""
    return _of_convolution(), _of_product(), _products


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
