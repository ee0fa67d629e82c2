"""What torch accepts for a size argument, and how it becomes a pair of integers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

IntOrPair: TypeAlias = "int | tuple[int, ...] | list[int]"
IntOrSingle: TypeAlias = "int | Sequence[int]"
Padding: TypeAlias = "int | str | tuple[int, ...] | list[int]"
Pair: TypeAlias = tuple[int, int]

POOLS = ("max", "avg")


def is_int(value: Any) -> bool:
    """An integer as torch takes it: int or SymInt, never bool."""
    return isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool)


def pair(value: Any, op: str, name: str) -> Pair:
    """(v, v) for an integer v, (v[0], v[-1]) for a sequence of one or two.

    RuntimeError for another number of integers, TypeError for other types, as in torch.
    """
    if is_int(value):
        return (value, value)
    if isinstance(value, (tuple, list)) and all(is_int(v) for v in value):
        if 1 <= len(value) <= 2:
            return (value[0], value[-1])
        raise RuntimeError(f"{op}: {name} must be an int or two ints, not {len(value)}: {value!r}")
    raise TypeError(f"{op}: {name} must be an int or two ints, not {value!r}")


def single(value: Any, op: str, name: str) -> int:
    """v for an integer v or a sequence that holds just v; TypeError otherwise."""
    if isinstance(value, (tuple, list)) and len(value) == 1:
        value = value[0]
    if not is_int(value):
        raise TypeError(f"{op}: {name} must be an int or a tuple of one int, not {value!r}")
    return value  # type: ignore[no-any-return]


def check_pool_name(pool: str) -> None:
    """ValueError unless `pool` names a pooling that the fused function knows."""
    if pool not in POOLS:
        raise ValueError(f"conv2d_relu_pool2d: pool must be one of {POOLS}, not {pool!r}")
