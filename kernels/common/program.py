"""A pass that has been learnt: tensors to allocate, launches in order, each with the places of its pointers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from kernels.common.launch import Launch, fast_start, is_hooked, start

Fresh = tuple[tuple[int, ...], tuple[int, ...], torch.dtype]
"""Size, strides and dtype of a tensor to allocate."""
Pick = int | tuple[int, ...] | None
"""Which of a pass's outputs are wanted: one, some, or (None) what the pass returns."""


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


class _Address:
    """What Triton's launcher wants of a descriptor's tensor."""

    __slots__ = ("address",)

    def __init__(self, address: int) -> None:
        self.address = address

    def data_ptr(self) -> int:
        return self.address


class _Described:
    """What Triton's launcher wants of a descriptor; `TensorDescriptor` checks its fields once more."""

    def __init__(self, address: int, fields: dict[str, Any]) -> None:
        self.__dict__.update(fields)
        self.base = _Address(address)


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


class Program:
    """Slots are the pass's tensors in its order, then those it allocates. Once every launch has run by the public
    interface, the program is a Python function without a loop or a look-up, and without Triton's work per launch."""

    def __init__(
        self,
        device: torch.device,
        inputs: int,
        fresh: list[Fresh],
        steps: list[Step],
        outputs: list[int],
        pick: int | tuple[int, ...],
    ) -> None:
        self.device, self.inputs, self.fresh, self.steps, self.outputs = device, inputs, fresh, steps, outputs
        self.result = outputs[pick] if isinstance(pick, int) else tuple(outputs[i] for i in pick)
        self.quick: Callable[..., Any] | None = None
        self.slow = False

    def picking(self, pick: Pick) -> Program:
        """The same pass for callers that want only some of its outputs."""
        if pick is None:
            return self
        program = Program(self.device, self.inputs, self.fresh, self.steps, self.outputs, pick)
        if self.quick is not None:
            program.quick = written(program)
        return program

    def run(self, tensors: Sequence[Any]) -> Any:
        """The pass's output, or those picked of it."""
        quick = self.quick
        if quick is None or is_hooked():
            return self._run_openly(tensors)
        try:
            return quick(tensors)
        except TypeError:  # the launcher takes other arguments than its signature says
            self.quick, self.slow = None, True
            return self._run_openly(tensors)

    def start(self, slots: Sequence[Any]) -> None:
        """Launch on slots that are there."""
        for step in self.steps:
            step.start(slots)
        if self.steps and not self.slow and all(step.begin is not None for step in self.steps):
            self.quick = written(self)

    def _run_openly(self, tensors: Sequence[Any]) -> Any:
        slots = [*tensors, *[torch_empty(*f, self.device) for f in self.fresh]]
        self.start(slots)
        result = self.result
        return slots[result] if isinstance(result, int) else tuple([slots[i] for i in result])


def torch_empty(size: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """torch.empty_strided."""
    return torch.empty_strided(size, strides, dtype=dtype, device=device)


def _allocator(device: torch.device) -> Callable[..., Tensor]:
    """empty(size, strides, dtype) on the current device: Inductor's, which takes half the time, if it is there; but
    torch's while it fills new memory (deterministic algorithms)."""
    quick: Callable[..., Tensor] | None = getattr(torch._C._dynamo.guards, f"_empty_strided_{device.type}", None)
    if quick is None:
        return partial(torch_empty, device=device)
    return quick


def written(program: Program) -> Callable[[Sequence[Any]], Any]:
    """run(tensors) of a program, written out as Python."""
    from triton.runtime import driver

    inputs, device = program.inputs, program.device
    names = {
        "torch_empty": partial(torch_empty, device=device),
        "quick_empty": _allocator(device),
        "fills": torch._C._get_deterministic_algorithms,
        "stream_of": driver.active.get_current_stream,
        "described": _Described,
    }
    results = (program.result,) if isinstance(program.result, int) else program.result
    empty = {inputs + i for i, (size, _, _) in enumerate(program.fresh) if 0 in size}
    launches, pointers = [], set()

    def address(place: Place) -> str:
        if place.slot in empty:
            return "0"
        pointers.add(place.slot)
        return f"p{place.slot} + {place.offset}" if place.offset else f"p{place.slot}"

    def literal(value: Any) -> str:
        if isinstance(value, Place):
            return address(value)
        if isinstance(value, Map):
            return f"described({address(value.place)}, {constant(value.fields)})"
        return repr(value) if type(value) in (int, bool, str) else constant(value)

    def constant(value: Any) -> str:
        name = f"c{len(names)}"
        names[name] = value
        return name

    for step in program.steps:
        values = ", ".join([literal(step.call.arguments[name]) for name in step.call.kernel.arg_names])
        begin, function, metadata = [constant(value) for value in step.begin or ()]
        start = f"{step.call.grid}, 1, 1, stream, {function}, {metadata}, None, None, None"
        launches.append(f"{begin}({start}, {values})")
    allocations = [
        f"t{inputs + i} = empty({size}, {strides}, {constant(dtype)})"
        for i, (size, strides, dtype) in enumerate(program.fresh)
        if inputs + i in pointers.union(results)
    ]
    result = ", ".join([f"t{i}" for i in results])
    lines = [
        f"{', '.join([f't{i}' for i in range(inputs)])}, = tensors",
        "empty = torch_empty if fills() else quick_empty",
        *allocations,
        *[f"p{i} = t{i}.data_ptr()" for i in sorted(pointers)],
        f"stream = stream_of({device.index or 0})",
        *launches,
        f"return {result}" if isinstance(program.result, int) else f"return {result},",
    ]
    if device.type == "cuda" and torch.cuda.device_count() > 1:
        names["here"], names["guard"] = torch.cuda.current_device, partial(torch.cuda.device, device.index)
        lines.insert(0, f"if here() != {device.index}:\n  with guard():\n   return run(tensors)")
    exec("def run(tensors):\n" + "\n".join(f" {line}" for line in lines), names)
    run: Callable[[Sequence[Any]], Any] = names["run"]
    return run
