"""Runs recorded launches on CPU tensors as a card would run their PTX."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from bench.machine_code.compile import CARDS, Compiled, compile_launch
from kernels.common import launch
from kernels.common.device import assume_card, cpu_as_card
from kernels.common.launch import Launch, program_of, tensors_of
from kernels.common.replay import learn, step
from tests.ptx.decode import steps
from tests.ptx.machine import Machine
from tests.ptx.memory import SHARED, Global
from tests.ptx.operands import Operands
from tests.ptx.program import Program, parse
from tests.ptx.tma import ATOMS, MAPS, TensorMap

THREADS = 2048
"""Threads that run at once: so many that numpy's calls cost little beside what they do."""


@dataclass
class Card:
    """A card of one of bench's targets. races: look for them as well; ran: launches by kernel; compiled: programs."""

    target: str
    races: bool = False
    ran: Counter[str] = field(default_factory=Counter)
    compiled: dict[Any, tuple[Compiled, Program]] = field(default_factory=dict)

    def run(self, call: Launch) -> None:
        """ProgramError where it does what no card defines; NotImplementedError names an unknown instruction."""
        code, program = self.program(call)
        self.ran[call.kernel.__name__] += 1
        execute(code, program, call, self.races)

    def program(self, call: Launch) -> tuple[Compiled, Program]:
        """What the launch runs."""
        key = program_of(call), *(tensor.data_ptr() % 16 for tensor in tensors_of(call.arguments))
        if key not in self.compiled:
            code = compile_launch(call, self.target)
            self.compiled[key] = code, parse(code.text["ptx"])
        return self.compiled[key]


@contextmanager
def emulated(card: Card) -> Iterator[Card]:
    """Launches on CPU tensors inside the block run on this card. Needs a process without TRITON_INTERPRET."""
    with pytest.MonkeyPatch.context() as patched, assume_card(CARDS[card.target]), cpu_as_card():
        for module in (launch, learn, step):
            patched.setattr(module, "start", card.run)
        yield card


def execute(code: Compiled, program: Program, call: Launch, races: bool) -> None:
    """Run a program on the tensors of the launch."""
    arguments = [call.arguments[name] for name, kind in code.signature.items() if kind != "constexpr"]
    tensors = (getattr(value, "base", value) for value in arguments)
    memory = Global(tensor for tensor in tensors if isinstance(tensor, Tensor))
    values, maps = _parameters(code, arguments, memory)
    names = [name for name, _ in program.parameters]
    parameters = {name: value & (1 << 64) - 1 for name, value in zip(names, values, strict=True)}
    operands = Operands(program, parameters, {**parameters, "global_smem": SHARED})
    work = steps(operands)
    together = max(1, THREADS // program.threads)
    with np.errstate(all="ignore"):
        for first in range(0, call.grid, together):
            programs = min(together, call.grid - first)
            machine = Machine(program, memory, maps, code.shared, call.grid, first, programs, races)
            operands.fill(machine)
            machine.run(work)
    memory.close()


def _parameters(code: Compiled, arguments: list[Any], memory: Global) -> tuple[list[int], list[TensorMap]]:
    """The program's parameters as Triton's launcher orders them, two for scratch memory last, and its tensor maps."""
    values, maps, boxes = [], [], iter(code.boxes)
    for value in arguments:
        if hasattr(value, "block_shape"):
            values += [MAPS + 128 * len(maps), *value.shape, *value.strides]
            maps.append(_tensor_map(value, next(boxes), memory))
        else:
            values.append(memory.address(value) if isinstance(value, Tensor) else int(value))
    return [*values, 0, 0], maps


def _tensor_map(descriptor: Any, box: dict[str, Any], memory: Global) -> TensorMap:
    size = descriptor.base.element_size()
    assert size == box["elem_size"] and not box["fp4_padded"]
    return TensorMap(
        memory.address(descriptor.base),
        tuple(descriptor.shape),
        tuple(step * size for step in descriptor.strides),
        tuple(box["block_size"]),
        size,
        ATOMS[box["swizzle"]],
        getattr(descriptor, "round_f32_to_tf32", False),
        descriptor.padding == "nan",
    )
