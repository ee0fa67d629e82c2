"""torch.func and forward-mode AD: gradients, vmap, Jacobians, per-sample gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import kernels
from tests.kernels.paths import Path
from tests.kernels.problems import CONVOLUTIONS, STANDARD, Problem, make

CONV_PROBLEMS = [p for p in STANDARD if p.function in CONVOLUTIONS]
CLOSE = {"rtol": 1e-10, "atol": 1e-10}


def _tensors(problem: Problem, path: Path, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    return [t for t in problem.tensors(path.device, dtype) if t is not None]


def _loss(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda *tensors: function(*tensors).square().sum()


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_func_grad_and_vjp(path: Path, problem: Problem) -> None:
    tensors = _tensors(problem, path)
    every = tuple(range(len(tensors)))
    got = grad(_loss(problem.ours), every)(*tensors)
    torch.testing.assert_close(got, grad(_loss(problem.torchs), every)(*tensors), **CLOSE)
    y, pull = vjp(problem.ours, *tensors)
    want_y, want_pull = vjp(problem.torchs, *tensors)
    torch.testing.assert_close(pull(y), want_pull(want_y), **CLOSE)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_nested_grad(path: Path, problem: Problem) -> None:
    """grad of grad is silently wrong where a level does not record the one below."""
    tensors = _tensors(problem, path)

    def of_gradient(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *t: grad(_loss(function))(*t).square().sum()

    every = tuple(range(len(tensors)))
    got, want = (grad(of_gradient(f), every)(*tensors) for f in (problem.ours, problem.torchs))
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_forward_mode(path: Path, problem: Problem) -> None:
    tensors = _tensors(problem, path)
    tangents = tuple(torch.randn_like(t) for t in tensors)
    got, want = (jvp(f, tuple(tensors), tangents) for f in (problem.ours, problem.torchs))
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_forward_mode_of_one_argument(path: Path, problem: Problem) -> None:
    """A tangent of one tensor alone, and none of the others."""
    tensors = _tensors(problem, path)
    for i, t in enumerate(tensors):
        tangent = torch.randn_like(t)

        def along(function: Callable[..., Tensor], i: int = i, tangent: Tensor = tangent) -> Any:
            return jvp(lambda v: function(*tensors[:i], v, *tensors[i + 1 :]), (tensors[i],), (tangent,))

        torch.testing.assert_close(along(problem.ours), along(problem.torchs), **CLOSE)


def test_jacobians_and_hessian(path: Path) -> None:
    x, w = (make(s, path.device, torch.float64) for s in ((1, 1, 3, 3), (1, 1, 2, 2)))
    for transform in (jacrev, jacfwd):
        got, want = (
            transform(f, argnums=(0, 1))(x, w) for f in (kernels.conv2d_relu, lambda x, w: F.conv2d(x, w).relu())
        )
        torch.testing.assert_close(got, want, **CLOSE)

    def value(convolution: Callable[..., Tensor], pool: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda x, w: pool(convolution(x, w, padding=1), 2).pow(3).sum()

    got = hessian(value(kernels.conv2d, kernels.max_pool2d), argnums=(0, 1))(x, w)
    torch.testing.assert_close(got, hessian(value(F.conv2d, F.max_pool2d), argnums=(0, 1))(x, w), **CLOSE)


def _mapped(
    problem: Problem, path: Path, which: tuple[bool, ...], dim: int
) -> tuple[list[Tensor], tuple[int | None, ...]]:
    """Tensors with a dimension of 3 at `dim` where `which` says so."""
    tensors = _tensors(problem, path)
    tensors = [
        torch.stack([torch.randn_like(t) for _ in range(3)], min(dim, t.dim())) if m else t
        for t, m in zip(tensors, which, strict=True)
    ]
    return tensors, tuple(min(dim, t.dim() - 1) if m else None for t, m in zip(tensors, which, strict=True))


MAPS = [(True, False, False), (False, True, False), (False, False, True), (True, True, False), (True, True, True)]


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("which", MAPS, ids=str)
@pytest.mark.parametrize("problem", CONV_PROBLEMS, ids=str)
def test_vmap_of_convolutions(path: Path, problem: Problem, which: tuple[bool, ...], dim: int) -> None:
    tensors, dims = _mapped(problem, path, which, dim)
    want = vmap(problem.torchs, in_dims=dims)(*tensors)
    torch.testing.assert_close(vmap(problem.ours, in_dims=dims)(*tensors), want, **CLOSE)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("problem", STANDARD[-2:], ids=str)
def test_vmap_of_pools(path: Path, problem: Problem, dim: int) -> None:
    tensors, dims = _mapped(problem, path, (True,), dim)
    want = vmap(problem.torchs, in_dims=dims)(*tensors)
    torch.testing.assert_close(vmap(problem.ours, in_dims=dims)(*tensors), want, **CLOSE)


def test_vmap_of_indices(path: Path) -> None:
    x = torch.randn(3, 2, 2, 6, 6, device=path.device)
    got = vmap(lambda t: kernels.max_pool2d(t, 2, return_indices=True))(x)
    want = vmap(lambda t: F.max_pool2d(t, 2, return_indices=True))(x)
    assert torch.equal(got[0], want[0]) and torch.equal(got[1], want[1])


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_vmap_of_vmap(path: Path, problem: Problem) -> None:
    tensors = _tensors(problem, path)
    x = torch.randn(2, 2, *tensors[0].shape, device=path.device, dtype=torch.float64)
    got, want = (
        vmap(vmap(f, in_dims=(0, *[None] * (len(tensors) - 1))), in_dims=(0, *[None] * (len(tensors) - 1)))(
            x, *tensors[1:]
        )
        for f in (problem.ours, problem.torchs)
    )
    torch.testing.assert_close(got, want, **CLOSE)


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_per_sample_gradients_equal_a_loop(path: Path, problem: Problem) -> None:
    """vmap(grad): the recipe of differentially private training and of influence functions."""
    tensors = _tensors(problem, path)
    x, rest = tensors[0], tensors[1:]
    which = tuple(range(1, len(tensors))) or (0,)

    def loss(sample: Tensor, *weights: Tensor) -> Tensor:
        return problem.ours(sample.unsqueeze(0), *weights).square().sum()

    got = vmap(grad(loss, which), in_dims=(0, *[None] * len(rest)))(x, *rest)
    loop = [grad(_loss(problem.torchs), which)(sample.unsqueeze(0), *rest) for sample in x]
    for i, per_sample in enumerate(got):
        want = torch.stack([g[i] for g in loop])
        torch.testing.assert_close(per_sample, want.reshape(per_sample.shape), **CLOSE)


def test_functional_call_of_layers(path: Path) -> None:
    """An ensemble: one vmap over the stacked parameters of several models."""

    def model(layers: Any) -> nn.Module:
        return nn.Sequential(layers.Conv2d(1, 3, 3, padding=1), nn.ReLU(), layers.MaxPool2d(2), layers.AvgPool2d(2))

    models = [model(nn).to(path.device, torch.float64) for _ in range(3)]
    ours = model(kernels).to(path.device, torch.float64)
    stacked, _ = torch.func.stack_module_state(models)
    x = torch.randn(2, 1, 8, 8, device=path.device, dtype=torch.float64)

    def of(module: nn.Module) -> Any:
        def loss(parameters: Any) -> Tensor:
            return functional_call(module, parameters, (x,)).square().sum()

        return vmap(grad(loss))(stacked)

    got, want = of(ours), of(models[0])
    for name in want:
        torch.testing.assert_close(got[name], want[name], **CLOSE)


@pytest.mark.parametrize("pool", ["max", "avg"])
def test_an_ensemble_of_fused_layers(path: Path, pool: str) -> None:
    """Weights of several models at once, where the fused kernel gives way to a grouped convolution and a pool."""
    layers = [kernels.ConvReLUPool2d(2, 3, 3, padding=1, pool=pool).to(path.device, torch.float64) for _ in range(3)]
    stacked, _ = torch.func.stack_module_state(layers)
    x = torch.randn(2, 2, 6, 6, device=path.device, dtype=torch.float64)

    def loss(parameters: Any, image: Tensor) -> Tensor:
        return functional_call(layers[0], parameters, (image,)).square().sum()

    (got, got_x), values = vmap(torch.func.grad_and_value(loss, (0, 1)), in_dims=(0, None))(stacked, x)
    for i, layer in enumerate(layers):
        image = x.clone().requires_grad_()
        value = layer(image).square().sum()
        weight, bias, dx = torch.autograd.grad(value, [layer.weight, layer.bias, image])
        torch.testing.assert_close(values[i], value.detach(), **CLOSE)
        for a, b in ((got["weight"][i], weight), (got["bias"][i], bias), (got_x[i], dx)):
            torch.testing.assert_close(a, b, **CLOSE)
