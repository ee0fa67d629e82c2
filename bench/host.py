"""What a call costs the host, from the public function to the kernel's launch, beside torch's own calls."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor

import kernels
from bench.nothing import NothingDriver, nothing
from bench.rows import Row
from kernels.common.replay.learn import Pass
from kernels.common.signature import Memory
from kernels.lenet import lenet

LAST = torch.channels_last
GOALS = {"conv2d": 5.0, "conv2d, autograd, forward": 12.0}
"""Microseconds that a call may cost."""


@dataclass(frozen=True)
class Case:
    """A call of ours, and torch's own call of the same kind on CPU tensors so small that computing is the least of it
    (None: torch has no such call)."""

    name: str
    ours: Callable[[], Any]
    torchs: Callable[[], Any] | None
    grad: bool = False


def _random(*shape: int, dtype: torch.dtype = torch.float16, form: Any = LAST) -> Tensor:
    t = torch.randn(shape, dtype=dtype)
    return t.contiguous(memory_format=form) if len(shape) == 4 else t


def _conv_cases() -> Iterator[Case]:
    x, w, b = _random(8, 64, 14, 14), _random(64, 64, 3, 3), _random(64)
    leaves = [t.clone().requires_grad_() for t in (x, w, b)]
    dy = _random(8, 64, 14, 14)
    tiny = torch.randn(1, 1, 4, 4), torch.randn(1, 1, 3, 3), torch.randn(1)
    tiny_leaves = [t.clone().requires_grad_() for t in tiny]
    tiny_dy = torch.randn(1, 1, 4, 4)

    def call(function: Any, tensors: Any) -> Callable[[], Any]:
        return lambda: function(*tensors, padding=1)

    def step(function: Any, tensors: Any, dy: Tensor) -> Callable[[], Any]:
        return lambda: torch.autograd.grad(function(*tensors, padding=1), tensors, dy)

    yield Case("conv2d", call(kernels.conv2d, (x, w, b)), call(F.conv2d, tiny))
    yield Case("conv2d, autograd, forward", call(kernels.conv2d, leaves), call(F.conv2d, tiny_leaves), True)
    yield Case(
        "conv2d, forward and backward", step(kernels.conv2d, leaves, dy), step(F.conv2d, tiny_leaves, tiny_dy), True
    )
    block, theirs = kernels.conv2d_relu_pool2d, _blocks_of_torch
    yield Case("conv2d_relu_pool2d", call(block, (x, w, b)), call(theirs, tiny))
    pooled = step(block, leaves, dy[:, :, :7, :7].contiguous(memory_format=LAST))
    torchs = step(theirs, tiny_leaves, torch.randn(1, 1, 2, 2))
    yield Case("conv2d_relu_pool2d, forward and backward", pooled, torchs, True)
    wide, filters = _random(128, 256, 7, 7), _random(256, 256, 3, 3)
    yield Case("conv2d by TMA descriptors", call(kernels.conv2d, (wide, filters, None)), None)
    planes = _random(2, 256, 9, 9, form=torch.contiguous_format)
    yield Case("conv2d, NCHW, packed and unpacked", call(kernels.conv2d, (planes, filters, None)), None)


def _blocks_of_torch(x: Tensor, w: Tensor, b: Tensor, padding: int) -> Tensor:
    return F.max_pool2d(torch.relu(F.conv2d(x, w, b, padding=padding)), 2)


def _pool_cases() -> Iterator[Case]:
    x, tiny = _random(8, 64, 14, 14), torch.randn(1, 1, 4, 4)
    yield Case("max_pool2d", lambda: kernels.max_pool2d(x, 2), lambda: F.max_pool2d(tiny, 2))
    leaf, dy = x.clone().requires_grad_(), _random(8, 64, 7, 7)
    tiny_leaf, tiny_dy = tiny.clone().requires_grad_(), torch.randn(1, 1, 2, 2)
    yield Case(
        "max_pool2d, forward and backward",
        lambda: torch.autograd.grad(kernels.max_pool2d(leaf, 2), leaf, dy),
        lambda: torch.autograd.grad(F.max_pool2d(tiny_leaf, 2), tiny_leaf, tiny_dy),
        True,
    )


def _network_cases() -> Iterator[Case]:
    shapes = [(6, 1, 5, 5), (6,), (16, 6, 5, 5), (16,), (120, 400), (120,), (84, 120), (84,), (10, 84), (10,)]
    parameters = [torch.randn(shape) for shape in shapes]
    image = torch.randn(1, 1, 28, 28)
    yield Case("LeNet, one image, one kernel", lambda: lenet(image, parameters), None)


def cases() -> list[Case]:
    """Every call that is measured."""
    return [*_conv_cases(), *_pool_cases(), *_network_cases()]


@contextmanager
def nothing_remembered() -> Iterator[None]:
    """Every call is checked, planned and started as if it were the first, but for Triton's own compiled kernel."""

    def as_written(self: Pass, numbers: Any, tensors: Any, args: Any) -> Any:
        return self.written(*args)

    forgetful = patch.multiple(Memory, find=lambda *_: None, keep=lambda *_: None)
    with forgetful, patch.object(Pass, "_learn", as_written):
        yield


def sample(work: Callable[[], Any], calls: int, samples: int) -> list[float]:
    """Microseconds of one call, `samples` times, lowest first: this thread's time, whatever else the machine does."""
    for _ in range(max(3, calls // 4)):
        work()
    found = []
    collected = gc.isenabled()
    gc.disable()
    try:
        for _ in range(samples):
            start = time.thread_time()
            for _ in range(calls):
                work()
            found.append((time.thread_time() - start) / calls * 1e6)
    finally:
        if collected:
            gc.enable()
    return sorted(found)


def launches_of(work: Callable[[], Any], driver: NothingDriver) -> int:
    """How many kernels a call starts."""
    work()
    before = driver.started
    work()
    return driver.started - before


def host_rows(calls: int, samples: int, name: str = "") -> Iterator[Row]:
    """Rows of every case whose name holds `name`: ours, ours with nothing remembered, and torch's own."""
    with nothing() as driver:
        for case in cases():
            if name not in case.name:
                continue
            mode: AbstractContextManager[Any] = torch.enable_grad() if case.grad else torch.no_grad()
            with mode:
                started = launches_of(case.ours, driver)
                if started == 0:
                    raise RuntimeError(f"{case.name}: no kernel was started")
                yield _row(case, "ours", "Triton kernels, launcher stubbed", sample(case.ours, calls, samples), started)
                with nothing_remembered():
                    times = sample(case.ours, max(1, calls // 10), samples)
                yield _row(case, "ours, nothing remembered", "Triton kernels, launcher stubbed", times, started)
                if case.torchs is not None:
                    times = sample(case.torchs, calls, samples)
                    yield _row(case, "eager", "torch on tiny CPU tensors, computing included", times, 0)


def _row(case: Case, provider: str, path: str, times: list[float], launches: int) -> Row:
    middle = median(times)
    values = {"value": round(middle, 2), "unit": "us", "low": round(times[0], 2), "high": round(times[-1], 2)}
    about: dict[str, Any] = {"provider": provider, "layout": "", "path": path, "status": "ok"}
    spread = round((times[-1] - times[0]) / 2 / middle, 4)
    goal = {"goal": GOALS[case.name]} if case.name in GOALS and provider == "ours" else {}
    counted = {"launches": launches} if launches else {}
    metric = {"case": f"launch/{case.name}", "metric": "launch"}
    return {**metric, **about, **values, "spread": spread, "runs": len(times), **counted, **goal}
