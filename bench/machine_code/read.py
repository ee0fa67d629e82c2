"""Reading machine code: registers, stack, and what the instructions of the main loop do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from bench.machine_code.compile import Compiled, tool

_PATTERNS = {
    "wgmma": r"\bHGMMA",
    "mma": r"\b[HDI]MMA\b|\bHMMA",
    "tcgen05": r"\bUTC[A-Z]*MMA",
    "tma_load": r"\bUTMALDG",
    "async_copy": r"\bLDGSTS",
    "async_copy_16": r"\bLDGSTS\S*\.128",
    "load": r"\bLDG\b|\bLDG\.",
    "load_16": r"\bLDG\.\S*128",
    "store": r"\bSTG\b|\bSTG\.",
    "store_16": r"\bSTG\.\S*128",
    "shared_load": r"\bLDSM?\b",
    "shared_store": r"\bSTSM?\b",
    "fma": r"\bFFMA|\bDFMA|\bHFMA2",
    "spill": r"\bLDL|\bSTL",
    "atomic": r"\bATOM|\bRED\.",
}


_PRODUCTS = {"tcgen05": 1024, "wgmma": 1024, "mma": 64, "fma": 1}
"""Products of a thread in one instruction, in their order of size."""


@dataclass(frozen=True)
class Report:
    """What one program costs and does; counts are of static instructions."""

    registers: int
    stack: int
    shared: int
    num_warps: int
    total: dict[str, int]
    loop: dict[str, int]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def read(compiled: Compiled) -> Report:
    """The report of NVIDIA machine code or, with fewer facts, of AMD's."""
    if compiled.target.startswith("gfx"):
        return _read_amd(compiled)
    lines = disassembly(compiled.code, "-c")
    loops = [count(body) for body in _loops(lines)]
    loop = max(loops, key=_weight, default={})
    return Report(compiled.registers, compiled.stack, compiled.shared, compiled.num_warps, count(lines), loop)


def count(lines: Iterable[str]) -> dict[str, int]:
    """Instructions by kind, and all of them as "all". Predicated-off fillers (@!PT) do nothing and are left out."""
    code = [line for line in lines if re.search(r"/\*[0-9a-f]{4,5}\*/", line) and "@!PT" not in line]
    counts = {name: sum(bool(re.search(pattern, line)) for line in code) for name, pattern in _PATTERNS.items()}
    return {"all": len(code), **{name: n for name, n in counts.items() if n}}


def disassembly(code: bytes, *options: str) -> list[str]:
    """nvdisasm's lines for a cubin."""
    return tool("nvdisasm", code, *options).splitlines()


def _loops(lines: list[str]) -> list[list[str]]:
    """The bodies between a label and a later branch back to it, but for what lies behind the program's end: there the
    waits for a barrier that was not ready branch back to wherever they came from."""
    labels: dict[str, int] = {}
    bodies = []
    for i, line in enumerate(lines):
        label = re.match(r"\s*\.(L_x_\d+):", line)
        if label:
            labels[label[1]] = i
        branch = re.search(r"\bBRA\b.*`\(\.(L_x_\d+)\)", line)
        if branch and branch[1] in labels:
            body = lines[labels[branch[1]] : i + 1]
            if not any(re.search(r"\*/ +EXIT\b", each) for each in body):
                bodies.append(body)
    return bodies


def _weight(loop: dict[str, int]) -> tuple[int, bool, int]:
    """The main loop is the one with the most products; among equals one that copies ahead by cp.async, which the loop
    of packed groups that NaNs take does not; then the innermost."""
    products = sum(size * loop.get(kind, 0) for kind, size in _PRODUCTS.items())
    return products, "async_copy" in loop, -loop["all"]


def _read_amd(compiled: Compiled) -> Report:
    products = len(re.findall(r"\bv_mfma", compiled.text["amdgcn"]))
    total = {"mma": products} if products else {}
    return Report(compiled.registers, compiled.stack, compiled.shared, compiled.num_warps, total, total)
