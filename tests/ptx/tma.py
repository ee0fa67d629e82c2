"""Copies of boxes by TMA, and the barriers in shared memory that count their bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.ptx.arithmetic import Array
from tests.ptx.memory import POISON, Global, ProgramError, Shared
from tests.ptx.races import Races

ATOMS = {0: 16, 1: 32, 2: 64, 3: 128}
"""Triton's number of a swizzle -> bytes of its rows."""
MAPS = 0x1000_0000
"""The address of the first tensor map; each has 128 bytes."""


@dataclass(frozen=True)
class TensorMap:
    """shape, steps (bytes) and box, outermost axis first; swizzle: bytes of a row; rounds: to TF32."""

    address: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]
    box: tuple[int, ...]
    itemsize: int
    swizzle: int
    rounds: bool
    fills_nan: bool = False

    @property
    def size(self) -> int:
        """Bytes of a box."""
        return int(np.prod(self.box)) * self.itemsize

    def __post_init__(self) -> None:
        """What cuTensorMapEncodeTiled refuses; it takes narrower boxes than a swizzle's row as well."""
        inner = self.box[-1] * self.itemsize
        wrong = [
            self.address % 16 and "address",
            any(step % 16 or step >= 2**40 for step in self.steps[:-1]) and "strides",
            any(not 0 < side <= 256 for side in self.box) and "box",
            (inner % 16 or (self.swizzle > 16 and inner != self.swizzle)) and "inner side of the box",
            any(not 0 < side < 2**32 for side in self.shape) and "shape",
            self.steps[-1] != self.itemsize and "innermost stride",
        ]
        if any(wrong):
            raise ProgramError(f"no tensor map: {[w for w in wrong if w]} of {self}")

    def elements(self, start: tuple[int, ...]) -> tuple[Array, Array]:
        """Global addresses [elements of the box, in its order], and whether they are in the tensor."""
        at, inside = np.full((1,) * len(self.box), self.address), np.ones((1,) * len(self.box), bool)
        for axis, (first, side) in enumerate(zip(start, self.box, strict=True)):
            o = (first + np.arange(side)).reshape([-1 if i == axis else 1 for i in range(len(self.box))])
            at = at + o * self.steps[axis]
            inside = inside & (o >= 0) & (o < self.shape[axis])
        return at.reshape(-1), np.broadcast_to(inside, self.box).reshape(-1)

    def places(self, start: int) -> Array:
        """Shared offsets of the box's elements."""
        o = start + np.arange(int(np.prod(self.box))) * self.itemsize
        return swizzled(o, self.swizzle)


def swizzled(o: Array, row: int) -> Array:
    """16-byte chunks of an address are exchanged by the number of its 128-byte line, modulo row / 16."""
    return o ^ (((o >> 7) & (row // 16 - 1)) << 4) if row > 16 else o


@dataclass
class _Barrier:
    count: int
    left: int
    bytes: int = 0
    phase: int = 0

    def settle(self) -> None:
        if self.left == 0 and self.bytes == 0:
            self.phase, self.left = self.phase + 1, self.count


@dataclass(frozen=True)
class _Copy:
    """shared: an address; start: of the box in the tensor; warp: that asked for it."""

    box: TensorMap
    program: int
    shared: int
    start: tuple[int, ...]
    warp: int


class Boxes:
    """What is under way. A load's destination is poison until the wait on its barrier; a store reads at its wait."""

    def __init__(self, memory: Global, shared: Shared, programs: int, races: Races | None):
        self.memory, self.shared, self.races = memory, shared, races
        self.barriers: dict[tuple[int, int], _Barrier] = {}
        self.loads: dict[tuple[int, int], list[_Copy]] = {}
        self.stores: list[list[list[_Copy]]] = [[[]] for _ in range(programs)]

    def init(self, program: int, address: int, count: int) -> None:
        """A barrier that waits for so many arrivals."""
        if (program, address) in self.barriers:
            raise ProgramError("mbarrier.init of a live barrier")
        self.barriers[program, address] = _Barrier(count, count)

    def drop(self, program: int, address: int) -> None:
        """mbarrier.inval"""
        if self.loads.pop((program, address), []):
            raise ProgramError("mbarrier.inval while a copy is under way")
        self.barriers.pop((program, address))

    def expect(self, program: int, address: int, size: int) -> None:
        """An arrival that announces bytes."""
        barrier = self._barrier(program, address)
        barrier.bytes += size
        barrier.left -= 1
        if barrier.left < 0:
            raise ProgramError("more arrivals than a barrier counts")
        barrier.settle()

    def load(self, box: TensorMap, program: int, to: int, start: tuple[int, ...], warp: int, barrier: int) -> None:
        """Begin a copy to shared memory."""
        self._barrier(program, barrier)
        copy = _Copy(box, program, to, start, warp)
        at = self._bytes(copy)
        if self.races is not None:
            self.races.write(*self._who(copy, at), 1, generic=False)
        self.shared.bytes[at] = POISON
        self.loads.setdefault((program, barrier), []).append(copy)

    def wait(self, program: int, address: int, parity: int) -> bool:
        """Whether the phase of that parity is over, once all copies that it waits for are done."""
        barrier = self._barrier(program, address)
        if barrier.phase % 2 == parity:
            for copy in self.loads.pop((program, address), []):
                self._load(copy)
                barrier.bytes -= copy.box.size
            barrier.settle()
        return barrier.phase % 2 != parity

    def store(self, box: TensorMap, program: int, of: int, start: tuple[int, ...], warp: int) -> None:
        """Begin a copy to global memory."""
        self.stores[program][-1].append(_Copy(box, program, of, start, warp))
        self._reads(self.stores[program][-1][-1])

    def commit(self, program: int) -> None:
        """Close the group of stores."""
        self.stores[program].append([])

    def wait_stores(self, program: int, left: int) -> None:
        """Until so many groups are left."""
        groups = self.stores[program]
        while len(groups) - 1 > left:
            for copy in groups.pop(0):
                self._reads(copy)
                self._store(copy)

    def are_under_way(self) -> bool:
        """Whether there is a copy that nobody has waited for."""
        return any(map(any, self.stores)) or any(self.loads.values())

    def _barrier(self, program: int, address: int) -> _Barrier:
        if (program, address) not in self.barriers:
            raise ProgramError(f"no barrier at shared address {address}")
        return self.barriers[program, address]

    def _start(self, copy: _Copy) -> int:
        """Where it begins in shared memory; ProgramError where it does not fit or is no multiple of 128."""
        return int(self.shared.offsets(np.array([copy.shared]), np.array([copy.program]), copy.box.size, 128)[0])

    def _bytes(self, copy: _Copy) -> Array:
        return self._start(copy) + np.arange(copy.box.size)

    def _who(self, copy: _Copy, at: Array) -> tuple[Array, Array, Array]:
        return np.full(at.size, copy.program), np.full(at.size, copy.warp), at

    def _reads(self, copy: _Copy) -> None:
        at = self._bytes(copy)
        if self.races is not None:
            self.races.proxy_read(at)
            self.races.read(*self._who(copy, at), 1)

    def _load(self, copy: _Copy) -> None:
        box = copy.box
        addresses, inside = box.elements(copy.start)
        kind: Any = np.dtype(f"u{box.itemsize}")
        values = np.full(inside.size, (1 << 8 * box.itemsize - 1) - 1 if box.fills_nan else 0, kind)
        at = self.memory.offsets(addresses[inside], box.itemsize, box.itemsize) // box.itemsize
        values[inside] = self.memory.bytes.view(kind)[at]
        if box.rounds:
            odd = (values >> np.uint32(13)) & np.uint32(1)
            finite = (values & np.uint32(0x7F800000)) != 0x7F800000
            values = np.where(finite, (values + np.uint32(0xFFF) + odd) & np.uint32(0xFFFFE000), values)
        self.shared.bytes.view(kind)[box.places(self._start(copy)) // box.itemsize] = values
        if self.races is not None:
            self.races.arrived(self._bytes(copy))

    def _store(self, copy: _Copy) -> None:
        box = copy.box
        addresses, inside = box.elements(copy.start)
        kind: Any = np.dtype(f"u{box.itemsize}")
        values = self.shared.bytes.view(kind)[box.places(self._start(copy)) // box.itemsize]
        at = self.memory.offsets(addresses[inside], box.itemsize, box.itemsize) // box.itemsize
        self.memory.bytes.view(kind)[at] = values[inside]
