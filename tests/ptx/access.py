"""Instructions that move data: loads and stores, asynchronous copies, boxes by TMA and the barriers they arrive at."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from tests.ptx.arithmetic import TYPES, WIDTH
from tests.ptx.machine import Machine, Mask, Step
from tests.ptx.memory import ProgramError
from tests.ptx.operands import NOWHERE, Operands
from tests.ptx.tma import MAPS

Words = list[str]
Texts = tuple[str, ...]
_SPACES = {"global": "global", "shared": "shared", "shared::cta": "shared", "param": "param"}
_PLAIN = {*_SPACES, "v2", "v4", "v8", "volatile", "relaxed", "gpu", "sys", "cta", "ca", "cg", "cs", "wb", "wt",
          "L1::evict_first", "L1::evict_last", "L1::no_allocate"}  # fmt: skip


def move(d: Operands, words: Words, o: Texts) -> Step | None:
    """mov between a register and its parts; None: an ordinary one."""
    if "{" in o[0]:
        parts, source = [d.sink(text.strip()) for text in o[0].strip("{}").split(",")], d.register(o[1])

        def take(m: Machine, mask: Mask) -> None:
            bits = m.registers[source]
            found = bits.view(f"u{bits.itemsize // len(parts)}").reshape(-1, len(parts))
            for i, part in enumerate(parts):
                if part != NOWHERE:
                    m.write(part, found[:, i].copy(), mask)

        return take
    if "{" not in o[1]:
        return None
    width = WIDTH[words[1]]
    target, sources = d.register(o[0]), d.many(o[1], f"b{8 * width // (o[1].count(',') + 1)}")

    def join(m: Machine, mask: Mask) -> None:
        m.write(target, np.stack([m.registers[i] for i in sources], 1).view(f"u{width}").reshape(-1), mask)

    return join


def access(d: Operands, words: Words, o: Texts) -> Step:
    """ld and st."""
    kind = TYPES[words[-1]]
    bits: np.dtype[Any] = np.dtype(f"u{kind.itemsize}")
    space = next((_SPACES[word] for word in words if word in _SPACES), "")
    if set(words[1:-1]) - _PLAIN or not space:
        raise NotImplementedError(".".join(words))
    if space == "param":
        source, target = d.register(str(d.parameter(o[1], kind.itemsize)), words[-1]), d.register(o[0])
        return lambda m, mask: m.write(target, m.registers[source], mask)
    load = words[0] == "ld"
    registers, (base, offset) = d.many(o[1 - load], words[-1]), d.address(o[load])
    width = kind.itemsize * len(registers)

    def step(m: Machine, mask: Mask) -> None:
        lanes = m.lanes(mask)
        addresses = m.addresses(base, offset, lanes)
        if space == "global":
            at, memory = m.memory.offsets(addresses, width, width), m.memory.bytes.view(bits)
        else:
            at, memory = m.shared.offsets(addresses, m.owner[lanes], width, width), m.shared.bytes.view(bits)
            m.touch(lanes, at, width, not load)
        at = at // kind.itemsize
        for i, register in enumerate(registers):
            if load:
                whole = m.registers[register].dtype
                found = memory[at + i].view(kind).astype(f"{kind.kind}{whole.itemsize}").view(whole)
                m.put(register, found, mask)
            else:
                memory[at + i] = m.registers[register][lanes].astype(bits)

    return step


def copy(d: Operands, words: Words, o: Texts) -> Step:
    """cp.async and its groups."""
    if words[2] == "bulk":
        return _box(d, words, o)
    if words[2] == "commit_group":
        return lambda m, mask: m.copies.commit(m.lanes(mask))
    if words[2] == "wait_group":
        left = int(o[0], 0)
        return lambda m, mask: m.copies.wait(m.lanes(mask), left)
    if words[2] not in ("ca", "cg"):
        raise NotImplementedError(".".join(words))
    (to, to_offset), (of, of_offset), width = d.address(o[0]), d.address(o[1]), int(o[2], 0)
    used = d.register(o[3] if len(o) > 3 else str(width), "b32")

    def step(m: Machine, mask: Mask) -> None:
        lanes = m.lanes(mask)
        places = m.shared.offsets(m.addresses(to, to_offset, lanes), m.owner[lanes], width, width)
        m.copies.issue(lanes, places, m.addresses(of, of_offset, lanes), m.registers[used][lanes], width)

    return step


def _box(d: Operands, words: Words, o: Texts) -> Step:
    """cp.async.bulk.tensor and the groups of its stores."""
    if words[3] in ("commit_group", "wait_group"):
        left = int(o[0]) if o else None

        def group(m: Machine, mask: Mask) -> None:
            for program in np.unique(m.owner[m.lanes(mask)]):
                m.boxes.commit(int(program)) if left is None else m.boxes.wait_stores(int(program), left)

        return group
    loads = words[5].startswith("shared")
    found = re.fullmatch(r"\[(%\w+),\s*\{(.*)\}\]", o[1] if loads else o[0])
    if words[3] != "tensor" or not found or "im2col" in words:
        raise NotImplementedError(".".join(words))
    which, start = d.register(found[1]), d.many(found[2])[::-1]
    place, offset = d.address(o[0] if loads else o[1])
    barrier, barrier_offset = d.address(o[2]) if loads else (NOWHERE, 0)

    def step(m: Machine, mask: Mask) -> None:
        for lane in m.lanes(mask):
            box = m.maps[(int(m.registers[which][lane]) - MAPS) // 128]
            first = tuple(int(m.registers[i][lane].view("i4")) for i in start)
            copy = box, int(m.owner[lane]), int(m.registers[place][lane]) + offset, first, int(m.warp[lane])
            if loads:
                m.boxes.load(*copy, int(m.registers[barrier][lane]) + barrier_offset)
            else:
                m.boxes.store(*copy)

    return step


def barriers(d: Operands, words: Words, o: Texts) -> Step:
    """mbarrier"""
    what = words[1]
    if what not in ("init", "inval", "arrive", "wait") or (what == "arrive" and words[2] != "expect_tx"):
        raise NotImplementedError(".".join(words))
    place, offset = d.address(o[what == "arrive"])
    value = NOWHERE if what == "inval" else d.register(o[-1])

    def step(m: Machine, mask: Mask) -> None:
        lanes = m.lanes(mask)
        addresses = m.addresses(place, offset, lanes)
        values = m.registers[value][lanes] if what != "inval" else lanes * 0
        each = np.stack([m.owner[lanes], addresses, values.astype("i8")], 1)
        for program, address, number in np.unique(each, axis=0) if what == "wait" else each:
            if what == "wait":
                if not m.boxes.wait(int(program), int(address), int(number)):
                    raise ProgramError("a barrier is waited for that nobody completes")
            elif what == "inval":
                m.boxes.drop(int(program), int(address))
            else:
                change = m.boxes.init if what == "init" else m.boxes.expect
                change(int(program), int(address), int(number))

    return step
