"""Registers of a program: named where NVIDIA's assembler would rather keep some values on the stack.

ptxas makes room for one more program on a multiprocessor where a thread need only put a few values on the stack for it:
8 to 32 bytes, mostly outside of loops, in some two programs of a hundred. Told how many registers it may take, it looks
for another order of the instructions, and three times in four finds one with as many as it took by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

FILE = 65536
"""Registers of a multiprocessor."""
MOST = 255
"""Registers a thread can have."""
LEAST = 2 / 3
"""Share of the programs on a multiprocessor that has to stay: a stack costs less than more of them."""

Options = dict[str, int]
Made = TypeVar("Made")


def counts(registers: int, num_warps: int) -> list[int]:
    """What to name for a program that took so many registers a thread: as many, then the most that leave a
    multiprocessor as many programs, then one fewer, and so on."""
    took = -(-registers // 8) * 8
    programs = FILE // (32 * num_warps * took)
    kept = [left for left in range(programs, 0, -1) if left >= LEAST * programs]
    shares = [min(MOST, FILE // (32 * num_warps * left) // 8 * 8) for left in kept]
    return list(dict.fromkeys([min(MOST, took), *shares]))


def settle(
    options: Options, make: Callable[[Options], Made], usage: Callable[[Made], tuple[int, int]]
) -> tuple[Options, Made]:
    """The program that `make` compiles with these options, or with registers named if only that keeps it off the stack.

    usage: registers a thread of a program, and what it keeps on the stack.
    """
    made = make(options)
    registers, stack = usage(made)
    if stack and "maxnreg" not in options:
        for count in counts(registers, options["num_warps"]):
            named = options | {"maxnreg": count}
            other = make(named)
            if not usage(other)[1]:
                return named, other
    return options, made
