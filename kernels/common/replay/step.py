"""What a learnt pass is made of: tensors to allocate, and launches whose tensors are places among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.common.launch import Launch, fast_start, start

Fresh = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""Size, strides and dtype of a tensor to allocate."""


class Place(NamedTuple):
    """Where a pointer comes from: byte `offset` in tensor number `slot`; size and strides if it is a view of that."""

    slot: int
    offset: int
    view: tuple[tuple[int, ...], tuple[int, ...]] | None

    def tensor(self, slots: Sequence[Any]) -> Tensor:
        """The tensor that stands there in this call."""
        t: Tensor = slots[self.slot]
        if self.view is None:
            return t
        return t.as_strided(*self.view, t.storage_offset() + self.offset // t.element_size())


class Map(NamedTuple):
    """A TMA descriptor without its tensor."""

    place: Place
    fields: dict[str, Any]

    def tensor(self, slots: Sequence[Any]) -> Any:
        """Triton's descriptor."""
        from triton.tools.tensor_descriptor import TensorDescriptor

        return TensorDescriptor(self.place.tensor(slots), **self.fields)


class Step:
    """A launch whose tensors are places."""

    def __init__(self, call: Launch) -> None:
        self.call = call
        self.begin: tuple[Any, Any, Any] | None = None
        self.started = False

    def start(self, slots: Sequence[Any]) -> None:
        """Run it by Triton's public interface."""
        kernel, grid, arguments, options = self.call.kernel, self.call.grid, self.call.arguments, self.call.options
        real = {k: v.tensor(slots) if isinstance(v, (Place, Map)) else v for k, v in arguments.items()}
        compiled = start(Launch(kernel, grid, real, options))
        if not self.started and compiled is not None and set(arguments) == set(kernel.arg_names):
            self.begin = fast_start(compiled, len(arguments))
        self.started = True
