"""Memory formats: which one a result gets, and the tensors allocated for it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LIMIT = 2**31 - 2**20
"""Elements that offsets of 32 bits reach, with room for one block beyond the end."""
# torch's own order of tests: channels, width, height, batch, from the smallest stride up.
_CHANNELS_LAST_ORDER = (1, 3, 2, 0)


def is_channels_last(t: Tensor) -> bool:
    """Whether torch calls the strides of a 4-D tensor channels_last, with its rules for sizes of one.

    The rule is that of c10's is_channels_last_strides_2d: strides grow in the order C, W, H, N; ambiguous tensors
    count as contiguous.
    """
    sizes, strides = t.shape, t.stride()
    if len(sizes) != 4 or strides[1] == 0:
        return False
    smallest = 0
    for d in _CHANNELS_LAST_ORDER:
        if sizes[d] == 0 or strides[d] < smallest:
            return False
        if d == 0 and smallest == strides[1]:
            return False
        smallest = strides[d] * max(sizes[d], 1)
    return True


def memory_format(channels_last: bool) -> torch.memory_format:
    """The torch constant."""
    return torch.channels_last if channels_last else torch.contiguous_format


def empty(like: Tensor, shape: Sequence[int], channels_last: bool, dtype: torch.dtype | None = None) -> Tensor:
    """A fresh tensor on the device of `like`, in its dtype unless another is given; contiguous for an empty batch."""
    form = memory_format(channels_last and shape[0] != 0)
    return torch.empty(tuple(shape), dtype=dtype or like.dtype, device=like.device, memory_format=form)


def compact(t: Tensor) -> Tensor:
    """`t`, or a dense copy where no more elements than 32 bits count lie further apart than 32 bits reach."""
    if span(t) <= LIMIT or t.numel() > LIMIT:
        return t
    return t.contiguous(memory_format=memory_format(is_channels_last(t)))


def span(t: Tensor) -> int:
    """The number of elements between the first and the last of a tensor, both counted, whatever its strides."""
    return 1 + sum((size - 1) * stride for size, stride in zip(t.shape, t.stride(), strict=True)) if t.numel() else 0
