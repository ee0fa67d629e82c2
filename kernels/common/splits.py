"""Sums in two deterministic passes: parts first, then the parts in a fixed order, with what follows. No atomics.

There may be hundreds of parts of a few numbers (a bias, a small filter): added one by one they would keep a handful of
programs waiting for memory a hundred times over. So a program reads many parts at once where results are few.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.common.arithmetic import accumulator, index
from kernels.common.device import PROGRAMS
from kernels.common.jit import relu
from kernels.common.launch import launch

TILE = 2048
"""Numbers that a program reads at a time, 16 of a thread: so many loads of 16 bytes are under way at once."""
MAXNREG = 128
"""Registers a thread: left to itself, NVIDIA's assembler may keep a few float64 numbers on the stack instead."""
LEAST = 8
"""Adjacent numbers of a part that a program takes at least: what memory reads at once."""


@triton.jit
def reduce_splits_kernel(
    partial_ptr,
    bias_ptr,
    out_ptr,
    numel,
    splits,
    k,
    inner,
    HAS_BIAS: tl.constexpr,
    RELU: tl.constexpr,
    INDEX: tl.constexpr,
    ACC: tl.constexpr,
    PARTS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """out[i] = sum over s of partial[s, i] + bias[i // inner % k], then ReLU.

    Row j of a tile of [PARTS, BLOCK] sums the parts j, j + PARTS, ... one after the other; then the rows are added.
    """
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    o_part = tl.arange(0, PARTS)
    b_rows = tl.zeros((PARTS, BLOCK), ACC)
    p_rows = partial_ptr + (o_part.to(INDEX)[:, None] * numel + o[None, :])
    for s_0 in range(0, splits, PARTS):
        b_rows += tl.load(p_rows, mask=(s_0 + o_part < splits)[:, None] & m[None, :], other=0.0)
        p_rows += tl.full((), PARTS, INDEX) * numel
    b_sum = tl.sum(b_rows, axis=0)
    if HAS_BIAS:
        b_sum += tl.load(bias_ptr + o // inner % k, mask=m, other=0.0).to(ACC)
    if RELU:
        b_sum = relu(b_sum)
    tl.store(out_ptr + o, b_sum.to(out_ptr.dtype.element_ty), mask=m)


def partial_sums(out: Tensor, splits: int) -> Tensor:
    """Where the first pass writes: `out` itself when there is one split of its own dtype, else [splits, numel]."""
    acc = torch.float64 if out.dtype == torch.float64 else torch.float32
    if splits == 1 and acc == out.dtype:
        return out
    return torch.empty((splits, out.numel()), dtype=acc, device=out.device)


def reduce(partial: Tensor, out: Tensor, bias: Tensor | None = None, relu: bool = False) -> None:
    """The second pass. Both sides are dense in the same order, so that it needs no coordinates but the bias's."""
    if partial is out:
        return
    channels_last = out.dim() == 4 and out.stride(1) == 1
    splits, numel = partial.shape
    parts = parts_at_once(splits, numel)
    launch(
        reduce_splits_kernel,
        math.ceil(numel / (TILE // parts)),
        maxnreg=MAXNREG,
        partial_ptr=partial,
        bias_ptr=partial if bias is None else bias,
        out_ptr=out,
        numel=numel,
        splits=splits,
        k=1 if bias is None else bias.shape[0],
        inner=1 if bias is None or channels_last else out.shape[2] * out.shape[3],
        HAS_BIAS=bias is not None,
        RELU=relu,
        INDEX=index(numel=math.ceil(splits / parts) * parts * numel),
        ACC=accumulator(out),
        PARTS=parts,
        BLOCK=TILE // parts,
    )


def parts_at_once(splits: int, numel: int) -> int:
    """How many parts a program reads at a time: one after the other only where that leaves programs enough.

    A power of four, so that few kernels are compiled.
    """
    rows = 1
    while rows < splits and rows * numel < PROGRAMS * TILE and rows * LEAST < TILE:
        rows *= 4
    return rows
