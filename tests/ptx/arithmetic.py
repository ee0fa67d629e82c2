"""Instructions that compute registers from registers: arrays of bits, one element a thread.

A predicate is an array of bool, any other register one of uint16, uint32 or uint64.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Function = Callable[..., Array]
DTYPES = {
    "pred": "?", "b8": "u1", "u8": "u1", "s8": "i1", "b16": "u2", "u16": "u2", "s16": "i2", "b32": "u4", "u32": "u4",
    "s32": "i4", "b64": "u8", "u64": "u8", "s64": "i8", "f16": "f2", "f32": "f4", "f64": "f8", "bf16": "u2",
    "f16x2": "f2", "bf16x2": "u2", "s16x2": "i2", "u16x2": "u2",
    "f32x2": "f4",
}  # fmt: skip
TYPES = {name: np.dtype(code) for name, code in DTYPES.items()}
WIDTH = {name: kind.itemsize * (2 if name.endswith("x2") else 1) for name, kind in TYPES.items()}
"""Bytes of a register's part that an operand of a type takes."""


def unpack(bits: Array, kind: str) -> Array:
    """A register's numbers: of two packed ones first the lower, then the upper of each thread; bfloat16 as float32."""
    if kind == "pred":
        return bits
    if bits.itemsize != WIDTH[kind]:
        bits = bits.astype(f"u{WIDTH[kind]}")
    found = bits.view(TYPES[kind])
    return (found.astype("u4") << np.uint32(16)).view("f4") if kind.startswith("bf16") else found


def pack(found: Array, kind: str) -> Array:
    """What unpack takes apart; bfloat16 by rounding to nearest even."""
    if kind == "pred":
        return found
    if kind.startswith("bf16"):
        found = np.ascontiguousarray(found, "f4")
        bits = found.view("u4")
        rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
        found = np.where(np.isnan(found), np.uint32(0x7FFF), rounded).astype("u2")
    return np.ascontiguousarray(found, TYPES[kind]).view(f"u{WIDTH[kind]}")


def _quotient(a: Array, b: Array) -> Array:
    """Cut towards zero; all bits set where b is zero."""
    if a.dtype.kind == "f":
        found: Array = a / b
        return found
    zero = b == 0
    whole = a // np.where(zero, b.dtype.type(1), b)
    whole += (whole < 0) & (whole * b != a)
    return np.where(zero, whole.dtype.type(0) - whole.dtype.type(1 if a.dtype.kind == "i" else 0), whole)


def _shift(left: bool) -> Function:
    def shift(a: Array, b: Array) -> Array:
        width = 8 * a.itemsize
        by = np.minimum(b, width - 1).astype(a.dtype)
        moved = a << by if left else a >> by
        return moved if not left and a.dtype.kind == "i" else np.where(b < width, moved, a.dtype.type(0))

    return shift


def _fused(a: Array, b: Array, c: Array) -> Array:
    """a * b + c, rounded once but for float64."""
    return (a.astype("f8") * b + c).astype(c.dtype)


def _high(a: Array, b: Array) -> Array:
    """The upper half of a product."""
    if a.itemsize == 8:
        return ((a.astype(object) * b.astype(object)) >> 64).astype(a.dtype)
    twice = f"{a.dtype.kind}{2 * a.itemsize}"
    return ((a.astype(twice) * b.astype(twice)) >> (8 * a.itemsize)).astype(a.dtype)


def _extract(a: Array, at: Array, width: Array) -> Array:
    """`width` bits from bit `at` on, with its sign where a is signed."""
    room = 8 * a.itemsize
    kind = a.dtype.type
    left = np.clip(room - at.astype("i8") - width.astype("i8"), 0, room - 1)
    right = np.clip(room - width.astype("i8"), 0, room - 1)
    return np.where(width == 0, kind(0), (a << left.astype(a.dtype)) >> right.astype(a.dtype))


def _permute(a: Array, b: Array, selector: Array) -> Array:
    both = a.astype("u8") | (b.astype("u8") << np.uint64(32))
    found = np.zeros_like(a)
    for i in range(4):
        pick = (selector >> np.uint32(4 * i)) & np.uint32(15)
        byte = ((both >> (8 * (pick & 7)).astype("u8")) & np.uint64(255)).astype("u4")
        byte = np.where(pick & 8, np.where(byte & 128, np.uint32(255), np.uint32(0)), byte)
        found |= byte << np.uint32(8 * i)
    return found


def _funnel(left: bool) -> Function:
    def shift(low: Array, high: Array, by: Array) -> Array:
        both = low.astype("u8") | (high.astype("u8") << np.uint64(32))
        by = (by & np.uint32(31)).astype("u8")
        return ((both << by) >> np.uint64(32) if left else both >> by).astype("u4")

    return shift


def _nan(compare: Function) -> Function:
    return lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.asarray(np.nan, a.dtype), compare(a, b))


SIMPLE: dict[str, Function] = {
    "add": np.add, "sub": np.subtract, "mul.lo": np.multiply, "and": np.bitwise_and, "or": np.bitwise_or,
    "xor": np.bitwise_xor, "not": np.invert, "neg": np.negative, "abs": np.abs, "min": np.minimum, "max": np.maximum,
    "div": _quotient, "rem": lambda a, b: a - _quotient(a, b) * b, "shl": _shift(True), "shr": _shift(False),
    "mul.hi": _high, "mad.lo": lambda a, b, c: a * b + c, "bfe": _extract, "prmt": _permute,
    "selp": lambda a, b, p: np.where(p, a, b), "max.relu": lambda a, b: np.maximum(np.maximum(a, b), 0),
    "min.relu": lambda a, b: np.maximum(np.minimum(a, b), 0),
    "mov": lambda a: a, "cvta": lambda a: a, "shf.l.wrap": _funnel(True), "shf.r.wrap": _funnel(False),
}  # fmt: skip
REAL: dict[str, Function] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "fma": _fused, "min": np.fmin, "max": np.fmax,
    "min.nan": _nan(np.fmin), "max.nan": _nan(np.fmax), "div": np.divide,
    "neg": np.negative, "abs": np.abs, "rcp": np.reciprocal, "sqrt": np.sqrt, "rsqrt": lambda a: 1 / np.sqrt(a),
    "ex2": np.exp2, "lg2": np.log2, "tanh": np.tanh, "selp": SIMPLE["selp"], "mov": SIMPLE["mov"],
}  # fmt: skip
_COMPARE = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
_QUIET = ("rn", "approx", "ftz", "full", "to", "param", "global")
_DOUBLE = {"16": "32", "32": "64"}
_OF_THREE = ("fma", "mad", "prmt", "shf")
_OF_ONE = ("mov", "cvta", "not", "neg", "abs", "rcp", "sqrt", "rsqrt", "ex2", "lg2", "tanh")


def function(op: str) -> tuple[Function, list[str], list[str]]:
    """What an instruction computes, and the types of its results and operands; KeyError where it is not known."""
    words = op.split(".")
    head, kinds = words[0], [word for word in words[1:] if word in TYPES]
    if head == "cvt":
        return _conversion(op, words, kinds)
    if head == "setp":
        return _comparison(words, kinds[0])
    kind = kinds[-1]
    rest = [word.lower() for word in words[1:] if word not in kinds and word not in _QUIET]
    if rest == ["wide"]:
        wide = kind[0] + _DOUBLE[kind[1:]]
        code = TYPES[wide]
        if head == "mul":
            return lambda a, b: a.astype(code) * b.astype(code), [wide], [kind, kind]
        return lambda a, b, c: a.astype(code) * b.astype(code) + c, [wide], [kind, kind, wide]
    real = TYPES[kind].kind == "f" or kind.startswith("bf16")
    special = {"selp": [kind, kind, "pred"], "shl": [kind, "u32"], "shr": [kind, "u32"], "bfe": [kind, "u32", "u32"]}
    if kinds[1:]:  # factors, or the first term, of a narrower type than the sum
        counts = {"add": 1, "sub": 1, "fma": 2}
        return REAL[".".join([head, *rest])], kinds[:1], [kind] * counts[head] + kinds[:1]
    operands = special.get(head) or [kind] * (3 if head in _OF_THREE else 1 if head in _OF_ONE else 2)
    return (REAL if real else SIMPLE)[".".join([head, *rest])], [kind], operands


def _comparison(words: list[str], kind: str) -> tuple[Function, list[str], list[str]]:
    real = TYPES[kind].kind == "f" or kind.startswith("bf16")
    join = next((word for word in words[2:] if word in ("and", "or", "xor")), "")
    compare = words[1]
    if compare in ("nan", "num"):
        inner: Function = lambda a, b: (np.isnan(a) | np.isnan(b)) == (compare == "nan")  # noqa: E731
    elif real and compare[-1] == "u":
        inner = lambda a, b: _COMPARE[compare[:-1]](a, b) | np.isnan(a) | np.isnan(b)  # noqa: E731
    elif real and compare == "ne":
        inner = lambda a, b: (a != b) & ~np.isnan(a) & ~np.isnan(b)  # noqa: E731
    else:
        inner = _COMPARE[compare]
    if not join:
        return inner, ["pred"], [kind, kind]
    joined = SIMPLE[join]
    return lambda a, b, p: joined(inner(a, b), p), ["pred"], [kind, kind, "pred"]


_WHOLE = {"rzi": np.trunc, "rni": np.rint, "rmi": np.floor, "rpi": np.ceil}


def _conversion(op: str, words: list[str], kinds: list[str]) -> tuple[Function, list[str], list[str]]:
    if "rna" in words and "tf32" in words:
        return _nearest_tf32, ["f32"], ["f32"]
    to, of = kinds
    if to.endswith("x2") and "rn" in words:  # the first operand becomes the upper half
        return lambda a, b: np.stack([b, a], -1).reshape(-1), [to], [of, of]
    whole = next((_WHOLE[word] for word in words if word in _WHOLE), None)
    unknown = set(words[1:]) - {*kinds, *_WHOLE, "rn", "rz", "sat", "ftz"}
    if unknown or "sat" in words or "rz" in words:
        raise KeyError(op)
    real = TYPES[to].kind == "f" or to.startswith("bf16")

    def convert(a: Array) -> Array:
        if whole is not None:
            a = whole(a)
        if real:
            return a.astype("f4" if to == "bf16" else TYPES[to])
        if a.dtype.kind == "f":
            limits = np.iinfo(TYPES[to])
            a = np.where(np.isnan(a), 0, np.clip(a.astype("f8"), float(limits.min), float(limits.max)))
        return a.astype(TYPES[to])

    return convert, [to], [of]


def _nearest_tf32(a: Array) -> Array:
    bits = a.view("u4")
    return np.where(np.isfinite(a), ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view("f4"), a)
