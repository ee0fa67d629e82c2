"""What this process and its devices can do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch

INTERPRET = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
"""Whether Triton's interpreter runs the kernels (read once: Triton decides when a kernel is decorated)."""

SHARED_DEFAULT = 232_448
"""Bytes of shared memory a program may take where no card says otherwise: those of an H100."""

_assumed: int | None = None


@contextmanager
def assume_shared_limit(limit: int) -> Iterator[None]:
    """Plan as for a card with `limit` bytes of shared memory a program (inspection without that card)."""
    global _assumed
    before, _assumed = _assumed, limit
    try:
        yield
    finally:
        _assumed = before


def shared_limit(device: torch.device) -> int:
    """Bytes of shared memory that one program may take on `device`."""
    if _assumed is not None:
        return _assumed
    return _card_limit(device.index or 0) if device.type == "cuda" else SHARED_DEFAULT


@cache
def _card_limit(index: int) -> int:
    properties = torch.cuda.get_device_properties(index)
    return int(getattr(properties, "shared_memory_per_block_optin", 0) or properties.shared_memory_per_block)
