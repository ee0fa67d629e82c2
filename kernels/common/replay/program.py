"""A pass that has been learnt, and how it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from kernels.common.launch import is_hooked
from kernels.common.replay.step import Fresh, Step
from kernels.common.replay.straight import torch_empty, written

Pick = int | tuple[int, ...] | None
"""Which of a pass's outputs are wanted: one, some, or (None) what the pass returns."""


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
            program.quick = program._written()
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
            self.quick = self._written()

    def _written(self) -> Callable[[Sequence[Any]], Any]:
        return written(self.device, self.inputs, self.fresh, self.steps, self.result)

    def _run_openly(self, tensors: Sequence[Any]) -> Any:
        slots = [*tensors, *[torch_empty(*f, self.device) for f in self.fresh]]
        self.start(slots)
        result = self.result
        return slots[result] if isinstance(result, int) else tuple([slots[i] for i in result])
