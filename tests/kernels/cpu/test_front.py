"""The front: what it answers is what the usual way answers, and it answers nothing that it should not."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.overrides import TorchFunctionMode

import kernels
from kernels.conv2d import op as conv
from kernels.cpu import front, native
from kernels.lenet.op import lenet
from kernels.pool2d import op as pool

Ask = Callable[..., Any]


@pytest.fixture(autouse=True)
def fronts(compiled: native.Kernels) -> Iterator[None]:
    """Empty fronts, before and after."""
    if front._front is None:
        pytest.skip("the front is not built")
    memories = (front.conv2d, front.conv2d_relu, front.conv2d_relu_pool2d, front.max_pool2d, front.avg_pool2d)
    for memory in (*memories, front.lenet):
        memory.forget()
    yield
    for memory in (*memories, front.lenet):
        memory.forget()


def weights(dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """LeNet's parameters."""
    shapes = ((6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,))
    return [(torch.randn(s) / 9).to(dtype) for s in shapes]


def known(memory: front.Memory, *arguments: Any) -> Any:
    """The front's own answer."""
    return memory.ask(*arguments)


X, W, B = (2, 3, 40, 40), (8, 3, 3, 3), (8,)
CALLS: dict[str, tuple[front.Memory, Ask, tuple[Any, ...], tuple[Any, ...]]] = {
    "direct": (front.conv2d, conv.conv2d, (X, W, B), (1, 1, 1, 1)),
    "direct without bias": (front.conv2d_relu, conv.conv2d_relu, (X, W, None), ((2, 2), "valid", 1, 1)),
    "depthwise": (front.conv2d_relu, conv.conv2d_relu, (X, (3, 1, 3, 3), None), (1, "same", 1, 3)),
    "torch": (front.conv2d, conv.conv2d, ((2, 80, 16, 16), (8, 80, 3, 3), B), (1, 1, 1, 1)),
    "torch, relu": (front.conv2d_relu, conv.conv2d_relu, ((2, 80, 16, 16), (8, 80, 3, 3), B), (1, 1, 1, 1)),
    "max": (front.max_pool2d, pool.max_pool2d, (X,), (2, None, 0, 1, False, False)),
    "max, indices": (front.max_pool2d, pool.max_pool2d, (X,), ((3, 3), 2, 1, 1, True, True)),
    "max, tiny": (front.max_pool2d, pool.max_pool2d, ((1, 1, 4, 4),), (2, (2, 2), 0, 1, False, False)),
    "max, dilated": (front.max_pool2d, pool.max_pool2d, (X,), (2, None, 0, 2, False, False)),
    "avg": (front.avg_pool2d, pool.avg_pool2d, (X,), (2, None, 0, False, True, None)),
    "avg, divisor": (front.avg_pool2d, pool.avg_pool2d, ((1, 2, 6, 6),), (3, 2, 1, True, False, 5)),
}
BLOCKS = {"in registers": (W, 2), "pool after": (W, 3), "torch": ((8, 3, 11, 11), 9)}


def same(ours: Any, theirs: Any) -> None:
    """Bit-equal tensors with equal strides."""
    for a, b in zip(*((t if isinstance(t, tuple) else (t,)) for t in (ours, theirs)), strict=True):
        assert torch.equal(a, b) and a.stride() == b.stride() and a.dtype is b.dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("name", CALLS)
def test_it_answers_what_the_usual_way_answers(name: str, dtype: torch.dtype) -> None:
    memory, function, shapes, numbers = CALLS[name]
    tensors = [None if s is None else torch.randn(s).to(dtype) for s in shapes]
    want = function(*tensors, *numbers)
    assert known(memory, *tensors, *numbers) is None
    same(function(*tensors, *numbers), want)
    same(known(memory, *tensors, *numbers), want)
    fresh = [None if t is None else torch.randn_like(t) for t in tensors]
    answer = known(memory, *fresh, *numbers)
    memory.forget()
    same(answer, function(*fresh, *numbers))


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name: str) -> None:
    shape, size = BLOCKS[name]
    x, w, b = torch.randn(X), torch.randn(shape), torch.randn(B)
    found = [conv.conv2d_relu_pool2d(x, w, b, pool_kernel_size=size) for _ in range(2)]
    last = known(front.conv2d_relu_pool2d, x, w, b, 1, 0, 1, 1, "max", size, None, 0, False)
    same(found[0], found[1])
    same(last, found[0])


@pytest.mark.parametrize("trained", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_lenet(dtype: torch.dtype, trained: bool) -> None:
    p, x = [t.requires_grad_(trained) for t in weights(dtype)], torch.rand(3, 1, 28, 28).to(dtype)
    want = lenet(x, p), lenet(x, p)
    answer = known(front.lenet, x, *p, 2, "max", "relu", None)
    same(answer, want[0])
    if trained:
        ours, theirs = (torch.autograd.grad(y.sum(), p) for y in (answer, want[0]))
        same(ours, theirs)
    assert known(front.lenet, x, *p, 2, "avg", "relu", None) is None
    assert known(front.lenet, x, *p, 2, "max", "tanh", None) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert known(front.lenet, x, *p, 2, "max", "relu", None) is None


def test_gradients_are_recorded_as_before() -> None:
    x, w, b = torch.randn(X, requires_grad=True), torch.randn(W, requires_grad=True), torch.randn(B)
    numbers = (1, 1, 1, 1, "max", 2, None, 0, False)

    def gradients(y: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad((y**2).sum(), (x, w))

    want = [gradients(conv.conv2d_relu_pool2d(x, w, b, padding=1)) for _ in range(2)]
    same(gradients(known(front.conv2d_relu_pool2d, x, w, b, *numbers)), want[0])
    with torch.no_grad():
        assert known(front.conv2d_relu_pool2d, x, w, b, *numbers) is None
        for _ in range(2):
            plain = conv.conv2d_relu_pool2d(x, w, b, padding=1)
        answer = known(front.conv2d_relu_pool2d, x, w, b, *numbers)
        same(answer, plain)
        assert not answer.requires_grad
    assert known(front.conv2d_relu_pool2d, x, w, b, *numbers).requires_grad


class Mode(TorchFunctionMode):
    """Sees every call of torch's."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return function(*args, **(kwargs or {}))


def test_it_stays_silent_where_the_call_is_another() -> None:
    x, w, b = torch.randn(X), torch.randn(W), torch.randn(B)
    numbers: tuple[Any, ...] = (1, 1, 1, 1)

    def answers(*tensors: Any, numbers: tuple[Any, ...] = numbers) -> bool:
        return known(front.conv2d, *tensors, *numbers) is not None

    for _ in range(2):
        conv.conv2d(x, w, b, *numbers)
    assert answers(x, w, b) and answers(x + 1, w * 2, b.clone())
    parameter, view = torch.nn.Parameter(w), x.transpose(2, 3)

    class Named(Tensor):
        """A subclass."""

    others: list[tuple[Any, ...]] = [
        (x.double(), w.double(), b.double()), (x.bfloat16(), w, b), (x[:1], w, b), (view, w, b), (x, parameter, b),
        (x, w, None), (x.requires_grad_(), w, b), (torch._neg_view(x.detach()), w, b), (x.as_subclass(Named), w, b),
        (x.to("meta"), w, b), (None, w, b), ("x", w, b), (x.contiguous(memory_format=torch.channels_last), w, b),
    ]  # fmt: skip
    for tensors in others:
        assert not answers(*tensors), tensors[0]
    x = x.detach()
    assert answers(x, w, b)
    for wrong in ((True, 1, 1, 1), (1.0, 1, 1, 1), ([1, 1], 1, 1, 1), ((1, 1), 1, 1, 1), (1, 1, 1, "1"), (1, 1, 1)):
        assert not answers(x, w, b, numbers=wrong)
    with torch.inference_mode():
        assert not answers(x, w, b) or torch.equal(conv.conv2d(x, w, b, *numbers), conv.conv2d(x, w, b, *numbers))


def test_torchs_choice_for_one_weight_is_not_that_for_another() -> None:
    """A weight in channels_last is torch's; the same shapes in NCHW are the kernel's."""
    x, w = torch.randn(1, 1, 32, 32), torch.randn(4, 1, 3, 3)
    last = w.clone(memory_format=torch.channels_last)
    last = last.as_strided(w.shape, (9, 1, 3, 1)) if last.stride() == w.stride() else last
    for _ in range(2):
        conv.conv2d_relu(x, last, None)
    assert known(front.conv2d_relu, x, last, None, 1, 0, 1, 1) is not None
    assert known(front.conv2d_relu, x, w, None, 1, 0, 1, 1) is None


def test_it_stays_silent_in_every_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    x, w, b = torch.randn(X), torch.randn(W), torch.randn(B)
    numbers = (1, 1, 1, 1)
    for _ in range(2):
        want = conv.conv2d(x, w, b, *numbers)

    def silent(x: Tensor = x) -> bool:
        return known(front.conv2d, x, w, b, *numbers) is None

    found = []
    torch.func.vmap(lambda x: found.append(silent(x[None])) or x)(x)
    torch.func.grad(lambda x: found.append(silent(x)) or x.sum())(x)
    with forward_ad.dual_level():
        found.append(silent())
    with torch.autocast("cpu", torch.bfloat16):
        found.append(silent())
    with Mode():
        found.append(silent())
    with kernels.backend("torch"):
        found.append(silent())
    with torch._subclasses.fake_tensor.FakeTensorMode():
        found.append(silent())
    torch.jit.trace(lambda x: found.append(silent(x)) or x * 1, x, check_trace=False)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    found.append(silent())
    torch.set_num_threads(threads)
    with monkeypatch.context() as patch:
        patch.setattr(native, "KERNELS", None)
        found.append(silent())
    assert len(found) == 10 and all(found)
    same(known(front.conv2d, x, w, b, *numbers), want)


def test_errors_stay_errors() -> None:
    x, w = torch.randn(X), torch.randn(8, 4, 3, 3)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="channels"):
            conv.conv2d(x, w)
    with pytest.raises(TypeError):
        front._front.Entry()
    with pytest.raises(ValueError, match="callable"):
        front._front.Entry(len, (), None, 0, -1, 1, 0, 0)
    with pytest.raises(ValueError, match="once"):
        front._front.Front(12, 40)
    with pytest.raises(TypeError, match="add takes"):
        front.conv2d.front.add(1, 2)


def test_a_kernel_without_memory_raises_memory_error() -> None:
    @ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.c_void_p] * 4)
    def fails(*addresses: Any) -> int:
        return -1

    x, numbers = torch.randn(X), (2, None, 0, 1, False, False)
    guard = front._guards.TensorGuards(x, dynamic_dims_sizes=[list(X)], dynamic_dims_strides=[list(x.stride())])
    entry = front._front.Entry(
        guard.check, numbers, native.KERNELS, 0, -1, torch.get_num_threads(), front.KINDS["pool"], 0,
        function=ctypes.cast(fails, ctypes.c_void_p).value, address=1, shape=(1,), stride=(1,), dtype=x.dtype,
    )  # fmt: skip
    front.max_pool2d.front.add(entry, x, *numbers)
    with pytest.raises(MemoryError, match="scratch space"):
        pool.max_pool2d(x, 2)


def test_eight_threads_and_no_leak() -> None:
    p = weights()
    inputs = [torch.rand(1 + i % 3, 1, 28, 28) for i in range(8)]
    want = [lenet(x, p) for x in inputs]
    with ThreadPoolExecutor(8) as workers:
        for _ in range(20):
            for got, reference in zip(workers.map(lambda x: lenet(x, p), inputs), want, strict=True):
                assert torch.equal(got, reference)
    x = inputs[0]
    gc.collect()
    counts = [sys.getrefcount(o) for o in (x, *p, x.shape, None, native.KERNELS)]
    for _ in range(1000):
        assert known(front.lenet, x, *p, 2, "max", "relu", None) is not None
        assert known(front.lenet, x, *p, 2, "max", "relu", 7) is None
    after = [sys.getrefcount(o) for o in (x, *p, x.shape, None, native.KERNELS)]
    assert max(b - a for a, b in zip(counts, after, strict=True)) < 100


def test_what_is_kept_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "MOST", 4)
    for size in range(8, 20):
        for _ in range(2):
            pool.max_pool2d(torch.randn(1, 1, size, size), 2)
    assert len(front.max_pool2d.seen) <= 5
