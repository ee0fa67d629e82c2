"""What a call has learnt holds for calls with its signature, and for no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from kernels.backend import backend
from kernels.common.launch import Launch, record
from kernels.common.replay import program, step
from kernels.conv2d.plans.choose import force_plan
from kernels.conv2d.plans.plan import Plan
from kernels.conv2d.plans.tiles import Tile
from kernels.pool2d import autograd as pool_autograd
from tests.kernels.paths import Path
from tests.kernels.problems import Problem, conv

PLAIN = conv("conv2d", (2, 3, 5, 5), (4, 3, 3, 3), padding=1)
GEMM = conv("gemm", (1, 32, 4, 4), (16, 32, 3, 3), padding=1)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """The launches of replayed and learnt calls, as they start; on a card replays take the way that shows them."""
    found: list[Launch] = []
    monkeypatch.setattr(program, "is_hooked", lambda: True)
    start = step.start

    def note(call: Launch) -> Any:
        found.append(call)
        return start(call)

    monkeypatch.setattr(step, "start", note)
    return found


def _last(started: list[Launch], name: str) -> Any:
    """The newest value of a kernel's argument."""
    return next(call.arguments[name] for call in reversed(started) if name in call.arguments)


def _answers(triton: Path, problem: Problem = PLAIN) -> tuple[Callable[..., Tensor], list[Tensor]]:
    x, w, b = problem.tensors(triton.device)
    assert x is not None and w is not None and b is not None
    kernels.conv2d(x, w, b, padding=1)
    return kernels.conv2d, [x, w, b]


@pytest.mark.parametrize("padding", [True, 1.0, (True, True), (1.0, 1.0)], ids=str)
def test_what_equals_an_integer_is_still_refused(triton: Path, padding: Any) -> None:
    """1 == True == 1.0, and all three are one key of a dictionary."""
    x, w, b = PLAIN.tensors(triton.device)
    assert x is not None and w is not None
    for good in (1, (1, 1)):
        kernels.conv2d(x, w, b, padding=good)
    for _ in range(2):
        with pytest.raises(TypeError, match="padding"):
            kernels.conv2d(x, w, b, padding=padding)


def test_an_error_is_raised_again(triton: Path) -> None:
    for _ in range(3):
        with pytest.raises(RuntimeError, match="channels"):
            kernels.conv2d(torch.ones(1, 3, 5, 5, device=triton.device), torch.ones(2, 2, 3, 3, device=triton.device))


def test_a_list_of_numbers(triton: Path) -> None:
    x, w, b = PLAIN.tensors(triton.device)
    padding = [1, 1]
    assert kernels.conv2d(x, w, b, padding=padding).shape[2] == 5  # type: ignore[arg-type]
    padding[0] = 0
    assert kernels.conv2d(x, w, b, padding=padding).shape[2] == 3  # type: ignore[arg-type]


@pytest.mark.parametrize("change", ["dtype", "layout", "address", "stride 0", "no bias", "inference", "batch"])
def test_other_tensors_are_another_call(triton: Path, change: str) -> None:
    f, (x, w, b) = _answers(triton)
    exact = F.conv2d(x.double(), w.double(), b.double(), padding=1)
    if change == "dtype":
        y = f(x.half(), w.half(), b.half(), padding=1)
        assert y.dtype == torch.float16
    elif change == "layout":
        y = f(x.contiguous(memory_format=torch.channels_last), w, b, padding=1)
        assert y.is_contiguous(memory_format=torch.channels_last)
    elif change == "address":
        y = f(torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x), w, b, padding=1)
    elif change == "stride 0":
        y = f(x[:1].expand_as(x), w, b, padding=1)
        exact = exact[:1].expand_as(exact)
    elif change == "no bias":
        y = f(x, w, padding=1)
        exact = exact - b.double()[:, None, None]
    elif change == "inference":
        with torch.inference_mode():
            y = f(x.clone(), w, b, padding=1)
            assert y.is_inference()
    else:
        y = f(x[:1], w, b, padding=1)
        exact = exact[:1]
    torch.testing.assert_close(y.double(), exact, rtol=2e-2, atol=2e-2)


def test_an_address_that_is_no_multiple_of_16_is_another_program(triton: Path) -> None:
    """Triton compiles another kernel for it: with the one at hand a card would fault."""
    x = torch.randn(1, 1, 4, 5, device=triton.device)
    kernels.max_pool2d(x, 2)
    moved = torch.cat([x.new_zeros(1), x.flatten()])[1:].view_as(x)
    numbers = ((2, 2), (2, 2), (0, 0), (1, 1), False, False, False)
    assert pool_autograd.max_pool.run.find((x, *numbers)) is not None
    assert pool_autograd.max_pool.run.find((moved, *numbers)) is None


def test_torchs_precision_flag_is_part_of_a_call(triton: Path, started: list[Launch]) -> None:
    f, tensors = _answers(triton, GEMM)
    before = torch.backends.cudnn.allow_tf32
    try:
        found = set()
        for allowed in (True, False, True):
            torch.backends.cudnn.allow_tf32 = allowed
            f(*tensors, padding=1)
            found.add((allowed, _last(started, "PRECISION")))
    finally:
        torch.backends.cudnn.allow_tf32 = before
    assert found == {(True, "tf32"), (False, "ieee")}


def test_a_forced_plan_is_part_of_a_call(triton: Path, started: list[Launch]) -> None:
    f, tensors = _answers(triton, GEMM)
    usual = _last(started, "BLOCK_M")
    with force_plan("fprop", Plan("gemm", Tile(usual * 2, 16, 32, 4, 2), packed=True)):
        f(*tensors, padding=1)
        assert _last(started, "BLOCK_M") == usual * 2
    f(*tensors, padding=1)
    assert _last(started, "BLOCK_M") == usual


def test_a_backend_is_part_of_a_call(triton: Path, started: list[Launch]) -> None:
    f, tensors = _answers(triton)
    count = len(started)
    with backend("torch"):
        f(*tensors, padding=1)
    assert len(started) == count


def test_explaining_a_known_call_runs_nothing(triton: Path, started: list[Launch]) -> None:
    _, tensors = _answers(triton)
    count = len(started)
    with record() as launches:
        kernels.conv2d(*tensors, padding=1)
    assert len(launches) == 1 and len(started) == count


@pytest.mark.parametrize("mode", ["autocast", "vmap", "grad", "jvp", "function mode", "dispatch mode", "meta", "trace"])
def test_a_known_call_is_seen_by_every_mode(triton: Path, mode: str) -> None:
    """What has been learnt outside of a mode is not used inside."""
    f, (x, w, b) = _answers(triton)
    f(x, w, b, padding=1)
    if mode == "autocast":
        with torch.autocast(triton.device, torch.bfloat16):
            assert f(x, w, b, padding=1).dtype == torch.bfloat16
    elif mode == "vmap":
        many = torch.func.vmap(lambda x: f(x, w, b, padding=1))(torch.stack([x, x]))
        assert many.shape == (2, 2, 4, 5, 5)
    elif mode == "grad":
        got = torch.func.grad(lambda x: f(x, w, b, padding=1).sum())(x)
        want = torch.func.grad(lambda x: F.conv2d(x, w, b, padding=1).sum())(x)
        torch.testing.assert_close(got, want)
    elif mode == "jvp":
        _, tangent = torch.func.jvp(lambda x: f(x, w, b, padding=1), (x,), (x,))
        torch.testing.assert_close(tangent, F.conv2d(x, w, padding=1))
    elif mode == "meta":
        assert f(x.to("meta"), w.to("meta"), b.to("meta"), padding=1).is_meta
    elif mode == "trace":
        traced = torch.jit.trace(lambda x: f(x, w, b, padding=1), (x,))
        torch.testing.assert_close(traced(2 * x), F.conv2d(2 * x, w, b, padding=1))
    else:
        seen = _seen_by(mode, lambda: f(x, w, b, padding=1))
        assert any("triton_cnn.conv2d" in name for name in seen), seen


def _seen_by(mode: str, call: Callable[[], Any]) -> list[str]:
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    seen: list[str] = []

    class Function(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    class Dispatch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    mode_class: Any = Function if mode == "function mode" else Dispatch
    with mode_class():
        call()
    return seen


def test_a_tensor_that_is_lazily_negative(triton: Path) -> None:
    """The imaginary part of a conjugate: its memory holds the values with the other sign."""
    f, (x, w, b) = _answers(triton)
    negative = torch._neg_view(x)  # type: ignore[attr-defined]
    for _ in range(2):
        torch.testing.assert_close(f(negative, w, b, padding=1), F.conv2d(-x, w, b, padding=1))
