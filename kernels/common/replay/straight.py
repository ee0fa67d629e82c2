"""A learnt pass written out as a Python function: no loop, no look-up, and none of Triton's work per launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from kernels.common.replay.step import Fresh, Map, Place, Step


class _Address:
    """What Triton's launcher wants of a descriptor's tensor."""

    __slots__ = ("address",)

    def __init__(self, address: int) -> None:
        self.address = address

    def data_ptr(self) -> int:
        return self.address


class _Described:
    """What Triton's launcher wants of a descriptor; `TensorDescriptor` would check its fields once more."""

    def __init__(self, address: int, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)
        self.base = _Address(address)


def torch_empty(size: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """torch.empty_strided."""
    return torch.empty_strided(size, strides, dtype=dtype, device=device)


class _Lines:
    """The lines of the function, and the objects that they name."""

    def __init__(self, device: torch.device, empty: set[int]) -> None:
        from triton.runtime import driver

        slow = partial(torch_empty, device=device)
        # Inductor's allocator takes half the time of torch's; under deterministic algorithms torch's fills the memory.
        self.names: dict[str, Any] = {
            "slow_empty": slow,
            "quick_empty": getattr(torch._C._dynamo.guards, f"_empty_strided_{device.type}", None) or slow,
            "fills": torch._C._get_deterministic_algorithms,
            "stream_of": driver.active.get_current_stream,
            "described": _Described,
        }
        self.empty, self.pointers = empty, set[int]()

    def named(self, value: Any) -> str:
        """A name for an object."""
        name = f"c{len(self.names)}"
        self.names[name] = value
        return name

    def address(self, place: Place) -> str:
        """The integer that stands at a place; an empty tensor's address is 0."""
        if place.slot in self.empty:
            return "0"
        self.pointers.add(place.slot)
        return f"p{place.slot} + {place.offset}" if place.offset else f"p{place.slot}"

    def argument(self, value: Any) -> str:
        """An argument of a launch."""
        if isinstance(value, Place):
            return self.address(value)
        if isinstance(value, Map):
            return f"described({self.address(value.place)}, {self.named(value.fields)})"
        return repr(value) if type(value) in (int, bool, str) else self.named(value)

    def launch(self, step: Step) -> str:
        """The call that starts a kernel."""
        arguments = ", ".join([self.argument(step.call.arguments[name]) for name in step.call.kernel.arg_names])
        begin, function, metadata = [self.named(value) for value in step.begin or ()]
        return f"{begin}({step.call.grid}, 1, 1, stream, {function}, {metadata}, None, None, None, {arguments})"


def written(
    device: torch.device, inputs: int, fresh: Sequence[Fresh], steps: Sequence[Step], result: int | tuple[int, ...]
) -> Callable[[Sequence[Any]], Any]:
    """run(tensors): the results, those of a tuple as one; every step has run by the public interface."""
    lines = _Lines(device, {inputs + i for i, (size, _, _) in enumerate(fresh) if 0 in size})
    launches = [lines.launch(step) for step in steps]
    results = (result,) if isinstance(result, int) else result
    used = lines.pointers.union(results)
    body = [
        f"{', '.join([f't{i}' for i in range(inputs)])}, = tensors",
        "empty = slow_empty if fills() else quick_empty",
        *[f"t{i} = empty({f[0]}, {f[1]}, {lines.named(f[2])})" for i, f in enumerate(fresh, inputs) if i in used],
        *[f"p{i} = t{i}.data_ptr()" for i in sorted(lines.pointers)],
        f"stream = stream_of({device.index or 0})",
        *launches,
        "return " + ", ".join([f"t{i}" for i in results]) + ("" if isinstance(result, int) else ","),
    ]
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        lines.names["here"], lines.names["there"] = torch.cuda.current_device, partial(torch.cuda.device, device.index)
        body.insert(0, f"if here() != {device.index}:\n  with there():\n   return run(tensors)")
    exec("def run(tensors):\n" + "\n".join(f" {line}" for line in body), lines.names)
    run: Callable[[Sequence[Any]], Any] = lines.names["run"]
    return run
