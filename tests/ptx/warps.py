"""Instructions of whole warps: exchange of values, matrices between registers and shared memory, and their products."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.ptx import tensor_cores
from tests.ptx.access import Texts, Words
from tests.ptx.arithmetic import TYPES, Array
from tests.ptx.machine import GROUP, WARP, Machine, Mask, Step
from tests.ptx.memory import ProgramError
from tests.ptx.operands import NOWHERE, Operands


def elect(d: Operands, words: Words, o: Texts) -> Step:
    """elect.sync takes the first thread."""
    leader, chosen = (d.sink(text) for text in o[0].split("|"))

    def step(m: Machine, mask: Mask) -> None:
        if leader != NOWHERE:
            m.write(leader, np.zeros(m.threads, "u4"), mask)
        m.write(chosen, m.lane == 0, mask)

    return step


def shuffle(d: Operands, words: Words, o: Texts) -> Step:
    """shfl.sync over all 32 threads."""
    target, valid = [*(d.sink(text) for text in o[0].split("|")), NOWHERE][:2]
    source, by = d.register(o[1]), d.register(o[2])
    mode = words[2]
    if (mode, o[3]) not in (("bfly", "31"), ("idx", "31"), ("down", "31"), ("up", "0")):
        raise NotImplementedError(f"{'.'.join(words)} {o[3]}")

    def step(m: Machine, mask: Mask) -> None:
        b = m.registers[by].astype("i8") & WARP - 1
        other = {"up": m.lane - b, "down": m.lane + b, "bfly": m.lane ^ b, "idx": b}[mode]
        inside = (other >= 0) & (other < WARP)
        m.write(target, m.registers[source][m.all - m.lane + np.where(inside, other, m.lane)], mask)
        if valid != NOWHERE:
            m.write(valid, inside, mask)

    return step


def redux(d: Operands, words: Words, o: Texts) -> Step:
    """One number of a warp's."""
    target, source, kind = d.register(o[0]), d.register(o[1]), TYPES[words[-1]]
    reduce: Callable[..., Any] = {"add": np.add, "min": np.minimum, "max": np.maximum}[words[2]].reduce

    def step(m: Machine, mask: Mask) -> None:
        found = reduce(m.registers[source].view(kind).reshape(-1, WARP), axis=1, dtype=kind)
        m.write(target, np.repeat(found, WARP).view("u4"), mask)

    return step


def matrix(d: Operands, words: Words, o: Texts) -> Step:
    """ldmatrix and stmatrix."""
    load, turned = words[0] == "ldmatrix", "trans" in words
    count = int(next(word for word in words if re.fullmatch(r"x\d", word))[1:])
    if "m8n8" not in words or words[-1] != "b16":
        raise NotImplementedError(".".join(words))
    registers, (base, offset) = d.many(o[1 - load]), d.address(o[load])

    def step(m: Machine, mask: Mask) -> None:
        named = (m.lane < 8 * count) if mask is None else mask & (m.lane < 8 * count)
        rows = np.flatnonzero(named)
        at = m.shared.offsets(m.addresses(base, offset, rows), m.owner[rows], 16, 16)
        m.touch(rows, at, 16, not load)
        memory, cells = m.shared.bytes.view("u4"), at[:, None] // 4 + np.arange(4)
        if load:
            for register, part in zip(registers, tensor_cores.ldmatrix(memory[cells], count, turned), strict=True):
                m.put(register, part, mask)
        else:
            lanes = m.lanes(mask)
            memory[cells] = tensor_cores.stmatrix(np.stack([m.registers[i][lanes] for i in registers]), turned)

    return step


def mma(d: Operands, words: Words, o: Texts) -> Step:
    """mma.sync"""
    shape, kinds = words[3], words[6:]
    if words[4:6] != ["row", "col"] or kinds[1] != kinds[2] or kinds[0] not in ("f32", "f64"):
        raise NotImplementedError(".".join(words))
    wide = "b64" if kinds[0] == "f64" else "b32"
    targets, sources = d.many(o[0], wide), [d.many(text, wide) for text in o[1:4]]

    def step(m: Machine, mask: Mask) -> None:
        parts = (np.stack([m.registers[i] for i in some]) for some in sources)
        for target, found in zip(targets, tensor_cores.mma(shape, kinds[1], *parts), strict=True):
            m.write(target, found, mask)

    return step


def wgmma(d: Operands, words: Words, o: Texts) -> Step:
    """wgmma and its groups. Sums are there at once, but operands in shared memory are watched until the wait."""
    if words[1] == "commit_group":
        return lambda m, mask: m.products.append([])
    if words[1] == "wait_group":
        left = int(o[0])
        return lambda m, mask: m.wait_products(left)
    shape = re.fullmatch(r"m64n(\d+)k(\d+)", words[4])
    if not shape or words[5] != "f32" or o[4:6] != ("1", "1"):
        raise NotImplementedError(".".join(words))
    n, k, kind = int(shape[1]), int(shape[2]), words[6]
    turned = [int(text) for text in o[6:]] or [0, 0]
    sums, left_one, right, adds = d.many(o[0]), d.many(o[1], "b64"), d.register(o[2]), d.register(o[3], "pred")

    def step(m: Machine, mask: Mask) -> None:
        running = np.ones(m.threads // GROUP, bool) if mask is None else mask.reshape(-1, GROUP).all(1)
        if mask is not None and mask.sum() != GROUP * running.sum():
            raise ProgramError("wgmma of a part of a warpgroup")

        def shared(register: int, size: int, k_inner: bool) -> Array:
            found = m.registers[register][::GROUP].copy()
            found[~running] = found[running][0]
            first = m.owner[::GROUP] * m.shared.step
            bits, at = tensor_cores.operand(m.shared.bytes, first, found, size, k, kind, k_inner)
            m.begin_product(at, bits, running)
            return tensor_cores.numbers(bits, kind)

        if "{" in o[1]:
            a = tensor_cores.left_of_warpgroups(np.stack([m.registers[i] for i in left_one]), kind)
        else:
            a = shared(left_one[0], 64, not turned[0])
        c = np.stack([np.where(m.registers[adds], m.registers[i], np.uint32(0)) for i in sums])
        found = tensor_cores.wgmma(a, shared(right, n, not turned[-1]), c)
        for target, part in zip(sums, found, strict=True):
            m.write(target, part, mask)

    return step
