"""Any view of memory, garbage beside it, results in torch's memory format that never alias an input."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

import kernels
from tests.compare import assert_exact, assert_same_form
from tests.kernels.paths import Path
from tests.kernels.problems import ATEN, STANDARD, Problem, make, run


def _sliced(t: Tensor) -> Tensor:
    """A window in the middle of a larger tensor."""
    base = t.new_full([size + 2 for size in t.shape], torch.nan)
    view = base[tuple(slice(1, 1 + size) for size in t.shape)]
    return view.copy_(t)


def _strided(t: Tensor) -> Tensor:
    """Every second element of every dimension."""
    base = t.new_full([2 * size for size in t.shape], torch.nan)
    return base[(slice(None, None, 2),) * t.dim()].copy_(t)


def _unaligned(t: Tensor) -> Tensor:
    """One element beyond an aligned address."""
    base = t.new_full((t.numel() + 2,), torch.nan)
    return base[1:-1].view(t.shape).copy_(t)


def _reversed(t: Tensor) -> Tensor:
    """Dimensions in the opposite order in memory."""
    order = tuple(reversed(range(t.dim())))
    return t.permute(order).contiguous().permute(order)


def _channels_of_more(t: Tensor) -> Tensor:
    """Some channels of a channels_last tensor that has more."""
    if t.dim() != 4:
        return _unaligned(t)
    n, c, h, w = t.shape
    base = t.new_full((n, h, w, c + 3), torch.nan).permute(0, 3, 1, 2)
    return base[:, 1 : 1 + c].copy_(t)


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "sliced": _sliced,
    "strided": _strided,
    "unaligned": _unaligned,
    "reversed": _reversed,
    "channels of more": _channels_of_more,
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_views_between_garbage(path: Path, problem: Problem, view: str) -> None:
    """Inputs, weights, biases and the incoming gradient at once; what lies beside them is NaN."""
    tensors = problem.tensors(path.device, integers=True)
    seen = [None if t is None else VIEWS[view](t) for t in tensors]
    dy = make(problem.torchs(*tensors).shape, path.device, integers=True)
    inputs = [None if t is None else t.detach().requires_grad_() for t in seen]
    y = problem.ours(*inputs)
    grads = torch.autograd.grad(y, [t for t in inputs if t is not None], VIEWS[view](dy))
    exact = run(problem.reference, [None if t is None else t.double().cpu() for t in tensors], dy.cpu())
    for got, want in zip([y, *grads], [t for t in exact if t is not None], strict=True):
        if problem.function != "avg_pool2d":
            assert_exact(got, want, f"{problem}, {view}")
        torch.testing.assert_close(got.double().cpu(), want, rtol=1e-6, atol=1e-6)
    assert_same_form(y, problem.torchs(*seen), view, loose=problem.function not in ATEN)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_expanded_inputs_and_gradients(path: Path, problem: Problem) -> None:
    """Strides of zero; sum().backward() sends such a gradient."""
    tensors = problem.tensors(path.device, integers=True)
    tensors[0] = make((1, tensors[0].shape[1], 1, 1), path.device, integers=True).expand(tensors[0].shape)
    inputs = [None if t is None else t.detach().requires_grad_() for t in tensors]
    y = problem.ours(*inputs)
    grads = torch.autograd.grad(y.sum(), [t for t in inputs if t is not None])
    exact = run(problem.reference, [None if t is None else t.double().cpu() for t in tensors])
    for got, want in zip([y, *grads], [t for t in exact if t is not None], strict=True):
        torch.testing.assert_close(got.double().cpu(), want, rtol=1e-6, atol=1e-6)


AMBIGUOUS = [(2, 1, 4, 4), (2, 3, 1, 1), (1, 1, 1, 1), (1, 3, 4, 4), (2, 1, 1, 4), (2, 3, 4, 1), (1, 2, 1, 3)]


def _in_form(shape: tuple[int, ...], form: str, device: str) -> Tensor:
    t = make(shape, device)
    if form == "channels_last":
        return t.contiguous(memory_format=torch.channels_last)
    return t.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2) if form == "permuted" else t


@pytest.mark.parametrize("forms", [*product(["contiguous", "channels_last", "permuted"], repeat=2)], ids="-".join)
@pytest.mark.parametrize("shape", AMBIGUOUS, ids=str)
def test_strides_where_a_tensor_is_both_layouts(path: Path, shape: tuple[int, ...], forms: tuple[str, str]) -> None:
    x = _in_form(shape, forms[0], path.device)
    for k, taps, padding in ((1, 1, 0), (3, 3, 1), (1, 3, 1)):
        w = _in_form((k, shape[1], taps, taps), forms[1], path.device)
        args = (x, w, None, 1, padding)
        assert_same_form(kernels.conv2d(*args), torch.nn.functional.conv2d(*args))
    for args in ((x, 1), (x, 3, 2, 1)):
        assert_same_form(kernels.max_pool2d(*args), torch.nn.functional.max_pool2d(*args))
        assert_same_form(kernels.avg_pool2d(*args), torch.nn.functional.avg_pool2d(*args))


@pytest.mark.parametrize("problem", STANDARD, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
def test_nothing_aliases(path: Path, problem: Problem, channels_last: bool) -> None:
    """Results and gradients have memory of their own, also where they equal an input (1x1 windows, dy of a bias)."""
    tensors = [t.requires_grad_() for t in problem.tensors(path.device, channels_last=channels_last) if t is not None]
    y = problem.ours(*tensors)
    dy = torch.randn_like(y)
    grads = torch.autograd.grad(y, tensors, dy)
    addresses = [t.untyped_storage().data_ptr() for t in (*tensors, y, dy, *grads)]
    assert len(set(addresses)) == len(addresses)


@pytest.mark.parametrize("function", ["max_pool2d", "avg_pool2d"])
def test_a_pool_of_single_pixels_is_a_copy(path: Path, function: str) -> None:
    x = torch.randn(1, 2, 3, 3, device=path.device)
    y = getattr(kernels, function)(x, 1)
    assert torch.equal(x, y)
    assert x.data_ptr() != y.data_ptr()
