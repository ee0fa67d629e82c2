"""Calls that were checked once, recognised and run by C++ (csrc/python/front.cpp): 1 us where Python needs 4.

A public function asks its front first. The front answers None for what it does not know; the call then goes its usual
way, at whose end `remember` keeps how it was run. Which call is the same is torch's own TensorGuards' to say, anew each
time, so nothing can go stale. Without a build uncompiled.py answers for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from kernels import backend
from kernels.common.signature import is_eager
from kernels.cpu import native, uncompiled
from kernels.cpu.guard import TYPES

KINDS = {"callable": 0, "conv": 1, "depthwise": 2, "pool": 3, "lenet": 4}
"""csrc/python/front.cpp: Kind."""
MOST, MOST_ALIKE = 1024, 8
"""Calls that a front keeps, and among them those of the same shapes and numbers."""
_guards: Any = getattr(getattr(torch._C, "_dynamo", None), "guards", None)


@dataclass(frozen=True)
class Action:
    """What runs a call: `function(*tensors, *extra)`, then ReLU in place if asked. safe: right for every call."""

    function: Callable[..., Any]
    extra: tuple[Any, ...]
    relu: bool = False
    safe: bool = False


@dataclass(frozen=True)
class Kernel:
    """What runs a call: the compiled function of this name and kind on this plan, into a new tensor."""

    name: str
    kind: str
    plan: Any
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def _load() -> Any:
    """The extension module, or None where it is not built or not from the source beside it."""
    try:
        from kernels.cpu import _front  # type: ignore[attr-defined]
    except ImportError:
        return None
    return _front if native.source_id("csrc/python") in (None, _front.SOURCE_ID) else None


def empty(shape: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """New memory; torch's `_empty_strided_cpu` does the same in half the time."""
    return torch.empty_strided(shape, stride, dtype=dtype)


QUICK_EMPTY: Callable[..., Tensor] = getattr(_guards, "_empty_strided_cpu", None) or empty


def use_memory_of(allocate: Callable[..., Tensor]) -> None:
    """Take results' memory from here: QUICK_EMPTY, or `empty`, which torch's deterministic mode fills."""
    if _front is not None:
        _front.configure(
            backend=backend._current,
            automatic="auto",
            forward_ad=forward_ad,
            native=native,
            function_mode=torch._C._is_torch_function_mode_enabled,
            dispatch_modes=torch._C._len_torch_dispatch_stack,
            transforms=torch._C._are_functorch_transforms_active,
            grad_enabled=torch.is_grad_enabled,
            threads=torch.get_num_threads,
            empty=allocate,
            tensor=Tensor,
            parameter=Parameter,
        )


def unknown(*arguments: Any) -> None:
    """The front of a function that has none."""


_front = _load() if native.KERNELS is not None else None
use_memory_of(QUICK_EMPTY)


class Memory:
    """The calls of one public function. `ask(*tensors, *numbers)`: the result, or None where the call is not known."""

    def __init__(self, tensors: int, numbers: int, torchs: Callable[..., Any] = unknown) -> None:
        self.front: Any = None if _front is None else _front.Front(tensors, tensors + numbers)
        instead = torchs if native.KERNELS is None else unknown
        self.ask: Callable[..., Any] = instead if self.front is None else self.front
        self.seen: dict[tuple[Any, ...], int] = {}

    def remember(self, tensors: tuple[Tensor | None, ...], numbers: tuple[Any, ...], how: Action | Kernel) -> None:
        """Keep a call that has just run, when it comes for the second time: a guard costs 10 us to make."""
        if self.front is None or native.KERNELS is None:
            return
        if not is_eager() or any(t is not None and type(t) not in TYPES for t in tensors):
            return
        key = (*(None if t is None else t.shape for t in tensors[:2]), numbers)
        try:
            times = self.seen[key] = self.seen.get(key, 0) + 1
        except TypeError:  # a list among the numbers
            return
        if times == 1 or times > MOST_ALIKE or not plain_numbers(numbers):
            return
        if len(self.seen) > MOST:
            self.forget()
        entry = entry_of(tensors, numbers, how)
        if entry is not None:
            self.front.add(entry, *tensors, *numbers)

    def forget(self) -> None:
        """Forget every call."""
        self.seen.clear()
        if self.front is not None:
            self.front.clear()


def plain_numbers(value: Any) -> bool:
    """Whether front.cpp can compare these: integers, booleans, strings, None, and tuples of them."""
    if type(value) is tuple:
        return all(plain_numbers(v) for v in value)
    return value is None or type(value) in (int, bool, str)


def guard_of(tensors: list[Tensor]) -> Any:
    """What tells whether other tensors are like these; None where this torch has no such guard."""
    try:
        check = _guards.TensorGuards(
            *tensors,
            dynamic_dims_sizes=[list(t.shape) for t in tensors],
            dynamic_dims_strides=[list(t.stride()) for t in tensors],
        ).check
    except (AttributeError, TypeError, RuntimeError):
        return None
    return check if check(*tensors) else None


def entry_of(tensors: tuple[Tensor | None, ...], numbers: tuple[Any, ...], how: Action | Kernel) -> Any:
    """The entry of a call, None where this torch has no such guard."""
    present = [t for t in tensors if t is not None]
    check = guard_of(present)
    if check is None:
        return None
    about = {
        "check": check,
        "numbers": numbers,
        "kernels": native.KERNELS,
        "absent": sum(1 << i for i, t in enumerate(tensors) if t is None),
        "grad": int(torch.is_grad_enabled()) if any(t.requires_grad for t in present) else -1,
        "threads": torch.get_num_threads(),
    }
    assert _front is not None and native.KERNELS is not None
    if isinstance(how, Action):
        quick = {"quick": guard_of(present[:1])} if how.safe else {}
        return _front.Entry(
            **about, **quick, kind=KINDS["callable"], relu=how.relu, action=how.function, extra=how.extra
        )
    return _front.Entry(
        **about,
        kind=KINDS[how.kind],
        relu=False,
        function=native.KERNELS.addresses[how.name],
        address=how.plan.address,
        plan=how.plan,
        shape=how.shape,
        stride=how.stride,
        dtype=present[0].dtype,
    )


conv2d, conv2d_relu = Memory(3, 4, uncompiled.conv2d), Memory(3, 4, uncompiled.conv2d_relu)
conv2d_relu_pool2d = Memory(3, 9)
max_pool2d, avg_pool2d = Memory(1, 6, uncompiled.max_pool2d), Memory(1, 6, uncompiled.avg_pool2d)
lenet = Memory(11, 4)
