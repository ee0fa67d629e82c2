"""Which warps have read and written each byte of shared memory since their program's last barrier."""

from __future__ import annotations

import numpy as np

from tests.ptx.arithmetic import Array
from tests.ptx.memory import ProgramError

_WARPS = 64


class Races:
    """A byte that one warp writes must not be read or written by another before the next barrier of the program.

    What TMA and the tensor cores do counts as done by the warp that asks for it, or by all of its group.
    """

    def __init__(self, size: int, programs: int):
        self.written = np.full(size, -1, "i8")
        self.read_at = np.full(size, -1, "i8")
        self.readers = np.zeros(size, "u8")
        self.unfenced = np.zeros(size, bool)
        self.barriers = np.zeros(programs, "i8")

    def barrier(self, programs: Array) -> None:
        """All threads of these programs have met."""
        self.barriers[programs] += 1

    def read(self, programs: Array, warps: Array, at: Array, width: int) -> None:
        """Accesses of `width` bytes at offsets; warps: numbers within the program, all of these at once."""
        cells, since, warp = self._cells(programs, warps, at, width)
        written = self.written[cells]
        if ((written >= since) & (written != since + warp)).any():
            raise ProgramError("a warp reads what another has written since the last barrier")
        old = self.read_at[cells] != since
        self.readers[cells[old]] = 0
        self.read_at[cells] = since
        np.bitwise_or.at(self.readers, cells, np.uint64(1) << warp.astype("u8"))

    def write(self, programs: Array, warps: Array, at: Array, width: int, generic: bool = True) -> None:
        """generic: not by TMA."""
        cells, since, warp = self._cells(programs, warps, at, width)
        written = self.written[cells]
        if ((written >= since) & (written != since + warp)).any():
            raise ProgramError("a warp writes what another has written since the last barrier")
        others = self.readers[cells] & ~(np.uint64(1) << warp.astype("u8"))
        if ((self.read_at[cells] == since) & (others != 0)).any():
            raise ProgramError("a warp writes what another has read since the last barrier")
        self.written[cells] = since + warp
        self.unfenced[cells] = generic

    def arrived(self, at: Array) -> None:
        """Bytes that a barrier of TMA has announced to all that wait for it."""
        self.written[at] = -1

    def fence(self, first: int, end: int) -> None:
        """fence.proxy.async of a program, whose shared memory this is."""
        self.unfenced[first:end] = False

    def proxy_read(self, at: Array) -> None:
        """TMA or tensor cores read what threads have written."""
        if self.unfenced[at].any():
            raise ProgramError("no fence between the writes of threads and the asynchronous proxy's read")

    def _cells(self, programs: Array, warps: Array, at: Array, width: int) -> tuple[Array, Array, Array]:
        cells = (at[:, None] + np.arange(width)).reshape(-1)
        since = np.repeat(self.barriers[programs] * _WARPS, width)
        return cells, since, np.repeat(warps, width)
