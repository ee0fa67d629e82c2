"""The operators before the dispatcher: meta and fake tensors, graphs, opcheck, autocast, FLOP counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode

import kernels
from tests.compare import assert_as_good, assert_same_form
from tests.kernels.paths import Path
from tests.kernels.problems import CONVOLUTIONS, STANDARD, Problem, make, run

CONV_PROBLEMS = [p for p in STANDARD if p.function in CONVOLUTIONS]


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
    numbers = ([1, 1], [1, 1, 1, 1], [1, 1], 2, True)
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
        (
            ops.conv2d_relu_pool2d.default,
            (x, torch.randn(6, 4, 3, 3, device=device), b, *numbers[:3], 1, True, False, True),
        ),
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
    assert checked == {name for name in registered if "lenet" not in name}  # LeNet's are checked beside its kernels


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
