"""Registers of a program: named where NVIDIA's assembler would rather keep some values on the stack.

ptxas makes room for one more program on a multiprocessor where a thread need only put a few values on the stack for it:
8 to 32 bytes, mostly outside of loops, in some two programs of a hundred. Told how many registers it may take, it looks
for another order of the instructions, and three times in four finds one with as many as it took by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
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
    multiprocessor as many programs, then one fewer, and so on; a few fewer than it took at last."""
    took = min(MOST, -(-registers // 8) * 8)
    programs = FILE // (32 * num_warps * took)
    kept = [left for left in range(programs, 0, -1) if left >= LEAST * programs]
    shares = [min(MOST, FILE // (32 * num_warps * left) // 8 * 8) for left in kept]
    fewer = [(took + 7) // 8 * 8 - step for step in (8, 16)]
    return list(dict.fromkeys([took, *shares, *fewer]))


def others(registers: int, options: Options) -> Iterator[Options]:
    """The options to try for a program that took so many registers a thread: them named, then one more stage, then
    fewer and fewer, then half of eight warps or more, which have twice the registers."""
    named = counts(registers, options["num_warps"])
    yield from (options | {"maxnreg": count} for count in named)
    deeper = options | {"num_stages": options["num_stages"] + 1}
    yield from (deeper, deeper | {"maxnreg": named[0]})
    yield from (options | {"num_stages": stages} for stages in range(options["num_stages"] - 1, 0, -1))
    if options["num_warps"] >= 8:
        yield options | {"num_warps": options["num_warps"] // 2}


def settle(
    options: Options, make: Callable[[Options], Made], usage: Callable[[Made], tuple[int, int]]
) -> tuple[Options, Made]:
    """The program that `make` compiles with these options, or with others if only they keep it off the stack.

    usage: registers a thread of a program, and what it keeps on the stack. A number of registers among the options is
    the first that is tried.
    """
    made = make(options)
    registers, stack = usage(made)
    if not stack:
        return options, made
    if "maxnreg" in options:
        found, other = settle({name: options[name] for name in options if name != "maxnreg"}, make, usage)
        return (options, made) if usage(other)[1] else (found, other)
    for tried in others(registers, options):
        try:
            other = make(tried)
        except Exception:  # ptxas refuses, or shared memory does not hold another stage: the first program is there
            continue
        if not usage(other)[1]:
            return tried, other
    return options, made
