"""Everything that decides how a call runs, as the key of a dictionary."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

from kernels.common.precision import flags

_C = torch._C
_is_compiling = torch.compiler.is_compiling
_is_tracing = _C._get_tracing_state
_transforms_active = _C._are_functorch_transforms_active
_dispatch_modes = _C._len_torch_dispatch_stack
_function_mode_active = _C._is_torch_function_mode_enabled
_is_wrapped = _C._functorch.is_functorch_wrapped_tensor  # also what is left of a transform that has ended
_grad_enabled = torch.is_grad_enabled
_deterministic = _C._get_deterministic_algorithms
_cudnn_deterministic = _C._get_cudnn_deterministic
_any_requires_grad = _C._any_requires_grad
_PLAIN = (Tensor, torch.nn.Parameter)


def _autocast_by_device() -> bool:
    return torch.is_autocast_enabled("cuda") or torch.is_autocast_enabled("cpu")


_autocast = getattr(_C, "_is_any_autocast_enabled", _autocast_by_device)


def is_eager() -> bool:
    """No compiler, tracer, mode, transform, forward-mode derivative or autocast wants to see this call."""
    return not (
        _is_compiling()
        or _transforms_active()
        or _dispatch_modes()
        or _function_mode_active()
        or forward_ad._current_level >= 0
        or _autocast()
        or _is_tracing() is not None
    )


def is_plain(t: Tensor) -> bool:
    """No subclass and nothing lazy: memory that can be read at once, and holds the values."""
    if type(t) not in _PLAIN or t.is_meta or _is_wrapped(t):
        return False
    return t.layout is torch.strided and not t.is_neg() and not t.is_conj()


def records(tensors: Sequence[Any]) -> bool:
    """Whether autograd would record an eager call on these tensors."""
    return _grad_enabled() and _any_requires_grad(*tensors)


_choices: tuple[Hashable, ...] = ()


@contextmanager
def apart(choice: Hashable) -> Iterator[None]:
    """Keep what is remembered of calls inside the block apart: `choice` changes how they run."""
    global _choices
    before, _choices = _choices, (*_choices, choice)
    try:
        yield
    finally:
        _choices = before


class _Described:
    """TensorGuards in Python, where torch has moved its own."""

    def __init__(self, *tensors: Tensor, **_: Any) -> None:
        self.known = self._describe(tensors)

    @staticmethod
    def _describe(tensors: Sequence[Any]) -> list[Any]:
        return [(t.shape, t.stride(), t.dtype, t.device, t.requires_grad) for t in tensors]

    def check(self, *tensors: Any) -> bool:
        return is_eager() and all(map(is_plain, tensors)) and self._describe(tensors) == self.known


# torch.compile's guard of tensors: type, sizes, strides, dtype, device, requires_grad, and the dispatch keys that a
# call on them would meet in this thread, which tell lazy, wrapped and traced tensors, modes, transforms and autocast.
_Guards: Any = getattr(_C._dynamo.guards, "TensorGuards", _Described)


class _Entry:
    """One signature, and what is remembered for it."""

    def __init__(self, tensors: Sequence[Any], value: Any) -> None:
        self.value = value
        self.missing = next((i for i, t in enumerate(tensors) if t is None), None)
        present = [t for t in tensors if t is not None]
        sizes, strides = [list(t.shape) for t in present], [list(t.stride()) for t in present]
        self.check = _Guards(*present, dynamic_dims_sizes=sizes, dynamic_dims_strides=strides).check
        self.aligned = [t.data_ptr() & 15 == 0 for t in present]

    def fits(self, tensors: Sequence[Any]) -> bool:
        """Whether the tensors have this signature."""
        missing = self.missing
        if missing is not None:
            if tensors[missing] is not None:
                return False
            tensors = [*tensors[:missing], *tensors[missing + 1 :]]
        return self.check(*tensors) and [t.data_ptr() & 15 == 0 for t in tensors] == self.aligned


def _head(numbers: Any, first: Tensor) -> tuple[Any, ...]:
    exact = flags() if first.dtype is torch.float32 else None
    return numbers, first.shape, _choices, exact, _deterministic(), _cudnn_deterministic()


class Memory:
    """What is known of eager calls on plain tensors, by everything that a plan and Triton's specialisation look at:
    numbers; of each tensor shape, strides, dtype, device and whether its address is a multiple of 16; torch's TF32
    flags (for float32 in the first tensor) and those of determinism; the choices in force. Of the tensors one may be
    None.

    Bounded: the oldest of many tensors with one head are forgotten, and everything when there are too many heads.
    """

    HEADS, ENTRIES = 2048, 16

    def __init__(self) -> None:
        self._entries: dict[Any, tuple[_Entry, ...]] = {}

    def find(self, numbers: Any, tensors: Sequence[Any]) -> Any:
        """What was kept for this call, or None."""
        if _is_compiling() or _function_mode_active() or forward_ad._current_level >= 0:
            return None
        head = _head(numbers, tensors[0])
        try:
            for entry in self._entries.get(head, ()):
                if entry.fits(tensors):
                    return entry.value
        except TypeError:  # lists and symbols have no hash; guards take a certain number of tensors
            pass
        return None

    def keep(self, numbers: Any, tensors: Sequence[Any], value: Any) -> None:
        """Remember `value` for calls like this one, if it is an eager call on plain tensors."""
        present = [t for t in tensors if t is not None]
        if not is_eager() or len(present) + 1 < len(tensors) or not all(map(is_plain, present)):
            return
        head = _head(numbers, tensors[0])
        try:
            hash(head)
        except TypeError:
            return
        if len(self._entries) >= self.HEADS:
            self._entries.clear()
        self._entries[head] = (_Entry(tensors, value), *self._entries.get(head, ())[: self.ENTRIES - 1])
