"""What autocast asks of functions that are no operators of their own."""

from __future__ import annotations

from torch import Tensor, is_autocast_enabled


def is_autocast(x: Tensor) -> bool:
    """Whether autocast will choose the dtype of a call on `x` (torch.is_autocast_enabled refuses some devices)."""
    return (x.is_cpu or x.is_cuda) and is_autocast_enabled(x.device.type)
