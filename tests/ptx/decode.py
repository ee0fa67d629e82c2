"""Instructions -> steps that a machine takes."""

from __future__ import annotations

from collections.abc import Callable

from tests.ptx import access, warps
from tests.ptx.arithmetic import function, pack, unpack
from tests.ptx.machine import Machine, Mask, Step
from tests.ptx.operands import NOWHERE, Operands
from tests.ptx.program import Instruction

_FAMILIES: dict[str, Callable[[Operands, list[str], tuple[str, ...]], Step | None]] = {
    "mov": access.move, "ld": access.access, "st": access.access, "cp": access.copy, "mbarrier": access.barriers,
    "elect": warps.elect, "shfl": warps.shuffle, "redux": warps.redux, "ldmatrix": warps.matrix,
    "stmatrix": warps.matrix, "mma": warps.mma, "wgmma": warps.wgmma,
}  # fmt: skip
_NOTHING = ("fence.", "wgmma.fence", "bar.warp.sync", "membar", "prefetch", "griddepcontrol")
"""What orders accesses that are in order here."""


def steps(operands: Operands) -> list[list[tuple[Instruction, Step]]]:
    """Those of each block. NotImplementedError names an instruction that is not known."""
    blocks = enumerate(operands.program.blocks)
    return [[(instruction, _step(operands, instruction, i + 1)) for instruction in block] for i, block in blocks]


def _step(d: Operands, instruction: Instruction, following: int) -> Step:
    """With its guard. following: the next block."""
    guard, negated = instruction.guard and d.register(instruction.guard), instruction.negated
    if instruction.op in ("bra", "bra.uni"):
        target = d.program.targets[instruction.operands[0]]
        if not guard and guard != 0:
            return lambda m, mask: m.branch(m.alive, target, mask)
        return lambda m, mask: m.branch(~m.registers[guard] if negated else m.registers[guard], target, mask)
    inner = _unguarded(d, instruction, following)
    if not instruction.guard:
        return inner

    def guarded(m: Machine, mask: Mask) -> None:
        found = ~m.registers[guard] if negated else m.registers[guard]
        found = found if mask is None else found & mask
        if found.all():
            inner(m, None)
        elif found.any():
            inner(m, found)

    return guarded


def _unguarded(d: Operands, instruction: Instruction, following: int) -> Step:
    op, words, o = instruction.op, instruction.op.split("."), instruction.operands
    if op.startswith("fence.proxy.async"):
        return lambda m, mask: m.fence(mask)
    if op.startswith(_NOTHING):
        return lambda m, mask: None
    if op in ("ret", "exit"):
        return lambda m, mask: m.end(mask)
    if op == "bar.sync" and o == ("0",):
        return lambda m, mask: m.barrier(following, mask)
    found = _FAMILIES[words[0]](d, words, o) if words[0] in _FAMILIES else None
    return found or _compute(d, op, o)


def _compute(d: Operands, op: str, o: tuple[str, ...]) -> Step:
    """Registers from registers."""
    try:
        inner, (kind,), kinds = function(op)
    except (KeyError, ValueError, IndexError):
        raise NotImplementedError(op) from None
    if len(kinds) != len(o) - 1:
        raise NotImplementedError(f"{op} of {len(o)} operands")
    pairs = [(d.register(text, kind), kind) for text, kind in zip(o[1:], kinds, strict=True)]
    targets = [d.sink(text) for text in o[0].split("|")]
    whole = d.kinds[targets[0]]

    def compute(m: Machine, mask: Mask) -> None:
        found = inner(*[unpack(m.registers[i], kind) for i, kind in pairs])
        bits = pack(found, kind)
        if bits.dtype != whole:  # a register with room for more
            bits = found.astype(f"{found.dtype.kind}{whole.itemsize}").view(whole)
        m.write(targets[0], bits, mask)

    def compare(m: Machine, mask: Mask) -> None:
        found = inner(*[unpack(m.registers[i], kind) for i, kind in pairs])
        two = (found[0::2], found[1::2]) if kinds[0].endswith("x2") else (found, ~found)
        for target, part in zip(targets, two, strict=False):
            if target != NOWHERE:
                m.write(target, part, mask)

    return compare if op.startswith("setp") else compute
