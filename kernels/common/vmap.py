"""Where a mapped dimension goes."""

from __future__ import annotations

from torch import Tensor


def front(t: Tensor, dim: int | None, size: int) -> Tensor:
    """`t` with the mapped dimension first (expanded when it has none)."""
    return t.unsqueeze(0).expand(size, *t.shape) if dim is None else t.movedim(dim, 0)


def into_channels(t: Tensor) -> Tensor:
    """[B, n, c, ...] -> [n, B * c, ...]."""
    return t.transpose(0, 1).reshape(t.shape[1], t.shape[0] * t.shape[2], *t.shape[3:])


def into_batch(t: Tensor, dim: int) -> Tensor:
    """The mapped dimension joins the batch: [n, ...] mapped over B -> [B * n, ...]."""
    t = t.movedim(dim, 0)
    return t.reshape(-1, *t.shape[2:])
