"""Sums of products as tensor cores form them, simulated, and as float32 forms them: how far each is from the exact sum.

The arithmetic is that which two studies found bit for bit on the cards: P. Xie et al., "MMA-Sim" (arXiv 2511.10909),
and F. Khattak and M. Mikaitis, "Accurate Models of NVIDIA Tensor Cores" (arXiv 2512.07004). Products of TF32 numbers
are exact; those of one addition, and the sum so far, are cut below `bits` bits of the largest's exponent, and their sum
is cut to float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEP = 32
"""Products of a step of the kernels: what is summed in tensor cores before it is added in float32."""


@dataclass(frozen=True)
class TensorCore:
    """cards: whose it is. together: products of one addition. bits: that are kept of the largest of them."""

    cards: str
    together: int
    bits: int


CORES = (TensorCore("A100", 4, 24), TensorCore("H100, B200", 8, 25))


def halves(t: Tensor) -> tuple[Tensor, Tensor]:
    """kernels/common/jit.halves for finite numbers below the largest."""
    big = ((t.view(torch.int32) + 0x1000) & -0x2000).view(torch.float32)
    return big, t - big


def one_by_one(a: Tensor, b: Tensor) -> Tensor:
    """Sums over the last axis in float32, a multiply-add after the other."""
    total = torch.zeros(a.shape[:-1])
    for x, w in zip(a.unbind(-1), b.unbind(-1), strict=True):
        total = (x.double() * w.double() + total.double()).float()
    return total


def products_of_halves(a: Tensor, b: Tensor, core: TensorCore, step: int = STEP) -> Tensor:
    """Sums over the last axis as kernels/common/jit.dot forms them with "tf32x3"."""
    total = torch.zeros(a.shape[:-1])
    for x, w in zip(a.split(step, -1), b.split(step, -1), strict=True):
        (x_big, x_small), (w_big, w_small) = halves(x), halves(w)
        part = torch.zeros_like(total)
        for left, right in ((x_small, w_big), (x_big, w_small), (x_big, w_big)):
            part = tensor_core_sum(left, right, part, core)
        total = total + part
    return total


def tensor_core_sum(a: Tensor, b: Tensor, total: Tensor, core: TensorCore) -> Tensor:
    """total + the sum over the last axis of the products of a and b, float32 numbers whose excess bits are dropped."""
    a, b = ((t.view(torch.int32) & -0x2000).view(torch.float32) for t in (a, b))
    for x, w in zip(a.split(core.together, -1), b.split(core.together, -1), strict=True):
        terms = torch.cat([x.double() * w.double(), total.double()[..., None]], -1)
        exponents = torch.cat([_exponent(x) + _exponent(w), _exponent(total)[..., None]], -1)
        unit = torch.exp2((exponents.amax(-1, keepdim=True) - core.bits).double())
        total = _cut_to_float32(((terms / unit).trunc() * unit).sum(-1))
    return total


def _exponent(t: Tensor) -> Tensor:
    """Of 1.f * 2^e; -126 for zero and what is below float32's normal numbers."""
    return torch.where(t == 0, -126, (torch.frexp(t)[1] - 1).clamp(min=-126))


def _cut_to_float32(t: Tensor) -> Tensor:
    near = t.float()
    return torch.where(near.double().abs() > t.abs(), torch.nextafter(near, torch.zeros_like(near)), near)


KINDS = ("one sign", "after a ReLU", "normal")


def operands(kind: str, sums: int, length: int) -> tuple[Tensor, Tensor]:
    """Maps and weights of `sums` sums: "one sign", "after a ReLU" (weights of both signs) or "normal"."""
    random = torch.Generator().manual_seed(length)
    x, w = torch.randn(2, sums, length, generator=random).unbind()
    if kind == "normal":
        return x, w
    return x.relu(), w.abs() if kind == "one sign" else w
