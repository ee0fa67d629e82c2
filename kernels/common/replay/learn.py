"""Learning a pass at its first run with a signature: from then on it is its allocations and launches alone.

A pass is a function of tensors and numbers that allocates, launches, and returns what it allocated. Its first run is
watched by a dispatch mode, which sees every operator of torch that it calls. Where these only allocate or make views,
the run is a program; anything else (a copy, a fill, a look at a value) leaves the pass to run as it is written. Nothing
of a tensor outlives the call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from kernels.common.launch import Launch, is_recording, start, thread
from kernels.common.replay.program import Program
from kernels.common.replay.step import Fresh, Map, Place, Step
from kernels.common.signature import Memory, is_plain

_WRITTEN = object()
"""What is known of a pass that is more than a program."""

_aten = torch.ops.aten
_ALLOCATIONS = {
    _aten.empty.memory_format,
    _aten.empty_strided.default,
    _aten.empty_like.default,
    _aten.new_empty.default,
    _aten.new_empty_strided.default,
}
_dispatch_modes = torch._C._len_torch_dispatch_stack


class _ForeignError(Exception):
    """A tensor that the watcher has not seen come into being."""


def _storage(t: Tensor) -> int:
    key: int = t.untyped_storage()._cdata
    return key


class _Watcher(TorchDispatchMode):
    """Sees a pass run: holds its launches back while nothing but allocations and views happens between them."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.slots = list(tensors)
        self.places = {_storage(t): i for i, t in enumerate(tensors) if t is not None}
        self.inputs = len(self.slots)
        self.steps: list[Step] = []
        self.simple = True

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        returns = func._schema.returns
        view = bool(returns) and returns[0].alias_info is not None and not returns[0].alias_info.is_write
        if not (view or func in _ALLOCATIONS):
            self.give_up()
        result = func(*args, **(kwargs or {}))
        if not view and self.simple:
            self.places[_storage(result)] = len(self.slots)
            self.slots.append(result)
        return result

    def give_up(self) -> None:
        """Run what was held back; from here on everything runs as it comes."""
        if self.simple:
            self.simple = False
            self._start(self.steps)

    def _start(self, steps: Sequence[Step]) -> None:
        for step in steps:
            step.start(self.slots)

    def launch(self, call: Launch) -> None:
        """Take a launch of the pass."""
        if self.simple:
            try:
                arguments = {name: self._placed(value) for name, value in call.arguments.items()}
                self.steps.append(Step(Launch(call.kernel, call.grid, arguments, call.options)))
                return
            except _ForeignError:
                self.give_up()
        start(call)

    def _placed(self, value: Any) -> Any:
        base = getattr(value, "base", None)
        if isinstance(value, Tensor):
            return self._place(value)
        if isinstance(base, Tensor):
            return Map(self._place(base), {k: v for k, v in vars(value).items() if k != "base"})
        return value

    def _place(self, t: Tensor) -> Place:
        slot = self.places.get(_storage(t))
        if slot is None or self.slots[slot].dtype != t.dtype:
            raise _ForeignError
        known = self.slots[slot]
        if t is known:
            return Place(slot, 0, None)
        return Place(slot, t.data_ptr() - known.data_ptr() if t.numel() else 0, (tuple(t.shape), t.stride()))

    def program(self, output: Any) -> Program | None:
        """What was seen, or None if it was more than a program."""
        outputs = list(output) if isinstance(output, (tuple, list)) else [output]
        slots = [self.places.get(_storage(t)) for t in outputs]
        device = outputs[0].device
        fresh: list[Fresh] = [(tuple(t.shape), t.stride(), t.dtype) for t in self.slots[self.inputs :]]
        places: list[int] = []
        for slot, t in zip(slots, outputs, strict=True):
            if slot is None or slot < self.inputs or slot in places:
                return None
            known = self.slots[slot]
            if (t.data_ptr(), t.numel(), t.dtype) != (known.data_ptr(), known.numel(), known.dtype):
                return None
            fresh[slot - self.inputs] = (tuple(t.shape), t.stride(), t.dtype)  # a view of all of it
            places.append(slot)
        if any(t.device != device for t in self.slots if t is not None):
            return None
        pick = tuple(range(len(places))) if isinstance(output, (tuple, list)) else 0
        return Program(device, self.inputs, fresh, self.steps, places, pick)


class Pass:
    """`run(*tensors, *numbers)`, learnt. The first `tensors` arguments are tensors, of which one may be None."""

    def __init__(self, run: Callable[..., Any], tensors: int) -> None:
        self.written, self.tensors = run, tensors
        self._known = Memory()

    def find(self, args: Sequence[Any]) -> Program | None:
        """The program of a call, if it is known."""
        if thread.launches is not None:
            return None
        found = self._known.find(args[self.tensors :], args[: self.tensors])
        return found if found is not _WRITTEN else None

    def __call__(self, *args: Any) -> Any:
        """Run the pass on real tensors."""
        tensors = args[: self.tensors]
        numbers = tuple([tuple(n) if isinstance(n, list) else n for n in args[self.tensors :]])
        if is_recording() or _dispatch_modes() or any(t is not None and not is_plain(t) for t in tensors):
            return self.written(*args)
        found = self._known.find(numbers, tensors)
        if found is None:
            return self._learn(numbers, tensors, args)
        return self.written(*args) if found is _WRITTEN else found.run(tensors)

    def _learn(self, numbers: Any, tensors: Sequence[Any], args: Sequence[Any]) -> Any:
        present = [t for t in tensors if t is not None]
        if len({_storage(t) for t in present}) < len(present):  # whose view is whose?
            return self.written(*args)
        watcher = _Watcher(tensors)
        thread.planner = watcher.launch
        try:
            with watcher:
                output = self.written(*args)
        finally:
            thread.planner = None
        program = watcher.program(output) if watcher.simple else None
        if program is not None:
            program.start(watcher.slots)
        else:
            watcher.give_up()
        self._known.keep(numbers, tensors, program or _WRITTEN)
        return output
