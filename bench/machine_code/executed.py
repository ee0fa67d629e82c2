"""The loops of a kernel's machine code, with what each has of its own."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from bench.machine_code.compile import Compiled
from bench.machine_code.read import disassembly

_CODE = re.compile(r"/\*[0-9a-f]{4,5}\*/\s+(.*?);")
_LABEL = re.compile(r"\s*\.(L_x_\d+):")
_BRANCH = re.compile(r"\bBRA\b.*`\(\.(L_x_\d+)\)")

SHORT = 6


@dataclass(frozen=True)
class Loop:
    """own: its instructions without those of loops inside it; depth: 0 for an outermost one; kinds: own by opcode."""

    own: int
    depth: int
    kinds: Counter[str]


def loops(compiled: Compiled) -> list[Loop]:
    """The loops of a cubin in the order of their code."""
    code, labels = _instructions(disassembly(compiled.code, "-c"))
    spans = set()
    for end, text in enumerate(code):
        branch = _BRANCH.search(text)
        # Code ends with a branch to itself, and waits on a barrier are loops of a few instructions.
        if branch and labels.get(branch[1], end + 1) <= end - SHORT:
            spans.add((labels[branch[1]], end))
    found = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        outside = [s for s in spans if s != (start, end) and s[0] <= start and end <= s[1]]
        inside = [s for s in spans if s != (start, end) and start <= s[0] and s[1] <= end]
        own = [code[i] for i in range(start, end + 1) if not any(a <= i <= b for a, b in inside)]
        found.append(Loop(len(own), len(outside), Counter(map(_opcode, own))))
    return found


def _opcode(text: str) -> str:
    return re.sub(r"^@!?U?P\d+\s+", "", text).split()[0].split(".")[0]


def _instructions(lines: list[str]) -> tuple[list[str], dict[str, int]]:
    """The instructions, and where labels stand among them. Predicated-off fillers are left out."""
    code: list[str] = []
    labels: dict[str, int] = {}
    for text in lines:
        label, found = _LABEL.match(text), _CODE.search(text)
        if label:
            labels[label[1]] = len(code)
        elif found and "@!PT" not in text:
            code.append(found[1])
    return code, labels
