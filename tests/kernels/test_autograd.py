"""Autograd: numeric checks, subsets of gradients, saved tensors and their versions, hooks, grad modes."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.checkpoint import checkpoint

import kernels
from kernels.common.launch import record
from tests.kernels.paths import TRITON_PATH, Path
from tests.kernels.problems import CONVOLUTIONS, STANDARD, Problem, leaves, run

BY_NAME = {problem.name: problem for problem in STANDARD}


def _inputs(problem: Problem, path: Path, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [t for t in leaves(problem.tensors(path.device, dtype)) if t is not None]


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_gradcheck(path: Path, problem: Problem) -> None:
    inputs = _inputs(problem, path)
    assert gradcheck(problem.ours, inputs, fast_mode=True, check_forward_ad=True)
    assert gradgradcheck(problem.ours, inputs, fast_mode=True)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_third_derivative(path: Path, problem: Problem) -> None:
    """Nothing is differentiable only once or twice."""

    tensors = problem.tensors(path.device, torch.float64)

    def third(function: Any) -> list[Tensor]:
        inputs = [t for t in leaves(tensors) if t is not None]
        value = function(*inputs).square().sum()
        for _ in range(3):
            grads = torch.autograd.grad(value, inputs, create_graph=True)
            value = sum((g.square().sum() for g in grads), torch.zeros((), device=path.device))
        return [g.detach() for g in grads]

    for got, want in zip(third(problem.ours), third(problem.torchs), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("wants", [w for w in product([False, True], repeat=3) if any(w)], ids=str)
@pytest.mark.parametrize("problem", [p for p in STANDARD if p.function in CONVOLUTIONS], ids=str)
def test_subsets_of_gradients(path: Path, problem: Problem, wants: tuple[bool, ...]) -> None:
    """Only what is asked for is computed, and it is what all three together give."""
    tensors = problem.tensors(path.device, torch.float64)
    everything = run(problem.ours, tensors)[1:]
    inputs = leaves(tensors, wants)
    problem.ours(*inputs).sum().backward()
    for t, wanted, want in zip(inputs, wants, everything, strict=True):
        assert (t.grad is not None) == wanted
        if wanted:
            torch.testing.assert_close(t.grad, want, rtol=1e-12, atol=1e-12)


def test_a_frozen_tensor_costs_no_pass(triton: Path) -> None:
    torch.backends.cudnn.allow_tf32 = True  # which plan the gradient of the weight has depends on it
    problem = BY_NAME["conv2d_relu"]
    started = {}
    for wants in product([False, True], repeat=3):
        inputs = leaves(problem.tensors("cpu"), wants)
        with record() as launches:
            y = problem.ours(*inputs)
            launches.clear()
            if any(wants):
                y.sum().backward()
        names = {launch.kernel.__name__ for launch in launches}
        started[wants] = {name for name in names if "grad" in name or "fprop" in name}
    assert not started[False, False, False]
    # The input gradient of few channels is a convolution of the output's by turned filters.
    assert started[True, False, False] == {"rows_fprop_kernel"}
    assert started[False, True, False] == {"blocks_wgrad_kernel"}
    assert not started[False, False, True]


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_graph_lifetime(path: Path, problem: Problem) -> None:
    inputs = _inputs(problem, path)
    y = problem.ours(*inputs).sum()
    first = torch.autograd.grad(y, inputs, retain_graph=True)
    second = torch.autograd.grad(y, inputs)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    if path is TRITON_PATH and problem.function == "avg_pool2d":  # saves nothing, so that nothing is gone
        return
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(y, inputs)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("problem", [p for p in STANDARD if p.function in CONVOLUTIONS], ids=str)
def test_changing_a_saved_tensor_in_place_raises(path: Path, problem: Problem, which: int) -> None:
    inputs = _inputs(problem, path)
    y = problem.ours(*inputs)
    with torch.no_grad():
        inputs[which].add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_changing_the_output_of_a_fused_relu_in_place_raises(path: Path) -> None:
    y = BY_NAME["conv2d_relu"].ours(*_inputs(BY_NAME["conv2d_relu"], path))
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("name", ["conv2d", "conv2d_relu_pool2d", "avg_pool2d"])
def test_changing_an_output_that_is_not_saved_is_allowed(path: Path, name: str) -> None:
    tensors = BY_NAME[name].tensors(path.device, torch.float64)

    def twice(function: Any) -> list[Tensor | None]:
        return run(lambda *t: function(*t).mul_(2), tensors)

    for got, want in zip(twice(BY_NAME[name].ours), twice(BY_NAME[name].torchs), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_saved_tensor_hooks_see_everything_that_is_saved(path: Path, problem: Problem) -> None:
    """What backward needs goes through the hooks: moved away and back, the gradients are the same."""
    tensors = problem.tensors(path.device, torch.float64)
    want = run(problem.ours, tensors)
    packed: list[Tensor] = []

    def pack(t: Tensor) -> tuple[Tensor]:
        packed.append(t)
        return (t.clone(),)

    def hooked(*inputs: Tensor) -> Tensor:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda box: box[0]):
            return problem.ours(*inputs)

    for got, expected in zip(run(hooked, tensors), want, strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0)
    assert packed or problem.function == "avg_pool2d"


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_checkpoint(path: Path, problem: Problem, reentrant: bool) -> None:
    tensors = problem.tensors(path.device, torch.float64)
    got = run(lambda *t: checkpoint(problem.ours, *t, use_reentrant=reentrant), tensors)
    for a, b in zip(got, run(problem.ours, tensors), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_grad_modes(path: Path, problem: Problem) -> None:
    inputs = _inputs(problem, path)
    want = problem.ours(*inputs)
    assert want.requires_grad
    with torch.no_grad():
        y = problem.ours(*inputs)
    assert not y.requires_grad and torch.equal(y, want)
    with torch.inference_mode():
        y = problem.ours(*inputs)
    assert y.is_inference() and torch.equal(y, want)
    assert not problem.ours(*(t.detach() for t in inputs)).requires_grad


def test_the_mask_of_a_max_pool_is_one_byte_an_output(triton: Path) -> None:
    """The pools do not keep their input: it may change, or be freed, before backward."""
    x = torch.randn(1, 2, 6, 6, device=triton.device, requires_grad=True)
    saved: list[Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        y = kernels.max_pool2d(x, 2)
        kernels.avg_pool2d(x, 2)
    assert [(t.dtype, t.shape) for t in saved] == [(torch.uint8, y.shape)]
    with torch.no_grad():
        x.zero_()
    y.sum().backward()
    assert x.grad.sum() == y.numel()


def test_backward_does_not_depend_on_the_backend_in_force(triton: Path) -> None:
    """The choice of the forward call holds for its backward."""
    assert triton is TRITON_PATH
    x = torch.randn(1, 2, 7, 7, requires_grad=True)
    with record() as launches:
        y = kernels.max_pool2d(x, 3)
        with kernels.backend("torch"):
            y.sum().backward()
    assert [launch.kernel.__name__ for launch in launches] == ["max_pool_kernel", "max_pool_backward_kernel"]
