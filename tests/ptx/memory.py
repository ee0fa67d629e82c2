"""Global and shared memory of a launch, every address checked; copies that take effect when they are waited for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.ptx.arithmetic import Array

POISON = 0xFF
"""Every byte of memory and registers that nobody has written: NaN in every floating-point type."""
GLOBAL, SHARED, GUARD, LINE = 0x7F00_0000_0000, 1024, 1024, 1024


class ProgramError(Exception):
    """The program does what no card defines."""


class Global:
    """The memory of some tensors, with guards between. Addresses keep what real ones are modulo 16."""

    def __init__(self, tensors: Iterable[Tensor]):
        self.found = list({(t.data_ptr(), t.dtype, t.shape, t.stride()): t for t in tensors if t.numel()}.values())
        storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in self.found}
        self.places: dict[int, int] = {}
        size = GUARD
        for start, storage in storages.items():
            self.places[start] = size + start % 64
            size += -(-(storage.nbytes() + start % 64 + GUARD) // GUARD) * GUARD
        self.bytes = np.full(size, POISON, "u1")
        self.valid = np.zeros(size, bool)
        self.storages = storages
        for start, storage in storages.items():
            place = self.places[start]
            self.bytes[place : place + storage.nbytes()] = _bytes(storage)
        for t in self.found:
            place = self.address(t) - GLOBAL
            last = sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True))
            self.valid[place : place + (last + 1) * t.element_size()] = True

    def address(self, t: Tensor) -> int:
        """Where its first element lies."""
        if not t.numel():
            return GLOBAL
        start = t.untyped_storage().data_ptr()
        return GLOBAL + self.places[start] + t.data_ptr() - start

    def offsets(self, addresses: Array, width: int, align: int) -> Array:
        """Into `bytes`, of accesses that are all made; ProgramError outside of the tensors."""
        offsets = addresses.astype("i8") - GLOBAL
        if (offsets % align).any():
            raise ProgramError(
                f"global address {hex(int(addresses[offsets % align != 0][0]))} is no multiple of {align}"
            )
        wrong = (offsets < 0) | (offsets + width > self.bytes.size)
        safe = np.where(wrong, 0, offsets)
        for byte in range(0, width, 2):
            wrong |= ~self.valid[safe + byte]
        wrong |= ~self.valid[safe + width - 1]
        if wrong.any():
            raise ProgramError(
                f"global access of {width} bytes outside of every tensor: {self.near(int(offsets[wrong][0]))}"
            )
        return offsets

    def near(self, offset: int) -> str:
        """The tensor that an offset is next to."""
        if not self.found:
            return hex(offset)

        def distance(t: Tensor) -> int:
            return abs(offset - (self.address(t) - GLOBAL))

        t = min(self.found, key=distance)
        beyond = (offset - (self.address(t) - GLOBAL)) / t.element_size()
        return f"element {beyond:g} of {list(t.shape)} {t.stride()} {t.dtype}"

    def close(self) -> None:
        """Write back into the tensors."""
        for start, storage in self.storages.items():
            place = self.places[start]
            _bytes(storage)[:] = self.bytes[place : place + storage.nbytes()]


def _bytes(storage: Any) -> Array:
    return torch.empty(0, dtype=torch.uint8).set_(storage).numpy()


class Shared:
    """That of several programs, one after the other."""

    def __init__(self, size: int, programs: int):
        self.size, self.step = size, -(-max(size, 1) // LINE) * LINE
        self.bytes = np.full(programs * self.step, POISON, "u1")

    def offsets(self, addresses: Array, program: Array, width: int, align: int) -> Array:
        """Into `bytes`, of accesses that are all made."""
        offsets = addresses.astype("i8") - SHARED
        if ((offsets < 0) | (offsets + width > self.size)).any():
            bad = offsets[(offsets < 0) | (offsets + width > self.size)][0]
            raise ProgramError(f"shared access of {width} bytes at {bad} of {self.size}")
        if (offsets % align).any():
            raise ProgramError(f"shared address {offsets[offsets % align != 0][0]} is no multiple of {align}")
        found: Array = offsets + program * self.step
        return found


class Copies:
    """cp.async: 4 to 16 bytes of a thread. From issue to the wait that covers it the destination is poison."""

    def __init__(self, source: Global, target: Shared, threads: int, touch: Callable[..., None]):
        self.source, self.target, self.touch = source, target, touch
        self.group = np.zeros(threads, "i8")
        self.pending: list[tuple[Array, Array, Array, Array, int, Array]] = []

    def issue(self, lanes: Array, to: Array, of: Array, used: Array, width: int) -> None:
        """lanes: the threads; to: offsets in shared memory; of: global addresses; used: bytes that are not zero."""
        words = self.target.bytes.view("u4")
        self.touch(lanes, to, width, True)
        for i in range(width // 4):
            words[to // 4 + i] = 0xFFFFFFFF
        for size in np.unique(used):
            if size:
                self.source.offsets(of[used == size], int(size), width)
        self.pending.append((lanes, to, of, used, width, self.group[lanes].copy()))

    def commit(self, lanes: Array) -> None:
        """Close these threads' groups."""
        self.group[lanes] += 1

    def wait(self, lanes: Array, left: int) -> None:
        """Until so many groups of these threads are left."""
        done = np.full(self.group.size, -1, "i8")
        done[lanes] = self.group[lanes] - left
        kept = []
        for entry in self.pending:
            ready = entry[5] < done[entry[0]]
            if ready.any():
                self._copy(*(part[ready] for part in entry[:4]), entry[4])
            if not ready.all():
                kept.append((*(part[~ready] for part in entry[:4]), entry[4], entry[5][~ready]))
        self.pending = kept

    def _copy(self, lanes: Array, to: Array, of: Array, used: Array, width: int) -> None:
        words, values = self.target.bytes.view("u4"), self.source.bytes.view("u4")
        self.touch(lanes, to, width, True)
        at = np.where(used > 0, (of.astype("i8") - GLOBAL) // 4, 0)
        for i in range(width // 4):
            words[to // 4 + i] = np.where(4 * i < used, values[np.where(4 * i < used, at + i, 0)], np.uint32(0))
