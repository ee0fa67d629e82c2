"""The operands of a program's instructions: registers by number, constants among them, and addresses."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tests.ptx.arithmetic import WIDTH
from tests.ptx.machine import Machine
from tests.ptx.memory import POISON
from tests.ptx.program import Program

NOWHERE = -1
"""The register `_`, which takes what nobody wants."""


class Operands:
    """addresses: what the names of parameters and of shared memory stand for; parameters: their values."""

    def __init__(self, program: Program, parameters: dict[str, int], addresses: dict[str, int]):
        self.program, self.parameters, self.addresses = program, parameters, addresses
        self.numbers: dict[str, int] = {}
        self.kinds: list[np.dtype[Any]] = []
        self.values: list[int | str | None] = []

    def fill(self, machine: Machine) -> None:
        """Give a machine its registers: constants, what it is in the grid, and poison in all others."""
        for kind, value in zip(self.kinds, self.values, strict=True):
            if isinstance(value, str):
                machine.registers.append(machine.special[value])
            elif value is None:
                machine.registers.append(np.full(machine.threads * kind.itemsize, POISON, "u1").view(kind))
            else:
                machine.registers.append(np.full(machine.threads, value, kind))

    def register(self, text: str, kind: str = "b32") -> int:
        """The number of a register or, in the type of its operand, a constant."""
        prefix = re.sub(r"\d+$", "", text)
        if prefix in self.program.registers:
            bits = self.program.registers[prefix]
            return self._number(text, "?" if bits == 1 else f"u{bits // 8}", None)
        if text in ("%tid.x", "%ctaid.x", "%nctaid.x"):
            return self._number(text, "u4", text)
        if kind == "pred":
            return self._number(f"{text} pred", "?", int(text) != 0)
        width = WIDTH[kind]
        return self._number(f"{text} {width}", f"u{width}", self._constant(text) & (1 << 8 * width) - 1)

    def sink(self, text: str) -> int:
        """A register to write to."""
        return NOWHERE if text == "_" else self.register(text)

    def many(self, text: str, kind: str = "b32") -> list[int]:
        """Those in braces, or one."""
        return [self.register(each.strip(), kind) for each in text.strip("{}").split(",")]

    def address(self, text: str) -> tuple[int, int]:
        """[register + offset]"""
        found = re.fullmatch(r"\[\s*([%$\w.]+?)\s*(?:\+\s*(-?\d+))?\s*\]", text)
        if not found:
            raise NotImplementedError(f"address {text}")
        return self.register(found[1], "b64"), int(found[2] or 0)

    def parameter(self, text: str, width: int) -> int:
        """What [name + offset] holds."""
        found = re.fullmatch(r"\[(\w+)(?:\+(\d+))?\]", text)
        assert found, text
        return self.parameters[found[1]] >> 8 * int(found[2] or 0) & (1 << 8 * width) - 1

    def _number(self, name: str, kind: str, value: int | str | None) -> int:
        if name not in self.numbers:
            self.numbers[name] = len(self.kinds)
            self.kinds.append(np.dtype(kind))
            self.values.append(value)
        return self.numbers[name]

    def _constant(self, text: str) -> int:
        if text in self.addresses:
            return self.addresses[text]
        return int(text[2:], 16) if re.fullmatch(r"0[fd][0-9A-Fa-f]+", text) else int(text.rstrip("U"), 0)
