"""A recorded launch -> the machine code that a card of another architecture would run."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import triton
from torch import Tensor
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from kernels.common.device import Card
from kernels.common.launch import Launch
from kernels.common.registers import Options, settle

TARGETS: dict[str, Any] = {
    **{f"sm_{cap}": GPUTarget("cuda", cap, 32) for cap in (80, 86, 89, 90, 100, 120)},
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
CARDS = {
    "sm_80": Card(166_912, False, fast_tf32=True),
    "sm_86": Card(101_376, False),
    "sm_89": Card(101_376, False),
    "sm_90": Card(232_448, True, fast_tf32=True),
    "sm_100": Card(232_448, True, tcgen05=True, fast_tf32=True),
    "sm_120": Card(101_376, False),
    "gfx942": Card(65_536, False),
}
"""What a plan knows of each target. Compiling alone does not check the shared memory."""

_TYPES = {
    torch.float16: "*fp16",
    torch.bfloat16: "*bf16",
    torch.float32: "*fp32",
    torch.float64: "*fp64",
    torch.uint8: "*u8",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
_TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
_LISTED = str if triton.__version__.startswith("3.6.") else object
"""Constants of this type have an empty list of attributes in what Triton's launcher compiles."""


@dataclass(frozen=True)
class Compiled:
    """Machine code of one launch: `code` is the cubin or hsaco, `text` Triton's lower forms by name.

    registers: of a thread. stack: its bytes. maxnreg: the registers that were named, or None. signature: the type of
    every argument by name, "constexpr" of those that the program has no parameter for. boxes: what Triton makes of each
    TMA descriptor.
    """

    target: str
    code: bytes
    text: dict[str, str]
    shared: int
    num_warps: int
    registers: int
    stack: int
    maxnreg: int | None
    signature: dict[str, str]
    boxes: list[dict[str, Any]]


def _specialize(kernel: Any, arguments: dict[str, Any]) -> tuple[dict[str, str], dict[Any, Any], dict[Any, Any]]:
    """Signature, constexprs and attributes as Triton's launcher derives them from the actual values, to the letter:
    then a launch finds in Triton's cache what was compiled here."""
    signature: dict[str, str] = {}
    constants: dict[Any, Any] = {}
    attributes: dict[Any, Any] = {}
    for position, parameter in enumerate(kernel.params):
        value = arguments[parameter.name]
        if parameter.is_constexpr or (isinstance(value, int) and value == 1):
            signature[parameter.name] = "constexpr"
            constants[(position,)] = value
            if isinstance(value, _LISTED):
                attributes[(position,)] = []
            continue
        if hasattr(value, "block_shape"):
            signature[parameter.name] = f"tensordesc<{_TYPES[value.base.dtype][1:]}{list(value.block_shape)}>"
            continue
        if isinstance(value, Tensor):
            signature[parameter.name] = _TYPES[value.dtype]
            aligned = value.data_ptr() % 16 == 0  # true of torch's allocations, and of tensors without memory
        else:
            signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
            aligned = value % 16 == 0
        attributes[(position,)] = [["tt.divisibility", 16]] if aligned else []
    return signature, constants, attributes


def compile_launch(launch: Launch, target: str) -> Compiled:
    """Compile `launch` for one of TARGETS, with the options that it would settle on (kernels/common/registers.py).

    Needs a process without TRITON_INTERPRET; raises what Triton raises.
    """
    arguments = launch.arguments
    if target.startswith("gfx"):  # what input_precision gives there
        portable = {
            name: "tf32 portable" for name, value in arguments.items() if isinstance(value, str) and value == "tf32"
        }
        arguments = {**arguments, **portable}
    signature, constants, attributes = _specialize(launch.kernel, arguments)
    source = ASTSource(fn=launch.kernel, signature=signature, constexprs=constants, attrs=attributes)

    def make(options: Options) -> Compiled:
        compiled = triton.compile(source, target=TARGETS[target], options=dict(options))
        code = compiled.asm.get("cubin") or compiled.asm.get("hsaco")
        text = {name: value for name, value in compiled.asm.items() if isinstance(value, str)}
        facts, named = compiled.metadata, options.get("maxnreg")
        boxes = getattr(facts, "tensordesc_meta", None) or []
        usage = _usage(target, code, text)
        return Compiled(target, code, text, facts.shared, facts.num_warps, *usage, named, signature, boxes)

    if target.startswith("gfx"):
        return make(launch.options)
    room = CARDS[target].shared
    return settle(launch.options, make, lambda made: (made.registers, made.stack or max(0, made.shared - room)))[1]


def _usage(target: str, code: bytes, text: dict[str, str]) -> tuple[int, int]:
    """Registers of a thread and bytes of its stack."""
    if target.startswith("gfx"):
        values = {name: int(value) for name, value in re.findall(r"\.(\w+):\s+(\d+)", text["amdgcn"])}
        return values.get("vgpr_count", 0), values.get("private_segment_fixed_size", 0)
    usage = tool("cuobjdump", code, "-res-usage")
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    if found is None:
        raise RuntimeError(f"cuobjdump gave no resource usage for {target}: {usage[:200]}")
    return int(found[1]), int(found[2])


def tool(name: str, code: bytes, *options: str) -> str:
    """What one of NVIDIA's tools, which come with Triton, says of a cubin."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        done = subprocess.run([str(_TOOLS / name), *options, file.name], capture_output=True, text=True, check=True)
    return done.stdout + done.stderr
