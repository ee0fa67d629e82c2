"""Runs a program's blocks: some programs of the grid at once, all their threads in step.

Threads that part are run block by block, the earliest block of the text first, until they meet again.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tests.ptx.arithmetic import Array
from tests.ptx.memory import SHARED, Copies, Global, ProgramError, Shared
from tests.ptx.program import Instruction, Program
from tests.ptx.races import Races
from tests.ptx.tma import Boxes, TensorMap

Mask = Array | None
"""The threads that run; None: all."""
Step = Callable[["Machine", Mask], None]
WARP, GROUP = 32, 128
"""Threads of a warp and of a warpgroup."""


class Machine:
    """The state of `programs` programs of a grid from `first` on. races: whether to look for them, which takes long.

    registers: by number, the bits of every thread; owner: the program of each thread, from 0; warp: within it.
    """

    def __init__(
        self,
        program: Program,
        memory: Global,
        maps: list[TensorMap],
        shared: int,
        grid: int,
        first: int,
        programs: int,
        races: bool = False,
    ):
        self.program, self.memory, self.maps = program, memory, maps
        self.programs, self.threads = programs, programs * program.threads
        self.all = np.arange(self.threads)
        self.owner, self.lane = self.all // program.threads, self.all % WARP
        self.warp = self.all % program.threads // WARP
        self.special = {
            "%tid.x": (self.all % program.threads).astype("u4"),
            "%ctaid.x": (first + self.owner).astype("u4"),
            "%nctaid.x": np.full(self.threads, grid, "u4"),
        }
        self.shared = Shared(shared, programs)
        self.races = Races(self.shared.bytes.size, programs) if races else None
        self.copies = Copies(memory, self.shared, self.threads, self.touch)
        self.boxes = Boxes(memory, self.shared, programs, self.races)
        self.products: list[list[tuple[Array, Array, Array]]] = [[]]
        self.registers: list[Array] = []
        self.alive = np.ones(self.threads, bool)
        self.at: dict[int, Array] = {0: self.alive.copy()}
        self.waiting: dict[int, Array] = {}
        self.next: int | None = 0

    def lanes(self, mask: Mask) -> Array:
        """The numbers of the threads that run."""
        return self.all if mask is None else np.flatnonzero(mask)

    def write(self, register: int, found: Array, mask: Mask) -> None:
        """Set a register of the threads that run, from a value of every thread."""
        self.registers[register] = found if mask is None else np.where(mask, found, self.registers[register])

    def put(self, register: int, found: Array, mask: Mask) -> None:
        """The same from values of the threads that run alone."""
        if mask is not None:
            whole = self.registers[register].copy()
            whole[mask] = found
            found = whole
        self.registers[register] = found

    def addresses(self, register: int, offset: int, lanes: Array) -> Array:
        """What an address operand says in these threads."""
        found: Array = self.registers[register][lanes].astype("i8") + offset
        return found

    def run(self, steps: list[list[tuple[Instruction, Step]]]) -> None:
        """To the end of all programs. steps: of each block."""
        while self.at:
            block = min(self.at)
            running = self.at.pop(block)
            mask = None if running.all() else running
            self.next = block + 1
            for instruction, step in steps[block]:
                try:
                    step(self, mask)
                except ProgramError as fault:
                    words = " ".join([instruction.guard, instruction.op, ", ".join(instruction.operands)])
                    raise ProgramError(f"{instruction.where}: {fault} ({words.strip()[:100]})") from None
            if self.next is not None:
                self.go(self.next, running)
        if self.alive.any():
            raise ProgramError(f"{int(self.alive.sum())} threads wait at a barrier for ever")
        if self.boxes.are_under_way():
            raise ProgramError("the program ends while a copy of a box is under way")
        self.wait_products(0)

    # --- control ---

    def go(self, block: int, mask: Array) -> None:
        """Let threads go on at a block."""
        self.at[block] = self.at[block] | mask if block in self.at else mask

    def branch(self, taken: Array, target: int, mask: Mask) -> None:
        """Threads that take a branch go to the target, the others on."""
        if mask is not None:
            taken = taken & mask
        if taken.any():
            self.go(target, taken)
            stay = ~taken if mask is None else mask & ~taken
            if self.next is not None and stay.any():
                self.go(self.next, stay)
            self.next = None

    def end(self, mask: Mask) -> None:
        """Of these threads."""
        self.alive = self.alive & ~mask if mask is not None else np.zeros_like(self.alive)
        self.next = None

    def barrier(self, following: int, mask: Mask) -> None:
        """Threads wait; all of a program go on at a block once the last has come."""
        came = np.ones(self.threads, bool) if mask is None else mask
        waiting = self.waiting.pop(following, np.zeros(self.threads, bool)) | came
        shape = (self.programs, self.program.threads)
        whole = ((waiting == self.alive).reshape(shape)).all(1) & waiting.reshape(shape).any(1)
        complete = np.repeat(whole, self.program.threads) & waiting
        if complete.any():
            self.go(following, complete)
            if self.races is not None:
                self.races.barrier(np.flatnonzero(whole))
        if (waiting & ~complete).any():
            self.waiting[following] = waiting & ~complete
        self.next = None

    # --- who reads and writes shared memory ---

    def touch(self, lanes: Array, at: Array, width: int, write: bool) -> None:
        """Note what threads do to shared memory, where races are looked for."""
        if self.races is not None:
            note = self.races.write if write else self.races.read
            note(self.owner[lanes], self.warp[lanes], at, width)

    def fence(self, mask: Mask) -> None:
        """fence.proxy.async"""
        if self.races is not None:
            for program in np.unique(self.owner[self.lanes(mask)]):
                self.races.fence(int(program) * self.shared.step, (int(program) + 1) * self.shared.step)

    def begin_product(self, at: Array, bits: Array, running: Array) -> None:
        """An operand [warpgroup, row, k] is read from now on until its group is waited for; running: warpgroups."""
        self.products[-1].append((at, bits, running))
        self._reads(at, running, bits.itemsize)

    def wait_products(self, left: int) -> None:
        """Until so many groups are left; their operands must be what they were."""
        while len(self.products) - 1 > left or (left == 0 and any(self.products)):
            for at, before, running in self.products.pop(0):
                self._reads(at, running, before.itemsize)
                now = self.shared.bytes.view(before.dtype)[at // before.itemsize]
                if not np.array_equal(now[running], before[running]):
                    raise ProgramError("an operand of a product changes while the product is under way")
            self.products = self.products or [[]]

    def _reads(self, at: Array, running: Array, width: int) -> None:
        if self.races is not None:
            self.races.proxy_read(at[running].reshape(-1))
            for first in range(0, GROUP, WARP):
                lanes = np.repeat(np.flatnonzero(running) * GROUP + first, at[0].size)
                self.races.read(self.owner[lanes], self.warp[lanes], at[running].reshape(-1), width)


__all__ = ["SHARED", "Machine", "Mask", "Step"]
