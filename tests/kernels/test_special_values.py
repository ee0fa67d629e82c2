"""NaN, infinities, signed zeros, ties and empty windows come out where torch's come out."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from tests.compare import assert_exact, assert_same_special
from tests.kernels.paths import TRITON_PATH, Path
from tests.kernels.problems import CONVOLUTIONS, DTYPES, STANDARD, Problem, make, run

INF, NAN = float("inf"), float("nan")
SPECIAL = [NAN, INF, -INF]


def _with(t: Tensor, value: float, place: int) -> Tensor:
    t = t.clone(memory_format=torch.contiguous_format)
    t.view(-1)[place % t.numel()] = value
    return t


def _torch_float64(problem: Problem, tensors: list[Tensor], dy: Tensor) -> list[Tensor | None]:
    """torch's answer in float64 on the CPU, where every product is formed: a fast CPU kernel may skip padding."""
    return run(problem.torchs, [t.double().cpu() for t in tensors], dy.double().cpu())


@pytest.mark.parametrize("value", SPECIAL, ids=str)
@pytest.mark.parametrize("which", [0, 1, 2, 3])
@pytest.mark.parametrize("problem", [p for p in STANDARD if p.function in CONVOLUTIONS], ids=str)
def test_convolutions(path: Path, problem: Problem, which: int, value: float) -> None:
    """One special value in input, weight, bias or the incoming gradient.

    Everything else is not zero, so that 0 * inf is met only at the padding, where torch's own backends disagree: there
    is none in these problems.
    """
    options = {**problem.options, "padding": 0}
    problem = Problem(problem.name, problem.function, problem.shapes, options)
    tensors = [t + 10 * t.sign() for t in problem.tensors(path.device)]
    dy = make(problem.torchs(*tensors).shape, path.device) + 7
    if which < 3:
        tensors[which] = _with(tensors[which], value, 5)
    else:
        dy = _with(dy, value, 5)
    for name, got, want in zip(
        "yxwb", run(problem.ours, tensors, dy), _torch_float64(problem, tensors, dy), strict=True
    ):
        if (name, which) != ("x", 1):  # beyond the edge of dy the weight meets a zero, in cuDNN's GEMMs as in ours
            assert_same_special(got, want, f"{problem}: {name}")


@pytest.mark.parametrize("value", SPECIAL, ids=str)
@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_pools(path: Path, dtype: torch.dtype, channels_last: bool, value: float) -> None:
    for problem in STANDARD[-2:]:
        (x,) = problem.tensors(path.device, dtype, channels_last)
        for place in (0, 20, 41):
            special = _with(x, value, place)
            dy = make(problem.torchs(x).shape, path.device, dtype)
            for a, b in zip(run(problem.ours, [special], dy), run(problem.torchs, [special], dy), strict=True):
                assert_same_special(a, b)
            for a, b in zip(
                run(problem.ours, [x], _with(dy, value, place)),
                run(problem.torchs, [x], _with(dy, value, place)),
                strict=True,
            ):
                assert_same_special(a, b)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 1), (3, 1, 1)], ids=str)
def test_max_pool_of_nothing_but_special_values(path: Path, window: tuple[int, int, int], channels_last: bool) -> None:
    """The last NaN of a window wins, the first of equals, and -inf where there is nothing else: torch's indices."""
    choice = torch.tensor([NAN, INF, -INF, -INF, -0.0, 0.0, 1.0])
    x = choice[torch.randint(len(choice), (4, 3, 8, 8))].to(path.device)
    x[0] = -INF
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    y, indices = kernels.max_pool2d(x, *window, return_indices=True)
    want_y, want_indices = F.max_pool2d(x, *window, return_indices=True)
    assert_exact(y, want_y)
    assert torch.equal(indices, want_indices)
    ours, theirs = (run(lambda t, f=f: f(t, *window), [x]) for f in (kernels.max_pool2d, F.max_pool2d))
    assert_exact(ours[1], theirs[1])


def test_a_window_that_sees_no_pixel(triton: Path) -> None:
    """torch gives indices outside of the image here, and its CPU backward writes there; ours give -inf, -1, nothing."""
    x = torch.randn(1, 1, 1, 8, device=triton.device, requires_grad=True)
    y, indices = kernels.max_pool2d(x, 2, 1, 1, 2, return_indices=True)
    assert torch.equal(indices, torch.full_like(indices, -1))
    assert torch.equal(y, torch.full_like(y, -INF))
    y.sum().backward()
    assert not x.grad.any()
    first, second = torch.func.jvp(lambda t: kernels.max_pool2d(t, 2, 1, 1, 2), (x.detach(),), (torch.ones_like(x),))
    assert (first == -INF).all() and not second.any()


@pytest.mark.parametrize("pool", [None, "max", "avg"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_relu_keeps_nan_and_cuts_zeros(path: Path, dtype: torch.dtype, pool: str | None) -> None:
    """A 1x1 convolution by one: what goes in meets the ReLU and the pool as it is. At 0 and -0 the gradient is 0."""
    choice = torch.tensor([NAN, INF, -INF, 0.0, -0.0, 1.0, -1.0, 2.0, 2.0])
    x = choice[torch.randint(len(choice), (3, 1, 8, 8))].to(path.device, dtype)
    w = torch.ones(1, 1, 1, 1, device=path.device, dtype=dtype)
    name = "conv2d_relu" if pool is None else "conv2d_relu_pool2d"
    problem = Problem("relu", name, (), {} if pool is None else {"pool": pool})
    dy = make(problem.torchs(x, w).shape, path.device, dtype, integers=True) + 1
    got, want = run(problem.ours, [x, w], dy), run(problem.torchs, [x, w], dy)
    for a, b in zip(got[:2], want[:2], strict=True):
        assert_same_special(a, b)
        assert_exact(a, b)


def test_values_beyond_the_range_become_infinite(path: Path) -> None:
    """float16 sums are kept in float32: the result overflows only where torch's does."""
    x = torch.full((1, 64, 3, 3), 200.0, device=path.device, dtype=torch.float16)
    up, down = torch.full((2, 64, 3, 3), 200.0, device=path.device, dtype=torch.float16).split(1)
    assert torch.isinf(kernels.conv2d(x, up)).all()
    w = torch.cat([up[:, :32], -down[:, :32]], 1)
    assert torch.equal(kernels.conv2d(x, w), torch.zeros(1, 1, 1, 1, device=path.device, dtype=torch.float16))


def test_subnormal_numbers_survive(path: Path) -> None:
    if path is TRITON_PATH and path.device == "cuda":
        pytest.skip("cards flush float32 subnormals in tensor cores, torch's own kernels likewise")
    x = torch.full((1, 1, 2, 2), 1e-40, device=path.device)
    assert float(kernels.max_pool2d(x, 2)) == float(x[0, 0, 0, 0])
