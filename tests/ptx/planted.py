"""Kernels with a mistake that the interpreter does not show, and what the emulated card says of each: a row of JSON.

Run as a module without TRITON_INTERPRET.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import torch
import triton
import triton.language as tl

import kernels
from bench.machine_code.plans import SHAPES, shape
from bench.networks import IMAGES, LENETS, build
from kernels.common.launch import launch
from kernels.conv2d.geometry import Conv2dGeometry
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.tiles import Tile
from kernels.lenet import lenet
from tests.ptx.launch import Card, emulated
from tests.ptx.plans import Job, wrong

SIZE, BLOCK = 100, 512


@triton.jit
def masked_kernel(x_ptr, y_ptr, size, OTHER: tl.constexpr, BLOCK: tl.constexpr):
    """y = x + 1 of `size` numbers, and OTHER + 1 beyond."""
    o = tl.arange(0, BLOCK)
    tl.store(y_ptr + o, tl.load(x_ptr + o, mask=o < size, other=OTHER) + 1)


@triton.jit
def beyond_kernel(x_ptr, y_ptr, size, BLOCK: tl.constexpr):
    """y = x; the load has no mask."""
    o = tl.arange(0, BLOCK)
    tl.store(y_ptr + o, tl.load(x_ptr + o), mask=o < size)


@triton.jit
def promised_kernel(x_ptr, y_ptr, size, BLOCK: tl.constexpr):
    """y = x; the mask is said to be the same for four neighbours."""
    o = tl.arange(0, BLOCK)
    m = tl.max_constancy(o < size, 4)
    tl.store(y_ptr + o, tl.load(x_ptr + o, mask=m, other=0.0), mask=m)


def said(run: Callable[[], object]) -> str:
    """The exception's words, or the result."""
    try:
        return str(run())
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def masked(other: float) -> list[float]:
    """The first and the last of numbers that are partly masked."""
    x, y = torch.ones(SIZE), torch.empty(BLOCK)
    with emulated(Card("sm_80")):
        launch(masked_kernel, 1, x_ptr=x, y_ptr=y, size=SIZE, OTHER=other, BLOCK=BLOCK)
    return [float(y[0]), float(y[-1])]


def copied(kernel: object, size: int) -> bool:
    """Whether y is x."""
    x = torch.arange(float(size))
    y = torch.empty(size)
    with emulated(Card("sm_90")):
        launch(kernel, 1, x_ptr=x, y_ptr=y, size=size, BLOCK=BLOCK)
    return torch.equal(x, y)


SHAPES["tiny"] = shape(1, 72, (5, 5), 40, (3, 3))
SHAPES["tiny 1x1"] = shape(1, 384, (4, 8), 64, (1, 1))
SHAPES["odd groups"] = Conv2dGeometry(1, 132, 3, 4, 18, 2, 2, (1, 1), (0,) * 4, (1, 1), 2)
SHAPES["odd input"] = Conv2dGeometry(1, 35, 4, 4, 64, 2, 2, (1, 1), (0,) * 4, (1, 1), 1)
SHAPES["no tap"] = Conv2dGeometry(1, 64, 2, 2, 31, 1, 3, (1, 2), (1, 1, 2, 2), (2, 2), 1)
GEMM = Plan("gemm", Tile(32, 32, 32, 4, 3), True)
JOBS = {
    "mma": ("sm_80", "float16", Job("fprop", "tiny", True, GEMM)),
    "tf32 mma": ("sm_80", "float32", Job("wgrad", "tiny", False, GEMM)),
    "wgmma": ("sm_90", "bfloat16", Job("fprop", "tiny 1x1", True, Plan("matmul", Tile(64, 64, 64, 4, 4), True))),
    "tf32 wgmma": ("sm_90", "float32", Job("dgrad", "tiny 1x1", True, Plan("matmul", Tile(64, 64, 32, 4, 4), True))),
    "odd groups": ("sm_80", "float16", Job("fprop", "odd groups", True, GEMM)),
    "odd groups, wgrad": ("sm_80", "float16", Job("wgrad", "odd groups", True, GEMM)),
    "odd input": ("sm_80", "float32", Job("dgrad", "odd input", True, GEMM)),
    "no tap": ("sm_90", "bfloat16", Job("dgrad", "no tap", True, GEMM)),
}
"""Target, precision, and a plan: of each family of instructions, and of problems that only a compiled program fails:
channels of a group or of the input that are no whole chunk, and a phase of the input gradient that no tap reaches."""
ORDER = ("bar.sync", "cp.async.wait", "mbarrier.wait", "wgmma.wait", "fence.proxy.async", "cp.async.bulk.wait")


def plan(name: str) -> list[object]:
    """How many elements are wrong, and the families of instructions that the programs have."""
    target, precision, job = JOBS[name]
    card = Card(target, races=True)
    count = said(lambda: wrong(card, precision, job))
    programs = [program for _, program in card.compiled.values()]
    ops = {instruction.op for program in programs for block in program.blocks for instruction in block}
    heads = ("mma.sync", "wgmma.mma_async", "ldmatrix", "cp.async.c", "cp.async.bulk.tensor", "mbarrier.wait")
    return [count, [head for head in heads if any(op.startswith(head) for op in ops)]]


def lenet_step() -> bool:
    """Whether a training step of the fused LeNet in half precision gives finite gradients."""
    parameters = [p.detach().half().requires_grad_() for p in build("lenet").parameters()]
    with kernels.backend("triton"), emulated(Card("sm_90")):
        y = lenet(torch.ones(3, *IMAGES["lenet"], dtype=torch.half), parameters, padding=LENETS["lenet"])
        found = torch.autograd.grad(y.sum(), parameters)
    return all(bool(gradient.isfinite().all()) for gradient in found)


def without(name: str) -> dict[str, list[str]]:
    """What is said of a job's product without one of its barriers or waits, for each in turn."""
    target, precision, job = JOBS[name]
    card = Card(target, races=True)
    wrong(card, precision, job)
    key = next(key for key in card.compiled if key[0][0] in ("fprop_kernel", "matmul_kernel"))
    code, whole = card.compiled[key]
    found: dict[str, list[str]] = {}
    for b, block in enumerate(whole.blocks):
        for i, instruction in enumerate(block):
            if instruction.op.startswith(ORDER):
                blocks = [*whole.blocks]
                blocks[b] = block[:i] + block[i + 1 :]
                card.compiled[key] = code, replace(whole, blocks=blocks)
                found.setdefault(instruction.op, []).append(said(lambda: wrong(card, precision, job)))
    return found


def main() -> None:
    """Print the rows."""
    torch.use_deterministic_algorithms(True)  # new memory is NaN
    rows: dict[str, Callable[[], object]] = {
        "other": lambda: masked(5.0),
        "beyond": lambda: said(lambda: copied(beyond_kernel, SIZE)),
        "true promise": lambda: said(lambda: copied(promised_kernel, 100)),
        "false promise": lambda: said(lambda: copied(promised_kernel, 98)),
        "lenet": lambda: said(lenet_step),
        **{name: lambda name=name: plan(name) for name in JOBS},
        **{f"without {name}": lambda name=name: without(name) for name in ("mma", "wgmma")},
    }
    for name, row in rows.items():
        print(json.dumps([name, row()]), flush=True)


if __name__ == "__main__":
    main()
