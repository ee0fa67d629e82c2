"""torch.func, forward-mode AD, meta and fake tensors, opcheck, autocast and FLOP counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import kernels
from tests.compare import assert_as_good, assert_same_form
from tests.kernels.paths import Path
from tests.kernels.problems import CONVOLUTIONS, STANDARD, Problem, make, run

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


# --- tensors without data ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_meta_tensors_have_the_form_of_real_ones(triton: Path, problem: Problem, channels_last: bool) -> None:
    """Results and gradients. On the CPU path meta tensors are torch's own."""
    tensors = problem.tensors(triton.device, channels_last=channels_last)
    want = run(problem.ours, tensors)
    got = run(problem.ours, [None if t is None else t.to("meta") for t in tensors])
    for a, b in zip(got, want, strict=True):
        if b is not None:
            assert a.is_meta
            assert (a.shape, a.dtype, a.stride()) == (b.shape, b.dtype, b.stride())


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_fake_tensors_have_the_form_of_real_ones(path: Path, problem: Problem, channels_last: bool) -> None:
    tensors = problem.tensors(path.device, channels_last=channels_last)
    want = problem.ours(*tensors)
    with FakeTensorMode() as mode:
        got = problem.ours(*(None if t is None else mode.from_tensor(t) for t in tensors))
    assert (got.shape, got.dtype, got.stride(), got.device) == (want.shape, want.dtype, want.stride(), want.device)


def test_meta_tensors_need_no_memory(path: Path) -> None:
    """A map of 4.6e9 elements."""
    x = torch.empty(70000, 64, 32, 32, device="meta")
    y = kernels.conv2d_relu_pool2d(x, torch.empty(8, 64, 3, 3, device="meta"), padding=1)
    assert y.shape == (70000, 8, 16, 16) and y.is_meta


@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_make_fx_records_one_operator(triton: Path, problem: Problem) -> None:
    tensors = problem.tensors(triton.device)
    graph = make_fx(problem.ours)(*tensors).graph
    targets = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert len([t for t in targets if t.startswith("triton_cnn.")]) == 1, targets
    assert not [t for t in targets if "conv" in t and t.startswith("aten")]


def _operator_samples(device: str) -> list[tuple[Any, tuple[Any, ...]]]:
    ops = torch.ops.triton_cnn
    x, w, b = (make(s, device).requires_grad_() for s in ((2, 4, 7, 6), (6, 2, 3, 3), (6,)))
    numbers = ([1, 1], [1, 1, 1, 1], [1, 1], 2)
    dy = torch.randn(2, 6, 7, 6, device=device, requires_grad=True)
    code = torch.zeros(2, 4, 3, 3, dtype=torch.uint8, device=device)
    pooled = torch.randn(2, 4, 3, 3, device=device, requires_grad=True)
    window = ([2, 2], [2, 2], [0, 0], [1, 1], False)
    average = ([2, 2], [2, 2], [0, 0], False, True, 0)
    return [
        (ops.conv2d.default, (x, w, b, *numbers, False)),
        (ops.conv2d.default, (x, w, None, *numbers, True)),
        (ops.conv2d_dgrad.default, (dy, w, list(x.shape), *numbers, False)),
        (ops.conv2d_wgrad.default, (dy, x, list(w.shape), *numbers, True)),
        (ops.conv2d_bias_grad.default, (dy,)),
        (ops.conv2d_relu_dz.default, (dy, dy.detach().relu())),
        (ops.conv2d_relu_pool2d.default, (x, torch.randn(6, 4, 3, 3, device=device), b, *numbers[:3], 1, False, True)),
        (ops.conv2d_relu_pool2d_dz.default, (pooled, code, 7, 6, False, False)),
        (ops.max_pool2d.default, (x, *window, True, True)),
        (ops.max_pool2d_dx.default, (pooled, code, 7, 6, False, *window)),
        (ops.avg_pool2d.default, (x, *average)),
        (ops.avg_pool2d_dx.default, (pooled, 7, 6, True, *average)),
    ]


@pytest.mark.parametrize("index", range(12))
def test_opcheck(triton: Path, index: int) -> None:
    """torch's checks of a custom operator: schema, autograd registration, fake tensors, AOT dispatch, dynamic too."""
    op, args = _operator_samples(triton.device)[index]
    torch.library.opcheck(op, args)


def test_every_operator_is_checked(triton: Path) -> None:
    from kernels.common.registration import NAMESPACE

    checked = {op.name() for op, _ in _operator_samples("cpu")}
    registered = {name for name in torch._C._dispatch_get_all_op_names() if name.startswith(NAMESPACE)}
    assert checked == registered


# --- autocast and FLOPs -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("problem", STANDARD, ids=str)
def test_autocast(path: Path, problem: Problem, dtype: torch.dtype, to: torch.dtype) -> None:
    """Dtypes of result and gradients, and values, as torch's under the same context."""
    tensors = problem.tensors(path.device, dtype, integers=True)

    def cast(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def called(*inputs: Tensor) -> Tensor:
            with torch.autocast(path.device, to):
                return function(*inputs)

        return called

    want = run(cast(problem.torchs), tensors)
    got = run(cast(problem.ours), tensors)
    for a, b in zip(got, want, strict=True):
        if b is not None:
            assert_same_form(a, b, loose=True)
            assert_as_good(a, b, b)


def test_autocast_casts_mixed_dtypes(path: Path) -> None:
    """A float32 layer fed with a bfloat16 map: torch refuses it outside autocast only."""
    x, w = (
        torch.randn(1, 2, 5, 5, device=path.device, dtype=torch.bfloat16),
        torch.randn(3, 2, 3, 3, device=path.device),
    )
    for function, theirs in ((kernels.conv2d, F.conv2d), (kernels.conv2d_relu_pool2d, None)):
        with pytest.raises(RuntimeError):
            function(x, w)
        with torch.autocast(path.device, torch.bfloat16):
            y = function(x, w)
            assert y.dtype == torch.bfloat16
            if theirs:
                torch.testing.assert_close(y, theirs(x, w))


@pytest.mark.parametrize("problem", CONV_PROBLEMS, ids=str)
def test_flop_counter(path: Path, problem: Problem) -> None:
    """torch.utils.flop_counter finds as many operations in our passes as in torch's."""
    tensors = problem.tensors(path.device)

    def count(function: Callable[..., Tensor]) -> int:
        with FlopCounterMode(display=False) as counter:
            run(function, tensors)
        return counter.get_total_flops()

    assert count(problem.ours) == count(problem.torchs) > 0
