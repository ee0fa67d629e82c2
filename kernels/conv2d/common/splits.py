"""Sums in two deterministic passes: parts first, then the parts in order, with what follows the sum. No atomics."""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from kernels.common.jit import relu
from kernels.common.launch import launch
from kernels.conv2d.common.arguments import LIMIT, accumulator

BLOCK = 512


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
    BLOCK: tl.constexpr,
):
    """out[i] = sum over s of partial[s, i], in the order of s, + bias[i // inner % k], then ReLU."""
    o = tl.program_id(0).to(INDEX) * BLOCK + tl.arange(0, BLOCK)
    m = o < numel
    b_sum = tl.zeros((BLOCK,), ACC)
    p_partial = partial_ptr + o
    for _ in range(splits):
        b_sum += tl.load(p_partial, mask=m, other=0.0)
        p_partial += numel
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
    launch(
        reduce_splits_kernel,
        math.ceil(out.numel() / BLOCK),
        partial_ptr=partial,
        bias_ptr=partial if bias is None else bias,
        out_ptr=out,
        numel=out.numel(),
        splits=partial.shape[0],
        k=1 if bias is None else bias.shape[0],
        inner=1 if bias is None or channels_last else out.shape[2] * out.shape[3],
        HAS_BIAS=bias is not None,
        RELU=relu,
        INDEX=tl.int64 if partial.numel() > LIMIT else tl.int32,
        ACC=accumulator(out),
        BLOCK=BLOCK,
    )
