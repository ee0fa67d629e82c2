"""The simulated tensor cores, and what three TF32 products owe to them."""

from __future__ import annotations

import pytest
import torch
from triton import jit
from triton import language as tl

from bench.long_sums import SumRow, measure, simulate, table
from bench.tensor_cores import CORES, TensorCore, halves, one_by_one, operands, products_of_halves, tensor_core_sum
from kernels.common.jit import dot
from kernels.common.jit import halves as kernels_halves
from kernels.common.launch import launch
from kernels.common.precision import FLOAT32_PRODUCTS
from kernels.conv2d.plans.cost import LONG_SUM
from tests.kernels.paths import why_no_triton

A100 = CORES[0]


def _sum(products: list[float], total: float, core: TensorCore = A100) -> float:
    a = torch.tensor([products])
    return float(tensor_core_sum(a, torch.ones_like(a), torch.tensor([total]), core))


def test_additions_are_cut() -> None:
    unit = 2.0**-23
    assert _sum([0.75 * unit], 1.0) == 1.0, "float32 would round it up"
    assert _sum([-0.75 * unit], -1.0) == -1.0
    assert _sum([0.5 * unit] * 2, 1.0) == 1 + unit, "24 bits are kept while summing"
    assert _sum([0.25 * unit] * 4, 1.0) == 1.0, "and no more"
    assert _sum([0.25 * unit] * 4, 1.0, CORES[1]) == 1 + unit, "25 on later cards"
    assert _sum([1.0, 2.0, 0.0, -4.0, 8.0], 0.5) == 7.5
    assert _sum([64.0, 2.0**30, -(2.0**30)], 0.0) == 64.0
    assert _sum([63.0, 2.0**30, -(2.0**30)], 0.0) == 0.0, "lost beside the largest"


def test_operands_are_cut_to_tf32() -> None:
    assert _sum([1 + 2**-10 + 2**-11], 0.0) == 1 + 2**-10


@pytest.mark.parametrize("core", CORES, ids=lambda core: core.cards)
def test_long_sums_are_nearer_than_float32s(core: TensorCore) -> None:
    """The claim of set_float32_products, with what it rests on: each step starts from zero outside of tensor cores, and
    numbers are rounded, not cut."""
    rows = list(simulate((576,), 200))
    assert len(rows) == 3 and not any(row.is_worse for row in rows)
    a, b = operands("one sign", 200, 576)
    exact = (a.double() * b.double()).sum(-1)

    def error(got: torch.Tensor) -> float:
        return float((got.double() - exact).norm() / exact.norm())

    plain = error(one_by_one(a, b))
    assert error(products_of_halves(a, b, core)) < 0.8 * plain
    assert error(products_of_halves(a, b, core, step=576)) > 3 * plain, "all of it summed in tensor cores"


def test_short_and_sparse_sums_are_not() -> None:
    """Why it is asked for, and not the rule."""
    (row, *_) = simulate((64,), 200)
    assert row.errors["tf32x3, A100"] > row.errors["float32"] and not row.is_worse
    a, b = operands("normal", 200, 576)
    a[:, 8:] = 0
    exact = (a.double() * b.double()).sum(-1)
    errors = [float((f - exact).norm() / exact.norm()) for f in (one_by_one(a, b), products_of_halves(a, b, A100))]
    assert errors[1] > 1.3 * errors[0]


def test_a_worse_row_is_named() -> None:
    errors = {"float32": 1e-7, "tf32x3, A100": 1.1e-7, "tf32x3, H100, B200": 0.9e-7}
    assert SumRow("normal", LONG_SUM, errors).is_worse and not SumRow("normal", LONG_SUM - 1, errors).is_worse
    assert "| normal | 512 | 1.00e-07 | 1.10e-07 | 9.00e-08 |" in table([SumRow("normal", LONG_SUM, errors)], True)


@jit
def _of_kernels(a_ptr, b_ptr, big_ptr, small_ptr, sum_ptr, K: tl.constexpr):  # type: ignore[no-untyped-def]
    o_m = tl.arange(0, 16)
    o_k = tl.arange(0, K)
    b_a = tl.load(a_ptr + o_m[:, None] * K + o_k[None, :])
    b_b = tl.load(b_ptr + o_m[None, :] * K + o_k[:, None])
    b_big, b_small = kernels_halves(b_a)
    tl.store(big_ptr + o_m[:, None] * K + o_k[None, :], b_big)
    tl.store(small_ptr + o_m[:, None] * K + o_k[None, :], b_small)
    b_sum = dot(b_a, b_b, tl.full((16, 16), 1.0, tl.float32), "tf32x3")
    tl.store(sum_ptr + o_m[:, None] * 16 + o_m[None, :], b_sum)


def test_what_is_simulated_is_what_kernels_do() -> None:
    """The same halves, bit for bit, and sums of a step as good as float32's."""
    if why_no_triton() is not None:
        pytest.skip(str(why_no_triton()))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    a, b = operands("normal", 16, 32)
    big, small, total = (torch.empty(16, n, device=device) for n in (32, 32, 16))
    launch(_of_kernels, 1, a_ptr=a.to(device), b_ptr=b.to(device), big_ptr=big, small_ptr=small, sum_ptr=total, K=32)
    assert all(torch.equal(x.cpu(), y) for x, y in zip((big, small), halves(a), strict=True))
    pairs = [t.reshape(256, 32) for t in (a[:, None].expand(16, 16, 32), b[None].expand(16, 16, 32))]
    exact = 1 + (pairs[0].double() * pairs[1].double()).sum(-1)
    assert (total.cpu().view(-1) - exact).abs().max() < 2**-21 * pairs[0].mul(pairs[1]).abs().sum(-1).max()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_measured_sums() -> None:
    rows = list(measure(torch.device("cuda")))
    assert {"cuDNN", "float32", "tf32x3"} == set(rows[0].errors)
    assert not [row for row in rows if row.is_worse]
    assert FLOAT32_PRODUCTS == ("fma", "tf32x3")
