"""The same layer from many threads, and from two streams."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

import kernels
from kernels.backend import current_backend
from kernels.common.launch import record
from tests.kernels.paths import Path, overflow_checks

THREADS = 8


def test_eight_threads_share_a_layer(path: Path) -> None:
    layer = kernels.ConvReLUPool2d(1, 3, 3).to(path.device)
    inputs = [torch.randn(2, 1, 6 + i % 3 * 2, 8, device=path.device) for i in range(THREADS)]

    def step(x: Tensor) -> tuple[Tensor, Tensor]:
        with path.enter():
            y = layer(x)
            (grad,) = torch.autograd.grad(y.square().sum(), layer.weight)
        return y.detach(), grad

    want = [step(x) for x in inputs]
    with overflow_checks(False), ThreadPoolExecutor(THREADS) as pool:
        for _ in range(2):
            for got, expected in zip(pool.map(step, inputs), want, strict=True):
                assert torch.equal(got[0], expected[0]) and torch.equal(got[1], expected[1])


def test_a_backend_holds_in_its_own_thread(triton: Path) -> None:
    assert current_backend() == "triton"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(current_backend).result() == "auto"


def test_a_recording_does_not_swallow_the_launches_of_another_thread(triton: Path) -> None:
    """explain() in one thread while another computes."""
    x = torch.randn(1, 2, 6, 6, device=triton.device)
    want = kernels.max_pool2d(x, 2)

    def compute() -> Tensor:
        with triton.enter():
            return kernels.max_pool2d(x, 2)

    with record() as launches, ThreadPoolExecutor(1) as pool:
        assert torch.equal(pool.submit(compute).result(), want)
    assert not launches


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_two_streams() -> None:
    layer = kernels.Conv2d(8, 8, 3, padding=1).cuda()
    inputs = [torch.randn(4, 8, 64, 64, device="cuda") for _ in range(2)]
    with kernels.backend("triton"):
        want = [layer(x) for x in inputs]
        torch.cuda.synchronize()
        streams = [torch.cuda.Stream() for _ in inputs]
        results = []
        for stream, x in zip(streams, inputs, strict=True):
            with torch.cuda.stream(stream):
                results.append([layer(x) for _ in range(10)])
        torch.cuda.synchronize()
    for result, expected in zip(results, want, strict=True):
        assert all(torch.equal(y, expected) for y in result)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("channels_last", [False, True])
def test_cuda_graph_of_a_training_step(channels_last: bool) -> None:
    form = torch.channels_last if channels_last else torch.contiguous_format
    model = torch.nn.Sequential(kernels.Conv2d(3, 8, 3), kernels.ConvReLUPool2d(8, 8, 3), kernels.MaxPool2d(2))
    model = model.cuda().to(memory_format=form)
    x = torch.randn(4, 3, 20, 20, device="cuda").contiguous(memory_format=form)

    def step() -> Tensor:
        model.zero_grad(set_to_none=False)
        loss = model(x).square().sum()
        loss.backward()
        return loss

    with kernels.backend("triton"):
        side = torch.cuda.Stream()
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            loss = step()
        x.copy_(torch.randn_like(x))
        graph.replay()
        replayed = [loss.clone(), *(p.grad.clone() for p in model.parameters())]
        want = [step(), *(p.grad for p in model.parameters())]
    for a, b in zip(replayed, want, strict=True):
        assert torch.equal(a, b)
