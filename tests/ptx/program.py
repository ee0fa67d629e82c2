"""PTX text -> blocks of instructions."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_WAIT = re.compile(
    r"\{\s*\.reg \.pred complete;\s*waitLoop:\s*mbarrier\.try_wait\.parity\.shared(?:::cta)?\.b64 complete, "
    r"(\[[^]]*\]), (\S+);\s*@!complete bra\.uni waitLoop;\s*\}"
)
_LINE = re.compile(r"(?:@(!?)(%\w+)\s+)?([a-z][\w.:]*)\s*(.*);$")
_ENDS = ("bra", "ret", "exit", "bar", "mbarrier.wait")
BITS = {"pred": 1, "8": 8, "16": 16, "32": 32, "64": 64}


@dataclass(frozen=True)
class Instruction:
    """guard: the predicate's name, or empty; operands: as written, those in braces together; where: file and line."""

    op: str
    guard: str
    negated: bool
    operands: tuple[str, ...]
    where: str


@dataclass
class Program:
    """parameters: (name, bytes) in order; registers: name without its number -> bits; targets: label -> block."""

    name: str
    parameters: list[tuple[str, int]]
    registers: dict[str, int]
    threads: int
    blocks: list[list[Instruction]] = field(default_factory=list)
    targets: dict[str, int] = field(default_factory=dict)


def parse(text: str) -> Program:
    """The one kernel of a PTX file."""
    text = _WAIT.sub(r"mbarrier.wait \1, \2;", re.sub(r"//[^\n]*", "", text))
    head = re.search(r"\.entry (\w+)\((.*?)\)(.*?)\{\n(.*)\n\}", text, re.S)
    assert head, "no kernel"
    name, parameters, directives, body = head.groups()
    threads = re.search(r"\.reqntid (\d+)", directives)
    assert threads, "no number of threads"
    program = Program(name, _parameters(parameters), {}, int(threads[1]))
    files = dict(re.findall(r'\.file\s+(\d+) "([^"]*)"', text))
    used = set(re.findall(r"bra(?:\.uni)?\s+([$\w]+)", body))
    where, block = "", program.blocks
    block.append([])
    for line in map(str.strip, re.sub(r"\n\s*(?=\.reg)|;\s*(?=\S)", lambda m: m[0].rstrip() + "\n", body).split("\n")):
        if line.startswith(".loc"):
            number, row = line.split()[1:3]
            where = f"{files.get(number, '?').rsplit('/', 1)[-1]}:{row}"
        elif line.startswith(".reg"):
            kind, prefix = re.findall(r"\.reg \.[a-z]?(pred|\d+)\s+(%[A-Za-z]+)", line.replace(".pred", ".ppred"))[0]
            program.registers[prefix] = BITS[kind]
        elif line.endswith(":"):
            if line[:-1] in used:
                block.append([])
                program.targets[line[:-1]] = len(block) - 1
        elif found := _LINE.match(line):
            negated, guard, op, rest = found.groups()
            block[-1].append(Instruction(op, guard or "", bool(negated), tuple(_operands(rest)), where))
            if op.startswith(_ENDS):
                block.append([])
        elif line and not line.startswith((".pragma", ".local", "{", "}")):
            raise NotImplementedError(f"PTX: {line}")
    return program


def _parameters(text: str) -> list[tuple[str, int]]:
    found = []
    for line in text.split(",\n"):
        words = line.split()
        if array := re.search(r"(\w+)\[(\d+)\]", line):
            found.append((array[1], int(array[2])))
        elif words:
            found.append((words[-1], int(words[1].lstrip(".bsuf")) // 8))
    return found


def _operands(text: str) -> list[str]:
    """Split at commas outside of brackets."""
    found, depth, start = [], 0, 0
    for i, sign in enumerate(text):
        depth += (sign in "{[") - (sign in "}]")
        if sign == "," and depth == 0:
            found.append(text[start:i].strip())
            start = i + 1
    return [*found, text[start:].strip()] if text.strip() else []
