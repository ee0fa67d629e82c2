"""How products are formed and summed, per dtype."""

from __future__ import annotations

import torch


def tf32_allowed() -> bool:
    """Whether torch's flags let a float32 convolution run in TF32 (old allow_tf32 and new fp32_precision alike)."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    if conv is not None and hasattr(conv, "fp32_precision"):
        return bool(conv.fp32_precision == "tf32")
    return bool(torch.backends.cudnn.allow_tf32)


def input_precision(dtype: torch.dtype) -> str:
    """tl.dot's input_precision: "tf32" for float32 where torch allows it, "ieee" otherwise."""
    return "tf32" if dtype == torch.float32 and tf32_allowed() else "ieee"
