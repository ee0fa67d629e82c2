"""Public calls seen before: arguments checked and choices made once for each signature."""

from __future__ import annotations

from collections.abc import Callable
from operator import is_
from typing import Any

import torch

from kernels.backend import current_backend
from kernels.common.launch import is_recording
from kernels.common.registration import Operator, needs_dispatcher
from kernels.common.replay.program import Pick
from kernels.common.signature import Memory, records

Tensors = tuple[torch.Tensor | None, ...]
_known = Memory()


class Prepared:
    """An operator and its numbers: what checking a call leaves to be done with its tensors."""

    def __init__(self, operator: Operator, numbers: tuple[Any, ...], pick: Pick = None) -> None:
        self.operator, self.numbers, self.pick = operator, numbers, pick

    def __call__(self, *tensors: Any) -> Any:
        """Any call: the operator's result, or what `pick` wants of it."""
        return self._picked(self.operator(*tensors, *self.numbers))

    def _picked(self, result: Any) -> Any:
        if self.pick is None:
            return result
        return result[self.pick] if isinstance(self.pick, int) else tuple([result[i] for i in self.pick])

    def repeated(self, tensors: Tensors) -> Callable[[Tensors], Any]:
        """The same for eager calls with the signature of `tensors`, which have been through __call__."""
        program = self.operator.run.find((*tensors, *self.numbers))
        if program is None:
            return lambda tensors: self(*tensors)
        if not records(tensors):
            return program.picking(self.pick).run
        apply, extra = self.operator.recorded, (program, self.numbers)
        if self.pick is None:
            return lambda tensors: apply(*tensors, extra)
        return lambda tensors: self._picked(apply(*tensors, extra))


def run(resolve: Callable[..., Callable[..., Any]], tensors: Tensors, numbers: tuple[Any, ...]) -> Any:
    """resolve(*tensors, *numbers)(*tensors), `resolve` being asked once for each signature.

    `resolve` checks the arguments of a call, raises what is to be raised, and returns a function of its tensors that
    holds for every call with the same signature: a `Prepared`, or any other.
    """
    if is_recording() or torch.compiler.is_compiling():
        return resolve(*tensors, *numbers)(*tensors)
    head = (resolve, current_backend(), torch.is_grad_enabled(), numbers)
    known = _known.find(head, tensors)
    if known is not None and (all(map(is_, known[0], numbers)) or _types(known[0]) == _types(numbers)):
        return known[1](tensors)
    function = resolve(*tensors, *numbers)
    result = function(*tensors)
    if known is None and not needs_dispatcher(tensors):
        again = function.repeated(tensors) if isinstance(function, Prepared) else lambda tensors: function(*tensors)
        _known.keep(head, tensors, (numbers, again))
    return result


def _types(numbers: tuple[Any, ...]) -> list[Any]:
    """1, True and 1.0 are the same key, but not the same argument."""
    return [[type(v) for v in n] if isinstance(n, tuple) else type(n) for n in numbers]
