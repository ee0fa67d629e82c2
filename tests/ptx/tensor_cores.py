"""Products of matrices that lie in the registers of a warp or in shared memory; the registers [register, thread]."""

from __future__ import annotations

from functools import cache

import numpy as np

from tests.ptx.arithmetic import Array, unpack
from tests.ptx.memory import SHARED
from tests.ptx.tma import swizzled

Index = tuple[Array, Array]
KINDS = {"f16": 2, "bf16": 2, "tf32": 4, "f64": 8}


def numbers(bits: Array, kind: str) -> Array:
    """Elements of a matrix as tensor cores read them: TF32 without its low 13 bits."""
    if kind == "tf32":
        found: Array = (bits & np.uint32(0xFFFFE000)).view("f4")
        return found
    return unpack(bits, kind).astype("f8" if kind == "f64" else "f4")


def _split(registers: Array, kind: str) -> Array:
    """[register, thread] -> [register, thread, element of the register]."""
    return registers.view(f"u{KINDS[kind]}").reshape(*registers.shape, -1)


def _left(registers: Array, kind: str, rows: int) -> Array:
    """A of each warp [warp, rows, k]. Of 16 rows registers hold the upper 8 and the lower 8 in turn."""
    parts = _split(registers, kind)
    halves, pack = rows // 8, parts.shape[-1]
    parts = parts.reshape(-1, halves, registers.shape[1] // 32, 8, 4, pack)  # k block, half, warp, row, thread, element
    found = parts.transpose(2, 1, 3, 0, 4, 5).reshape(registers.shape[1] // 32, rows, -1)
    return numbers(np.ascontiguousarray(found), kind)


def _right(registers: Array, kind: str) -> Array:
    """B of each warp [warp, k, 8]."""
    parts = _split(registers, kind)
    parts = parts.reshape(len(registers), registers.shape[1] // 32, 8, 4, parts.shape[-1])
    found = parts.transpose(1, 0, 3, 4, 2).reshape(registers.shape[1] // 32, -1, 8)
    return numbers(np.ascontiguousarray(found), kind)


def _sums(registers: Array, rows: int) -> Array:
    """Sums of each warp [warp, rows, n]: registers are (8 columns, 8 rows, element of 2)."""
    halves = rows // 8
    parts = registers.reshape(-1, halves, 2, registers.shape[1] // 32, 8, 4)
    return parts.transpose(3, 1, 4, 0, 5, 2).reshape(registers.shape[1] // 32, rows, -1)


def _registers(sums: Array) -> Array:
    """What _sums takes apart."""
    warps, rows, columns = sums.shape
    parts = sums.reshape(warps, rows // 8, 8, columns // 8, 4, 2)
    return np.ascontiguousarray(parts.transpose(3, 1, 5, 0, 2, 4)).reshape(rows // 8 * columns // 4, warps * 32)


def mma(shape: str, kind: str, a: Array, b: Array, c: Array) -> Array:
    """mma.sync of every warp: the registers of a * b + c as bits."""
    rows = int(shape[1 : shape.index("n")])
    real, bits = ("f8", "u8") if kind == "f64" else ("f4", "u4")
    sums = _sums(c.view(real), rows)
    return _registers(np.matmul(_left(a, kind, rows), _right(b, kind)) + sums).view(bits)


@cache
def _pattern(leading: int, stride: int, row: int, size: int, k: int, itemsize: int, k_inner: bool) -> Array:
    """Offsets [size, k] of a matrix's elements from its start, before they are swizzled.

    PTX's canonical layouts. k innermost: rows of `row` bytes, `stride` from one 8 of them to the next, `leading` from
    a 16-byte chunk to the next without swizzle. Else rows of `row` bytes along the other axis, `leading` from one to
    the next, `stride` from 8 of k to the next; without swizzle the two change places.
    """
    o, o_k = np.arange(size)[:, None], np.arange(k)[None, :]
    if k_inner:
        chunk, within = o_k * itemsize // 16, o_k * itemsize % 16
        return o % 8 * row + o // 8 * stride + chunk * (leading if row == 16 else 16) + within
    unit, within = o * itemsize // row, o * itemsize % row
    outer, eight = (stride, leading) if row == 16 else (leading, stride)
    return within + unit * outer + o_k % 8 * row + o_k // 8 * eight


ROWS = (16, 128, 64, 32)
"""Bytes of a row by the two highest bits of a descriptor."""


def operand(shared: Array, first: Array, descriptors: Array, size: int, k: int, kind: str, k_inner: bool) -> Index:
    """Elements [warpgroup, size, k] as bits, and where they lie. first: where each warpgroup's program begins."""
    d = int(descriptors[0])
    leading, stride, row = ((d >> 16) & 0x3FFF) << 4, ((d >> 32) & 0x3FFF) << 4, ROWS[d >> 62]
    if (d >> 49) & 7 or np.any(descriptors >> np.uint64(14) != np.uint64(d >> 14)):
        raise NotImplementedError("wgmma: base offsets, or descriptors that differ in more than their start")
    itemsize = KINDS[kind]
    start = ((descriptors & np.uint64(0x3FFF)) << np.uint64(4)).astype("i8")
    pattern = _pattern(leading, stride, row, size, k, itemsize, k_inner)
    at = swizzled(start[:, None, None] + pattern, row) - SHARED + first[:, None, None]
    return shared.view(f"u{itemsize}")[at // itemsize], at


def left_of_warpgroups(registers: Array, kind: str) -> Array:
    """A [warpgroup, 64, k] out of registers."""
    found = _left(registers, kind, 16)
    return found.reshape(-1, 64, found.shape[-1])


def wgmma(a: Array, b: Array, c: Array) -> Array:
    """The registers of a [warpgroup, 64, k] times b [warpgroup, n, k], and c's added, as bits."""
    found = np.matmul(a, b.transpose(0, 2, 1))
    found += _sums(c.view("f4"), 16).reshape(found.shape)
    return _registers(found.reshape(-1, 16, found.shape[-1])).view("u4")


def ldmatrix(rows: Array, count: int, transposed: bool) -> Array:
    """rows [16-byte row of (warp, matrix, 8), 4 words] -> registers [count, thread]."""
    words = rows.reshape(-1, count, 8, 4)
    if transposed:
        cells = np.ascontiguousarray(words).view("u2").reshape(-1, count, 8, 8).transpose(0, 1, 3, 2)
        words = np.ascontiguousarray(cells).view("u4").reshape(-1, count, 8, 4)
    return np.ascontiguousarray(words.transpose(1, 0, 2, 3)).reshape(count, -1)


def stmatrix(registers: Array, transposed: bool) -> Array:
    """What ldmatrix reads: [row of (warp, matrix, 8), 4 words]."""
    count = len(registers)
    words = np.ascontiguousarray(registers.reshape(count, -1, 8, 4).transpose(1, 0, 2, 3))
    if transposed:
        cells = words.view("u2").reshape(-1, count, 8, 8).transpose(0, 1, 3, 2)
        words = np.ascontiguousarray(cells).view("u4")
    return words.reshape(-1, 4)
